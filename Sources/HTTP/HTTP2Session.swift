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
    handle = try HTTP2Session.makeHandle(isServer: isServer, streams: streams)
    try submitSettings(limits)
  }

  deinit { nghttp2_session_del(handle) }

  private static func makeHandle(isServer: Bool, streams: HTTP2Streams) throws(HTTP2Error) -> OpaquePointer {
    var callbacks: OpaquePointer?
    var option: OpaquePointer?
    defer {
      nghttp2_session_callbacks_del(callbacks)
      nghttp2_option_del(option)
    }
    var code = nghttp2_session_callbacks_new(&callbacks)
    guard code == 0, let callbacks else { throw .library(call: "nghttp2_session_callbacks_new", code: code) }
    code = nghttp2_option_new(&option)
    guard code == 0, let option else { throw .library(call: "nghttp2_option_new", code: code) }
    installHTTP2Callbacks(callbacks)
    // Nothing may be pushed to us, also in the moment before our settings arrive.
    nghttp2_option_set_max_reserved_remote_streams(option, 0)
    nghttp2_option_set_no_closed_streams(option, 1)
    var handle: OpaquePointer?
    // Unretained: the session owns `streams` and frees the handle first.
    let user = Unmanaged.passUnretained(streams).toOpaque()
    code =
      isServer
      ? nghttp2_session_server_new2(&handle, callbacks, user, option)
      : nghttp2_session_client_new2(&handle, callbacks, user, option)
    guard code == 0, let handle else { throw .library(call: "nghttp2_session_new", code: code) }
    return handle
  }

  private func submitSettings(_ limits: HTTP2Limits) throws(HTTP2Error) {
    var entries = [
      entry(NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, limits.streamWindowBytes),
      entry(NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, limits.headerListBytes),
    ]
    if streams.isServer {
      entries.append(entry(NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, limits.concurrentStreams))
    } else {
      entries.append(entry(NGHTTP2_SETTINGS_ENABLE_PUSH, 0))
    }
    try check(
      nghttp2_submit_settings(handle, UInt8(NGHTTP2_FLAG_NONE.rawValue), entries, entries.count),
      "nghttp2_submit_settings")
    if limits.connectionWindowBytes > 65_535 {
      try check(
        nghttp2_session_set_local_window_size(handle, 0, 0, Int32(clamping: limits.connectionWindowBytes)),
        "nghttp2_session_set_local_window_size")
    }
  }

  private func entry(_ id: nghttp2_settings_id, _ value: Int) -> nghttp2_settings_entry {
    nghttp2_settings_entry(settings_id: Int32(id.rawValue), value: UInt32(clamping: value))
  }

  func check(_ code: Int32, _ call: StaticString) throws(HTTP2Error) {
    if code != 0 { throw .library(call: call, code: code) }
  }

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
    try check(
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
    try check(code, "nghttp2_submit_response")
  }

  func reset(_ streamID: Int32, code: UInt32) throws(HTTP2Error) {
    try check(
      nghttp2_submit_rst_stream(handle, UInt8(NGHTTP2_FLAG_NONE.rawValue), streamID, code),
      "nghttp2_submit_rst_stream")
  }

  func goAway(lastStreamID: Int32, code: UInt32) throws(HTTP2Error) {
    try check(
      nghttp2_submit_goaway(handle, UInt8(NGHTTP2_FLAG_NONE.rawValue), lastStreamID, code, nil, 0),
      "nghttp2_submit_goaway")
  }

  /// Ends the session: GOAWAY goes out, then ``isFinished`` turns true.
  func terminate(code: UInt32) throws(HTTP2Error) {
    try check(nghttp2_session_terminate_session(handle, code), "nghttp2_session_terminate_session")
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
