// One request of a caller as a stream of an HTTP/2 connection: the application sees an exchange like any other.

internal import Base
internal import EventLoop
internal import HTTP

/// An exchange over HTTP/2. Its head goes through the parser of HTTP/1.1, its answer through the same response fields.
final class HTTP2ServerStream: ServerExchange, HTTP2StreamOwner {
  let stream = HTTP2Stream()
  private let connection: HTTP2ExchangeConnection
  private let began: Nanoseconds
  private var handler: (any ServerExchangeHandler)?
  private var hasHead = false
  private var hasBegun = false
  private var hasFinished = false
  private var isHeadOnly = false
  /// It was counted as a request and its end has not been told.
  private var isCounted = false
  private var isLeaving = false
  /// Bytes that the head promised and that were not given yet; nil where it promised no number.
  private var lengthLeft: Int?
  private var bodyPaused = false
  private var pace = BodyPace()
  private var wasFull = false
  /// When bytes of a body last moved, either way.
  private var lastProgress: Nanoseconds

  init(on connection: HTTP2ExchangeConnection) {
    self.connection = connection
    began = connection.loop.now
    lastProgress = connection.loop.now
    pace.begin(at: began, connection.server.limits)
    stream.belongs(to: self)
  }

  var loop: EventLoop { connection.loop }

  private var server: HTTPServer { connection.server }

  // MARK: The session's side

  func received(head text: UnsafeRawBufferPointer) {
    var scanned = 0
    switch server.parser.parseRequest(text, alreadyScanned: &scanned) {
    case .head(var head, _):
      head.isMultiplexed = true
      begin(head)
    case .failed(let error): refuse(Refusal(error))
    case .needMore: refuse(Refusal(.malformedRequestLine))
    }
  }

  func receivedTooLargeHead() { refuse(Refusal(.headTooLarge)) }

  private func begin(_ head: RequestHead) {
    hasHead = true
    if case .head = head.method { isHeadOnly = true }
    server.requestBegan()
    isCounted = true
    let handler = server.application.exchangeBegan(self, head, began: began)
    guard isCounted else {
      handler.ended(.cancelled)
      return
    }
    self.handler = handler
    if head.expectsContinue, !stream.inputHasEnded, !hasBegun {
      connection.withSession { session throws(HTTP2Error) in try session.inform(stream, status: 100) }
    }
  }

  private func refuse(_ refusal: Refusal) {
    var body = ByteBuffer(capacity: 256)
    server.application.refused(refusal, body: &body)
    var fields = ByteBuffer(capacity: 64)
    fields.append("content-type: application/json\r\n" as StaticString)
    server.application.appendFields(of: refusal, to: &fields)
    respond(status: refusal.status, fields: fields.readable, body: .length(body.count))
    send(body.readable)
    finish(trailers: UnsafeRawBufferPointer(start: nil, count: 0))
  }

  func received(body bytes: UnsafeRawBufferPointer) {
    lastProgress = loop.now
    pace.received(bytes.count, at: lastProgress, server.limits)
    if !hasFinished { handler?.received(body: bytes) }
  }

  func receivedEnd(trailers: UnsafeRawBufferPointer) {
    lastProgress = loop.now
    if !hasFinished { handler?.receivedEnd() }
  }

  func outputMoved() {
    lastProgress = loop.now
    if stream.outputIsSent {
      leave()
    } else if wasFull, stream.output.count < StreamSocket.lowWatermark {
      wasFull = false
      handler?.drained()
    }
  }

  /// All was given out: the end is told when the kernel has taken it.
  private func leave() {
    guard !isLeaving else { return }
    isLeaving = true
    // The rest of a request that was answered early is of no use (RFC 9113 section 8.1).
    if !stream.inputHasEnded {
      connection.withSession { $0.reset(stream, code: HTTP2ErrorCode.noError, silently: true) }
    }
    connection.awaitFlush(self)
  }

  func ended(_ end: HTTP2StreamEnd) {
    guard !isLeaving else { return }
    switch end {
    case .complete, .refused, .cancelled, .reset: self.end(.cancelled)
    case .malformed:
      if !hasHead, !hasBegun {
        // Its stream was reset before an answer was possible: it is counted alike.
        var unsent = ByteBuffer()
        server.application.refused(.malformedHead, body: &unsent)
      }
      self.end(.failed(.http2(code: HTTP2ErrorCode.protocolError)))
    }
  }

