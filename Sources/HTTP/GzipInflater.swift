// Decompression of gzip members (RFC 1952) over zlib, sans I/O, with a bound against bombs.

package import Base
internal import CZlib

/// Decompresses a body of one or more gzip members that comes in pieces of any size.
///
/// What a body expands to is bounded: at the bound ``receive(_:into:)`` throws, having appended no more than that.
/// Not for use by two threads.
package final class GzipInflater {
  private static let stepBytes = 16 << 10

  private enum State {
    /// Nothing of the body's first member was seen.
    case start
    case inside
    /// A member ended: the body may end here, or another member begins.
    case between
    case failed(GzipError)
  }

  // On the heap: zlib keeps a pointer back to its stream.
  private let stream: UnsafeMutablePointer<z_stream>
  private let outputBytesMax: Int
  private var produced = 0
  private var state = State.start

  /// Creates an inflater for a body that may expand to `outputBytesMax` bytes.
  package init(outputBytesMax: Int) throws(GzipError) {
    self.outputBytesMax = outputBytesMax
    stream = .allocate(capacity: 1)
    stream.initialize(to: z_stream())
    let code = czlib_inflate_init(stream)
    guard code == Z_OK else {
      stream.deallocate()
      throw .library(code: code)
    }
  }

  deinit {
    inflateEnd(stream)
    stream.deallocate()
  }

  /// Takes the next bytes of the body and appends what they expand to. After an error it throws that error again.
  package func receive(_ bytes: UnsafeRawBufferPointer, into out: inout ByteBuffer) throws(GzipError) {
    if case .failed(let error) = state { throw error }
    do {
      try inflateAll(bytes, into: &out)
    } catch {
      state = .failed(error)
      throw error
    }
  }

  /// Says that the body ended, and makes the inflater ready for another one; throws when it ended too early.
  package func finish() throws(GzipError) {
    defer {
      state = .start
      produced = 0
      inflateReset(stream)
    }
    switch state {
    case .between: return
    case .failed(let error): throw error
    case .start, .inside: throw .truncated
    }
  }

  private func inflateAll(_ bytes: UnsafeRawBufferPointer, into out: inout ByteBuffer) throws(GzipError) {
    // zlib reads through a pointer that is not const-correct, and only during this call.
    stream.pointee.next_in = UnsafeMutablePointer(mutating: bytes.bindMemory(to: UInt8.self).baseAddress)
    stream.pointee.avail_in = UInt32(clamping: bytes.count)
    assert(bytes.count <= Int(UInt32.max), "a piece is smaller than 4 GiB")
    defer { stream.pointee.next_in = nil }
    var outputWaits = false
    while stream.pointee.avail_in > 0 || outputWaits {
      if case .between = state { inflateReset(stream) }
      state = .inside
      // One byte past the bound tells a body that just fits from one that does not.
      let step = min(Self.stepBytes, outputBytesMax - produced + 1)
      let room = out.reserve(step)
      stream.pointee.next_out = room.assumingMemoryBound(to: UInt8.self)
      stream.pointee.avail_out = UInt32(step)
      let code = inflate(stream, Z_NO_FLUSH)
      let made = step - Int(stream.pointee.avail_out)
      guard produced + made <= outputBytesMax else { throw .tooLarge }
      produced += made
      out.commit(made)
      switch code {
      case Z_OK, Z_BUF_ERROR: outputWaits = stream.pointee.avail_out == 0
      case Z_STREAM_END:
        state = .between
        outputWaits = false
      case Z_MEM_ERROR: throw .library(code: code)
      // Z_DATA_ERROR, and Z_NEED_DICT, which gzip does not know.
      default: throw .malformed
      }
    }
  }
}
