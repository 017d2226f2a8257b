// The scanner's tokens: strings with their escapes and UTF-8, and numbers.

internal import Base
internal import CBytes

/// A number token: where it lies, and its value when it is a whole number.
package struct JSONNumber: Sendable, Equatable {
  /// The bytes of the number.
  package let range: Range<Int>

  /// True when it has neither fraction nor exponent.
  package let isInteger: Bool

  /// The value of a whole number; nil for other numbers and for what Int cannot hold.
  package let integer: Int?
}

extension JSONScanner {
  /// Passes the string whose opening quote is at `offset`.
  mutating func scanString() throws(JSONError) -> JSONString {
    let start = offset + 1
    var index = start
    var hasEscapes = false
    while true {
      var high: UInt32 = 0
      let run = cbytes_json_text_run(base + index, count - index, &high)
      if high != 0 {
        let valid = cbytes_utf8_prefix(base + index, run)
        if valid != run { throw JSONError(.invalidUTF8, at: index + valid) }
      }
      index += run
      guard index < count else { throw JSONError(.endOfInput, at: count) }
      switch base[index] {
      case UInt8(ascii: "\""):
        offset = index + 1
        return JSONString(range: start..<index, hasEscapes: hasEscapes)
      case UInt8(ascii: "\\"):
        hasEscapes = true
        index = try passEscape(at: index)
      default:
        throw JSONError(.controlCharacter, at: index)
      }
    }
  }

  /// Checks the escape whose backslash is at `index` and returns the position behind it. A high surrogate must be
  /// followed by a low one, since the pair is one character (RFC 8259 section 7); the engines refuse half of one too.
  private func passEscape(at index: Int) throws(JSONError) -> Int {
    guard index + 1 < count else { throw JSONError(.endOfInput, at: count) }
    switch base[index + 1] {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"), UInt8(ascii: "b"), UInt8(ascii: "f"),
      UInt8(ascii: "n"), UInt8(ascii: "r"), UInt8(ascii: "t"):
      return index + 2
    case UInt8(ascii: "u"):
      break
    default:
      throw JSONError(.invalidEscape, at: index)
    }
    let code = try escapedUnit(at: index)
    if (0xdc00..<0xe000).contains(code) { throw JSONError(.loneSurrogate, at: index) }
    guard (0xd800..<0xdc00).contains(code) else { return index + 6 }
    let second = index + 6
    guard second < count else { throw JSONError(.endOfInput, at: count) }
    guard base[second] == UInt8(ascii: "\\") else { throw JSONError(.loneSurrogate, at: index) }
    guard second + 1 < count else { throw JSONError(.endOfInput, at: count) }
    guard base[second + 1] == UInt8(ascii: "u") else { throw JSONError(.loneSurrogate, at: index) }
    guard (0xdc00..<0xe000).contains(try escapedUnit(at: second)) else {
      throw JSONError(.loneSurrogate, at: index)
    }
    return second + 6
  }

  /// The number in `\uXXXX` whose backslash is at `index`.
  private func escapedUnit(at index: Int) throws(JSONError) -> UInt32 {
    if let code = JSONScanner.hexQuad(UnsafeRawBufferPointer(start: base, count: count), at: index + 2) {
      return code
    }
    for digit in (index + 2)..<(index + 6) {
      guard digit < count else { throw JSONError(.endOfInput, at: count) }
      if Hex.value(base[digit]) == nil { break }
    }
    throw JSONError(.invalidEscape, at: index)
  }

  /// The number of four hexadecimal digits at `index`; nil when there are not four.
  static func hexQuad(_ bytes: UnsafeRawBufferPointer, at index: Int) -> UInt32? {
    guard index + 4 <= bytes.count else { return nil }
    var code: UInt32 = 0
    for digit in index..<(index + 4) {
      guard let nibble = Hex.value(bytes[digit]) else { return nil }
      code = code << 4 | UInt32(nibble)
    }
    return code
  }

  /// Passes the number that starts at `offset` (RFC 8259 section 6).
  mutating func scanNumber() throws(JSONError) -> JSONNumber {
    let start = offset
    var index = start
    let isNegative = base[index] == UInt8(ascii: "-")
    if isNegative { index += 1 }
    guard index < count else { throw JSONError(.endOfInput, at: count) }
    guard isDigit(index) else { throw JSONError(isNegative ? .invalidNumber : .valueExpected, at: index) }
    var value: Int? = 0
    if base[index] == UInt8(ascii: "0") {
      index += 1
      if isDigit(index) { throw JSONError(.invalidNumber, at: index) }
    } else {
      while isDigit(index) {
        value = value.flatMap { JSONScanner.extended($0, by: base[index], negative: isNegative) }
        index += 1
      }
    }
    var isInteger = true
    if index < count, base[index] == UInt8(ascii: ".") {
      isInteger = false
      index = try passDigits(from: index + 1)
    }
    if index < count, base[index] | 0x20 == UInt8(ascii: "e") {
      isInteger = false
      index += 1
      if index < count, base[index] == UInt8(ascii: "+") || base[index] == UInt8(ascii: "-") { index += 1 }
      index = try passDigits(from: index)
    }
    offset = index
    return JSONNumber(range: start..<index, isInteger: isInteger, integer: isInteger ? value : nil)
  }

  private func isDigit(_ index: Int) -> Bool {
    index < count && base[index] &- UInt8(ascii: "0") < 10
  }

  private func passDigits(from start: Int) throws(JSONError) -> Int {
    guard start < count else { throw JSONError(.endOfInput, at: count) }
    guard isDigit(start) else { throw JSONError(.invalidNumber, at: start) }
    var index = start + 1
    while isDigit(index) { index += 1 }
    return index
  }

  /// `value` with one more digit behind it; nil when that does not fit. Built downwards for negative numbers, so that
  /// the least Int fits too.
  private static func extended(_ value: Int, by digit: UInt8, negative: Bool) -> Int? {
    let (tenfold, first) = value.multipliedReportingOverflow(by: 10)
    let unit = Int(digit &- UInt8(ascii: "0"))
    let (sum, second) = tenfold.addingReportingOverflow(negative ? -unit : unit)
    return first || second ? nil : sum
  }
}
