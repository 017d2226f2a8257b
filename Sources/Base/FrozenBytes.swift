// Bytes that are finished: written once on one thread, read on any.

/// A buffer that nobody writes to any more.
///
/// Unchecked: the memory is taken out of the buffer's owner for good and only read from then on.
package final class FrozenBytes: @unchecked Sendable {
  private let buffer: ByteBuffer

  /// Takes over what waits in `buffer`; memory that it does not need is given back when it is most of it.
  package init(_ buffer: consuming ByteBuffer) {
    buffer.trim()
    self.buffer = buffer
  }

  /// Copies `bytes`.
  package convenience init(_ bytes: [UInt8]) {
    var buffer = ByteBuffer(capacity: bytes.count)
    buffer.append(bytes)
    self.init(buffer)
  }

  /// Number of bytes.
  package var count: Int { buffer.count }

  /// Lends the bytes.
  package func withUnsafeBytes<Result, Failure: Error>(
    _ body: (UnsafeRawBufferPointer) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    try body(buffer.readable)
  }
}
