// What libnghttp2's callbacks write into: they only record here, the session acts after the call returns.

import Base
import CNghttp2

/// The open streams of one session and the events its callbacks recorded.
///
/// Reached from C through an unretained pointer: the session that owns this object also owns the library's
/// handle and frees the handle first, so the pointer never outlives the object.
final class HTTP2Streams {
  let limits: HTTP2Limits
  let isServer: Bool
  var open: [Int32: HTTP2Exchange] = [:]
  /// Client: streams that ended. Server: requests that are complete.
  var ready: [HTTP2Exchange] = []
  /// Streams to reset because a bound was passed.
  var overLimit: [Int32] = []
  /// Streams whose body went out and whose trailers are to be submitted.
  var trailersDue: [Int32] = []
  /// Frames on their way out, while the session gathers them.
  var output = ByteBuffer()
  var goAway: HTTP2GoAway?
  var receivedSettings = false
  var bufferedBytes = 0
  /// The caller's clock, where it wants to know which streams stand still.
  var now: Nanoseconds = 0

  init(limits: HTTP2Limits, isServer: Bool) {
    self.limits = limits
    self.isServer = isServer
  }

  /// Ends every open stream with `end`; for a connection that is gone.
  func endAll(_ end: HTTP2End) {
    for exchange in open.values.sorted(by: { $0.streamID < $1.streamID }) { finish(exchange, end) }
    open.removeAll()
    bufferedBytes = 0
  }

  private func finish(_ exchange: HTTP2Exchange, _ end: HTTP2End) {
    guard exchange.end == nil else { return }
    exchange.end = end
    exchange.outgoing = nil
    exchange.outgoingTrailers = nil
    if !isServer { ready.append(exchange) }
  }

  // MARK: Callbacks

  func beganHeaders(_ streamID: Int32, category: nghttp2_headers_category) {
    if isServer, category == NGHTTP2_HCAT_REQUEST {
      let exchange = HTTP2Exchange(streamID: streamID, now: now)
      exchange.hasHead = true
      open[streamID] = exchange
    } else {
      open[streamID]?.beginSection()
    }
  }

  /// False when the section is over its bound: the library then resets the stream.
  func receivedHeader(
    _ streamID: Int32, _ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer
  ) -> Bool {
    guard let exchange = open[streamID] else { return true }
    let section = exchange.section
    if section.count >= limits.headerCount
      || section.listBytes + name.count + value.count + 32 > limits.headerListBytes
    {
      exchange.fault = .headersTooLarge
      return false
    }
    section.append(name, value)
    return true
  }

  func receivedData(_ streamID: Int32, _ bytes: UnsafeRawBufferPointer) {
    guard let exchange = open[streamID], exchange.fault == nil else { return }
    if exchange.body.count + bytes.count > limits.bodyBytes
      || bufferedBytes + bytes.count > limits.bufferedBytes
    {
      exchange.fault = .bodyTooLarge
      overLimit.append(streamID)
      return
    }
    bufferedBytes += bytes.count
    exchange.lastProgress = now
    exchange.body.append(bytes)
  }

  func receivedEndOfStream(_ streamID: Int32) {
    guard let exchange = open[streamID], !exchange.remoteEnded else { return }
    exchange.remoteEnded = true
    exchange.lastProgress = now
    if isServer, exchange.fault == nil { ready.append(exchange) }
  }

  func closed(_ streamID: Int32, code: UInt32) {
    guard let exchange = open.removeValue(forKey: streamID) else { return }
    bufferedBytes -= exchange.body.count
    let end: HTTP2End =
      if let fault = exchange.fault {
        fault
      } else if exchange.remoteEnded, !isServer || code == HTTP2ErrorCode.noError {
        // A server may reset after a whole answer because it wants no more of the request.
        .complete
      } else if code == HTTP2ErrorCode.refusedStream {
        .refused
      } else {
        .reset(code: code)
      }
    finish(exchange, end)
  }

  func receivedGoAway(lastStreamID: Int32, code: UInt32, debug: UnsafeRawBufferPointer) {
    goAway = HTTP2GoAway(
      lastStreamID: lastStreamID, code: code, debug: debug.slice(0..<min(debug.count, 128)).text)
  }

  /// Tells how many bytes of a body the next frame takes; the flags tell the library when they are the last.
  func announce(_ streamID: Int32, count: Int, flags: inout UInt32) -> Int {
    guard let exchange = open[streamID] else { return Int(NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE.rawValue) }
    let rest = exchange.outgoing.map { $0.count - exchange.outgoingOffset } ?? 0
    let taken = min(count, rest)
    if taken > 0 { flags |= UInt32(NGHTTP2_DATA_FLAG_NO_COPY.rawValue) }
    // The end rides on the last DATA frame, or on the trailers when there are some.
    guard taken == rest else { return taken }
    flags |= UInt32(NGHTTP2_DATA_FLAG_EOF.rawValue)
    if exchange.outgoingTrailers != nil {
      flags |= UInt32(NGHTTP2_DATA_FLAG_NO_END_STREAM.rawValue)
      trailersDue.append(streamID)
    }
    return taken
  }

  /// Writes a DATA frame of `count` bytes that were announced; nothing is ever padded. When enough is gathered the
  /// library is told to come again with the same frame.
  func sendData(_ streamID: Int32, head: UnsafeRawBufferPointer, count: Int) -> nghttp2_error {
    guard output.count < limits.outputBytes else { return NGHTTP2_ERR_WOULDBLOCK }
    guard let exchange = open[streamID], let body = exchange.outgoing else {
      return NGHTTP2_ERR_CALLBACK_FAILURE
    }
    output.append(head)
    body.append(exchange.outgoingOffset..<exchange.outgoingOffset + count, to: &output)
    exchange.outgoingOffset += count
    exchange.lastProgress = now
    return nghttp2_error(0)
  }
}
