// The C callbacks of libnghttp2 1.52 for a multiplexed session: each finds its stream, records, and returns.

import Base
import CNghttp2

/// The recorder behind the library's user pointer. Unretained: see ``HTTP2Recorder``.
private func recorder(_ user: UnsafeMutableRawPointer?) -> HTTP2Recorder? {
  guard let user else { return nil }
  return Unmanaged<HTTP2Recorder>.fromOpaque(user).takeUnretainedValue()
}

/// The stream behind a pointer of ours that the library keeps.
private func stream(_ pointer: UnsafeMutableRawPointer?) -> HTTP2Stream? {
  guard let pointer else { return nil }
  return Unmanaged<HTTP2Stream>.fromOpaque(pointer).takeUnretainedValue()
}

private func stream(_ session: OpaquePointer?, _ streamID: Int32) -> HTTP2Stream? {
  stream(nghttp2_session_get_stream_user_data(session, streamID))
}

/// Installs all callbacks.
func installMultiplexerCallbacks(_ callbacks: OpaquePointer) {
  nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks) { session, frame, user in
    guard let frame, let recorder = recorder(user) else { return 0 }
    return beganHeaders(session, frame.pointee, recorder)
  }
  nghttp2_session_callbacks_set_on_header_callback(callbacks) {
    _, _, name, nameCount, value, valueCount, _, user in
    guard let recorder = recorder(user) else { return 0 }
    let fits = recorder.receivedLine(
      UnsafeRawBufferPointer(start: name, count: nameCount),
      UnsafeRawBufferPointer(start: value, count: valueCount))
    return fits ? 0 : NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE.rawValue
  }
  // Without this the library leaves out a field that RFC 9113 section 8.2.1 forbids and goes on.
  nghttp2_session_callbacks_set_on_invalid_header_callback(callbacks) { _, _, _, _, _, _, _, _ in
    NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE.rawValue
  }
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks) {
    session, _, streamID, data, count, user in
    if let stream = stream(session, streamID) {
      recorder(user)?.record(.body, stream, UnsafeRawBufferPointer(start: data, count: count))
    }
    return 0
  }
  nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks) { session, frame, user in
    guard let frame, let recorder = recorder(user) else { return 0 }
    receivedFrame(session, frame.pointee, recorder)
    return 0
  }
  nghttp2_session_callbacks_set_on_stream_close_callback(callbacks) { _, streamID, code, user in
    recorder(user)?.closed(streamID, code: code)
    return 0
  }
  nghttp2_session_callbacks_set_send_data_callback(callbacks) { _, _, start, count, source, user in
    guard let start, let source, let recorder = recorder(user), let stream = stream(source.pointee.ptr) else {
      return NGHTTP2_ERR_CALLBACK_FAILURE.rawValue
    }
    return recorder.sendData(stream, head: UnsafeRawBufferPointer(start: start, count: 9), count: count)
      .rawValue
  }
  nghttp2_session_callbacks_set_on_frame_send_callback(callbacks) { session, frame, user in
    guard let frame, frame.pointee.hd.type <= UInt8(NGHTTP2_HEADERS.rawValue),
      let stream = stream(session, frame.pointee.hd.stream_id)
    else { return 0 }
    stream.hasLeft = true
    guard frame.pointee.hd.flags & UInt8(NGHTTP2_FLAG_END_STREAM.rawValue) != 0 else { return 0 }
    stream.outputIsSent = true
    recorder(user)?.record(.moved, stream)
    return 0
  }
  nghttp2_session_callbacks_set_on_frame_not_send_callback(callbacks) { session, frame, _, user in
    if let frame, let recorder = recorder(user) { notSent(session, frame.pointee, recorder) }
    return 0
  }
}

