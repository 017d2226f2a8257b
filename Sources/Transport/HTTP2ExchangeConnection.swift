// One HTTP/2 connection of an HTTPServer: many exchanges at once, the same application as over HTTP/1.1.

internal import Base
internal import EventLoop
internal import HTTP

/// Moves bytes between a socket and a session whose streams are exchanges. Begins as an ``HTTP1ServerConnection`` that met
/// HTTP/2's preface. Loop-confined; the server owns it until it is closed.
final class HTTP2ExchangeConnection: StreamSocketHandler, TimerHandler {
  /// The beginning of the preface, a request line that HTTP/1.1 has no use for.
  static let prefaceLine = Array("PRI * HTTP/2.0\r\n".utf8)

  let loop: EventLoop
  let server: HTTPServer
  private let socket: StreamSocket
  private var session: HTTP2Multiplexer?
  private let timer = Timer()
  private var isLeaving = false
  /// When no more requests are taken; 0 unless the connection retires.
  private var retiresAt: Nanoseconds = 0
  /// The peer asked too much: GOAWAY is its last word.
  private var isCut = false
  private var lastInput: Nanoseconds
  private var headSince: Nanoseconds = 0
  private var idleSince: Nanoseconds
  /// Bytes that went to the socket's output since the beginning.
  private var appended = 0
  /// Streams whose last byte is among the first so many of them, in order.
  private var leavingStreams: [(stream: HTTP2ServerStream, position: Int)] = []

  /// Nil when there is no memory for a session. The caller hands `socket` over.
  init?(_ socket: StreamSocket, server: HTTPServer, limits: HTTP2MultiplexerLimits) {
    loop = server.loop
    self.server = server
    self.socket = socket
    lastInput = loop.now
    idleSince = loop.now
    do throws(HTTP2Error) {
      session = try HTTP2Multiplexer(server: limits) { [unowned self] in
        let stream = HTTP2ServerStream(on: self)
        return stream.stream
      }
    } catch {
      return nil
    }
    expect()
  }

  var isOpen: Bool { session != nil }

  var peerAddress: SocketAddress? { socket.peerAddress }

  /// Calls `body` with the session, while there is one.
  func withSession(_ body: (HTTP2Multiplexer) throws(HTTP2Error) -> Void) {
    guard let session else { return }
    do throws(HTTP2Error) { try body(session) } catch { close(.cancelled) }
  }

  /// Sends what the session has to say at the end of this wake-up.
  func flush() {
    if isOpen { socket.wantsFlush() }
  }

  // MARK: Socket

  func received(_ bytes: UnsafeRawBufferPointer) -> Int {
    lastInput = loop.now
    guard let session, !isCut else { return bytes.count }
    do throws(HTTP2Error) {
      try session.receive(bytes, now: loop.now)
    } catch {
      // No HTTP/2, or a flood of frames that do no work.
      leave(HTTP2ErrorCode.enhanceYourCalm, cuts: true)
      return bytes.count
    }
    headSince = session.isReadingHead ? (headSince == 0 ? loop.now : headSince) : 0
    if isOpen { flush() }
    return bytes.count
  }

  func connected() {}

  /// The caller has left. One that only sends no more cannot be told from it, as over HTTP/1.1.
  func peerClosed() { close(.cancelled) }

  func failed(_ error: SocketFailure) { close(.cancelled) }

  func willFlush() { fill() }

  private func fill() {
    guard let session else { return }
    socket.wantsOutput()
    do throws(HTTP2Error) {
      while socket.output.count < StreamSocket.lowWatermark, session.wantsOutput {
        let before = socket.output.count
        // Streams that end in this call count the position from what was there before it.
        try session.output(into: &socket.output)
        appended += socket.output.count - before
        guard isOpen else { return }
        // What is held back by the peer's window comes when the window opens.
        if socket.output.count == before { break }
      }
    } catch {
      close(.cancelled)
      return
    }
    for index in leavingStreams.indices where leavingStreams[index].position == .max {
      leavingStreams[index].position = appended
    }
    if socket.checkFull() { socket.pauseReading() }
  }

