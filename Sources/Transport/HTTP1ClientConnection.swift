// One HTTP/1.1 connection to a worker: connect, one exchange at a time, kept alive between them.

internal import Base
package import EventLoop
internal import HTTP

/// Drives a connection to a worker. It belongs to the pool while idle and to one exchange while busy.
package final class HTTP1ClientConnection: StreamSocketHandler, TimerHandler {
  private enum Phase {
    /// Next: head, multiplexed, closed.
    case connecting
    /// Waits for the response head. Next: body, idle, closed.
    case head
    /// Next: idle, closed.
    case body
    /// In the pool. Next: head, closed.
    case idle
    /// The worker chose HTTP/2 by ALPN: the exchange goes on as this stream.
    case multiplexed(HTTP2ClientStream)
    case closed
  }

  package let upstream: Upstream
  private let pool: UpstreamPool
  /// Where this connection waits between exchanges.
  let shelf: UpstreamShelf
  private let loop: EventLoop
  private var socket: StreamSocket?
  private var phase = Phase.connecting
  private var handler: (any ClientExchangeHandler)?
  private var decoder = HTTP1BodyDecoder(.none)
  private var method = HTTP.Method.get
  private var scanned = 0
  private var keepAlive = true
  private var addressIndex = 0
  private var exchangeCount = 0
  /// Its first request was sent before, and is sent again.
  var isRetry = false
  private var sawBytes = false
  private var paused = false
  private var silentSince: Nanoseconds = 0
  private(set) var idleSince: Nanoseconds = 0
  private let timer = Timer()
  private var request = ByteBuffer()

  init(to upstream: Upstream, pool: UpstreamPool, shelf: UpstreamShelf) {
    self.upstream = upstream
    self.shelf = shelf
    self.pool = pool
    loop = pool.loop
  }

  /// True when this exchange runs on a connection that carried another before.
  package var isReused: Bool {
    if case .multiplexed(let stream) = phase { return stream.isReused }
    return exchangeCount > 1
  }

  // MARK: The exchange's side

  func begin(
    _ method: HTTP.Method, _ handler: any ClientExchangeHandler, _ compose: (inout ByteBuffer) -> Void
  ) {
    self.method = method
    self.handler = handler
    exchangeCount += 1
    scanned = 0
    sawBytes = false
    paused = false
    if let socket {
      phase = .head
      socket.wantsOutput()
      compose(&socket.output)
      socket.wantsFlush()
      beginSilence()
    } else {
      // Kept apart until a connect succeeds: a failed one takes its socket with it.
      compose(&request)
      connect()
    }
  }

  /// Drops the exchange: the handler hears nothing more, and the worker sees the connection close.
  package func cancel() {
    handler = nil
    if case .multiplexed(let stream) = phase { stream.cancel() }
    close()
  }

  /// Stops reading the response while the caller is slow.
  package func pause() {
    guard !paused else { return }
    paused = true
    if case .multiplexed(let stream) = phase { return stream.pause() }
    socket?.pauseReading()
  }

  /// Reads on.
  package func resume() {
    guard paused else { return }
    paused = false
    if case .multiplexed(let stream) = phase { return stream.resume() }
    silentSince = loop.now
    socket?.resumeReading()
  }

  // MARK: Connecting

  private func connect() {
    guard addressIndex < upstream.addresses.count else {
      fail(.connect(.system(SystemError("resolve", 0))))
      return
    }
    phase = .connecting
    let descriptor: Int32
    do throws(SystemError) {
      descriptor = try pool.dial(upstream.addresses[addressIndex])
    } catch {
      connectFailed(.system(error))
      return
    }
    let socket = StreamSocket(descriptor, on: loop, connecting: true, security: upstream.security)
    socket.reportsEndWhilePaused = false
    self.socket = socket
    do throws(SocketFailure) {
      try socket.start(self)
      loop.arm(timer, at: loop.now + pool.limits.connectTimeout, self)
    } catch {
      connectFailed(error)
    }
  }

  private func connectFailed(_ error: SocketFailure) {
    socket = nil
    addressIndex += 1
    if addressIndex < upstream.addresses.count {
      connect()
    } else {
      fail(.connect(error))
    }
  }

  package func connected() {
    loop.cancel(timer)
    guard let socket else { return }
    if upstream.security != nil, socket.applicationProtocol == "h2" { return multiplex(socket) }
    phase = .head
    socket.wantsOutput()
    socket.output.append(request.readable)
    request.release()
    socket.wantsFlush()
    beginSilence()
  }

  /// Hands the exchange and the connection over; what is left here passes on what is asked of the exchange.
  private func multiplex(_ socket: StreamSocket) {
    guard let handler else { return close() }
    let stream = HTTP2ClientStream(method, isRetry: isRetry, handler)
    stream.stream.output.append(request.readable)
    request.release()
    self.handler = nil
    self.socket = nil
    phase = .multiplexed(stream)
    pool.multiplex(socket, to: upstream, stream)
  }

  // MARK: Input

  package func received(_ bytes: UnsafeRawBufferPointer) -> Int {
    silentSince = loop.now
    var offset = 0
    while offset < bytes.count {
      if paused { return offset }
      let rest = bytes.slice(offset..<bytes.count)
      switch phase {
      case .head:
        let consumed = receivedHeadBytes(rest)
        if consumed == 0 { return offset }
        offset += consumed
      case .body:
        offset += receivedBodyBytes(rest)
      case .idle:
        // Nobody asked: whatever it is, the next exchange must not see it.
        pool.lost(self)
        close()
        return bytes.count
      case .connecting, .multiplexed, .closed:
        return bytes.count
      }
    }
    return offset
  }

  private func receivedHeadBytes(_ bytes: UnsafeRawBufferPointer) -> Int {
    sawBytes = true
    switch pool.parser.parseResponse(bytes, alreadyScanned: &scanned, toMethod: method) {
    case .needMore:
      return 0
    case .head(let head, let length):
      scanned = 0
      if head.status < 200 {
        // Interim responses are the business of this hop (RFC 9110 section 15.2); 101 was never asked for.
        if head.status == 101 {
          fail(.broken)
          return bytes.count
        }
        return length
      }
      keepAlive = head.keepAlive
      decoder = HTTP1BodyDecoder(head.framing)
      phase = .body
      handler?.responded(head)
      switch head.framing {
      case .none, .length(0):
        if case .body = phase { finish(trailers: UnsafeRawBufferPointer(start: nil, count: 0)) }
      default: break
      }
      return length
    case .failed(let error):
      fail(.malformed(error))
      return bytes.count
    }
  }

  private func receivedBodyBytes(_ bytes: UnsafeRawBufferPointer) -> Int {
    var consumed = 0
    // What one read brought is handed on in one piece: chunk by chunk it would cost several calls a token.
    var piece = UnsafeRawBufferPointer(start: nil, count: 0)
    while case .body = phase {
      // A body that is whole needs no further input to say so.
      if paused, !decoder.isComplete { return consumed }
      switch decoder.next(bytes, consumed: &consumed) {
      case .bytes(let body):
        if piece.isEmpty {
          piece = body
        } else {
          if pool.gathered.isEmpty { pool.gathered.append(piece) }
          pool.gathered.append(body)
        }
      case .needMore:
        handOn(piece)
        return consumed
      case .end(let trailers):
        handOn(piece)
        if case .body = phase { finish(trailers: trailers) }
        return consumed
      case .failed(let error):
        handOn(piece)
        fail(.malformed(error))
        return bytes.count
      }
    }
    return bytes.count
  }

  /// Gives the handler what was gathered, or `piece` when it came alone.
  private func handOn(_ piece: UnsafeRawBufferPointer) {
    guard !piece.isEmpty else { return }
    if pool.gathered.isEmpty {
      handler?.received(body: piece)
    } else {
      handler?.received(body: pool.gathered.readable)
      pool.gathered.removeAll()
    }
  }

  private func finish(trailers: UnsafeRawBufferPointer) {
    let handler = handler
    self.handler = nil
    loop.cancel(timer)
    if keepAlive, let socket, socket.output.isEmpty {
      phase = .idle
      if paused {
        paused = false
        socket.resumeReading()
      }
      idleSince = loop.now
      pool.keep(self)
    } else {
      close()
    }
    handler?.receivedEnd(trailers: trailers)
  }

  // MARK: Socket events

  package func peerClosed() {
    switch phase {
    case .idle:
      pool.lost(self)
      close()
    case .body:
      // The end of the connection may be the end of the body (RFC 9112 section 6.3).
      keepAlive = false
      if case .end(let trailers) = decoder.inputEnded() { finish(trailers: trailers) } else { fail(.broken) }
    case .head:
      fail(isReused && !sawBytes ? .stale : .broken)
    case .connecting, .multiplexed, .closed:
      break
    }
  }

  package func failed(_ error: SocketFailure) {
    switch phase {
    case .connecting:
      loop.cancel(timer)
      connectFailed(error)
    case .idle:
      pool.lost(self)
      close()
    case .head:
      fail(isReused && !sawBytes ? .stale : .broken)
    case .body:
      fail(.broken)
    case .multiplexed, .closed:
      break
    }
  }

  package func willFlush() {}
  package func flushed() {}
  package func stalled() {}
  package func drained() {}

  // MARK: Deadlines and ends

  private func beginSilence() {
    silentSince = loop.now
    guard let timeout = pool.limits.silenceTimeout else { return }
    if !timer.isArmed { loop.arm(timer, at: loop.now + timeout, self) }
  }

  package func timerFired(_ timer: Timer) {
    switch phase {
    case .connecting:
      socket?.close(.timedOut)
      connectTimedOut()
    case .head, .body:
      guard let timeout = pool.limits.silenceTimeout else { return }
      if paused { silentSince = loop.now }
      if silentSince + timeout <= loop.now {
        fail(.silent)
      } else {
        loop.arm(timer, at: silentSince + timeout, self)
      }
    case .idle, .multiplexed, .closed:
      break
    }
  }

  private func connectTimedOut() {
    socket = nil
    addressIndex += 1
    if addressIndex < upstream.addresses.count { connect() } else { fail(.connectTimeout) }
  }

  private func fail(_ failure: UpstreamFailure) {
    let handler = handler
    self.handler = nil
    close()
    guard let handler else { return }
    // A handler never hears of a failure from inside its own call to `send`.
    let report = PendingFailure(handler, failure)
    loop.atEndOfTick(report)
  }

  func close() {
    if case .closed = phase { return }
    phase = .closed
    loop.cancel(timer)
    socket?.close()
    socket = nil
    request.release()
  }
}

/// Delivers a failure after the call that met it has returned.
final class PendingFailure: TickHandler {
  private let handler: any ClientExchangeHandler
  private let failure: UpstreamFailure

  init(_ handler: any ClientExchangeHandler, _ failure: UpstreamFailure) {
    self.handler = handler
    self.failure = failure
  }

  func endOfTick() { handler.failed(failure) }
}
