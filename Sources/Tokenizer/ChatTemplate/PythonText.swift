// Python's ideas about text: which characters are space, printable or cased, and how numbers are written.

internal import Base
internal import Glibc

/// Rules of Python's `str` and of `repr()` of numbers.
enum PythonText {
  /// `str.isspace()` for one code point.
  static func isSpace(_ code: UInt32) -> Bool {
    switch code {
    case 0x09...0x0d, 0x1c...0x20, 0x85, 0xa0, 0x1680, 0x2000...0x200a, 0x2028, 0x2029, 0x202f, 0x205f,
      0x3000:
      true
    default: false
    }
  }

  /// What `str.splitlines()` takes as the end of a line, "\r\n" apart.
  static func isLineEnd(_ code: UInt32) -> Bool {
    switch code {
    case 0x0a...0x0d, 0x1c...0x1e, 0x85, 0x2028, 0x2029: true
    default: false
    }
  }

  /// `str.isprintable()` for one code point: what `repr()` writes as it is.
  static func isPrintable(_ scalar: Unicode.Scalar) -> Bool {
    if scalar.value < 0x7f { return scalar.value >= 0x20 }
    switch scalar.properties.generalCategory {
    case .control, .format, .surrogate, .privateUse, .unassigned, .lineSeparator, .paragraphSeparator,
      .spaceSeparator:
      return false
    default: return true
    }
  }

  /// Appends `repr(number)`: the shortest digits that read back, in exponent form below 1e-4 and from 1e16 on.
  static func append(_ number: Double, to out: inout ByteBuffer) {
    if number.isNaN {
      out.append("nan" as StaticString)
      return
    }
    if number.sign == .minus { out.append(UInt8(ascii: "-")) }
    if number.isInfinite {
      out.append("inf" as StaticString)
      return
    }
    let (digits, exponent) = shortest(number.magnitude)
    // The value is 0.d1d2d3… times ten to the exponent.
    if exponent > 16 || exponent < -3 {
      appendExponentForm(digits, exponent - 1, to: &out)
    } else if exponent <= 0 {
      out.append("0." as StaticString)
      for _ in 0..<(-exponent) { out.append(UInt8(ascii: "0")) }
      out.append(digits)
    } else if digits.count <= exponent {
      out.append(digits)
      for _ in digits.count..<exponent { out.append(UInt8(ascii: "0")) }
      out.append(".0" as StaticString)
    } else {
      out.append(Array(digits[..<exponent]))
      out.append(UInt8(ascii: "."))
      out.append(Array(digits[exponent...]))
    }
  }

  private static func appendExponentForm(_ digits: [UInt8], _ exponent: Int, to out: inout ByteBuffer) {
    out.append(digits[0])
    if digits.count > 1 {
      out.append(UInt8(ascii: "."))
      out.append(Array(digits[1...]))
    }
    out.append(UInt8(ascii: "e"))
    out.append(exponent < 0 ? UInt8(ascii: "-") : UInt8(ascii: "+"))
    if abs(exponent) < 10 { out.append(UInt8(ascii: "0")) }
    out.append(decimal: abs(exponent))
  }

  /// The shortest digits of a finite number that is not negative, and where its point stands.
  private static func shortest(_ number: Double) -> (digits: [UInt8], exponent: Int) {
    if number == 0 { return ([UInt8(ascii: "0")], 1) }
    var digits: [UInt8] = []
    var point = -1
    var exponent = 0
    let text = Array(number.description.utf8)
    for (index, byte) in text.enumerated() {
      if byte == UInt8(ascii: ".") {
        point = digits.count
      } else if byte == UInt8(ascii: "e") {
        exponent = Int(String(decoding: text[(index + 1)...], as: UTF8.self)) ?? 0
        break
      } else {
        digits.append(byte)
      }
    }
    if point < 0 { point = digits.count }
    let zeros = digits.prefix { $0 == UInt8(ascii: "0") }.count
    digits.removeFirst(zeros)
    while digits.last == UInt8(ascii: "0") { digits.removeLast() }
    return (digits, point - zeros + exponent)
  }

