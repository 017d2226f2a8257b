// How streams end: exactly once, in one of four ways.

/// The one end of a stream (a request, a response, a relay, a call). Spans, load, metrics and timers hang on it.
package enum EndOfStream: Sendable {
  /// Every byte that was promised has passed.
  case complete
  /// The peer, the network or a limit of ours broke it.
  case failed(StreamFailure)
  /// The side that wanted the answer gave it up.
  case cancelled
  /// A deadline passed.
  case timedOut
}

/// Why a stream failed.
package enum StreamFailure: Sendable {
  /// No connection could be made; the errno of the attempt.
  case connectFailed(errno: Int32)
  /// The connection broke; the errno of the call that told.
  case connectionReset(errno: Int32)
  /// The peer closed before the message was whole.
  case truncated
  /// The peer's bytes are not HTTP/1.1 as we accept it.
  case malformed(HTTP1ParseError)
  /// The peer reset the HTTP/2 stream or connection, with this error code (RFC 9113 section 7).
  case http2(code: UInt32)
  /// A bound of ours was reached (memory, queue, unsent output).
  case limit
  /// The server is stopping and the drain's deadline has passed.
  case shutdown

  /// A constant description, fit for a log line or a span's status message.
  package var message: StaticString {
    switch self {
    case .connectFailed: "connection could not be made"
    case .connectionReset: "connection broke"
    case .truncated: "peer closed before the message was whole"
    case .malformed(let error): error.message
    case .http2: "peer reset the HTTP/2 stream"
    case .limit: "limit reached"
    case .shutdown: "server is stopping"
    }
  }
}
