// Deadlines and bounds of connections, with defaults and reasons.

package import Base
package import EventLoop
package import HTTP

/// Deadlines of a server connection, in nanoseconds.
package struct ServerLimits: Sendable {
  package var http: HTTP1Limits
  /// From the first byte of a head to its last: the answer to slow-header attacks.
  package var headTimeout: Nanoseconds = 10 * second
  /// Longest gap inside a request body.
  package var bodyGapTimeout: Nanoseconds = 30 * second
  /// How fast a request body must come on average; nil for as slowly as its gaps allow.
  package var leastPace: LeastPace?
  /// Longest time without the caller taking a byte of waiting output.
  package var writeStallTimeout: Nanoseconds = 60 * second
  /// How long a kept-alive connection may wait for its next request.
  package var idleTimeout: Nanoseconds = 75 * second
  /// How long a refused body is read and thrown away, so that the answer is not lost to a reset.
  package var lingerTimeout: Nanoseconds = 2 * second
  /// Connections held at once by one loop; past it new ones are closed at once and counted.
  package var connectionsMax = 16_384
  /// Bounds of connections that begin with HTTP/2's preface; nil refuses those.
  package var multiplexed: HTTP2MultiplexerLimits?

  /// Peers whose connections begin with a PROXY header of version 2, and must; nil for none.
  package var proxyPeers: AddressRanges?

  package init(http: HTTP1Limits = HTTP1Limits()) { self.http = http }

  /// True when the peer of this socket is to say first whom it speaks for.
  func asksForProxyHeader(_ descriptor: Int32) -> Bool {
    guard let proxyPeers, let peer = Sockets.peerAddress(descriptor) else { return false }
    return proxyPeers.contains(peer)
  }
}

/// Deadlines of a connection to a worker, in nanoseconds.
package struct ClientLimits: Sendable {
  package var http: HTTP1Limits
  /// How long a connect may take.
  package var connectTimeout: Nanoseconds = 3 * second
  /// Longest silence before the first byte and between bytes; nil waits for ever, as generation may.
  package var silenceTimeout: Nanoseconds?
  /// How long an unused connection is kept: uvicorn closes at 5 s.
  package var idleTimeout: Nanoseconds = 4 * second
  /// Idle connections kept per worker and loop; more are closed.
  package var idleMax = 512
  /// Of connections that carry many requests at once.
  package var multiplexed = MultiplexedLimits()

  package init(http: HTTP1Limits = HTTP1Limits()) { self.http = http }
}

/// Bounds and deadlines of HTTP/2 connections to workers; times in nanoseconds.
package struct MultiplexedLimits: Sendable {
  package var session = HTTP2MultiplexerLimits()
  /// Connections to one worker that one loop opens requests on.
  package var connectionsMax = 16
  /// Requests at once on one connection, where the worker allows more.
  package var streamsMax = 256
  /// Requests that wait for a stream, for each worker and loop; past it the worker counts as busy.
  package var waitingMax = 1_024
  /// How long one of them waits.
  package var waitTimeout: Nanoseconds = 3 * second
  /// How long a connection without requests is kept: a peer that leaves says so by GOAWAY.
  package var idleTimeout: Nanoseconds = 60 * second
  /// Silence on a connection with requests under way after which the peer is asked for a sign of life.
  package var pingAfter: Nanoseconds = 20 * second
  /// How long it may take to give one.
  package var pingTimeout: Nanoseconds = 10 * second

  /// The defaults.
  package init() {}
}
