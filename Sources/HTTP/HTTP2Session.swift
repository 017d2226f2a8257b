// What both roles of an HTTP/2 session share: the library's handle, bytes in, bytes out.

import Base
import CNghttp2

/// Owner of one libnghttp2 session. Sans I/O: the caller moves the bytes. Confined to one thread.
final class HTTP2Session {
  let streams: HTTP2Streams
  private let handle: OpaquePointer

  /// Throws ``HTTP2Error/library(call:code:)`` when the library cannot make a session.
  init(limits: HTTP2Limits, isServer: Bool) throws(HTTP2Error) {
    streams = HTTP2Streams(limits: limits, isServer: isServer)
    // Unretained: the session owns `streams` and frees the handle first.
    handle = try HTTP2Library.makeSession(
      isServer: isServer, user: Unmanaged.passUnretained(streams).toOpaque(),
      installing: installHTTP2Callbacks)
    let announcement = HTTP2Library.Announcement(
      streamWindowBytes: limits.streamWindowBytes, connectionWindowBytes: limits.connectionWindowBytes,
      headerListBytes: limits.headerListBytes, concurrentStreams: limits.concurrentStreams)
    try HTTP2Library.announce(announcement, isServer: isServer, on: handle)
  }

  deinit { nghttp2_session_del(handle) }

  // MARK: Bytes

  /// Takes bytes from the peer, all of them. After an error the connection must be closed.
  func receive(_ bytes: UnsafeRawBufferPointer) throws(HTTP2Error) {
    guard let start = bytes.bindMemory(to: UInt8.self).baseAddress, !bytes.isEmpty else { return }
    let taken = nghttp2_session_mem_recv(handle, start, bytes.count)
    if taken < 0 { throw .library(call: "nghttp2_session_mem_recv", code: Int32(clamping: taken)) }
    while let streamID = streams.overLimit.popLast() {
      try reset(streamID, code: HTTP2ErrorCode.enhanceYourCalm)
    }
  }

  /// Appends what is to be sent, frame by frame, until nothing is left or `out` holds the limit's amount.
  func output(into out: inout ByteBuffer) throws(HTTP2Error) {
    // The callback for DATA frames writes behind what the library returns itself.
    swap(&out, &streams.output)
    defer { swap(&out, &streams.output) }
    while streams.output.count < streams.limits.outputBytes {
      var data: UnsafePointer<UInt8>?
      let count = nghttp2_session_mem_send(handle, &data)
      if count < 0 { throw .library(call: "nghttp2_session_mem_send", code: Int32(clamping: count)) }
      if count > 0 { streams.output.append(UnsafeRawBufferPointer(start: data, count: count)) }
      // Trailers must be submitted after their last DATA frame, or they would overtake it.
      let trailersAreDue = !streams.trailersDue.isEmpty
      while let streamID = streams.trailersDue.popLast() { try submitTrailers(streamID) }
      if count == 0, !trailersAreDue { return }
    }
  }

  private func submitTrailers(_ streamID: Int32) throws(HTTP2Error) {
    guard let trailers = streams.open[streamID]?.outgoingTrailers else { return }
    try HTTP2Library.check(
      withLines(trailers) { nghttp2_submit_trailer(handle, streamID, $0, $1) }, "nghttp2_submit_trailer")
  }

  var wantsOutput: Bool { nghttp2_session_want_write(handle) != 0 }

  var isFinished: Bool { nghttp2_session_want_write(handle) == 0 && nghttp2_session_want_read(handle) == 0 }

  // MARK: Streams

  var mayRequest: Bool { streams.goAway == nil && nghttp2_session_check_request_allowed(handle) != 0 }

  func request(_ head: HTTP2Fields, _ body: HTTP2Body?) throws(HTTP2Error) -> HTTP2Exchange {
    guard mayRequest else { throw .goingAway }
    var provider = nghttp2_data_provider()
    provider.read_callback = readHTTP2Body
    let streamID = withLines(head) { lines, count in
      body == nil
        ? nghttp2_submit_request(handle, nil, lines, count, nil, nil)
        : nghttp2_submit_request(handle, nil, lines, count, &provider, nil)
    }
    if streamID == NGHTTP2_ERR_STREAM_ID_NOT_AVAILABLE.rawValue { throw .goingAway }
    guard streamID > 0 else { throw .library(call: "nghttp2_submit_request", code: streamID) }
    let exchange = HTTP2Exchange(streamID: streamID)
    exchange.outgoing = body
    streams.open[streamID] = exchange
    return exchange
  }

  func respond(
    _ streamID: Int32, _ head: HTTP2Fields, _ body: HTTP2Body?, _ trailers: HTTP2Fields?
  ) throws(HTTP2Error) {
    guard let exchange = streams.open[streamID] else { return }
    exchange.outgoing = body
    exchange.outgoingOffset = 0
    exchange.outgoingTrailers = trailers
    exchange.lastProgress = streams.now
    var provider = nghttp2_data_provider()
    provider.read_callback = readHTTP2Body
    let code = withLines(head) { lines, count in
      body == nil && trailers == nil
        ? nghttp2_submit_response(handle, streamID, lines, count, nil)
        : nghttp2_submit_response(handle, streamID, lines, count, &provider)
    }
    try HTTP2Library.check(code, "nghttp2_submit_response")
  }

  func reset(_ streamID: Int32, code: UInt32) throws(HTTP2Error) {
    try HTTP2Library.check(
      nghttp2_submit_rst_stream(handle, UInt8(NGHTTP2_FLAG_NONE.rawValue), streamID, code),
      "nghttp2_submit_rst_stream")
  }

  func goAway(lastStreamID: Int32, code: UInt32) throws(HTTP2Error) {
    try HTTP2Library.check(
      nghttp2_submit_goaway(handle, UInt8(NGHTTP2_FLAG_NONE.rawValue), lastStreamID, code, nil, 0),
      "nghttp2_submit_goaway")
  }

  /// Ends the session: GOAWAY goes out, then ``isFinished`` turns true.
  func terminate(code: UInt32) throws(HTTP2Error) {
    try HTTP2Library.check(
      nghttp2_session_terminate_session(handle, code), "nghttp2_session_terminate_session")
  }

  var lastStreamID: Int32 { nghttp2_session_get_last_proc_stream_id(handle) }

  /// Calls `body` with the library's form of `fields`; the library copies names and values.
  private func withLines(
    _ fields: HTTP2Fields, _ body: (UnsafePointer<nghttp2_nv>?, Int) -> Int32
  ) -> Int32 {
    let lines = (0..<fields.count).map { index in
      let name = fields.name(index)
      let value = fields.value(index)
      return nghttp2_nv(
        name: mutable(name), value: mutable(value), namelen: name.count, valuelen: value.count,
        flags: UInt8(NGHTTP2_NV_FLAG_NONE.rawValue))
    }
    return lines.withUnsafeBufferPointer { body($0.baseAddress, $0.count) }
  }

  /// The library's struct is not const-correct; it only reads.
  private func mutable(_ bytes: UnsafeRawBufferPointer) -> UnsafeMutablePointer<UInt8>? {
    UnsafeMutablePointer(mutating: bytes.bindMemory(to: UInt8.self).baseAddress)
  }
}