  /// Tells the one end.
  func end(_ how: EndOfStream) {
    isLeaving = true
    stream.output.release()
    if isCounted {
      isCounted = false
      server.requestEnded()
    }
    let handler = handler
    self.handler = nil
    handler?.ended(how)
  }

  // MARK: ServerExchange

  func respond(status: Int, fields: UnsafeRawBufferPointer, body: ResponseBody) {
    guard connection.isOpen, !stream.hasEnded, !hasBegun else { return }
    hasBegun = true
    var text = ByteBuffer(capacity: fields.count + 96)
    text.append(fields)
    var endsStream = isHeadOnly
    switch body {
    case .none: endsStream = true
    case .length(let length):
      lengthLeft = length
      text.header("content-length", length)
    case .stream: break
    }
    server.appendDate(to: &text)
    connection.withSession { session throws(HTTP2Error) in
      try session.respond(stream, status: status, fields: text.readable, endsStream: endsStream)
    }
    connection.flush()
  }

  func send(_ bytes: UnsafeRawBufferPointer) {
    guard hasBegun, !hasFinished, !isHeadOnly, !stream.hasEnded, bytes.count > 0 else { return }
    // The peer owes nothing for the time in which there was nothing to take.
    if stream.output.isEmpty { lastProgress = loop.now }
    if let left = lengthLeft {
      let count = min(left, bytes.count)
      lengthLeft = left - count
      stream.output.append(bytes.slice(0..<count))
    } else {
      stream.output.append(bytes)
    }
    connection.withSession { $0.resume(stream) }
    connection.flush()
  }

  func finish(trailers: UnsafeRawBufferPointer) {
    guard hasBegun, !hasFinished, !stream.hasEnded else { return }
    guard isHeadOnly || lengthLeft ?? 0 == 0 else {
      // Fewer bytes than promised: only a reset tells the caller.
      abort(.failed(.truncated))
      return
    }
    hasFinished = true
    connection.withSession { $0.endOutput(stream, trailers: trailers) }
    connection.flush()
  }

  func abort(_ end: EndOfStream) {
    connection.withSession { $0.reset(stream, code: HTTP2ErrorCode.internalError, silently: true) }
    connection.flush()
    self.end(end)
  }

  var outputIsFull: Bool {
    guard stream.output.count > StreamSocket.highWatermark else { return false }
    wasFull = true
    return true
  }

  func pauseBody() {
    bodyPaused = true
    pace.pause(at: loop.now)
    connection.withSession { $0.pause(stream) }
  }

  func resumeBody() {
    guard bodyPaused else { return }
    bodyPaused = false
    lastProgress = loop.now
    pace.resume(at: lastProgress)
    connection.withSession { $0.unpause(stream) }
    connection.flush()
  }

  func closeAfterResponse() { connection.drain() }

  var peerAddress: SocketAddress? { connection.peerAddress }

  // MARK: Deadlines

  func checkDeadlines(_ now: Nanoseconds, _ limits: ServerLimits) {
    guard !isLeaving else { return }
    let awaitsBody = !stream.inputHasEnded && !bodyPaused && !hasFinished
    let isTooSlow = awaitsBody && pace.isOver(at: now)
    if awaitsBody, isTooSlow || now - lastProgress > limits.bodyGapTimeout {
      if isTooSlow { server.application.endedSlowBody() }
      if hasBegun { return timeOut() }
      let handler = handler
      self.handler = nil
      if isCounted {
        isCounted = false
        server.requestEnded()
      }
      handler?.ended(.timedOut)
      refuse(isTooSlow ? .bodyTooSlow : .bodyTimeout)
    } else if !stream.output.isEmpty, now - lastProgress > limits.writeStallTimeout {
      timeOut()
    }
  }

  private func timeOut() {
    connection.withSession { $0.reset(stream, code: HTTP2ErrorCode.cancel, silently: true) }
    connection.flush()
    end(.timedOut)
  }

  func announceCut() { handler?.stopping() }
}
