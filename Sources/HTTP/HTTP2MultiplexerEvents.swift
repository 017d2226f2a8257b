// What libnghttp2's callbacks record for a multiplexed session; the session delivers it when the library has returned.

internal import Base
internal import CNghttp2

/// The streams of one session and what its callbacks recorded.
///
/// Reached from C through an unretained pointer: the session that owns this object also owns the library's handle and
/// frees the handle first, so the pointer never outlives the object. Streams are reached alike, by the library's
/// pointer beside each of its own; ``open`` owns them until their end was delivered.
final class HTTP2Recorder {
  /// One thing that happened to a stream. Heads and trailers are ranges of ``text``; body bytes lie in the input.
  struct Event {
    enum Kind {
      case head, tooLarge, body, end, closed, moved
    }

    let kind: Kind
    /// Unretained: the stream is in ``HTTP2Recorder/open``, or in ``HTTP2Recorder/closed`` once the library let it go.
    let stream: Unmanaged<HTTP2Stream>
    let start: UnsafeRawPointer?
    var offset = 0
    let count: Int
    var code: UInt32 = 0
  }

  let isServer: Bool
  let limits: HTTP2MultiplexerLimits
  let makeStream: (() -> HTTP2Stream?)?
  var open: [Int32: HTTP2Stream] = [:]
  /// Streams that the library has let go of and whose end waits to be delivered.
  var closed: [HTTP2Stream] = []
  var events: [Event] = []
  /// Heads and trailers in the form of HTTP/1.1 until they are delivered; the last may be incomplete.
  var text = ByteBuffer()
  /// The section that is being received.
  var section = HTTP2Section()
  var output = ByteBuffer()
  var trailersDue: [HTTP2Stream] = []
  var goAway: HTTP2GoAway?
  var receivedSettings = false
  /// Settings came since the session last looked.
  var settingsChanged = false
  /// Frames that did no work since the session last looked.
  var idleFrames = 0
  /// Requests that were taken back at once, and the others that ended, since the session last looked.
  var rapidResets = 0
  var keptRequests = 0
  /// The caller's clock as of the last bytes.
  var now: Nanoseconds = 0
  /// Window updates that the peer may send for the DATA frames it got.
  private var windowUpdatesDue = 0

  init(isServer: Bool, limits: HTTP2MultiplexerLimits, makeStream: (() -> HTTP2Stream?)?) {
    self.isServer = isServer
    self.limits = limits
    self.makeStream = makeStream
  }

  func record(_ kind: Event.Kind, _ stream: HTTP2Stream, _ bytes: UnsafeRawBufferPointer) {
    events.append(
      Event(kind: kind, stream: .passUnretained(stream), start: bytes.baseAddress, count: bytes.count))
  }

  func record(_ kind: Event.Kind, _ stream: HTTP2Stream, text range: Range<Int> = 0..<0) {
    events.append(
      Event(
        kind: kind, stream: .passUnretained(stream), start: nil, offset: range.lowerBound, count: range.count)
    )
  }

  /// A window update does work where it answers data: ten for a frame, as Envoy allows.
  func receivedWindow() {
    if windowUpdatesDue > 0 { windowUpdatesDue -= 1 } else { idleFrames += 1 }
  }

  // MARK: Sections

  /// A section begins; `isRequest` for the head of one.
  func beganSection(_ stream: HTTP2Stream?, isRequest: Bool) {
    text.truncate(to: section.isOpen ? section.start : text.count)
    section.begin(at: text.count, on: stream, isRequest: isRequest)
  }

  /// False when the line cannot be taken: the library then resets the stream.
  func receivedLine(_ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) -> Bool {
    guard section.isOpen else { return true }
    if section.append(name, value, isServer: isServer, limits: limits, to: &text) { return true }
    text.truncate(to: section.start)
    section.drop()
    return false
  }

  /// The section is whole. `endsStream` when nothing follows.
  func endedSection(_ stream: HTTP2Stream, endsStream: Bool) {
    guard section.isOpen, section.stream === stream else { return }
    if section.isTooLarge {
      section.drop()
      record(.tooLarge, stream)
    } else {
      let range = section.finish(isServer: isServer, endsStream: endsStream, in: &text)
      if section.isTrailers {
        stream.inputHasEnded = true
        record(.end, stream, text: range)
        return
      }
      record(.head, stream, text: range)
    }
    if endsStream {
      stream.inputHasEnded = true
      record(.end, stream)
    }
  }

  // MARK: Streams

  /// A request that lived so long kept one of the streams that the peer may open: resets after it are bounded by that.
  private static let shortLife = second

  /// Notes whether the request was taken back at once. Also those whose reset the peer has provoked (CVE-2023-44487,
  /// CVE-2025-8671), which leave our side at work as well.
  private func judge(_ stream: HTTP2Stream, code: UInt32) {
    let isKept =
      if stream.hasResetByUs {
        true
      } else if stream.hasResetByPeer {
        stream.isAnswered || now - stream.began >= Self.shortLife
      } else {
        code == HTTP2ErrorCode.noError
      }
    if isKept { keptRequests += 1 } else { rapidResets += 1 }
  }

  func closed(_ streamID: Int32, code: UInt32) {
    guard let stream = open.removeValue(forKey: streamID) else { return }
    judge(stream, code: code)
    closed.append(stream)
    stream.isDeferred = false
    events.append(Event(kind: .closed, stream: .passUnretained(stream), start: nil, count: 0, code: code))
    if section.isOpen, section.stream === stream { section.drop() }
  }

  /// Tells how many bytes of a body the next frame takes; the flags tell the library when they are the last.
  func announce(_ stream: HTTP2Stream, count: Int, flags: inout UInt32) -> Int {
    guard !stream.hasEnded else { return Int(NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE.rawValue) }
    let rest = stream.output.count
    if rest == 0, !stream.outputHasEnded {
      stream.isDeferred = true
      return Int(NGHTTP2_ERR_DEFERRED.rawValue)
    }
    let taken = min(count, rest)
    if taken > 0 { flags |= UInt32(NGHTTP2_DATA_FLAG_NO_COPY.rawValue) }
    guard taken == rest, stream.outputHasEnded else { return taken }
    flags |= UInt32(NGHTTP2_DATA_FLAG_EOF.rawValue)
    if !stream.trailers.isEmpty {
      flags |= UInt32(NGHTTP2_DATA_FLAG_NO_END_STREAM.rawValue)
      trailersDue.append(stream)
    }
    return taken
  }

  /// Writes a DATA frame of `count` bytes that were announced. When enough is gathered the library is told to come
  /// again with the same frame, and does so before anything else, even where the stream was reset meanwhile and its
  /// output is gone: then the frame is dropped, and the reset that the library adds comes after ours and goes nowhere.
  func sendData(_ stream: HTTP2Stream, head: UnsafeRawBufferPointer, count: Int) -> nghttp2_error {
    guard !stream.hasEnded, stream.output.count >= count else {
      return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE
    }
    guard output.count < limits.outputBytes else { return NGHTTP2_ERR_WOULDBLOCK }
    output.append(head)
    output.append(stream.output.readable.slice(0..<count))
    stream.output.consume(count)
    // A long body is not kept as room for short ones.
    if stream.output.isEmpty, stream.output.capacity > 4_096 { stream.output.release() }
    record(.moved, stream)
    windowUpdatesDue = min(windowUpdatesDue + 10, 100_000)
    return nghttp2_error(0)
  }
}
