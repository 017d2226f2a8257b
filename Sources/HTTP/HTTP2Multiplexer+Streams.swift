// What the streams of a multiplexed session are told to do: opened, answered, paused, reset.

internal import Base
internal import CNghttp2

extension HTTP2Multiplexer {
  /// Number of streams that the library has.
  package var openStreams: Int { recorder.open.count }

  /// The owners of those that have not ended, in no order; for cold paths.
  package var owners: [any HTTP2StreamOwner] { recorder.open.values.compactMap(\.owner) }

  /// True while a header section has begun and is not whole.
  package var isReadingHead: Bool { recorder.section.isOpen }

  /// The peer's GOAWAY; nil while there was none.
  package var goAway: HTTP2GoAway? { recorder.goAway }

  /// True once the peer's SETTINGS came: the other side does speak HTTP/2.
  package var receivedSettings: Bool { recorder.receivedSettings }

  /// Streams that the peer lets us open at the same time, once its SETTINGS came.
  package var peerConcurrentStreams: Int {
    Int(nghttp2_session_get_remote_settings(handle, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS))
  }

  /// True when a client may open another stream: no GOAWAY came and ids are left.
  package var mayOpen: Bool { recorder.goAway == nil && nghttp2_session_check_request_allowed(handle) != 0 }

  /// Opens a stream with a request whose head is HTTP/1.1 text in ``HTTP2Stream/output``, followed by all of its body,
  /// as the frontend and the probes compose it. Names of fields are put into lower case there. Throws
  /// ``HTTP2Error/goingAway`` when the session takes no new streams.
  package func open(
    _ stream: HTTP2Stream, for owner: any HTTP2StreamOwner, isSecure: Bool
  ) throws(HTTP2Error) {
    guard mayOpen else { throw .goingAway }
    stream.outputHasEnded = true
    guard let length = HTTP2HeadLines.request(&stream.output, isSecure: isSecure, into: &lines) else {
      throw .library(call: "a request's head", code: NGHTTP2_ERR_INVALID_ARGUMENT.rawValue)
    }
    let pointer = Unmanaged.passUnretained(stream).toOpaque()
    var provider = provider(pointer)
    let hasBody = stream.output.count > length
    let streamID = lines.withUnsafeBufferPointer {
      hasBody
        ? nghttp2_submit_request(handle, nil, $0.baseAddress, $0.count, &provider, pointer)
        : nghttp2_submit_request(handle, nil, $0.baseAddress, $0.count, nil, pointer)
    }
    if streamID == NGHTTP2_ERR_STREAM_ID_NOT_AVAILABLE.rawValue { throw .goingAway }
    guard streamID > 0 else { throw .library(call: "nghttp2_submit_request", code: streamID) }
    stream.output.consume(length)
    stream.id = streamID
    stream.owner = owner
    recorder.open[streamID] = stream
  }

  /// Answers a stream: `fields` are `name: value CRLF` lines. Body bytes follow in ``HTTP2Stream/output`` unless
  /// `endsStream`.
  package func respond(
    _ stream: HTTP2Stream, status: Int, fields: UnsafeRawBufferPointer, endsStream: Bool
  ) throws(HTTP2Error) {
    guard !stream.hasEnded, recorder.open[stream.id] === stream else { return }
    var text = ByteBuffer(capacity: fields.count + 16)
    HTTP2HeadLines.response(status: status, fields, in: &text, into: &lines)
    var provider = provider(Unmanaged.passUnretained(stream).toOpaque())
    stream.isAnswered = true
    if endsStream { stream.outputHasEnded = true }
    let code = lines.withUnsafeBufferPointer {
      endsStream
        ? nghttp2_submit_response(handle, stream.id, $0.baseAddress, $0.count, nil)
        : nghttp2_submit_response(handle, stream.id, $0.baseAddress, $0.count, &provider)
    }
    try HTTP2Library.check(code, "nghttp2_submit_response")
  }

  /// Sends an interim response without fields.
  package func inform(_ stream: HTTP2Stream, status: Int) throws(HTTP2Error) {
    guard !stream.hasEnded else { return }
    var text = ByteBuffer(capacity: 16)
    HTTP2HeadLines.response(
      status: status, UnsafeRawBufferPointer(start: nil, count: 0), in: &text, into: &lines)
    let code = lines.withUnsafeBufferPointer {
      nghttp2_submit_headers(
        handle, UInt8(NGHTTP2_FLAG_NONE.rawValue), stream.id, nil, $0.baseAddress, $0.count, nil)
    }
    try HTTP2Library.check(min(code, 0), "nghttp2_submit_headers")
  }

