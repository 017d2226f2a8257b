// One connection of the fake worker: reads a request, writes its answer a token at a time.

import Base
import CSystem
import EventLoop

/// Serves requests one after the other; the loop owns it while its socket is open.
final class WorkerConnection: EventHandler, TimerHandler, SteppedAnswer {
  private enum State {
    case reading
    /// An answer waits for its time or is being written.
    case answering
    case closed
  }

  private let descriptor: Int32
  private let worker: FakeWorker
  private let port: WorkerPort
  private let loop: EventLoop
  private let timer = Timer()
  private var registration: Registration?
  private var reader = MessageReader(isRequest: true)
  private var state = State.reading
  /// Bytes of a request that was not read whole, or that came while another is answered.
  private var inbound = ByteBuffer()
  private var head = ByteBuffer()
  private var body = ByteBuffer()
  /// Bytes that the socket did not take.
  private var pending = ByteBuffer()
  private var closesAfterAnswer = false
  private var hadRequest = false

  // The answer under way.
  private var answer: UInt64 = 0
  private var request = RequestScan()
  private var tokens = 0
  private var sentTokens = 0
  private var promptTokens = 0
  private var nextToken: Nanoseconds = 0
  /// True while the answer counts among its port's open ones.
  private var isOpen = false
  /// The chunk of the next token, and where its digits are.
  private var event = ByteBuffer()
  private var digits = 0
  /// Place among the streams of the step; set by the worker.
  var stepIndex: Int?

  init(_ descriptor: Int32, worker: FakeWorker, port: WorkerPort) {
    self.descriptor = descriptor
    self.worker = worker
    self.port = port
    loop = worker.loop
  }

  func start() {
    do {
      registration = try loop.register(descriptor, self)
    } catch {
      loop.system.close(descriptor)
      state = .closed
    }
  }

  func ready(_ readiness: Readiness) {
    var gone = readiness.hasEnded
    if readiness.isReadable, !readSocket() { gone = true }
    if case .closed = state { return }
    if gone {
      close()
    } else if readiness.isWritable, !pending.isEmpty {
      flush()
    }
  }

  func timerFired(_ timer: Timer) { continueAnswer() }

  /// Writes one token of a stream that takes part in the step.
  func step() {
    guard case .answering = state, loop.now >= nextToken, pending.isEmpty else { return }
    writeToken()
    if sentTokens == tokens { finishStream() }
  }

  // MARK: Reading

  /// Reads what there is; false when the peer is gone.
  private func readSocket() -> Bool {
    guard let scratch = loop.scratch.baseAddress else { return false }
    while true {
      let count = loop.system.receive(descriptor, scratch, loop.scratch.count)
      guard count > 0 else { return count == -Int(EAGAIN) }
      let received = UnsafeRawBufferPointer(start: scratch, count: count)
      if !hadRequest, inbound.isEmpty, becomesHTTP2(received) { return true }
      hadRequest = true
      if case .reading = state, inbound.isEmpty {
        let used = parse(received)
        inbound.append(received.slice(used..<count))
      } else {
        inbound.append(received)
        parseInbound()
      }
      if case .closed = state { return true }
      if count < loop.scratch.count { return true }
    }
  }

  /// A connection that begins with HTTP/2's preface, whole as clients send it, goes on as one.
  private func becomesHTTP2(_ received: UnsafeRawBufferPointer) -> Bool {
    guard received.has("PRI * HTTP/2.0\r\n", at: 0) else { return false }
    state = .closed
    if let registration { loop.deregister(registration, stillOpen: descriptor) }
    registration = nil
    WorkerMultiplex.start(descriptor, worker: worker, port: port, received)
    return true
  }

  private func parseInbound() {
    guard case .reading = state, !inbound.isEmpty else { return }
    // Answering may parse the next request out of the same buffer, so take this one out first.
    let bytes = inbound.bytes
    inbound.removeAll()
    bytes.withUnsafeBytes { input in
      let used = parse(input)
      inbound.append(input.slice(used..<input.count))
    }
  }

  /// Reads at most one request and returns the number of bytes used.
  private func parse(_ input: UnsafeRawBufferPointer) -> Int {
    var offset = 0
    while true {
      switch reader.next(input, &offset) {
      case .needMore: return offset
      case .head(let lines):
        head.removeAll()
        head.append(lines)
        body.removeAll()
        if reader.expectsContinue { send("HTTP/1.1 100 Continue\r\n\r\n") }
      case .body(let bytes): body.append(bytes)
      case .end:
        received()
        return offset
      case .broken:
        port.badRequests += 1
        close()
        return offset
      }
    }
  }

