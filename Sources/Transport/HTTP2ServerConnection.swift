// One HTTP/2 connection of a server: moves bytes between a socket and a session, and keeps its deadlines.

internal import Base
package import EventLoop
package import HTTP

/// A connection of an ``HTTP2Server``. Loop-confined; the server owns it until it is closed.
package final class HTTP2ServerConnection: StreamSocketHandler, TimerHandler {
  package let loop: EventLoop
  private let socket: StreamSocket
  /// Where answers go; follow each with ``flush()``.
  package let session: HTTP2ServerSession
  private let application: any HTTP2Application
  // Cleared at the end, so that no cycle stays.
  private var server: HTTP2Server?
  private let limits: HTTP2ServerLimits
  private let timer = Timer()
  private let opened: Nanoseconds
  private var lastInput: Nanoseconds
  /// When the last stream ended, or the connection began.
  private var idleSince: Nanoseconds
  private var hadRequest = false
  private var isLeaving = false
  private var isCut = false
  /// What the server's books hold of this connection's buffered bodies.
  private var bookedBytes = 0

  /// Takes `descriptor` over; nil when it cannot be served, and it is closed.
  init?(_ descriptor: Int32, server: HTTP2Server, application: any HTTP2Application) {
    loop = server.loop
    limits = server.limits
    self.server = server
    self.application = application
    opened = loop.now
    lastInput = loop.now
    idleSince = loop.now
    do throws(HTTP2Error) {
      session = try HTTP2ServerSession(limits: limits.session)
    } catch {
      loop.system.close(descriptor)
      return nil
    }
    socket = StreamSocket(descriptor, on: loop, connecting: false)
    do throws(SocketFailure) {
      try socket.start(self)
    } catch {
      return nil
    }
    flush()
    loop.arm(timer, at: loop.now + checkInterval, self)
  }

  /// True once the connection is gone; answers to it are thrown away.
  package var isClosed: Bool { socket.isClosed }

  /// Sends what the session has to say at the end of this wake-up.
  package func flush() {
    guard !socket.isClosed else { return }
    socket.wantsFlush()
  }

  /// Closes at once.
  package func close() {
    guard !socket.isClosed || server != nil else { return }
    loop.cancel(timer)
    socket.close()
    let server = server
    server?.bufferedBytes -= bookedBytes
    bookedBytes = 0
    self.server = nil
    server?.connectionClosed(self)
  }

  /// Says GOAWAY and closes when the last answer is out.
  func drain() { leave(HTTP2ErrorCode.noError) }

  /// Ends with GOAWAY whatever is open: the peer asks too much, or does not go on.
  private func cut() {
    // A peer that does not even read what waits for it will not read this either.
    guard socket.output.isEmpty else { return close() }
    isCut = true
    socket.pauseReading()
    leave(HTTP2ErrorCode.enhanceYourCalm)
  }

  private func leave(_ code: UInt32) {
    guard !isLeaving || isCut, !socket.isClosed else { return }
    isLeaving = true
    do throws(HTTP2Error) { try session.goAway(code: code) } catch { return close() }
    fill()
    flush()
  }

  // MARK: Socket

  package func received(_ bytes: UnsafeRawBufferPointer) -> Int {
    lastInput = loop.now
    session.now = loop.now
    do throws(HTTP2Error) {
      try session.receive(bytes)
    } catch {
      // No HTTP/2, or a flood that the library has cut.
      cut()
      return bytes.count
    }
    guard bookBytes() else {
      cut()
      return bytes.count
    }
    for exchange in session.takeRequests() where exchange.end == nil {
      hadRequest = true
      application.received(exchange, on: self)
      if socket.isClosed { return bytes.count }
    }
    flush()
    return bytes.count
  }

  /// Notes what the bodies take; false when they have grown and the server's connections hold too much together.
  private func bookBytes() -> Bool {
    guard let server else { return true }
    let change = session.bufferedBytes - bookedBytes
    bookedBytes += change
    server.bufferedBytes += change
    return change <= 0 || server.hasRoom()
  }

  package func connected() {}

  package func peerClosed() {
    // A client that has sent all it wants may still wait for its answers.
    if session.openStreams == 0 { close() } else { isLeaving = true }
  }

  package func willFlush() { fill() }

  private func fill() {
    guard !socket.isClosed else { return }
    socket.wantsOutput()
    session.now = loop.now
    // Streams that are over let go of their bodies.
    defer { _ = bookBytes() }
    do throws(HTTP2Error) {
      while socket.output.count < StreamSocket.lowWatermark, session.wantsOutput {
        let before = socket.output.count
        try session.output(into: &socket.output)
        // What is held back by the peer's window comes when the window opens.
        if socket.output.count == before { break }
      }
    } catch {
      close()
      return
    }
    if socket.checkFull() { socket.pauseReading() }
  }

  package func flushed() {
    fill()
    guard !socket.isClosed else { return }
    if session.openStreams == 0 { idleSince = max(idleSince, loop.now) }
    if !socket.output.isEmpty {
      socket.wantsFlush()
    } else if isCut || session.isFinished || (isLeaving && session.openStreams == 0) {
      close()
    }
  }

  package func stalled() { if isCut { close() } }

  package func drained() { socket.resumeReading() }

  package func failed(_ error: SocketFailure) { close() }

  // MARK: Deadlines

  private var checkInterval: Nanoseconds {
    max(
      10 * millisecond,
      min(limits.firstRequestTimeout, limits.requestGapTimeout, limits.writeStallTimeout, limits.idleTimeout)
        / 4)
  }

  package func timerFired(_ timer: Timer) {
    let now = loop.now
    if !socket.output.isEmpty, now - socket.lastProgress > limits.writeStallTimeout { return close() }
    if !hadRequest, now - opened > limits.firstRequestTimeout { return close() }
    if let since = session.incompleteSince, now - since > limits.requestGapTimeout { cut() }
    // The peer may take every byte of ours and never open its window.
    if let since = session.unsentSince, now - since > limits.writeStallTimeout { cut() }
    if session.openStreams == 0, now - max(idleSince, lastInput) > limits.idleTimeout { drain() }
    if !socket.isClosed { loop.arm(timer, at: now + checkInterval, self) }
  }
}