  /// All of `stream` went to the session's output; it is over when the kernel has taken it.
  func awaitFlush(_ stream: HTTP2ServerStream) { leavingStreams.append((stream, .max)) }

  private func completeFlushed() {
    let sent = appended - socket.output.count
    let count = leavingStreams.prefix { $0.position <= sent }.count
    guard count > 0 else { return }
    let done = leavingStreams.prefix(count)
    leavingStreams.removeFirst(count)
    for (stream, _) in done { stream.end(.complete) }
  }

  func flushed() {
    fill()
    guard isOpen else { return }
    completeFlushed()
    guard let session else { return }
    if !socket.output.isEmpty {
      socket.wantsFlush()
    } else if isCut || session.isFinished || (isLeaving && session.openStreams == 0) {
      close(.cancelled)
    } else if session.openStreams == 0 {
      idleSince = loop.now
    }
  }

  func stalled() {
    completeFlushed()
    if isCut { close(.cancelled) }
  }

  func drained() { socket.resumeReading() }

  // MARK: Deadlines

  private func expect() {
    let limits = server.limits
    let interval = min(
      limits.headTimeout, limits.bodyGapTimeout, limits.writeStallTimeout, limits.idleTimeout,
      limits.leastPace?.grace ?? .max)
    loop.arm(timer, at: loop.now + max(interval / 4, 10 * millisecond), self)
  }

  func timerFired(_ timer: Timer) {
    guard let session else { return }
    let limits = server.limits
    let now = loop.now
    if !socket.output.isEmpty, now - socket.lastProgress > limits.writeStallTimeout {
      return close(.timedOut)
    }
    // What was refused since the last bytes came is read no more.
    if !session.isReadingHead { headSince = 0 }
    if headSince > 0, now - headSince > limits.headTimeout {
      leave(HTTP2ErrorCode.enhanceYourCalm, cuts: true)
      return
    }
    for case let stream as HTTP2ServerStream in session.owners { stream.checkDeadlines(now, limits) }
    guard isOpen else { return }
    let isIdle = session.openStreams == 0 && now - max(idleSince, lastInput) > limits.idleTimeout
    if isIdle || (retiresAt > 0 && now >= retiresAt) { drain() }
    if isOpen { expect() }
  }

  // MARK: Ends

  /// How long requests may come after the peer was told to open no more: longer than any way to it and back.
  private static let noticeTime = second

  /// Asks the peer to send no more requests, serves those that are on their way, then takes none (RFC 9113 section 6.8).
  func retire() {
    guard let session, !isLeaving, retiresAt == 0 else { return }
    retiresAt = loop.now + Self.noticeTime
    do throws(HTTP2Error) { try session.announceGoAway() } catch { return close(.cancelled) }
    loop.arm(timer, at: retiresAt, self)
    flush()
  }

  /// Takes no more requests and closes with the last answer.
  func drain() { leave(HTTP2ErrorCode.noError, cuts: false) }

  private func leave(_ code: UInt32, cuts: Bool) {
    guard let session, !isCut, cuts || !isLeaving else { return }
    isLeaving = true
    isCut = cuts
    if cuts { socket.pauseReading() }
    do throws(HTTP2Error) { try session.goAway(code: code) } catch { return close(.cancelled) }
    // A peer that does not even read what waits for it will not read this either.
    if cuts, !socket.output.isEmpty { close(.cancelled) } else { flush() }
  }

  /// Tells the exchanges under way that they are about to be cut.
  func announceCut() {
    for case let stream as HTTP2ServerStream in session?.owners ?? [] { stream.announceCut() }
  }

  /// Cuts everything at once.
  func cut(_ how: EndOfStream) { close(how) }

  /// Closes, which ends what is under way as `how`.
  private func close(_ how: EndOfStream) {
    guard let session else { return }
    self.session = nil
    loop.cancel(timer)
    let left = session.abandon()
    let leaving = leavingStreams
    leavingStreams = []
    socket.close(left.isEmpty && leaving.isEmpty ? .done : .cut)
    server.connectionClosed(self)
    for (stream, _) in leaving { stream.end(how) }
    for case let stream as HTTP2ServerStream in left { stream.end(how) }
  }
}
