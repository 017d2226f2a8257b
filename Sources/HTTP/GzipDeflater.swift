// Compression into gzip members (RFC 1952) over zlib, sans I/O.

package import Base
internal import CZlib

/// Why bytes could not be compressed or decompressed.
package enum GzipError: Error, Equatable {
  /// zlib refused; `code` is its error. Out of memory, as a rule.
  case library(code: Int32)
  /// The output would pass its bound.
  case tooLarge
  /// The input is no gzip data, or its checksum is wrong.
  case malformed
  /// The input ended inside a member.
  case truncated
}

/// Compresses one member after the other with the same memory (about 256 KiB while it lives).
///
/// Feed a member's bytes in pieces of any size, then ``finish(into:)``. After an error the next piece begins a new
/// member. Not for use by two threads.
package final class GzipDeflater {
  private static let stepBytes = 16 << 10

  // On the heap: zlib keeps a pointer back to its stream.
  private let stream: UnsafeMutablePointer<z_stream>
  private let outputBytesMax: Int
  private var produced = 0

  /// Creates a deflater.
  ///
  /// - Parameter level: 1, the fastest, to 9, the smallest.
  /// - Parameter outputBytesMax: bound of one compressed member.
  package init(level: Int = 6, outputBytesMax: Int = 64 << 20) throws(GzipError) {
    self.outputBytesMax = outputBytesMax
    stream = .allocate(capacity: 1)
    stream.initialize(to: z_stream())
    let code = czlib_deflate_init(stream, Int32(clamping: min(max(level, 1), 9)))
    guard code == Z_OK else {
      stream.deallocate()
      throw .library(code: code)
    }
  }

  deinit {
    deflateEnd(stream)
    stream.deallocate()
  }

  /// Compresses `bytes` as the next part of the member; what is ready is appended to `out`.
  package func append(_ bytes: UnsafeRawBufferPointer, to out: inout ByteBuffer) throws(GzipError) {
    try run(bytes, Z_NO_FLUSH, into: &out)
  }

  /// Ends the member; the deflater is ready for the next one.
  package func finish(into out: inout ByteBuffer) throws(GzipError) {
    try run(UnsafeRawBufferPointer(start: nil, count: 0), Z_FINISH, into: &out)
    reset()
  }

  private func reset() {
    deflateReset(stream)
    produced = 0
  }

  private func run(_ bytes: UnsafeRawBufferPointer, _ flush: Int32, into out: inout ByteBuffer)
    throws(GzipError)
  {
    // zlib reads through a pointer that is not const-correct, and only during this call.
    stream.pointee.next_in = UnsafeMutablePointer(mutating: bytes.bindMemory(to: UInt8.self).baseAddress)
    stream.pointee.avail_in = UInt32(clamping: bytes.count)
    assert(bytes.count <= Int(UInt32.max), "a piece is smaller than 4 GiB")
    defer { stream.pointee.next_in = nil }
    while true {
      let room = out.reserve(Self.stepBytes)
      stream.pointee.next_out = room.assumingMemoryBound(to: UInt8.self)
      stream.pointee.avail_out = UInt32(Self.stepBytes)
      let code = deflate(stream, flush)
      // Z_BUF_ERROR says only that there was nothing to do.
      guard code >= Z_OK || code == Z_BUF_ERROR else {
        reset()
        throw .library(code: code)
      }
      let made = Self.stepBytes - Int(stream.pointee.avail_out)
      produced += made
      guard produced <= outputBytesMax else {
        reset()
        throw .tooLarge
      }
      out.commit(made)
      if code == Z_STREAM_END || (stream.pointee.avail_out > 0 && flush == Z_NO_FLUSH) { return }
    }
  }
}
