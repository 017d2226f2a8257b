// The scanner's tokens: strings with their escapes and UTF-8, and numbers.

internal import Base
internal import CBytes

/// A number token: where it lies, and its value when it is a whole number.
@usableFromInline
package struct JSONNumber: Sendable, Equatable {
  private let start: Int
  private let end: Int

  /// True when it has neither fraction nor exponent.
  package let isInteger: Bool

  /// The value of a whole number; nil for other numbers and for what Int cannot hold.
  package let integer: Int?

  init(start: Int, end: Int, isInteger: Bool, integer: Int?) {
    self.start = start
    self.end = end
    self.isInteger = isInteger
    self.integer = integer
  }

  /// The bytes of the number.
  package var range: Range<Int> { start..<end }
}

extension JSONScanner {
  /// Passes the string whose opening quote is at `offset`.
  @inline(__always)
  mutating func scanString() throws(JSONError) -> JSONString {
    let start = offset &+ 1
    let length = Int(cbytes_json_short_string(base + start, count &- start))
    if length >= 0 {
      offset = start &+ length &+ 1
      return JSONString(start: start, end: start &+ length, hasEscapes: false)
    }
    return try scanLongString()
  }

  /// The general way of ``scanString()``: any length, escapes, UTF-8.
  @inline(never)
  private mutating func scanLongString() throws(JSONError) -> JSONString {
    let start = offset + 1
    var index = start
    var high: UInt32 = 0
    var escapes: UInt32 = 0
    while true {
      index = cbytes_json_string_scan(base, count, index, &high, &escapes)
      let end = index
      var fault: JSONError?
      if end == count {
        fault = JSONError(.endOfInput, at: count)
      } else if base[end] == UInt8(ascii: "\\") {
        escapes = 1
        do throws(JSONError) { index = try passEscape(at: end) } catch { fault = error }
        if fault == nil { continue }
      } else if base[end] != UInt8(ascii: "\"") {
        fault = JSONError(.controlCharacter, at: end)
      }
      // Escapes are ASCII, so the contents can be validated in one go; an earlier fault is told first.
      if high != 0 {
        let valid = cbytes_utf8_prefix(base + start, end - start)
        if valid != end - start { throw JSONError(.invalidUTF8, at: start + valid) }
      }
      if let fault { throw fault }
      offset = end + 1
      return JSONString(start: start, end: end, hasEscapes: escapes != 0)
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
    let isNegative = base[start] == UInt8(ascii: "-")
    let first = isNegative ? start &+ 1 : start
    guard first < count else { throw JSONError(.endOfInput, at: count) }
    guard isDigit(first) else { throw JSONError(isNegative ? .invalidNumber : .valueExpected, at: first) }
    var index = first
    var magnitude: UInt64 = 0
    while isDigit(index) {
      magnitude = magnitude &* 10 &+ UInt64(base[index] &- UInt8(ascii: "0"))
      index &+= 1
    }
    let digits = index &- first
    if digits > 1, base[first] == UInt8(ascii: "0") { throw JSONError(.invalidNumber, at: first + 1) }
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
    guard isInteger else { return JSONNumber(start: start, end: index, isInteger: false, integer: nil) }
    return JSONNumber(
      start: start, end: index, isInteger: true,
      integer: whole(magnitude, digits: digits, isNegative: isNegative))
  }

  /// The value of a whole number. Up to 19 digits cannot have wrapped around a UInt64; more cannot fit an Int.
  private func whole(_ magnitude: UInt64, digits: Int, isNegative: Bool) -> Int? {
    guard digits <= 19 else { return nil }
    if magnitude <= UInt64(Int.max) { return isNegative ? -Int(magnitude) : Int(magnitude) }
    return isNegative && magnitude == Int.min.magnitude ? .min : nil
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
}
