// The fake worker over HTTP/2: the answers of one connection, whose tokens share its writes.

import Base
import EventLoop
import HTTP
import Transport

/// One HTTP/2 connection; the loop owns it while its socket is open.
final class WorkerMultiplex: StreamSocketHandler {
  let worker: FakeWorker
  let port: WorkerPort
  let loop: EventLoop
  private let socket: StreamSocket
  private(set) var session: HTTP2Multiplexer?

  /// Goes on with a connection whose first bytes are `received`.
  static func start(
    _ descriptor: Int32, worker: FakeWorker, port: WorkerPort, _ received: UnsafeRawBufferPointer
  ) {
    let connection = WorkerMultiplex(descriptor, worker, port)
    do {
      try connection.begin(received)
    } catch {
      connection.close()
    }
  }

  private init(_ descriptor: Int32, _ worker: FakeWorker, _ port: WorkerPort) {
    self.worker = worker
    self.port = port
    loop = worker.loop
    socket = StreamSocket(descriptor, on: worker.loop, connecting: false)
  }

  private func begin(_ received: UnsafeRawBufferPointer) throws {
    var limits = HTTP2MultiplexerLimits()
    limits.concurrentStreams = 10_000
    limits.idleFramesBurst = 1_000_000
    limits.idleFramesPerSecond = 1_000_000
    limits.rapidResetsBurst = 1_000_000
    session = try HTTP2Multiplexer(server: limits) { [unowned self] in WorkerStream(self).stream }
    try socket.start(self)
    _ = self.received(received)
  }

  /// Sends what streams have said at the end of this wake-up.
  func flush() {
    if session != nil { socket.wantsFlush() }
  }

  func received(_ bytes: UnsafeRawBufferPointer) -> Int {
    do {
      try session?.receive(bytes, now: loop.now)
    } catch {
      port.badRequests += 1
      close()
      return bytes.count
    }
    flush()
    return bytes.count
  }

  func connected() {}
  func peerClosed() { close() }
  func failed(_ error: SocketFailure) { close() }
  func willFlush() { fill() }
  func stalled() {}
  func drained() {}

  func flushed() {
    fill()
    if session != nil, !socket.output.isEmpty { socket.wantsFlush() }
  }

  private func fill() {
    guard let session else { return }
    socket.wantsOutput()
    while socket.output.count < StreamSocket.lowWatermark, session.wantsOutput {
      let before = socket.output.count
      do { try session.output(into: &socket.output) } catch { return close() }
      if socket.output.count == before { break }
    }
  }

  private func close() {
    let left = session?.abandon() ?? []
    session = nil
    socket.close()
    for case let stream as WorkerStream in left { stream.ended(.cancelled) }
  }
}

/// One request over HTTP/2.
final class WorkerStream: HTTP2StreamOwner, TimerHandler, SteppedAnswer {
  /// Unsent bytes of one answer, above which no further token is made.
  private static let unsentMax = 64 << 10

  let stream = HTTP2Stream()
  private let connection: WorkerMultiplex
  private let timer = Timer()
  private var head = ByteBuffer()
  private var body = ByteBuffer()
  private var request = RequestScan()
  private var answer: UInt64 = 0
  private var tokens = 0
  private var sentTokens = 0
  private var promptTokens = 0
  private var nextToken: Nanoseconds = 0
  private var event = ByteBuffer()
  private var digits = 0
  /// It counts among its port's open ones.
  private var isOpen = false
  private var isOver = false
  private var isStalled = false
  var stepIndex: Int?

  init(_ connection: WorkerMultiplex) {
    self.connection = connection
    stream.belongs(to: self)
  }

  private var worker: FakeWorker { connection.worker }
  private var port: WorkerPort { connection.port }
  private var loop: EventLoop { connection.loop }

  // MARK: Request

  func received(head text: UnsafeRawBufferPointer) { head.append(text) }

  func received(body bytes: UnsafeRawBufferPointer) { body.append(bytes) }

  func receivedEnd(trailers: UnsafeRawBufferPointer) {
    let line = head.readable.line ?? head.readable
    if line.has("POST /v1/chat/completions ", at: 0) || line.has("POST /v1/completions ", at: 0) {
      startAnswer()
    } else {
      var out = ByteBuffer(capacity: 1024)
      worker.appendControlAnswer(to: line, closes: false, out: &out)
      respond(whole: out.readable)
    }
  }

