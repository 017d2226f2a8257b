// One h2c connection to the collector: moves bytes between a socket and an HTTP/2 session.

import Base
import EventLoop
import Glibc
import HTTP

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
final class ExporterConnection: EventHandler {
  private enum State {
    case connecting
    case open
    case closed
  }

  private static let notHTTP2 = "the peer does not speak HTTP/2"

  private let loop: EventLoop
  private let descriptor: Int32
  private let session: HTTP2ClientSession
  private let outputBytes: Int
  // Strong while the connection is open and cleared at its end, so no cycle stays.
  private var delegate: (any ExporterConnectionDelegate)?
  private var registration: Registration?
  private var state = State.connecting
  private var out = ByteBuffer()
  private var hasReceived = false
  /// Calls that got an answer here.
  private(set) var answeredCalls = 0

  /// Takes over `descriptor`, whose connect was started.
  init(
    _ descriptor: Int32, loop: EventLoop, limits: HTTP2Limits, delegate: any ExporterConnectionDelegate
  ) throws {
    self.loop = loop
    self.descriptor = descriptor
    self.delegate = delegate
    outputBytes = limits.outputBytes
    do {
      session = try HTTP2ClientSession(limits: limits)
      registration = try loop.register(descriptor, self)
    } catch {
      loop.system.close(descriptor)
      throw error
    }
  }

  /// True when a call may start here.
  var mayCall: Bool {
    if case .open = state { return session.mayRequest }
    return false
  }

  /// Starts a call; its end is told to the delegate.
  func call(head: HTTP2Fields, body: HTTP2Body) throws(HTTP2Error) {
    _ = try session.request(head, body: body)
    _ = out.reserve(min(body.count + 1_024, outputBytes + 16_384))
    flush()
  }

  /// Closes without a word to the delegate.
  func close() {
    if case .closed = state { return }
    state = .closed
    delegate = nil
    if let registration { loop.deregister(registration) }
    loop.system.close(descriptor)
    out.release()
  }

  func ready(_ readiness: Readiness) {
    switch state {
    case .connecting: finishConnect(readiness)
    case .open: break
    case .closed: return
    }
    guard case .open = state else { return }
    if readiness.isReadable || readiness.hasEnded { read(readiness) }
    if case .open = state { flush() }
  }

  private func finishConnect(_ readiness: Readiness) {
    let code = loop.system.pendingError(descriptor)
    if code != 0 {
      fail("connect: \(String(cString: strerror(code)))")
    } else if readiness.isWritable {
      state = .open
      delegate?.connectionOpened()
    }
  }

  private func read(_ readiness: Readiness) {
    // After a short read the socket is empty, unless the peer's end or an error waits behind it.
    let mayEnd = readiness.hasEnded
    while case .open = state {
      guard let room = loop.scratch.baseAddress else { return }
      let count = loop.system.receive(descriptor, room, loop.scratch.count)
      if count == -Int(EAGAIN) { return }
      if count < 0 { return fail("recv: \(String(cString: strerror(Int32(-count))))") }
      if count == 0 {
        let spokeOtherwise = hasReceived && !session.receivedSettings
        return fail(spokeOtherwise ? ExporterConnection.notHTTP2 : "the collector closed the connection")
      }
      hasReceived = true
      do {
        try session.receive(UnsafeRawBufferPointer(start: room, count: count))
      } catch {
        return fail(session.receivedSettings ? "HTTP/2: \(error)" : ExporterConnection.notHTTP2)
      }
      deliver()
      if count < loop.scratch.count, !mayEnd { return }
    }
  }

  private func deliver() {
    for exchange in session.takeFinished() {
      answeredCalls += 1
      delegate?.connectionFinished(exchange)
    }
  }

  /// Sends what the session has to say until it is silent or the socket is full.
  private func flush() {
    while case .open = state {
      if out.isEmpty {
        do {
          try session.output(into: &out)
        } catch {
          return fail("HTTP/2: \(error)")
        }
        guard !out.isEmpty, let start = out.readable.baseAddress else { break }
        guard send(start) else { return }
      } else if let start = out.readable.baseAddress {
        guard send(start) else { return }
      }
    }
    // An idle connection holds no memory.
    out.release()
    // Streams can end here too: a request that GOAWAY keeps from leaving.
    if case .open = state {
      deliver()
      if case .open = state, session.isFinished { fail(goAwayText) }
    }
  }

  /// False when the socket is full or broken.
  private func send(_ start: UnsafeRawPointer) -> Bool {
    let count = loop.system.send(descriptor, start, out.count)
    if count == -Int(EAGAIN) { return false }
    if count < 0 {
      fail("send: \(String(cString: strerror(Int32(-count))))")
      return false
    }
    out.consume(count)
    return true
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
}