  private func provider(_ pointer: UnsafeMutableRawPointer) -> nghttp2_data_provider {
    var provider = nghttp2_data_provider()
    provider.source.ptr = pointer
    provider.read_callback = readMultiplexerBody
    return provider
  }

  /// The stream has new ``HTTP2Stream/output``.
  package func resume(_ stream: HTTP2Stream) {
    guard stream.isDeferred else { return }
    stream.isDeferred = false
    nghttp2_session_resume_data(handle, stream.id)
  }

  /// Nothing more is appended to the stream's output; `trailers` are `name: value CRLF` lines.
  package func endOutput(_ stream: HTTP2Stream, trailers: UnsafeRawBufferPointer) {
    guard !stream.outputHasEnded else { return }
    stream.trailers.append(trailers)
    stream.outputHasEnded = true
    resume(stream)
  }

  func submitTrailers(_ stream: HTTP2Stream) throws(HTTP2Error) {
    var text = ByteBuffer()
    swap(&text, &stream.trailers)
    HTTP2HeadLines.fields(&text, from: 0, into: &lines)
    let code = lines.withUnsafeBufferPointer {
      nghttp2_submit_trailer(handle, stream.id, $0.baseAddress, $0.count)
    }
    try HTTP2Library.check(code, "nghttp2_submit_trailer")
  }

  /// The reader of a stream is slow: the peer gets no new window for it.
  package func pause(_ stream: HTTP2Stream) { stream.isPaused = true }

  /// The reader goes on.
  package func unpause(_ stream: HTTP2Stream) {
    guard stream.isPaused else { return }
    stream.isPaused = false
    if !stream.hasEnded { acknowledge(stream) }
  }

  /// Resets a stream with a code of ``HTTP2ErrorCode``. With `silently` its owner hears nothing more of it.
  package func reset(_ stream: HTTP2Stream, code: UInt32, silently: Bool) {
    guard !stream.hasEnded else { return }
    stream.hasResetByUs = true
    if silently { stream.detach() }
    nghttp2_submit_rst_stream(handle, UInt8(NGHTTP2_FLAG_NONE.rawValue), stream.id, code)
  }

  /// Tells requests that the peer allows no stream for, and that are still here, that they were refused: inside the
  /// library they would wait without an end. Elsewhere they may find a place.
  func takeBackHeld() {
    recorder.settingsChanged = false
    guard !recorder.isServer, !isAbandoned else { return }
    let room = max(0, peerConcurrentStreams - recorder.open.values.count { $0.hasLeft })
    let here = recorder.open.values.filter { !$0.hasLeft && !$0.hasEnded }.sorted { $0.id < $1.id }
    for stream in here.dropFirst(room) {
      let owner = stream.owner
      reset(stream, code: HTTP2ErrorCode.cancel, silently: true)
      owner?.ended(.refused)
    }
  }

  /// Says that no stream beyond those begun so far will be acted on (server), or that none will be opened (client).
  package func goAway(code: UInt32 = HTTP2ErrorCode.noError) throws(HTTP2Error) {
    let last = nghttp2_session_get_last_proc_stream_id(handle)
    try HTTP2Library.check(
      nghttp2_submit_goaway(handle, UInt8(NGHTTP2_FLAG_NONE.rawValue), last, code, nil, 0),
      "nghttp2_submit_goaway")
  }

  /// A server's announcement that it will take no more streams: the peer opens none from when it reads this, and those
  /// that it opened before are served. ``goAway(code:)`` follows a round trip later (RFC 9113 section 6.8).
  package func announceGoAway() throws(HTTP2Error) {
    try HTTP2Library.check(nghttp2_submit_shutdown_notice(handle), "nghttp2_submit_shutdown_notice")
  }

  /// Asks the peer for a sign of life.
  package func ping() throws(HTTP2Error) {
    try HTTP2Library.check(
      nghttp2_submit_ping(handle, UInt8(NGHTTP2_FLAG_NONE.rawValue), nil), "nghttp2_submit_ping")
  }

  /// The connection is gone: streams hear nothing more of it. Returns the owners of those that had not ended, oldest
  /// first.
  package func abandon() -> [any HTTP2StreamOwner] {
    isAbandoned = true
    let left = (Array(recorder.open.values) + recorder.closed).sorted { $0.id < $1.id }
    let owners = left.compactMap(\.owner)
    for stream in left { stream.detach() }
    recorder.open.removeAll()
    return owners
  }
}
