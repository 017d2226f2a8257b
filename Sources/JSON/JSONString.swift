// A string token inside JSON text: compared and decoded without copying while it has no escapes.

public import Base

/// Where the contents of a string lie in the scanned bytes, and whether they need decoding.
@usableFromInline
package struct JSONString: Sendable, Equatable {
  @usableFromInline let start: Int
  @usableFromInline let end: Int

  /// True when the contents hold at least one backslash.
  @usableFromInline package let hasEscapes: Bool

  init(start: Int, end: Int, hasEscapes: Bool) {
    self.start = start
    self.end = end
    self.hasEscapes = hasEscapes
  }

  /// A string whose contents are at `range`, which a scanner handed out.
  package init(range: Range<Int>, hasEscapes: Bool) {
    self.init(start: range.lowerBound, end: range.upperBound, hasEscapes: hasEscapes)
  }

  /// The bytes between the quotes.
  @inlinable package var range: Range<Int> { Range(uncheckedBounds: (start, end)) }

  /// Number of bytes between the quotes.
  @inlinable package var count: Int { end &- start }

  /// True when the decoded contents equal `text`. `bytes` are those that were scanned.
  @inlinable
  package func equals(_ text: StaticString, in bytes: UnsafeRawBufferPointer) -> Bool {
    if hasEscapes { return equalsDecoded(text, in: bytes) }
    // With a literal the compiler turns this into a few word comparisons.
    return bytes.slice(range).equals(text)
  }

  @usableFromInline
  func equalsDecoded(_ text: StaticString, in bytes: UnsafeRawBufferPointer) -> Bool {
    let expected = UnsafeBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount)
    return decoded(in: bytes).utf8.elementsEqual(expected)
  }

  /// The decoded contents; for cold paths.
  package func decoded(in bytes: UnsafeRawBufferPointer) -> String {
    if !hasEscapes { return bytes.slice(range).text }
    var buffer = ByteBuffer(capacity: range.count)
    buffer.append(decoding: bytes.slice(range))
    return buffer.text
  }
}
