// One caller's HTTP/1.1 connection: requests in order, one exchange at a time, deadlines, one end each.

internal import Base
package import EventLoop
internal import HTTP

/// Drives a server connection: bytes to exchanges and back. One deadline timer serves all its phases.
///
/// ```
///  head ──head read──▶ body ──body read──▶ responding ──last byte taken──▶ head (kept alive)
///    │                   └──answered early──▶ lingering ──▶ closed
///    └──refused──▶ lingering
/// ```
package final class HTTP1ServerConnection: StreamSocketHandler, TimerHandler {
  enum Phase {
    /// Waits for or reads a request head. Next: body, responding, lingering, closed.
    case head
    /// Reads a request body. Next: responding, lingering, closed.
    case body
    /// The request is complete; its response is not. Next: head, lingering, closed.
    case responding
    /// The answer is out; input is thrown away until the caller closes. Next: closed.
    case lingering
    case closed
  }

  package let loop: EventLoop
  let socket: StreamSocket
  let server: HTTPServer
  var phase = Phase.head
  private var handler: (any ServerExchangeHandler)?
  private var decoder = HTTP1BodyDecoder(.none)
  var response = HTTP1ResponseWriter()

  private var scanned = 0
  private var headBegan: Nanoseconds = 0

  var keepAlive = true
  var bodyPaused = false
  var pace = BodyPace()

  let timer = Timer()
  var deadline: Nanoseconds?

  /// - Parameter peer: whom a trusted proxy says it comes from; nil when it comes from its own address.
  init(_ descriptor: Int32, server: HTTPServer, from peer: SocketAddress? = nil) throws(SocketFailure) {
    self.server = server
    loop = server.loop
    socket = StreamSocket(descriptor, on: server.loop, connecting: false, security: server.security)
    socket.statedPeer = peer
    try socket.start(self)
    expect(within: server.limits.idleTimeout)
  }

  // MARK: Input

  package func received(_ bytes: UnsafeRawBufferPointer) -> Int {
    var offset = 0
    while offset < bytes.count {
      let rest = bytes.slice(offset..<bytes.count)
      switch phase {
      case .head:
        let consumed = receivedHeadBytes(rest)
        if consumed == 0 { return offset }
        offset += consumed
      case .body:
        if bodyPaused { return offset }
        offset += receivedBodyBytes(rest)
      case .responding:
        return offset
      case .lingering:
        return bytes.count
      case .closed:
        return bytes.count
      }
    }
    return offset
  }

  /// Reads one head; 0 when it is incomplete.
  private func receivedHeadBytes(_ bytes: UnsafeRawBufferPointer) -> Int {
    if headBegan == 0 {
      headBegan = loop.now
      scanned = 0
    }
    switch server.parser.parseRequest(bytes, alreadyScanned: &scanned) {
    case .needMore:
      if deadline == nil || scannedNothingYet { expect(at: headBegan + server.limits.headTimeout) }
      scannedNothingYet = false
      return 0
    case .head(let head, let length):
      begin(head)
      return length
    case .failed(let error):
      switch prefaceMatch(bytes) {
      case .none: refuse(Refusal(error))
      case .beginning:
        expect(at: headBegan + server.limits.headTimeout)
        return 0
      case .whole(let limits): if !becomeHTTP2(bytes, limits) { refuse(Refusal(error)) }
      }
      return bytes.count
    }
  }

  private var scannedNothingYet = true

  private func begin(_ head: RequestHead) {
    scannedNothingYet = true
    deadline = nil
    keepAlive = head.keepAlive && !server.isDraining
    let headOnly: Bool
    if case .head = head.method { headOnly = true } else { headOnly = false }
    response.reset(minorVersion: head.minorVersion, headOnly: headOnly)
    bodyPaused = false
    let began = headBegan
    headBegan = 0
    server.requestBegan()
    let hasBody: Bool
    switch head.framing {
    case .none, .untilClose: hasBody = false
    case .length(let length): hasBody = length > 0
    case .chunked: hasBody = true
    }
    if hasBody {
      phase = .body
      decoder = HTTP1BodyDecoder(head.framing)
      pace.begin(at: loop.now, server.limits)
      expectBody()
    } else {
      phase = .responding
      socket.pauseReading()
    }
    let expectsContinue = head.expectsContinue
    let handler = server.application.exchangeBegan(self, head, began: began)
    guard isOpen else {
      handler.ended(.cancelled)
      return
    }
    self.handler = handler
    if !hasBody {
      handler.receivedEnd()
    } else if expectsContinue, !response.hasBegun {
      socket.wantsOutput()
      socket.output.append("HTTP/1.1 100 Continue\r\n\r\n" as StaticString)
      socket.wantsFlush()
    }
  }

  private func receivedBodyBytes(_ bytes: UnsafeRawBufferPointer) -> Int {
    var consumed = 0
    var bodyBytes = 0
    // A body that is whole needs no further input to say so.
    while case .body = phase, !bodyPaused || decoder.isComplete {
      switch decoder.next(bytes, consumed: &consumed) {
      case .bytes(let body):
        bodyBytes += body.count
        if !response.hasFinished { handler?.received(body: body) }
      case .needMore:
        pace.received(bodyBytes, at: loop.now, server.limits)
        expectBody()
        return consumed
      case .end:
        receivedRequestEnd()
        return consumed
      case .failed(let error):
        badBody(Refusal(error), .failed(.malformed(error)))
        return bytes.count
      }
    }
    pace.received(bodyBytes, at: loop.now, server.limits)
    return consumed
  }

  private func receivedRequestEnd() {
    phase = .responding
    deadline = nil
    socket.pauseReading()
    if response.hasFinished {
      if socket.output.isEmpty { complete() }
    } else {
      handler?.receivedEnd()
    }
  }

  /// A body whose framing is broken: the answer is 400 where none has begun, and the connection cannot be kept.
  private func badBody(_ refusal: Refusal, _ how: EndOfStream) {
    keepAlive = false
    guard !response.hasBegun else {
      end(how)
      return
    }
    let handler = handler
    self.handler = nil
    server.requestEnded()
    handler?.ended(how)
    if isOpen { refuse(refusal) }
  }

  private func refuse(_ refusal: Refusal) {
    keepAlive = false
    var body = ByteBuffer(capacity: 256)
    server.application.refused(refusal, body: &body)
    var fields = ByteBuffer(capacity: 64)
    fields.append("content-type: application/json\r\n" as StaticString)
    server.application.appendFields(of: refusal, to: &fields)
    response.reset(minorVersion: 1, headOnly: false)
    writeHead(status: refusal.status, fields: fields.readable, body: .length(body.count))
    response.append(body.readable, to: &socket.output)
    response.finish(trailers: UnsafeRawBufferPointer(start: nil, count: 0), to: &socket.output)
    linger()
  }

  /// Says that nothing more comes, and reads on for a while so that a reset does not destroy the answer on its way.
  private func linger() {
    phase = .lingering
    expect(within: server.limits.lingerTimeout)
    socket.resumeReading()
    if socket.output.isEmpty {
      socket.shutdownSending()
    } else {
      lingerAfterFlush = true
      socket.wantsFlush()
    }
  }

  private var lingerAfterFlush = false
  /// The caller sends no more, so that there is nothing to linger for.
  private var closesAfterFlush = false

  // MARK: Socket events

  package func connected() {}

  package func peerClosed() {
    switch phase {
    case .head, .closed:
      close()
    case .lingering:
      // The answer may still be on its way out: it goes first.
      if socket.output.isEmpty { close() } else { closesAfterFlush = true }
    case .body:
      if response.hasFinished {
        keepAlive = false
        closesAfterFlush = true
        if socket.output.isEmpty { complete() }
      } else {
        end(.cancelled)
      }
    case .responding:
      if response.hasFinished {
        // Everything was said: let the kernel take it, then close.
        keepAlive = false
      } else {
        end(.cancelled)
      }
    }
  }

  package func failed(_ error: SocketFailure) {
    end(.cancelled)
  }

  package func willFlush() {
    response.closeChunk(in: &socket.output)
  }

  package func flushed() {
    switch phase {
    case .responding:
      deadline = nil
      if response.hasFinished { complete() }
    case .body:
      if response.hasFinished { complete() }
    case .lingering:
      if closesAfterFlush {
        close()
      } else if lingerAfterFlush {
        lingerAfterFlush = false
        socket.shutdownSending()
      }
    case .head, .closed:
      break
    }
  }

  package func stalled() {
    switch phase {
    case .responding, .body:
      expect(at: socket.lastProgress + server.limits.writeStallTimeout)
    case .head, .lingering, .closed:
      break
    }
  }

  package func drained() { handler?.drained() }

  // MARK: Deadlines

  /// The next bytes of a body are due.
  func expectBody() { expect(at: min(loop.now + server.limits.bodyGapTimeout, pace.deadline)) }

  func expect(within length: Nanoseconds) { expect(at: loop.now + length) }

  private func expect(at deadline: Nanoseconds) {
    self.deadline = deadline
    if !timer.isArmed || timer.deadline > deadline { loop.arm(timer, at: deadline, self) }
  }

  package func timerFired(_ timer: Timer) {
    guard isOpen, let deadline else { return }
    // Deadlines move with every byte; the timer follows only when it fires.
    guard loop.now >= deadline else {
      loop.arm(timer, at: deadline, self)
      return
    }
    self.deadline = nil
    switch phase {
    case .head:
      if headBegan == 0 { close() } else { refuse(.headTimeout) }
    case .body:
      let isTooSlow = pace.isOver(at: loop.now) && !response.hasFinished
      if isTooSlow { server.application.endedSlowBody() }
      if socket.output.isEmpty, !response.hasBegun {
        badBody(isTooSlow ? .bodyTooSlow : .bodyTimeout, .timedOut)
      } else {
        end(.timedOut)
      }
    case .responding:
      end(.timedOut)
    case .lingering:
      close()
    case .closed:
      break
    }
  }

  // MARK: Ends

  var isOpen: Bool {
    if case .closed = phase { return false }
    return true
  }

  /// The response is with the kernel: end the exchange, and keep or close the connection.
  private func complete() {
    let handler = handler
    self.handler = nil
    if handler != nil { server.requestEnded() }
    let requestIncomplete: Bool
    if case .body = phase { requestIncomplete = true } else { requestIncomplete = false }
    if closesAfterFlush {
      close()
    } else if requestIncomplete || (!keepAlive && socket.unconsumedCount > 0) {
      linger()
    } else if !keepAlive || (server.isDraining && !server.isRetiring) {
      close()
    } else {
      phase = .head
      headBegan = 0
      expect(within: server.limits.idleTimeout)
      socket.resumeReading()
    }
    handler?.ended(.complete)
  }

  /// Ends the exchange under way, if any, as `how`, and the connection with it.
  func end(_ how: EndOfStream) {
    let handler = handler
    self.handler = nil
    if handler != nil { server.requestEnded() }
    close(.cut)
    handler?.ended(how)
  }

  /// Stops keeping the connection: at once when it is idle, after its response otherwise.
  func drain() {
    keepAlive = false
    if case .head = phase, headBegan == 0, socket.unconsumedCount == 0 { close() }
  }

  /// Tells the exchange under way, if any, that it is about to be cut.
  func announceCut() { handler?.stopping() }

  private func close(_ how: SocketClose = .done) {
    guard isOpen else { return }
    phase = .closed
    loop.cancel(timer)
    socket.close(how)
    server.connectionClosed(self)
  }
}
