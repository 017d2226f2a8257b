// One HTTP/2 connection to the collector, in plain text or over TLS: moves bytes between a socket and a session.

import Base
import EventLoop
import HTTP
import Transport

/// Is told what happens on a connection, on its loop.
protocol ExporterConnectionDelegate: AnyObject {
  /// The socket is connected.
  func connectionOpened()
  /// A stream ended.
  func connectionFinished(_ exchange: HTTP2Exchange)
  /// The connection is gone and an open call with it. Not told after ``ExporterConnection/close()``.
  func connectionClosed(_ cause: String)
}

/// Socket and session of one connection. Loop-confined.
final class ExporterConnection: StreamSocketHandler {
  private enum State {
    case connecting
    case open
    case closed
  }

  private static let notHTTP2 = "the peer does not speak HTTP/2"

  private let session: HTTP2ClientSession
  private let socket: StreamSocket
  private let isSecure: Bool
  private let outputBytes: Int
  // Strong while the connection is open and cleared at its end, so no cycle stays.
  private var delegate: (any ExporterConnectionDelegate)?
  private var state = State.connecting
  private var hasReceived = false
  /// Calls that got an answer here.
  private(set) var answeredCalls = 0

  /// Takes over `descriptor`, whose connect was started; `security` is for TLS.
  init(
    _ descriptor: Int32, loop: EventLoop, limits: HTTP2Limits, security: SocketSecurity?,
    delegate: any ExporterConnectionDelegate
  ) throws {
    do {
      session = try HTTP2ClientSession(limits: limits)
    } catch {
      loop.system.close(descriptor)
      throw error
    }
    self.delegate = delegate
    outputBytes = limits.outputBytes
    isSecure = security != nil
    socket = StreamSocket(descriptor, on: loop, connecting: true, security: security)
    try socket.start(self)
  }

  /// True when a call may start here.
  var mayCall: Bool {
    if case .open = state { return session.mayRequest }
    return false
  }

  /// Starts a call; its end is told to the delegate.
  func call(head: HTTP2Fields, body: HTTP2Body) throws(HTTP2Error) {
    _ = try session.request(head, body: body)
    _ = socket.output.reserve(min(body.count + 1_024, outputBytes + 16_384))
    fillOutput()
  }

  /// Closes without a word to the delegate.
  func close() {
    if case .closed = state { return }
    state = .closed
    delegate = nil
    socket.close()
  }

  /// Takes what the session has to say, a bounded amount; when it has left, ``flushed()`` takes more.
  private func fillOutput() {
    do {
      try session.output(into: &socket.output)
    } catch {
      return fail("HTTP/2: \(error)")
    }
    socket.wantsFlush()
  }

  private func deliver() {
    for exchange in session.takeFinished() {
      answeredCalls += 1
      delegate?.connectionFinished(exchange)
    }
  }

  private var goAwayText: String {
    if !session.receivedSettings { return ExporterConnection.notHTTP2 }
    guard let goAway = session.goAway else { return "the HTTP/2 session ended" }
    return "GOAWAY with code \(goAway.code) \(goAway.debug)"
  }

  private func fail(_ cause: String) {
    if case .closed = state { return }
    let delegate = delegate
    close()
    delegate?.connectionClosed(cause)
  }

  // MARK: Socket events

  func connected() {
    // A client of HTTP/2 over TLS must have agreed on it (RFC 9113 section 3.2).
    guard !isSecure || socket.applicationProtocol == "h2" else {
      return fail("the collector does not offer HTTP/2 over TLS (ALPN h2)")
    }
    state = .open
    delegate?.connectionOpened()
  }

  func received(_ bytes: UnsafeRawBufferPointer) -> Int {
    guard case .open = state else { return bytes.count }
    hasReceived = true
    do {
      try session.receive(bytes)
    } catch {
      fail(session.receivedSettings ? "HTTP/2: \(error)" : ExporterConnection.notHTTP2)
      return bytes.count
    }
    deliver()
    if case .open = state { fillOutput() }
    return bytes.count
  }

  func peerClosed() {
    let spokeOtherwise = hasReceived && !session.receivedSettings
    fail(spokeOtherwise ? ExporterConnection.notHTTP2 : "the collector closed the connection")
  }

  func flushed() {
    guard case .open = state else { return }
    if session.wantsOutput { return fillOutput() }
    // Streams can end here too: a request that GOAWAY keeps from leaving.
    deliver()
    if case .open = state, session.isFinished { fail(goAwayText) }
  }

  func failed(_ error: SocketFailure) { fail("\(error)") }

  func willFlush() {}
  func stalled() {}
  func drained() {}
}
