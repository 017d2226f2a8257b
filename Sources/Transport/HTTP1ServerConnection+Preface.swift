// A connection that begins with HTTP/2's preface: how it is told from HTTP/1.1 that is broken, and who goes on with it.

internal import Base
internal import EventLoop
internal import HTTP

extension HTTP1ServerConnection {
  enum PrefaceMatch {
    case none
    case beginning
    case whole(HTTP2MultiplexerLimits)
  }

  /// Bytes that are no HTTP/1.1 may be the preface of HTTP/2 (RFC 9113 section 3.4), where the connection begins with
  /// it. Others pay nothing for the question.
  func prefaceMatch(_ bytes: UnsafeRawBufferPointer) -> PrefaceMatch {
    let line = HTTP2ExchangeConnection.prefaceLine
    guard let limits = server.limits.multiplexed, !response.hasBegun,
      socket.applicationProtocol ?? "h2" == "h2"
    else { return .none }
    if bytes.count < line.count { return line.starts(with: bytes) ? .beginning : .none }
    return bytes.starts(with: line) ? .whole(limits) : .none
  }

  /// A connection of the other kind takes socket and bytes over.
  func becomeHTTP2(_ bytes: UnsafeRawBufferPointer, _ limits: HTTP2MultiplexerLimits) -> Bool {
    guard let connection = HTTP2ExchangeConnection(socket, server: server, limits: limits) else {
      return false
    }
    phase = .closed
    loop.cancel(timer)
    server.connection(self, became: connection)
    socket.handOver(to: connection)
    _ = connection.received(bytes)
    // A drain that met the beginning of the preface could not tell this connection.
    if server.isRetiring { connection.retire() } else if server.isDraining { connection.drain() }
    return true
  }
}
