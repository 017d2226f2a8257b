// One HTTP/2 connection to a worker, by prior knowledge or ALPN: connect, many exchanges at once, one end for all of them.

internal import Base
internal import EventLoop
internal import HTTP
internal import TLS

/// Moves bytes between a socket and a session for the requests of one loop to one worker. Owned by its lane while it
/// takes requests, and by its socket until it is closed.
final class HTTP2ClientConnection: StreamSocketHandler, TimerHandler {
  private enum Phase {
    /// Requests are with the session already. Next: open, closed.
    case connecting
    /// Next: closed.
    case open
    case closed
  }

  let upstream: Upstream
  let pool: UpstreamPool
  let loop: EventLoop
  let session: HTTP2Multiplexer
  private let lane: HTTP2Lane
  private var socket: StreamSocket?
  private var phase = Phase.connecting
  private var addressIndex = 0
  private var isLeaving = false
  /// Times that bytes came.
  private(set) var reads = 0
  private var lastRead: Nanoseconds = 0
  /// When the peer was asked for a sign of life; 0 when it has given one.
  private var pinged: Nanoseconds = 0
  private(set) var idleSince: Nanoseconds = 0
  private let timer = Timer()

  /// Nil when there is no memory for a session.
  init?(to upstream: Upstream, lane: HTTP2Lane, pool: UpstreamPool) {
    self.upstream = upstream
    self.lane = lane
    self.pool = pool
    loop = pool.loop
    do throws(HTTP2Error) {
      session = try HTTP2Multiplexer(client: pool.limits.multiplexed.session)
    } catch {
      return nil
    }
  }

  // MARK: Streams

  /// True when one more request may be opened.
  var hasRoom: Bool {
    guard !isLeaving, !isClosed else { return false }
    return session.openStreams < min(pool.limits.multiplexed.streamsMax, lane.streamsMax)
  }

  /// True when it carries no request.
  var isIdle: Bool {
    guard case .open = phase else { return false }
    return session.openStreams == 0
  }

  private var isClosed: Bool {
    if case .closed = phase { return true }
    return false
  }

  /// Opens a stream for a request. False when the connection takes none any more: it then leaves its lane.
  func open(_ request: HTTP2ClientStream) -> Bool {
    do throws(HTTP2Error) {
      try session.open(request.stream, for: request, isSecure: upstream.security != nil)
    } catch {
      leaveLane()
      return false
    }
    if session.openStreams == 1 { lastRead = loop.now }
    request.began(on: self)
    flush()
    expectAnswers()
    return true
  }

  /// Gives a stream up; its handler hears nothing of it from here.
  func reset(_ stream: HTTP2Stream, code: UInt32) {
    session.reset(stream, code: code, silently: true)
    flush()
  }

  /// Takes no more requests and closes after the last.
  func leaveLane() {
    guard !isLeaving else { return }
    isLeaving = true
    lane.remove(self)
    if isIdle { close() }
  }

  // MARK: Connecting

  func connect() {
    guard addressIndex < upstream.addresses.count else {
      end(.connect(.system(SystemError("resolve", 0))))
      return
    }
    let descriptor: Int32
    do throws(SystemError) {
      descriptor = try pool.dial(upstream.addresses[addressIndex])
    } catch {
      connectFailed(.connect(.system(error)))
      return
    }
    let socket = StreamSocket(descriptor, on: loop, connecting: true, security: upstream.security)
    socket.reportsEndWhilePaused = false
    self.socket = socket
    do throws(SocketFailure) {
      try socket.start(self)
      loop.arm(timer, at: loop.now + pool.limits.connectTimeout, self)
    } catch {
      connectFailed(.connect(error))
    }
  }

  private func connectFailed(_ failure: UpstreamFailure) {
    socket = nil
    addressIndex += 1
    if addressIndex < upstream.addresses.count { connect() } else { end(failure) }
  }

  /// Goes on with a connection that stands: its handshake has agreed on HTTP/2.
  func adopt(_ socket: StreamSocket) {
    socket.reportsEndWhilePaused = false
    self.socket = socket
    socket.handOver(to: self)
    connected()
  }

  func connected() {
    if !upstream.isMultiplexed, socket?.applicationProtocol != "h2" {
      pool.stopMultiplexing(upstream)
      return end(.connect(.tls(TLSError(.applicationProtocol, "the worker does not speak HTTP/2 any more"))))
    }
    phase = .open
    lastRead = loop.now
    // The peer's SETTINGS are due at once (RFC 9113 section 3.4).
    loop.arm(timer, at: loop.now + pool.limits.connectTimeout, self)
    flush()
  }

  // MARK: Bytes

