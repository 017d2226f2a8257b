// A validating reader over raw bytes that hands out positions instead of values (RFC 8259).

internal import CBytes
internal import Glibc

/// Which of JSON's values starts at a position.
package enum JSONKind: UInt8, Sendable {
  case object, array, string, number, `true`, `false`, null
}

/// Reads JSON text from front to back and checks all it passes: grammar, escapes, surrogate pairs, UTF-8, depth.
///
/// The caller opens containers it cares for and skips the rest:
/// ```
/// try scanner.openObject()
/// while let key = try scanner.nextKey() { … exactly one of string(), number(), literal(), open…(), skipValue() … }
/// try scanner.finish()
/// ```
/// Text in strings costs about one instruction a byte. The bytes must outlive the scanner.
package struct JSONScanner {
  /// How many containers may be open at once.
  package static let depthMax = 128

  let base: UnsafePointer<UInt8>
  let count: Int

  /// Position of the next unread byte.
  package internal(set) var offset = 0

  /// How many containers are open.
  package private(set) var depth = 0

  /// Set when white space is passed outside strings; the caller may clear it.
  package var sawWhitespace = false

  /// True behind a complete value, where only a comma or the container's end may follow.
  private var afterValue = false

  package init(_ bytes: UnsafeRawBufferPointer) {
    base = bytes.bindMemory(to: UInt8.self).baseAddress ?? ("" as StaticString).utf8Start
    count = bytes.count
  }

  // MARK: Containers

  /// Which value comes next. Passes white space only.
  package mutating func kind() throws(JSONError) -> JSONKind {
    switch try peek() {
    case UInt8(ascii: "\""): return .string
    case UInt8(ascii: "{"): return .object
    case UInt8(ascii: "["): return .array
    case UInt8(ascii: "t"): return .true
    case UInt8(ascii: "f"): return .false
    case UInt8(ascii: "n"): return .null
    case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): return .number
    default: throw JSONError(.valueExpected, at: offset)
    }
  }

  /// Passes the brace that opens an object.
  package mutating func openObject() throws(JSONError) {
    guard try peek() == UInt8(ascii: "{") else { throw JSONError(.wrongKind, at: offset) }
    try descend()
  }

  /// Passes the bracket that opens an array.
  package mutating func openArray() throws(JSONError) {
    guard try peek() == UInt8(ascii: "[") else { throw JSONError(.wrongKind, at: offset) }
    try descend()
  }

  /// Opens the object that is next and returns true; passes a value of any other kind and returns false.
  package mutating func objectOrSkip() throws(JSONError) -> Bool {
    if try peek() == UInt8(ascii: "{") {
      try descend()
      return true
    }
    try skipValue()
    return false
  }

  /// Opens the array that is next and returns true; passes a value of any other kind and returns false.
  package mutating func arrayOrSkip() throws(JSONError) -> Bool {
    if try peek() == UInt8(ascii: "[") {
      try descend()
      return true
    }
    try skipValue()
    return false
  }

  /// The next key of the object opened last, its colon passed; nil when the object ended, which closes it.
  package mutating func nextKey() throws(JSONError) -> JSONString? {
    var byte = try peek()
    if byte == UInt8(ascii: "}") {
      ascend()
      return nil
    }
    if afterValue {
      guard byte == UInt8(ascii: ",") else { throw JSONError(.commaOrEndExpected, at: offset) }
      offset += 1
      byte = try peek()
    }
    guard byte == UInt8(ascii: "\"") else { throw JSONError(.keyExpected, at: offset) }
    let key = try scanString()
    guard try peek() == UInt8(ascii: ":") else { throw JSONError(.colonExpected, at: offset) }
    offset += 1
    afterValue = false
    return key
  }

  /// True when the array opened last has another element; false when it ended, which closes it.
  package mutating func nextElement() throws(JSONError) -> Bool {
    let byte = try peek()
    if afterValue {
      if byte == UInt8(ascii: "]") {
        ascend()
        return false
      }
      guard byte == UInt8(ascii: ",") else { throw JSONError(.commaOrEndExpected, at: offset) }
      offset += 1
      afterValue = false
    } else if byte == UInt8(ascii: "]") {
      ascend()
      return false
    }
    return true
  }

  /// Checks that nothing but white space follows the value.
  package mutating func finish() throws(JSONError) {
    skipWhitespace()
    guard offset == count else { throw JSONError(.trailingBytes, at: offset) }
  }

  // MARK: Values

  /// Passes a string.
  package mutating func string() throws(JSONError) -> JSONString {
    guard try peek() == UInt8(ascii: "\"") else { throw JSONError(.wrongKind, at: offset) }
    afterValue = true
    return try scanString()
  }

  /// Passes a string and returns it; passes a value of any other kind and returns nil.
  package mutating func stringOrSkip() throws(JSONError) -> JSONString? {
    if try peek() == UInt8(ascii: "\"") {
      afterValue = true
      return try scanString()
    }
    try skipValue()
    return nil
  }

  /// Passes a number.
  package mutating func number() throws(JSONError) -> JSONNumber {
    _ = try peek()
    afterValue = true
    return try scanNumber()
  }

  /// Passes `true`, `false` or `null`.
  package mutating func literal() throws(JSONError) {
    let word: StaticString
    switch try peek() {
    case UInt8(ascii: "t"): word = "true"
    case UInt8(ascii: "f"): word = "false"
    case UInt8(ascii: "n"): word = "null"
    default: throw JSONError(.valueExpected, at: offset)
    }
    let left = count - offset
    let length = word.utf8CodeUnitCount
    guard left >= length, memcmp(base + offset, word.utf8Start, length) == 0 else {
      // Cut off in the middle of the right word is an early end; anything else is a wrong word.
      let cut = left < length && memcmp(base + offset, word.utf8Start, left) == 0
      throw cut ? JSONError(.endOfInput, at: count) : JSONError(.invalidLiteral, at: offset)
    }
    offset += length
    afterValue = true
  }

  /// Passes one value of any kind with all it holds and returns where it lies, without white space around it.
  @discardableResult
  package mutating func skipValue() throws(JSONError) -> Range<Int> {
    _ = try peek()
    let start = offset
    let floor = depth
    // One bit for each container opened here, the innermost lowest: 1 for an object. 128 deep fits.
    var objects: UInt128 = 0
    repeat {
      if depth > floor {
        let open = objects & 1 == 1 ? try nextKey() != nil : try nextElement()
        if !open {
          objects &>>= 1
          continue
        }
      }
      switch try peek() {
      case UInt8(ascii: "\""):
        _ = try scanString()
        afterValue = true
      case UInt8(ascii: "{"):
        try descend()
        objects = objects &<< 1 | 1
      case UInt8(ascii: "["):
        try descend()
        objects = objects &<< 1
      case UInt8(ascii: "t"), UInt8(ascii: "f"), UInt8(ascii: "n"):
        try literal()
      default:
        _ = try number()
      }
    } while depth > floor
    return start..<offset
  }

  // MARK: Steps

  /// The next byte that is no white space, not passed.
  @inline(__always)
  private mutating func peek() throws(JSONError) -> UInt8 {
    if offset < count {
      let byte = base[offset]
      if byte > 0x20 { return byte }
    }
    skipWhitespace()
    guard offset < count else { throw JSONError(.endOfInput, at: count) }
    return base[offset]
  }

  private mutating func skipWhitespace() {
    let start = offset
    while offset < count {
      let byte = base[offset]
      guard byte == 0x20 || byte == 0x0a || byte == 0x0d || byte == 0x09 else { break }
      offset += 1
    }
    if offset != start { sawWhitespace = true }
  }

  private mutating func descend() throws(JSONError) {
    guard depth < JSONScanner.depthMax else { throw JSONError(.tooDeep, at: offset) }
    offset += 1
    depth += 1
    afterValue = false
  }

  private mutating func ascend() {
    offset += 1
    depth -= 1
    afterValue = true
  }
}
