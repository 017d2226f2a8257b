// One stream of a multiplexed HTTP/2 session: what waits to be sent, and what its owner hears of it.

package import Base

/// How a stream ended. Every stream that was opened ends exactly once.
package enum HTTP2StreamEnd: Sendable, Equatable {
  /// Both sides have said all, or the peer needs no more of ours.
  case complete
  /// The peer reset it with this code (RFC 9113 section 7).
  case reset(code: UInt32)
  /// The peer did not act on it (REFUSED_STREAM, or beyond its GOAWAY): safe to send again.
  case refused
  /// The peer broke a rule on it, and it was reset for that.
  case malformed
  /// Reset by its owner.
  case cancelled
}

/// What becomes of what arrives on a stream. Calls come on the session's thread, never from inside the library, and may
/// use the session.
package protocol HTTP2StreamOwner: AnyObject {
  /// A head as HTTP/1.1 text, start line to empty line, valid during the call. Interim responses come too.
  func received(head: UnsafeRawBufferPointer)
  /// A request's head was over its bounds, and is gone (server role).
  func receivedTooLargeHead()
  /// Body bytes, valid during the call.
  func received(body: UnsafeRawBufferPointer)
  /// The peer has sent all; `trailers` are `name: value CRLF` lines, valid during the call.
  func receivedEnd(trailers: UnsafeRawBufferPointer)
  /// Some of the stream's output went to the connection.
  func outputMoved()
  /// It is over. Not told after a silent reset, or once the connection is gone.
  func ended(_ end: HTTP2StreamEnd)
}

extension HTTP2StreamOwner {
  /// For clients, which never hear it.
  package func receivedTooLargeHead() {}
}

/// A stream of an ``HTTP2Multiplexer``: what waits to be sent on it, and how far it has come. The session owns it while it
/// is open. Confined to one thread.
package final class HTTP2Stream {
  /// 0 until the session has it.
  package internal(set) var id: Int32 = 0
  /// Hears of it until it has ended.
  package internal(set) var owner: (any HTTP2StreamOwner)?
  /// Body bytes that wait for the peer's window; after an append call ``HTTP2Multiplexer/resume(_:)``.
  package var output = ByteBuffer()
  /// No more is appended to ``output``.
  package internal(set) var outputHasEnded = false
  /// All of its output, and that it has ended, went to the connection.
  package internal(set) var outputIsSent = false
  /// The peer has sent all.
  package internal(set) var inputHasEnded = false
  /// Its end was told, or nobody wants to hear of it.
  package internal(set) var hasEnded = false
  /// While true the peer gets no new window for this stream: at most one window of bytes is still handed on.
  package internal(set) var isPaused = false
  /// Bytes that were handed on and not acknowledged to the peer.
  var unacknowledged = 0
  /// The library waits to be told of new output.
  var isDeferred = false
  var hasResetByPeer = false
  /// A head of ours went to the connection.
  var hasLeft = false
  /// When its request began (server role).
  var began: Nanoseconds = 0
  /// Its answer has begun (server role).
  var isAnswered = false
  var hasResetByUs = false
  /// Trailer lines that follow the output; empty for none.
  var trailers = ByteBuffer()

  package init(_ owner: (any HTTP2StreamOwner)? = nil) { self.owner = owner }

  /// Names the owner of a stream that a request has just opened.
  package func belongs(to owner: any HTTP2StreamOwner) { self.owner = owner }

  /// Nothing more is told of it.
  func detach() {
    hasEnded = true
    owner = nil
  }
}

/// Bounds of one multiplexed session, either role.
package struct HTTP2MultiplexerLimits: Sendable {
  /// Field lines of one received section, in bytes as RFC 9113 section 6.5.2 counts them.
  package var headerListBytes = 32 << 10
  /// Field lines of one received section.
  package var headerCount = 100
  /// Streams that the peer may open at the same time (server role).
  package var concurrentStreams = 100
  /// How much of a stream the peer may send before it is acknowledged.
  package var streamWindowBytes = 256 << 10
  /// The same for all streams together; they are acknowledged here as they come, so that a slow one stops no other.
  package var connectionWindowBytes = 4 << 20
  /// How much output is gathered at a time.
  package var outputBytes = 256 << 10
  /// Frames that do no work which the peer may send at once (server role): pings, settings, priorities, empty data,
  /// window updates that answer no data, resets of streams that are over. Past it the session is ended.
  package var idleFramesBurst = 1_000
  /// How many more of those each further second allows.
  package var idleFramesPerSecond = 100
  /// Requests younger than a second that the peer may reset at once before they were answered, or whose reset it may
  /// provoke (server role). Each request that ends otherwise allows one more. Past it the session is ended.
  package var rapidResetsBurst = 200
  /// How many more of those each further second allows.
  package var rapidResetsPerSecond = 20

  /// The defaults.
  package init() {}
}
