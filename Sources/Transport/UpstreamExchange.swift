// A request under way to a worker, whichever version of HTTP carries it.

/// What to cancel or pause a request by. An enumeration, so that HTTP/1.1 costs no more than a call on its connection.
package enum UpstreamExchange {
  case http1(HTTP1ClientConnection)
  case http2(HTTP2ClientStream)

  /// Drops the exchange: the handler hears nothing more, and the worker sees its connection close or its stream reset.
  package func cancel() {
    switch self {
    case .http1(let connection): connection.cancel()
    case .http2(let stream): stream.cancel()
    }
  }

  /// Stops reading the response while the caller is slow. Over HTTP/2 what is on its way, at most one window, is still
  /// handed on.
  package func pause() {
    switch self {
    case .http1(let connection): connection.pause()
    case .http2(let stream): stream.pause()
    }
  }

  /// Reads on.
  package func resume() {
    switch self {
    case .http1(let connection): connection.resume()
    case .http2(let stream): stream.resume()
    }
  }

  /// True when this exchange runs on a connection that carried another before.
  package var isReused: Bool {
    switch self {
    case .http1(let connection): connection.isReused
    case .http2(let stream): stream.isReused
    }
  }
}