  /// Appends `repr(text)`: quoted, with escapes for what is not printable.
  static func append(representation text: JinjaText, to out: inout ByteBuffer) {
    let hasSingle = text.find(JinjaText("'")) != nil
    let quote = hasSingle && text.find(JinjaText("\"")) == nil ? UInt8(ascii: "\"") : UInt8(ascii: "'")
    out.append(quote)
    var offset = 0
    while offset < text.count {
      let end = text.end(ofCharacterAt: offset)
      let scalar = text.scalar(offset, end)
      switch scalar {
      case "\\": out.append("\\\\" as StaticString)
      case "\n": out.append("\\n" as StaticString)
      case "\r": out.append("\\r" as StaticString)
      case "\t": out.append("\\t" as StaticString)
      default:
        if scalar.value == UInt32(quote) {
          out.append(UInt8(ascii: "\\"))
          out.append(quote)
        } else if isPrintable(scalar) {
          out.append(text.slice(offset, end).bytes)
        } else {
          append(escaped: scalar.value, to: &out)
        }
      }
      offset = end
    }
    out.append(quote)
  }

  private static func append(escaped code: UInt32, to out: inout ByteBuffer) {
    let (letter, digits): (StaticString, Int) =
      code < 0x100 ? ("\\x", 2) : code < 0x10000 ? ("\\u", 4) : ("\\U", 8)
    out.append(letter)
    for position in (0..<digits).reversed() {
      out.append(Hex.digit(UInt8(code >> (UInt32(position) * 4) & 0xf)))
    }
  }

  /// The number that `float(text)` gives; nil where it raises. Underscores between digits are allowed.
  static func double(_ text: JinjaText) -> Double? {
    let stripped = text.strippedOfWhitespace()
    var bytes: [UInt8] = []
    for index in 0..<stripped.count {
      let byte = stripped.base[index]
      if byte == UInt8(ascii: "_") {
        guard index > 0, index + 1 < stripped.count, isDigit(stripped.base[index - 1]),
          isDigit(stripped.base[index + 1])
        else { return nil }
        continue
      }
      // What Swift reads beyond Python's forms: hexadecimal, and a payload of nan.
      guard byte != UInt8(ascii: "x"), byte != UInt8(ascii: "X"), byte != UInt8(ascii: "("), byte != 0 else {
        return nil
      }
      bytes.append(byte)
    }
    return Double(String(decoding: bytes, as: UTF8.self))
  }

  /// The number that `int(text, base)` gives; nil where it raises or where 64 bits do not hold it.
  static func integer(_ text: JinjaText, radix: Int = 10) -> Int? {
    guard radix == 0 || (2...36).contains(radix) else { return nil }
    let stripped = text.strippedOfWhitespace()
    var index = 0
    var isNegative = false
    if index < stripped.count,
      stripped.base[index] == UInt8(ascii: "-") || stripped.base[index] == UInt8(ascii: "+")
    {
      isNegative = stripped.base[index] == UInt8(ascii: "-")
      index += 1
    }
    var radix = radix
    if index + 1 < stripped.count, stripped.base[index] == UInt8(ascii: "0") {
      let named: Int? =
        switch stripped.base[index + 1] | 0x20 {
        case UInt8(ascii: "x"): 16
        case UInt8(ascii: "o"): 8
        case UInt8(ascii: "b"): 2
        default: nil
        }
      if let named, radix == named || radix == 0 {
        radix = named
        index += 2
        if index < stripped.count, stripped.base[index] == UInt8(ascii: "_") { index += 1 }
      }
    }
    if radix == 0 { radix = 10 }
    guard index < stripped.count else { return nil }
    var value = 0
    var afterDigit = false
    while index < stripped.count {
      let byte = stripped.base[index]
      index += 1
      if byte == UInt8(ascii: "_"), afterDigit, index < stripped.count {
        afterDigit = false
        continue
      }
      guard let digit = digitValue(byte), digit < radix else { return nil }
      afterDigit = true
      let (product, overflowed) = value.multipliedReportingOverflow(by: radix)
      let (sum, carried) = product.subtractingReportingOverflow(digit)
      if overflowed || carried { return nil }
      value = sum
    }
    // Gathered below zero, where one more number fits.
    return isNegative ? value : value == .min ? nil : -value
  }

  private static func isDigit(_ byte: UInt8) -> Bool {
    byte >= UInt8(ascii: "0") && byte <= UInt8(ascii: "9")
  }

  private static func digitValue(_ byte: UInt8) -> Int? {
    switch byte {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): Int(byte - UInt8(ascii: "0"))
    case UInt8(ascii: "a")...UInt8(ascii: "z"): Int(byte - UInt8(ascii: "a")) + 10
    case UInt8(ascii: "A")...UInt8(ascii: "Z"): Int(byte - UInt8(ascii: "A")) + 10
    default: nil
    }
  }
}
