// An edit of a request body that leaves every other byte as the caller sent it.

package import Base

/// One range of a body with the bytes that take its place; an empty range inserts.
package struct BodyEdit: Sendable {
  /// What is replaced.
  package let range: Range<Int>

  /// What comes instead.
  package let replacement: StaticString

  package init(range: Range<Int>, replacement: StaticString) {
    self.range = range
    self.replacement = replacement
  }

  /// How many bytes longer the edited body is.
  package var growth: Int { replacement.utf8CodeUnitCount - range.count }

  /// Appends the edited body.
  package func write(_ body: UnsafeRawBufferPointer, into buffer: inout ByteBuffer) {
    buffer.append(body.slice(0..<range.lowerBound))
    buffer.append(replacement)
    buffer.append(body.slice(range.upperBound..<body.count))
  }
}
