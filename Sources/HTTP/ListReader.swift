// Reading comma-separated field values.

internal import Base

/// Walks the elements of a comma-separated list (RFC 9110 section 5.6.1) without copies; empty elements are skipped.
///
/// Quoted strings are not understood: only for lists of tokens.
package struct ListReader {
  private var rest: UnsafeRawBufferPointer

  /// Creates a reader over a field's value.
  package init(_ value: UnsafeRawBufferPointer) { rest = value }

  /// The next element without the whitespace around it; nil after the last.
  package mutating func next() -> UnsafeRawBufferPointer? {
    while !rest.isEmpty {
      var end = 0
      while end < rest.count, rest[end] != UInt8(ascii: ",") { end += 1 }
      let element = rest.slice(0..<end).trimmed
      rest = rest.slice(min(end + 1, rest.count)..<rest.count)
      if !element.isEmpty { return element }
    }
    return nil
  }
}

extension UnsafeRawBufferPointer {
  /// True when both hold the same bytes, ASCII letters compared in either case.
  func equalsIgnoringCase(_ other: UnsafeRawBufferPointer) -> Bool {
    guard count == other.count else { return false }
    for index in 0..<count where Self.lowercase(self[index]) != Self.lowercase(other[index]) { return false }
    return true
  }

  private static func lowercase(_ byte: UInt8) -> UInt8 {
    byte >= UInt8(ascii: "A") && byte <= UInt8(ascii: "Z") ? byte | 0x20 : byte
  }
}