  /// Sends what the session has to say at the end of this wake-up.
  func flush() {
    guard case .open = phase, let socket else { return }
    socket.wantsFlush()
  }

  func received(_ bytes: UnsafeRawBufferPointer) -> Int {
    let knewSettings = session.receivedSettings
    reads += 1
    lastRead = loop.now
    pinged = 0
    do throws(HTTP2Error) {
      try session.receive(bytes, now: loop.now)
    } catch {
      end(.protocolError)
      return bytes.count
    }
    guard !isClosed else { return bytes.count }
    if session.receivedSettings { lane.streamsMax = session.peerConcurrentStreams }
    if !knewSettings { expectAnswers() }
    if session.wantsOutput { flush() }
    settle()
    return bytes.count
  }

  /// After streams have ended, or the peer has said that it goes away.
  private func settle() {
    if !isLeaving {
      if session.mayOpen { lane.advance(self) } else { leaveLane() }
    }
    guard !isClosed, session.openStreams == 0 else { return }
    if isLeaving {
      // What is still to be said goes first.
      if !session.wantsOutput, socket?.output.isEmpty ?? true { close() }
    } else {
      idleSince = loop.now
      lane.becameIdle(self)
    }
  }

  func willFlush() { fill() }

  private func fill() {
    guard case .open = phase, let socket else { return }
    socket.wantsOutput()
    do throws(HTTP2Error) {
      while socket.output.count < StreamSocket.lowWatermark, session.wantsOutput {
        let before = socket.output.count
        try session.output(into: &socket.output)
        guard !isClosed else { return }
        // What is held back by the peer's window comes when the window opens.
        if socket.output.count == before { break }
      }
    } catch {
      end(.protocolError)
    }
  }

  func flushed() {
    fill()
    guard case .open = phase, let socket else { return }
    if !socket.output.isEmpty {
      socket.wantsFlush()
    } else if session.isFinished {
      // The library has told the peer what was wrong.
      end(session.openStreams > 0 ? .protocolError : .broken)
    } else {
      settle()
    }
  }

  func stalled() {}
  func drained() {}

  // MARK: Deadlines

  /// Looks after requests that are under way, each time that one of them may be due.
  private func expectAnswers() {
    guard case .open = phase, session.receivedSettings else { return }
    let silence = pool.limits.silenceTimeout ?? .max / 2
    let deadline = loop.now + min(pool.limits.multiplexed.pingAfter, silence)
    if !timer.isArmed || timer.deadline > deadline { loop.arm(timer, at: deadline, self) }
  }

  func timerFired(_ timer: Timer) {
    switch phase {
    case .connecting:
      socket?.close(.timedOut)
      connectFailed(.connectTimeout)
    case .open where !session.receivedSettings:
      end(.connectTimeout)
    case .open:
      checkAnswers()
    case .closed:
      break
    }
  }

  private func checkAnswers() {
    guard session.openStreams > 0 else { return }
    let limits = pool.limits.multiplexed
    let now = loop.now
    var next = Nanoseconds.max
    if let timeout = pool.limits.silenceTimeout {
      for case let stream as HTTP2ClientStream in session.owners {
        if let deadline = stream.checkSilence(timeout) { next = min(next, deadline) }
      }
    }
    if pinged > 0, now >= pinged + limits.pingTimeout {
      end(.broken)
      return
    }
    if pinged == 0, now >= lastRead + limits.pingAfter {
      pinged = now
      do throws(HTTP2Error) { try session.ping() } catch { return end(.protocolError) }
      flush()
    }
    next = min(next, pinged > 0 ? pinged + limits.pingTimeout : lastRead + limits.pingAfter)
    loop.arm(timer, at: next, self)
  }

  // MARK: Ends

  // Who has spoken, and said no SETTINGS, speaks something else (HTTP/1.1 answers the preface with 400 and leaves).
  func peerClosed() { end(reads > 0 && !session.receivedSettings ? .protocolError : nil) }

  func failed(_ error: SocketFailure) {
    switch phase {
    case .connecting: connectFailed(.connect(error))
    case .open: end(nil)
    case .closed: break
    }
  }

  /// Closes when nothing is under way.
  func close() { end(nil) }

  /// Ends every stream with `failure`, or, where nil, as its connection's death concerns it.
  private func end(_ failure: UpstreamFailure?) {
    guard !isClosed else { return }
    phase = .closed
    isLeaving = true
    loop.cancel(timer)
    let left = session.abandon()
    socket?.close()
    socket = nil
    lane.remove(self)
    for case let stream as HTTP2ClientStream in left {
      stream.lostConnection(failure, spokeHTTP2: session.receivedSettings)
    }
  }
}