  private func startAnswer() {
    guard let request = RequestScan.scan(body.readable) else {
      port.badRequests += 1
      var out = ByteBuffer(capacity: 256)
      let error: StaticString = "{\"error\":{\"message\":\"not JSON\",\"type\":\"invalid_request_error\"}}"
      let bytes = UnsafeRawBufferPointer(start: error.utf8Start, count: error.utf8CodeUnitCount)
      AnswerTemplates.appendJSON(bytes, status: "400 Bad Request", closes: false, to: &out)
      respond(whole: out.readable)
      return
    }
    self.request = request
    port.requests += 1
    port.open += 1
    isOpen = true
    port.countGroup(of: body.readable, request)
    let pace = worker.pace
    answer = worker.nextAnswer()
    tokens = max(1, request.maxTokens ?? pace.tokens)
    promptTokens = body.count / 4
    body.release()
    let gaps = request.stream ? 0 : UInt64(tokens - 1) * pace.tokenGap
    nextToken = loop.now + pace.firstTokenDelay + gaps
    if request.stream, pace.step, pace.tokenGap > 0 {
      worker.join(self)
    } else if nextToken > loop.now {
      loop.arm(timer, at: nextToken, self)
    } else {
      continueAnswer()
    }
  }

  // MARK: Answer

  func timerFired(_ timer: Timer) { continueAnswer() }

  func step() {
    guard !isOver, loop.now >= nextToken, stream.output.count < Self.unsentMax else { return }
    sendToken()
  }

  /// Gives what is due.
  private func continueAnswer() {
    guard !isOver else { return }
    guard request.stream else {
      var out = ByteBuffer(capacity: 1024)
      AnswerTemplates.appendUnary(
        to: &out, answer: answer, model: worker.model, promptTokens: promptTokens, tokens: tokens,
        closes: false)
      port.tokens += tokens
      respond(whole: out.readable)
      return
    }
    let gap = worker.pace.tokenGap
    while !isOver {
      if stream.output.count >= Self.unsentMax {
        isStalled = true
        return
      }
      sendToken()
      guard gap > 0, !isOver else { continue }
      // From the time that was due, so that delays do not add up.
      nextToken += gap
      guard nextToken > loop.now else { continue }
      loop.arm(timer, at: nextToken, self)
      return
    }
  }

  private func sendToken() {
    if sentTokens == 0 {
      let fields: StaticString =
        "server: dynamo-bench\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"
      begin(200, UnsafeRawBufferPointer(start: fields.utf8Start, count: fields.utf8CodeUnitCount))
    }
    sentTokens += 1
    port.tokens += 1
    let isLast = sentTokens == tokens
    if sentTokens == 1 || isLast {
      event.removeAll()
      digits = AnswerTemplates.appendTokenEvent(
        to: &event, answer: answer, model: worker.model, isLast: isLast)
    }
    // Other tokens have the same bytes but for the digits.
    if let start = event.readable.baseAddress {
      AnswerTemplates.write(sentTokens % 1_000_000, at: UnsafeMutableRawPointer(mutating: start + digits))
    }
    stream.output.append(event.readable)
    if isLast { finishStream() } else { moreOutput() }
  }

  private func finishStream() {
    if request.includeUsage {
      AnswerTemplates.appendUsageEvent(
        to: &stream.output, answer: answer, model: worker.model, promptTokens: promptTokens, tokens: tokens)
    }
    stream.output.append("data: [DONE]\n\n" as StaticString)
    finish()
  }

  /// Answers with HTTP/1.1's text, as ``AnswerTemplates`` writes it.
  private func respond(whole text: UnsafeRawBufferPointer) {
    let fields = text.firstIndex(of: UInt8(ascii: "\n")).map { $0 + 1 } ?? text.count
    var end = fields
    while end + 3 < text.count, !text.has("\r\n\r\n", at: end) { end += 1 }
    begin(text.slice(9..<12).decimal ?? 500, text.slice(fields..<end + 2))
    stream.output.append(text.slice(end + 4..<text.count))
    finish()
  }

  private func begin(_ status: Int, _ fields: UnsafeRawBufferPointer) {
    do {
      try connection.session?.respond(stream, status: status, fields: fields, endsStream: false)
    } catch {
      end(cancelled: true)
    }
  }

  private func finish() {
    connection.session?.endOutput(stream, trailers: UnsafeRawBufferPointer(start: nil, count: 0))
    connection.flush()
    end(cancelled: false)
  }

  private func moreOutput() {
    connection.session?.resume(stream)
    connection.flush()
  }

  func outputMoved() {
    guard isStalled, stream.output.count < Self.unsentMax else { return }
    isStalled = false
    // Not from inside the session's own output.
    loop.arm(timer, at: loop.now, self)
  }

  func ended(_ end: HTTP2StreamEnd) { self.end(cancelled: true) }

  private func end(cancelled: Bool) {
    guard !isOver else { return }
    isOver = true
    loop.cancel(timer)
    worker.leave(self)
    if isOpen {
      isOpen = false
      port.open -= 1
      if cancelled { port.cancelled += 1 }
    }
  }
}
