// One HTTP/2 connection of many streams, either role, over libnghttp2 and sans I/O: bodies pass as they come.

package import Base
internal import CNghttp2

/// A session whose streams carry bodies of any length both ways. The caller moves the bytes: after each
/// ``receive(_:)``, and whenever streams were given something to say, it calls ``output(into:)`` and sends the result.
/// Streams hear what came from inside those two calls. Confined to one thread.
package final class HTTP2Multiplexer {
  let handle: OpaquePointer
  let recorder: HTTP2Recorder
  private let limits: HTTP2MultiplexerLimits
  var lines: [nghttp2_nv] = []
  private var isDelivering = false
  var isAbandoned = false
  /// Where neighbouring pieces of one stream are put together; empty between reads.
  private var gathered = ByteBuffer()
  private var idleFramesLeft: Double
  private var rapidResetsLeft: Double
  private var budgetsRefilled: Nanoseconds = 0

  /// A client's session; its preface and SETTINGS are the first output.
  package convenience init(client limits: HTTP2MultiplexerLimits) throws(HTTP2Error) {
    try self.init(limits, isServer: false, makeStream: nil)
  }

  /// A server's session. `makeStream` gives an object for each request that begins; nil refuses it. It must do no more
  /// than that: the library is at work.
  package convenience init(
    server limits: HTTP2MultiplexerLimits, makeStream: @escaping () -> HTTP2Stream?
  ) throws(HTTP2Error) {
    try self.init(limits, isServer: true, makeStream: makeStream)
  }

  private init(
    _ limits: HTTP2MultiplexerLimits, isServer: Bool, makeStream: (() -> HTTP2Stream?)?
  ) throws(HTTP2Error) {
    self.limits = limits
    idleFramesLeft = Double(limits.idleFramesBurst)
    rapidResetsLeft = Double(limits.rapidResetsBurst)
    recorder = HTTP2Recorder(isServer: isServer, limits: limits, makeStream: makeStream)
    // Unretained: the session owns the recorder and frees the handle first.
    handle = try HTTP2Library.makeSession(
      isServer: isServer, user: Unmanaged.passUnretained(recorder).toOpaque(),
      installing: installMultiplexerCallbacks
    ) { option in
      // A stream whose reader is slow gets no window; see ``HTTP2Stream/isPaused``.
      nghttp2_option_set_no_auto_window_update(option, 1)
      // The library's own bound (33 resets a second) knows no answers and no shares; see ``hasPatience(_:)``.
      nghttp2_option_set_stream_reset_rate_limit(option, 1_000_000, 1_000_000)
    }
    let announcement = HTTP2Library.Announcement(
      streamWindowBytes: limits.streamWindowBytes, connectionWindowBytes: limits.connectionWindowBytes,
      headerListBytes: limits.headerListBytes, concurrentStreams: limits.concurrentStreams)
    try HTTP2Library.announce(announcement, isServer: isServer, on: handle)
  }

  deinit { nghttp2_session_del(handle) }

  // MARK: Bytes

  /// Takes bytes from the peer, all of them, at `now`. After an error the connection must be closed: no HTTP/2, or
  /// too many frames that do no work.
  package func receive(_ bytes: UnsafeRawBufferPointer, now: Nanoseconds) throws(HTTP2Error) {
    guard let start = bytes.bindMemory(to: UInt8.self).baseAddress else { return }
    recorder.now = now
    // A byte can stand for a whole field line of the compression's table: what it grows into is judged before more is read.
    var offset = 0
    while offset < bytes.count, !isAbandoned {
      let count = min(Self.sliceBytes, bytes.count - offset)
      let taken = nghttp2_session_mem_recv(handle, start + offset, count)
      offset += count
      deliver()
      if recorder.settingsChanged { takeBackHeld() }
      if taken < 0 { throw .library(call: "nghttp2_session_mem_recv", code: Int32(clamping: taken)) }
      guard hasPatience(now) else {
        throw .library(call: "too many frames without work", code: NGHTTP2_ERR_FLOODED.rawValue)
      }
    }
  }

  /// How much is read before what it said is acted on.
  private static let sliceBytes = 16 << 10

  /// Counts frames that did no work, and requests that were taken back at once, against their budgets; a client trusts
  /// its workers.
  private func hasPatience(_ now: Nanoseconds) -> Bool {
    guard recorder.isServer, recorder.idleFrames > 0 || recorder.rapidResets > 0 else { return true }
    let seconds = Double(now - min(now, budgetsRefilled)) / Double(second)
    budgetsRefilled = now
    idleFramesLeft = min(
      Double(limits.idleFramesBurst), idleFramesLeft + seconds * Double(limits.idleFramesPerSecond))
    idleFramesLeft -= Double(recorder.idleFrames)
    recorder.idleFrames = 0
    // A gateway's own callers leave early too: one for each request that was not taken back.
    let earned = seconds * Double(limits.rapidResetsPerSecond) + Double(recorder.keptRequests)
    rapidResetsLeft = min(Double(limits.rapidResetsBurst), rapidResetsLeft + earned)
    rapidResetsLeft -= Double(recorder.rapidResets)
    recorder.rapidResets = 0
    recorder.keptRequests = 0
    return idleFramesLeft >= 0 && rapidResetsLeft >= 0
  }

  /// Appends what is to be sent until nothing is left or `out` holds ``HTTP2MultiplexerLimits/outputBytes``.
  package func output(into out: inout ByteBuffer) throws(HTTP2Error) {
    guard wantsOutput else { return }
    try gatherOutput(into: &out)
    deliver()
  }

  private func gatherOutput(into out: inout ByteBuffer) throws(HTTP2Error) {
    // The callback for DATA frames writes behind what the library returns itself.
    swap(&out, &recorder.output)
    defer { swap(&out, &recorder.output) }
    while recorder.output.count < limits.outputBytes {
      var data: UnsafePointer<UInt8>?
      let count = nghttp2_session_mem_send(handle, &data)
      if count < 0 { throw .library(call: "nghttp2_session_mem_send", code: Int32(clamping: count)) }
      if count > 0 { recorder.output.append(UnsafeRawBufferPointer(start: data, count: count)) }
      // Trailers must be submitted after their last DATA frame, or they would overtake it.
      let trailersAreDue = !recorder.trailersDue.isEmpty
      while let stream = recorder.trailersDue.popLast() {
        if !stream.hasEnded { try submitTrailers(stream) }
      }
      if count == 0, !trailersAreDue { return }
    }
  }

  /// True when ``output(into:)`` would append something.
  package var wantsOutput: Bool { nghttp2_session_want_write(handle) != 0 }

  /// True when both sides are done, or the library has given the peer up: the connection is of no more use.
  package var isFinished: Bool {
    nghttp2_session_want_write(handle) == 0 && nghttp2_session_want_read(handle) == 0
  }

  // MARK: Events

  /// Tells the streams what was recorded.
  private func deliver() {
    guard !isDelivering else { return }
    isDelivering = true
    var received = 0
    var index = 0
    // Streams may be given more to say meanwhile, which records nothing: the list does not change.
    while index < recorder.events.count, !isAbandoned {
      let event = recorder.events[index]
      index += 1
      if case .body = event.kind {
        received += deliverBody(event, &index)
      } else {
        deliver(event)
      }
    }
    recorder.events.removeAll(keepingCapacity: true)
    recorder.closed.removeAll(keepingCapacity: true)
    if !recorder.section.isOpen { recorder.text.removeAll() }
    isDelivering = false
    if received > 0, !isAbandoned { nghttp2_session_consume_connection(handle, received) }
  }

  /// Hands on a body, with what follows it of the same stream. Returns the bytes.
  private func deliverBody(_ event: HTTP2Recorder.Event, _ index: inout Int) -> Int {
    let stream = event.stream.takeUnretainedValue()
    var bytes = UnsafeRawBufferPointer(start: event.start, count: event.count)
    while index < recorder.events.count {
      let next = recorder.events[index]
      guard case .body = next.kind, next.stream.toOpaque() == event.stream.toOpaque() else { break }
      if gathered.isEmpty { gathered.append(bytes) }
      gathered.append(UnsafeRawBufferPointer(start: next.start, count: next.count))
      index += 1
    }
    if !gathered.isEmpty { bytes = gathered.readable }
    let count = bytes.count
    stream.owner?.received(body: bytes)
    gathered.removeAll()
    if gathered.capacity > 64 << 10 { gathered.release() }
    stream.unacknowledged += count
    if !stream.isPaused { acknowledge(stream) }
    return count
  }

  private func deliver(_ event: HTTP2Recorder.Event) {
    let stream = event.stream.takeUnretainedValue()
    guard let owner = stream.owner else { return }
    let text = recorder.text.readable
    switch event.kind {
    case .head: owner.received(head: text.slice(event.offset..<event.offset + event.count))
    case .tooLarge: owner.receivedTooLargeHead()
    case .body: break
    case .end where event.count == 0: owner.receivedEnd(trailers: text.slice(0..<0))
    case .end: deliver(trailers: text.slice(event.offset..<event.offset + event.count), to: owner)
    case .moved: owner.outputMoved()
    case .closed:
      stream.detach()
      owner.ended(end(of: stream, code: event.code))
    }
  }

  /// Trailers are judged and filtered as those of HTTP/1.1.
  private func deliver(trailers: UnsafeRawBufferPointer, to owner: any HTTP2StreamOwner) {
    var lines = ByteBuffer(capacity: trailers.count + 2)
    lines.append(trailers)
    lines.endHead()
    var reader = TrailerReader(HTTP1Limits())
    var consumed = 0
    if case .done = reader.read(lines.readable, &consumed) {
      owner.receivedEnd(trailers: reader.lines)
    } else {
      owner.receivedEnd(trailers: UnsafeRawBufferPointer(start: nil, count: 0))
    }
  }

  private func end(of stream: HTTP2Stream, code: UInt32) -> HTTP2StreamEnd {
    if stream.hasResetByUs { return .cancelled }
    // A server may reset after a whole answer because it wants no more of the request.
    if stream.inputHasEnded, code == HTTP2ErrorCode.noError { return .complete }
    if code == HTTP2ErrorCode.refusedStream { return .refused }
    return stream.hasResetByPeer ? .reset(code: code) : .malformed
  }

  /// Gives the peer new window once a good part of it is used.
  func acknowledge(_ stream: HTTP2Stream) {
    guard stream.unacknowledged >= limits.streamWindowBytes / 4, !stream.inputHasEnded, !isAbandoned else {
      return
    }
    nghttp2_session_consume_stream(handle, stream.id, stream.unacknowledged)
    stream.unacknowledged = 0
  }
}
