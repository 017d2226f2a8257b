// Chunked framing for output, with one chunk kept open while payloads of a tick arrive.

package import Base

/// Frames payloads as chunks (RFC 9112 section 7.1) at the tail of an output buffer.
///
/// The size line has a fixed width (`00dc CRLF`; leading zeros are legal) and is reserved when a chunk opens, so that
/// consecutive payloads share one chunk in one contiguous buffer and only ``close(_:)`` fills the size in.
/// Invariant: while a chunk is open, its size line and `payload` bytes are the buffer's last bytes. So close before
/// the buffer is sent from or anything else is appended to it.
package struct ChunkedWriter: Sendable {
  /// Most payload bytes in one chunk: what four digits can tell.
  package static let payloadMax = 0xffff
  /// Payload bytes of the open chunk; -1 when none is open.
  private var payload = -1

  /// Creates a writer with no chunk open.
  package init() {}

  /// True while a chunk is open.
  package var isOpen: Bool { payload >= 0 }

  /// Appends `bytes` to the open chunk, opening others as needed. Empty payloads write nothing: an empty chunk would
  /// end the body.
  package mutating func append(_ bytes: UnsafeRawBufferPointer, to out: inout ByteBuffer) {
    if payload >= 0, payload + bytes.count <= Self.payloadMax {
      out.append(bytes)
      payload += bytes.count
      return
    }
    var rest = bytes
    while !rest.isEmpty {
      if payload == Self.payloadMax || (payload > 0 && rest.count <= Self.payloadMax) { close(&out) }
      if payload < 0 { open(&out) }
      let count = min(rest.count, Self.payloadMax - payload)
      out.append(rest.slice(0..<count))
      payload += count
      rest = rest.slice(count..<rest.count)
    }
  }

  /// Appends constant text to the open chunk.
  package mutating func append(_ text: StaticString, to out: inout ByteBuffer) {
    append(UnsafeRawBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount), to: &out)
  }

  /// Opens a chunk with room for `count` more payload bytes, at most ``payloadMax``, which the caller then appends to
  /// `out` itself and declares with ``wrote(_:)``.
  package mutating func open(for count: Int, _ out: inout ByteBuffer) {
    precondition(count <= Self.payloadMax, "a chunk holds at most 65,535 bytes")
    if payload >= 0, payload + count > Self.payloadMax { close(&out) }
    if payload < 0 { open(&out) }
  }

  /// Declares that the caller appended `count` payload bytes to the chunk it opened with ``open(for:_:)``.
  package mutating func wrote(_ count: Int) {
    precondition(payload >= 0 && payload + count <= Self.payloadMax, "payload must fit the open chunk")
    payload += count
  }

  /// Ends the open chunk, if there is one; one that stayed empty vanishes.
  package mutating func close(_ out: inout ByteBuffer) {
    guard payload >= 0 else { return }
    if payload == 0 {
      out.truncate(to: out.count - Self.sizeLineBytes)
    } else {
      let tail = out.reserve(2)
      tail.storeBytes(of: UInt16(0x0a0d).littleEndian, as: UInt16.self)
      out.commit(2)
      storeSize(at: tail - payload - Self.sizeLineBytes)
    }
    payload = -1
  }

  /// Ends the open chunk and the body. `trailers` are whole field lines, each with its CRLF.
  package mutating func finish(
    _ out: inout ByteBuffer, trailers: UnsafeRawBufferPointer = UnsafeRawBufferPointer(start: nil, count: 0)
  ) {
    close(&out)
    guard !trailers.isEmpty else {
      out.append("0\r\n\r\n" as StaticString)
      return
    }
    out.append("0\r\n" as StaticString)
    out.append(trailers)
    out.append("\r\n" as StaticString)
  }

  private static var sizeLineBytes: Int { 6 }

  private mutating func open(_ out: inout ByteBuffer) {
    out.append("0000\r\n" as StaticString)
    payload = 0
  }

  /// Writes the payload's size as four hexadecimal digits.
  private func storeSize(at digits: UnsafeMutableRawPointer) {
    let size = UInt32(truncatingIfNeeded: payload)
    // A nibble a byte, the highest first in memory; those above 9 move on to the letters.
    let nibbles = size >> 12 & 0xf | size & 0xf00 | size << 12 & 0xf_0000 | size << 24 & 0xf00_0000
    let letters = (nibbles &+ 0x0606_0606) >> 4 & 0x0101_0101
    digits.storeBytes(of: (nibbles &+ 0x3030_3030 &+ letters &* 39).littleEndian, as: UInt32.self)
  }
}
