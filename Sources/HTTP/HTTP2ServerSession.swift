// The server role of HTTP/2 over libnghttp2, sans I/O: whole requests in, whole responses out.

package import Base

/// One HTTP/2 connection as a server with prior knowledge. The caller moves the bytes, as with
/// ``HTTP2ClientSession``. Requests are handed out when they are complete. Confined to one thread.
package final class HTTP2ServerSession {
  private let session: HTTP2Session

  /// Creates a session; its SETTINGS are the first output.
  package init(limits: HTTP2Limits = HTTP2Limits()) throws(HTTP2Error) {
    session = try HTTP2Session(limits: limits, isServer: true)
  }

  /// Takes bytes from the peer, all of them. After an error the connection must be closed.
  package func receive(_ bytes: UnsafeRawBufferPointer) throws(HTTP2Error) { try session.receive(bytes) }

  /// Appends what is to be sent until nothing is left or `out` holds ``HTTP2Limits/outputBytes``.
  package func output(into out: inout ByteBuffer) throws(HTTP2Error) { try session.output(into: &out) }

  /// True when ``output(into:)`` would append something.
  package var wantsOutput: Bool { session.wantsOutput }

  /// True when both sides are done: the caller may close the connection.
  package var isFinished: Bool { session.isFinished }

  /// Number of streams that are not over.
  package var openStreams: Int { session.streams.open.count }

  /// Received bytes of bodies that open streams hold.
  package var bufferedBytes: Int { session.streams.bufferedBytes }

  /// The caller's clock; set it before bytes move, so that streams know when they last got on.
  package var now: Nanoseconds {
    get { session.streams.now }
    set { session.streams.now = newValue }
  }

  /// Since when the request that waits longest for more of its body has got none; nil when all are complete. Frames
  /// without bytes of a body are no progress.
  package var incompleteSince: Nanoseconds? {
    session.streams.open.values.lazy.filter { !$0.remoteEnded && $0.fault == nil }.map(\.lastProgress).min()
  }

  /// Since when the answer that waits longest for the peer's window has given out nothing; nil when none waits.
  /// Requests that the caller has not answered yet do not count.
  package var unsentSince: Nanoseconds? {
    session.streams.open.values.lazy
      .filter { $0.remoteEnded && ($0.outgoing != nil || $0.outgoingTrailers != nil) }.map(\.lastProgress)
      .min()
  }

  /// Requests that became complete since the last call. One whose `end` is already set was cancelled.
  package func takeRequests() -> [HTTP2Exchange] {
    defer { session.streams.ready.removeAll() }
    return session.streams.ready
  }

  /// Answers a request. `head` starts with `:status`; nothing happens when the stream is already over.
  package func respond(
    to exchange: HTTP2Exchange, head: HTTP2Fields, body: HTTP2Body? = nil, trailers: HTTP2Fields? = nil
  ) throws(HTTP2Error) {
    try session.respond(exchange.streamID, head, body, trailers)
  }

  /// Resets a stream with a code of ``HTTP2ErrorCode``.
  package func reset(_ exchange: HTTP2Exchange, code: UInt32) throws(HTTP2Error) {
    try session.reset(exchange.streamID, code: code)
  }

  /// Says that streams above `lastStreamID` (default: all processed so far) will not be acted on.
  package func goAway(
    lastStreamID: Int32? = nil, code: UInt32 = HTTP2ErrorCode.noError
  ) throws(HTTP2Error) {
    try session.goAway(lastStreamID: lastStreamID ?? session.lastStreamID, code: code)
  }
}
