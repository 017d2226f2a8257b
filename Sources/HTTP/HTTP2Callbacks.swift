// The C callbacks of libnghttp2 1.52: each finds its streams, records, and returns.

import CNghttp2

/// The streams behind the library's user pointer. Unretained: see ``HTTP2Streams``.
private func streams(_ user: UnsafeMutableRawPointer?) -> HTTP2Streams? {
  guard let user else { return nil }
  return Unmanaged<HTTP2Streams>.fromOpaque(user).takeUnretainedValue()
}

/// Installs all callbacks.
func installHTTP2Callbacks(_ callbacks: OpaquePointer) {
  nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks) { _, frame, user in
    guard let frame, let streams = streams(user) else { return 0 }
    streams.beganHeaders(frame.pointee.hd.stream_id, category: frame.pointee.headers.cat)
    return 0
  }
  nghttp2_session_callbacks_set_on_header_callback(callbacks) {
    _, frame, name, nameCount, value, valueCount, _, user in
    guard let frame, let streams = streams(user) else { return 0 }
    let fits = streams.receivedHeader(
      frame.pointee.hd.stream_id, UnsafeRawBufferPointer(start: name, count: nameCount),
      UnsafeRawBufferPointer(start: value, count: valueCount))
    return fits ? 0 : NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE.rawValue
  }
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks) { _, _, streamID, data, count, user in
    streams(user)?.receivedData(streamID, UnsafeRawBufferPointer(start: data, count: count))
    return 0
  }
  nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks) { _, frame, user in
    guard let frame, let streams = streams(user) else { return 0 }
    receivedFrame(frame.pointee, streams)
    return 0
  }
  nghttp2_session_callbacks_set_on_stream_close_callback(callbacks) { _, streamID, code, user in
    streams(user)?.closed(streamID, code: code)
    return 0
  }
  nghttp2_session_callbacks_set_send_data_callback(callbacks) { _, frame, start, count, _, user in
    guard let frame, let start, let streams = streams(user) else {
      return NGHTTP2_ERR_CALLBACK_FAILURE.rawValue
    }
    let head = UnsafeRawBufferPointer(start: start, count: 9)
    return streams.sendData(frame.pointee.hd.stream_id, head: head, count: count).rawValue
  }
  nghttp2_session_callbacks_set_on_frame_not_send_callback(callbacks) { _, frame, _, user in
    // A request that cannot leave any more (the peer is going away) was not processed by anyone.
    guard let frame, frame.pointee.hd.type == UInt8(NGHTTP2_HEADERS.rawValue) else { return 0 }
    streams(user)?.closed(frame.pointee.hd.stream_id, code: HTTP2ErrorCode.refusedStream)
    return 0
  }
}

private func receivedFrame(_ frame: nghttp2_frame, _ streams: HTTP2Streams) {
  switch UInt32(frame.hd.type) {
  case NGHTTP2_HEADERS.rawValue, NGHTTP2_DATA.rawValue:
    if frame.hd.flags & UInt8(NGHTTP2_FLAG_END_STREAM.rawValue) != 0 {
      streams.receivedEndOfStream(frame.hd.stream_id)
    }
  case NGHTTP2_SETTINGS.rawValue:
    if frame.hd.flags & UInt8(NGHTTP2_FLAG_ACK.rawValue) == 0 { streams.receivedSettings = true }
  case NGHTTP2_GOAWAY.rawValue:
    let goAway = frame.goaway
    streams.receivedGoAway(
      lastStreamID: goAway.last_stream_id, code: goAway.error_code,
      debug: UnsafeRawBufferPointer(start: goAway.opaque_data, count: goAway.opaque_data_len))
  default:
    break
  }
}

/// The data provider's callback: tells the library how much of a body comes next. The bytes themselves go from the body
/// straight into the output (NGHTTP2_DATA_FLAG_NO_COPY) when the library has framed them.
func readHTTP2Body(
  _ session: OpaquePointer?, _ streamID: Int32, _ room: UnsafeMutablePointer<UInt8>?, _ count: Int,
  _ flags: UnsafeMutablePointer<UInt32>?, _ source: UnsafeMutablePointer<nghttp2_data_source>?,
  _ user: UnsafeMutableRawPointer?
) -> Int {
  guard let flags, let streams = streams(user) else {
    return Int(NGHTTP2_ERR_CALLBACK_FAILURE.rawValue)
  }
  return streams.announce(streamID, count: count, flags: &flags.pointee)
}