  private func received() {
    state = .answering
    closesAfterAnswer = reader.closes
    let line = head.readable.line ?? head.readable
    if line.has("POST /v1/chat/completions ", at: 0) || line.has("POST /v1/completions ", at: 0) {
      startAnswer()
    } else {
      var out = ByteBuffer(capacity: 1024)
      worker.appendControlAnswer(to: line, closes: closesAfterAnswer, out: &out)
      finish(with: out)
    }
  }

  // MARK: Answering

  private func startAnswer() {
    guard let request = RequestScan.scan(body.readable) else {
      port.badRequests += 1
      var out = ByteBuffer(capacity: 256)
      let error: StaticString = "{\"error\":{\"message\":\"not JSON\",\"type\":\"invalid_request_error\"}}"
      let bytes = UnsafeRawBufferPointer(start: error.utf8Start, count: error.utf8CodeUnitCount)
      AnswerTemplates.appendJSON(bytes, status: "400 Bad Request", closes: closesAfterAnswer, to: &out)
      finish(with: out)
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
    body.removeAll()
    sentTokens = 0
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

  /// Writes what is due.
  private func continueAnswer() {
    guard case .answering = state else { return }
    guard request.stream else {
      var out = ByteBuffer(capacity: 1024)
      AnswerTemplates.appendUnary(
        to: &out, answer: answer, model: worker.model, promptTokens: promptTokens, tokens: tokens,
        closes: closesAfterAnswer)
      port.tokens += tokens
      finish(with: out)
      return
    }
    let gap = worker.pace.tokenGap
    while pending.isEmpty {
      writeToken()
      if sentTokens == tokens {
        finishStream()
        return
      }
      guard gap > 0 else { continue }
      // From the time that was due, so that delays do not add up.
      nextToken += gap
      guard nextToken > loop.now else { continue }
      loop.arm(timer, at: nextToken, self)
      return
    }
  }

  private func writeToken() {
    sentTokens += 1
    port.tokens += 1
    let isFirst = sentTokens == 1
    if isFirst || sentTokens == tokens {
      event.removeAll()
      if isFirst { AnswerTemplates.appendStreamHead(to: &event, closes: closesAfterAnswer) }
      let start = event.count
      let offset = AnswerTemplates.appendToken(
        to: &event, answer: answer, model: worker.model, isLast: sentTokens == tokens)
      digits = start + offset
      patchDigits()
      send(event.readable)
      // Later tokens have the same bytes but for the digits.
      event.consume(start)
      digits = offset
    } else {
      patchDigits()
      send(event.readable)
    }
  }

  private func patchDigits() {
    guard let start = event.readable.baseAddress else { return }
    AnswerTemplates.write(sentTokens % 1_000_000, at: UnsafeMutableRawPointer(mutating: start + digits))
  }

  private func finishStream() {
    guard case .answering = state else { return }
    worker.leave(self)
    var out = ByteBuffer(capacity: 512)
    AnswerTemplates.appendStreamEnd(
      to: &out, answer: answer, model: worker.model, promptTokens: promptTokens, tokens: tokens,
      includeUsage: request.includeUsage)
    finish(with: out)
  }

  private func finish(with out: borrowing ByteBuffer) {
    if isOpen { port.open -= 1 }
    isOpen = false
    send(out.readable)
    guard case .answering = state else { return }
    state = .reading
    if !closesAfterAnswer {
      parseInbound()
    } else if pending.isEmpty {
      close()
    }
  }

  // MARK: Writing

  private func send(_ text: StaticString) {
    send(UnsafeRawBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount))
  }

  private func send(_ bytes: UnsafeRawBufferPointer) {
    guard let start = bytes.baseAddress else { return }
    if case .closed = state { return }
    guard pending.isEmpty else {
      pending.append(bytes)
      return
    }
    let sent = loop.system.send(descriptor, start, bytes.count)
    if sent == bytes.count { return }
    guard sent >= 0 || sent == -Int(EAGAIN) else {
      close()
      return
    }
    pending.append(bytes.slice(max(sent, 0)..<bytes.count))
  }

  private func flush() {
    guard let start = pending.readable.baseAddress else { return }
    let sent = loop.system.send(descriptor, start, pending.count)
    guard sent >= 0 || sent == -Int(EAGAIN) else {
      close()
      return
    }
    pending.consume(max(sent, 0))
    guard pending.isEmpty else { return }
    switch state {
    case .answering: if stepIndex == nil, !timer.isArmed { continueAnswer() }
    case .reading: if closesAfterAnswer { close() }
    case .closed: break
    }
  }

  private func close() {
    if case .closed = state { return }
    if isOpen {
      port.open -= 1
      port.cancelled += 1
      isOpen = false
    }
    // What is under way ends here.
    state = .closed
    tokens = sentTokens
    worker.leave(self)
    loop.cancel(timer)
    if let registration { loop.deregister(registration) }
    loop.system.close(descriptor)
  }
}