private func beganHeaders(
  _ session: OpaquePointer?, _ frame: nghttp2_frame, _ recorder: HTTP2Recorder
) -> Int32 {
  let streamID = frame.hd.stream_id
  if recorder.isServer, frame.headers.cat == NGHTTP2_HCAT_REQUEST {
    guard let stream = recorder.makeStream?() else { return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE.rawValue }
    stream.id = streamID
    stream.began = recorder.now
    recorder.open[streamID] = stream
    // Unretained: `open` owns it until the library has closed the stream.
    nghttp2_session_set_stream_user_data(session, streamID, Unmanaged.passUnretained(stream).toOpaque())
    recorder.beganSection(stream, isRequest: true)
  } else {
    recorder.beganSection(stream(session, streamID), isRequest: false)
  }
  return 0
}

private func notSent(_ session: OpaquePointer?, _ frame: nghttp2_frame, _ recorder: HTTP2Recorder) {
  guard frame.hd.type == UInt8(NGHTTP2_HEADERS.rawValue) else { return }
  if frame.headers.cat == NGHTTP2_HCAT_REQUEST {
    // A request that cannot leave any more (the peer is going away) was not processed by anyone.
    recorder.closed(frame.hd.stream_id, code: HTTP2ErrorCode.refusedStream)
  } else if stream(session, frame.hd.stream_id) != nil {
    // An answer that cannot leave: the library keeps the stream, and so do we until the reset closes it.
    nghttp2_submit_rst_stream(
      session, UInt8(NGHTTP2_FLAG_NONE.rawValue), frame.hd.stream_id, HTTP2ErrorCode.internalError)
  }
}

private func receivedFrame(_ session: OpaquePointer?, _ frame: nghttp2_frame, _ recorder: HTTP2Recorder) {
  let endsStream = frame.hd.flags & UInt8(NGHTTP2_FLAG_END_STREAM.rawValue) != 0
  switch UInt32(frame.hd.type) {
  case NGHTTP2_DATA.rawValue:
    if endsStream {
      guard let stream = stream(session, frame.hd.stream_id) else { return }
      stream.inputHasEnded = true
      recorder.record(.end, stream)
    } else if frame.hd.length == 0 {
      recorder.idleFrames += 1
    }
  case NGHTTP2_HEADERS.rawValue:
    if let stream = stream(session, frame.hd.stream_id) {
      recorder.endedSection(stream, endsStream: endsStream)
    }
  case NGHTTP2_RST_STREAM.rawValue:
    if let stream = stream(session, frame.hd.stream_id) {
      stream.hasResetByPeer = true
    } else {
      recorder.idleFrames += 1
    }
  case NGHTTP2_SETTINGS.rawValue:
    if frame.hd.flags & UInt8(NGHTTP2_FLAG_ACK.rawValue) == 0 {
      recorder.receivedSettings = true
      recorder.settingsChanged = true
    }
    recorder.idleFrames += 1
  case NGHTTP2_GOAWAY.rawValue:
    let goAway = frame.goaway
    let debug = UnsafeRawBufferPointer(start: goAway.opaque_data, count: goAway.opaque_data_len)
    recorder.goAway = HTTP2GoAway(
      lastStreamID: goAway.last_stream_id, code: goAway.error_code,
      debug: debug.slice(0..<min(debug.count, 128)).text)
  case NGHTTP2_WINDOW_UPDATE.rawValue:
    recorder.receivedWindow()
  default:
    // PING, PRIORITY.
    recorder.idleFrames += 1
  }
}

/// The data provider's callback: tells the library how much of a body comes next. The bytes themselves go from the
/// stream's output straight into the session's (NGHTTP2_DATA_FLAG_NO_COPY) when the library has framed them.
func readMultiplexerBody(
  _ session: OpaquePointer?, _ streamID: Int32, _ room: UnsafeMutablePointer<UInt8>?, _ count: Int,
  _ flags: UnsafeMutablePointer<UInt32>?, _ source: UnsafeMutablePointer<nghttp2_data_source>?,
  _ user: UnsafeMutableRawPointer?
) -> Int {
  guard let flags, let source, let recorder = recorder(user), let stream = stream(source.pointee.ptr) else {
    return Int(NGHTTP2_ERR_CALLBACK_FAILURE.rawValue)
  }
  return recorder.announce(stream, count: count, flags: &flags.pointee)
}
