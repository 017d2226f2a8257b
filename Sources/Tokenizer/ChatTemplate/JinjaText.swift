// Strings of templates: UTF-8 bytes without an owner, with Python's operations on them.

internal import Glibc

/// A string that lies in an arena, in the template's text or in the input; valid as long as those are.
struct JinjaText {
  /// A string that `safe` or `escape` marked; `+` then escapes its other side as markupsafe does.
  static let markup: UInt32 = 1
  /// The name in an undefined value is that of an attribute.
  static let attribute: UInt32 = 2

  let base: UnsafePointer<UInt8>
  let length: UInt32
  var flags: UInt32 = 0

  init(_ base: UnsafePointer<UInt8>, _ count: Int) {
    self.base = base
    length = UInt32(truncatingIfNeeded: count)
  }

  init(_ literal: StaticString) {
    self.init(literal.utf8Start, literal.utf8CodeUnitCount)
  }

  static var empty: JinjaText { JinjaText("") }

  var count: Int { Int(length) }
  var isEmpty: Bool { length == 0 }
  var isMarkup: Bool { flags & JinjaText.markup != 0 }

  var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: base, count: count) }

  /// The text as a Swift string; for messages and other cold paths.
  var string: String { String(decoding: bytes, as: UTF8.self) }

  func with(flags: UInt32) -> JinjaText {
    var text = self
    text.flags = flags
    return text
  }

  /// The bytes from `start` up to `end`, both on character boundaries.
  func slice(_ start: Int, _ end: Int) -> JinjaText {
    JinjaText(base + start, end - start).with(flags: flags)
  }

  func equals(_ other: JinjaText) -> Bool {
    length == other.length && (base == other.base || memcmp(base, other.base, count) == 0)
  }

  func equals(_ literal: StaticString) -> Bool {
    count == literal.utf8CodeUnitCount && memcmp(base, literal.utf8Start, count) == 0
  }

  /// Order by code points, which is the order of the UTF-8 bytes.
  func isLess(than other: JinjaText) -> Bool {
    let order = memcmp(base, other.base, min(count, other.count))
    return order != 0 ? order < 0 : length < other.length
  }

  func hasPrefix(_ other: JinjaText) -> Bool {
    count >= other.count && memcmp(base, other.base, other.count) == 0
  }

  func hasSuffix(_ other: JinjaText) -> Bool {
    count >= other.count && memcmp(base + (count - other.count), other.base, other.count) == 0
  }

  /// Offset of the first `needle` at or after `start`; nil when there is none.
  func find(_ needle: JinjaText, from start: Int = 0) -> Int? {
    let size = needle.count
    guard start >= 0, start + size <= count else { return nil }
    if size == 0 { return start }
    let first = Int32(needle.base[0])
    var at = start
    let last = count - size
    while at <= last {
      guard let hit = memchr(base + at, first, last - at + 1) else { return nil }
      at = UnsafeRawPointer(hit) - UnsafeRawPointer(base)
      if memcmp(base + at, needle.base, size) == 0 { return at }
      at += 1
    }
    return nil
  }

  /// Offset of the last `needle` that ends at or before `end`; nil when there is none.
  func findLast(_ needle: JinjaText, before end: Int) -> Int? {
    let size = needle.count
    var at = end - size
    while at >= 0 {
      if memcmp(base + at, needle.base, size) == 0 { return at }
      at -= 1
    }
    return nil
  }

  /// Number of characters (code points, as Python counts).
  var characterCount: Int {
    var continuations = 0
    for index in 0..<count { continuations &+= base[index] & 0xc0 == 0x80 ? 1 : 0 }
    return count - continuations
  }

  /// Byte offset of character `index`, which must be at most ``characterCount``.
  func offset(ofCharacter index: Int) -> Int {
    var left = index
    var offset = 0
    while left > 0, offset < count {
      offset = end(ofCharacterAt: offset)
      left -= 1
    }
    return offset
  }

  /// The last character boundary at or before byte `offset`, or the end.
  func boundary(before offset: Int) -> Int {
    var boundary = min(offset, count)
    while boundary > 0, boundary < count, base[boundary] & 0xc0 == 0x80 { boundary -= 1 }
    return boundary
  }

  /// Where the character that starts at byte `offset` ends.
  func end(ofCharacterAt offset: Int) -> Int {
    var end = offset + 1
    while end < count, base[end] & 0xc0 == 0x80 { end += 1 }
    return end
  }

  /// Where the character that ends before byte `offset` starts.
  func start(ofCharacterBefore offset: Int) -> Int {
    var start = offset - 1
    while start > 0, base[start] & 0xc0 == 0x80 { start -= 1 }
    return start
  }

  /// The code point of the bytes from `start` up to `end`, which are one character of valid UTF-8.
  func scalar(_ start: Int, _ end: Int) -> Unicode.Scalar {
    var value = UInt32(base[start])
    switch end - start {
    case 1: break
    case 2: value &= 0x1f
    case 3: value &= 0x0f
    default: value &= 0x07
    }
    var index = start + 1
    while index < end {
      value = value << 6 | UInt32(base[index] & 0x3f)
      index += 1
    }
    return Unicode.Scalar(value) ?? "\u{fffd}"
  }

  /// Without the characters at the ends that `isStripped` names.
  func stripped(
    leading: Bool, trailing: Bool, _ isStripped: (JinjaText, Int, Int) -> Bool
  ) -> JinjaText {
    var start = 0
    var end = count
    while leading, start < end {
      let next = self.end(ofCharacterAt: start)
      guard isStripped(self, start, next) else { break }
      start = next
    }
    while trailing, end > start {
      let previous = self.start(ofCharacterBefore: end)
      guard isStripped(self, previous, end) else { break }
      end = previous
    }
    return slice(start, end)
  }

  /// Without white space at the ends, as `str.strip()` does it.
  func strippedOfWhitespace(leading: Bool = true, trailing: Bool = true) -> JinjaText {
    stripped(leading: leading, trailing: trailing) { $0.isSpace($1, $2) }
  }

  /// True when the character between these offsets is white space by `str.isspace()`.
  func isSpace(_ start: Int, _ end: Int) -> Bool {
    let byte = base[start]
    if byte < 0x80 { return PythonText.isSpace(UInt32(byte)) }
    return PythonText.isSpace(scalar(start, end).value)
  }
}
