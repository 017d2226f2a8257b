// One try of a message: dial when there is no connection, call, and what the connection tells.

import Base
import EventLoop
import GRPC
import HTTP

extension ExportDriver {
  /// Resolves the endpoint and tries its addresses in turn.
  func dial() {
    phase = .dialing
    addresses = dialer.resolve(host: configuration.host, port: configuration.port)[...]
    tryNextAddress("cannot resolve \(configuration.host)")
  }

  private func tryNextAddress(_ previousFailure: String) {
    var cause = previousFailure
    while let address = addresses.popFirst() {
      do {
        let descriptor = try dialer.connect(address)
        connection = try ExporterConnection(
          descriptor, loop: loop, limits: configuration.http2, security: configuration.security,
          delegate: self)
        loop.arm(limitTimer, at: loop.now + configuration.connectTimeout, self)
        return
      } catch {
        cause = "\(address): \(error)"
      }
    }
    failed(cause, whileDialing: true)
  }

  /// Starts the call of the message.
  func call(on connection: ExporterConnection) {
    guard let message else { return }
    phase = .calling
    message.calls += 1
    if message.calls > 1 { status.update { $0.spansResent += message.spanCount } }
    let left = max((message.deadline ?? 0).subtractingReportingOverflow(loop.now).partialValue, millisecond)
    let timeout = configuration.callTimeout.map { min($0, left) } ?? left
    loop.arm(limitTimer, at: loop.now + timeout, self)
    do {
      try connection.call(head: configuration.method.head(timeout: timeout), body: message.body)
    } catch {
      dropConnection()
      failed("HTTP/2: \(error)")
    }
  }

  /// A connect or a call took too long.
  func limitPassed() {
    switch phase {
    case .dialing:
      dropConnection()
      tryNextAddress("connect: timed out")
    case .calling:
      // The connection may be dead too, and no other call is on it.
      dropConnection()
      answered(GRPCAnswer(GRPCStatus(.deadlineExceeded, "no answer in time")), wasRefused: false)
    case .idle, .finished:
      break
    }
  }
}

extension ExportDriver: ExporterConnectionDelegate {
  func connectionOpened() {
    guard case .dialing = phase, let connection else { return }
    loop.cancel(limitTimer)
    status.update { $0.isConnected = true }
    call(on: connection)
  }

  func connectionFinished(_ exchange: HTTP2Exchange) {
    guard case .calling = phase else { return }
    let wasRefused = if case .refused = exchange.end { true } else { false }
    answered(GRPCAnswer(exchange), wasRefused: wasRefused)
  }

  func connectionClosed(_ cause: String) {
    let wasReused = (connection?.answeredCalls ?? 0) > 0
    connection = nil
    status.update { $0.isConnected = false }
    switch phase {
    case .dialing:
      tryNextAddress(cause)
    case .calling:
      loop.cancel(limitTimer)
      if wasReused, repeatAtOnce() { return }
      answered(GRPCAnswer(GRPCStatus(.unavailable, cause)), wasRefused: false)
    case .idle, .finished:
      break
    }
  }
}
