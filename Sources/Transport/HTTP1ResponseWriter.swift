// The response half of a server connection: head and framed body into an output buffer, and how far it has come.

internal import Base
internal import HTTP

/// Writes one response after the other. It sends nothing and reads no clock; the connection owns buffer and socket.
///
/// ```
///  nothing ──beginHead──▶ begun ──append*, finish──▶ finished ──reset (next request)──▶ nothing
/// ```
struct HTTP1ResponseWriter {
  /// The head is written, or being written.
  private(set) var hasBegun = false
  /// The last byte is written.
  private(set) var hasFinished = false
  private var isHeadOnly = false
  private var minorVersion: UInt8 = 1
  private var isChunked = false
  private var chunks = ChunkedWriter()
  /// Bytes that the head promised and that were not written yet; nil where it promised no number.
  private var lengthLeft: Int?

  /// Makes ready for the answer to a request of this version; `headOnly` for HEAD, whose answers have no body.
  mutating func reset(minorVersion: UInt8, headOnly: Bool) {
    self.minorVersion = minorVersion
    isHeadOnly = headOnly
    hasBegun = false
    hasFinished = false
  }

  /// True when only the end of the connection can end this body: HTTP/1.0 knows no chunks.
  func endsWithConnection(_ body: ResponseBody) -> Bool {
    if case .stream = body { return minorVersion == 0 }
    return false
  }

  /// Writes the head up to its framing; the connection may add fields of its own before ``endHead(closes:to:)``.
  mutating func beginHead(
    status: Int, fields: UnsafeRawBufferPointer, body: ResponseBody, to output: inout ByteBuffer
  ) {
    hasBegun = true
    isChunked = false
    lengthLeft = nil
    output.beginResponse(status: status)
    output.append(fields)
    switch body {
    case .none:
      break
    case .length(let length):
      lengthLeft = length
      output.header("content-length", length)
    case .stream where minorVersion >= 1:
      isChunked = true
      chunks = ChunkedWriter()
      output.append("transfer-encoding: chunked\r\n" as StaticString)
    case .stream:
      break
    }
  }

  /// Ends the head; `closes` says that no further request is taken.
  func endHead(closes: Bool, to output: inout ByteBuffer) {
    if closes {
      output.append("connection: close\r\n" as StaticString)
    } else if minorVersion == 0 {
      output.append("connection: keep-alive\r\n" as StaticString)
    }
    output.endHead()
  }

  /// True when bytes of the body have a place: the response is under way and has a body.
  var takesBody: Bool { hasBegun && !hasFinished && !isHeadOnly }

  /// Writes body bytes; those past a promised length are left out.
  mutating func append(_ bytes: UnsafeRawBufferPointer, to output: inout ByteBuffer) {
    if isChunked {
      // The chunk stays open until the flush: what a tick brings shares one.
      chunks.append(bytes, to: &output)
    } else if let left = lengthLeft {
      let count = min(left, bytes.count)
      lengthLeft = left - count
      output.append(bytes.slice(0..<count))
    } else {
      output.append(bytes)
    }
  }

  /// True while bytes are missing that the head promised.
  var isShort: Bool {
    guard let left = lengthLeft else { return false }
    return left > 0 && !isHeadOnly
  }

  /// True when ``finish(trailers:to:)`` has something to write.
  var endIsWritten: Bool { isChunked && !isHeadOnly }

  /// Ends the body; `trailers` are whole field lines, and only a chunked body has a place for them.
  mutating func finish(trailers: UnsafeRawBufferPointer, to output: inout ByteBuffer) {
    hasFinished = true
    if endIsWritten { chunks.finish(&output, trailers: trailers) }
  }

  /// Completes what is still open at the buffer's end, which is about to be sent.
  mutating func closeChunk(in output: inout ByteBuffer) {
    if isChunked { chunks.close(&output) }
  }
}
