// The client role of HTTP/2 over libnghttp2, sans I/O.

package import Base

/// One HTTP/2 connection as a client with prior knowledge (RFC 9113 section 3.3).
///
/// The caller moves the bytes: after each ``receive(_:)``, ``request(_:body:)`` or ``reset(_:code:)`` it calls
/// ``output(into:)`` and sends the result, again while ``wantsOutput`` says so. Settings, window updates and
/// pings are answered inside. Confined to one thread.
package final class HTTP2ClientSession {
  private let session: HTTP2Session

  /// Creates a session; its preface and SETTINGS are the first output.
  package init(limits: HTTP2Limits = HTTP2Limits()) throws(HTTP2Error) {
    session = try HTTP2Session(limits: limits, isServer: false)
  }

  /// Takes bytes from the peer, all of them. After an error the connection must be closed.
  package func receive(_ bytes: UnsafeRawBufferPointer) throws(HTTP2Error) { try session.receive(bytes) }

  /// Appends what is to be sent until nothing is left or `out` holds ``HTTP2Limits/outputBytes``.
  package func output(into out: inout ByteBuffer) throws(HTTP2Error) { try session.output(into: &out) }

  /// True when ``output(into:)`` would append something.
  package var wantsOutput: Bool { session.wantsOutput }

  /// True when both sides are done: the caller may close the connection.
  package var isFinished: Bool { session.isFinished }

  /// True when a new stream may be opened: the peer sent no GOAWAY and ids are left.
  package var mayRequest: Bool { session.mayRequest }

  /// The peer's GOAWAY; nil while there was none.
  package var goAway: HTTP2GoAway? { session.streams.goAway }

  /// True once the peer's SETTINGS came: the other side does speak HTTP/2.
  package var receivedSettings: Bool { session.streams.receivedSettings }

  /// Number of streams without an end.
  package var openStreams: Int { session.streams.open.count }

  /// Opens a stream. `head` starts with the pseudo-headers; `body` must not change until the stream ended.
  /// Throws ``HTTP2Error/goingAway`` when the connection takes no new streams.
  package func request(_ head: HTTP2Fields, body: HTTP2Body?) throws(HTTP2Error) -> HTTP2Exchange {
    try session.request(head, body)
  }

  /// Resets a stream; it ends when the frame has been given out.
  package func reset(_ exchange: HTTP2Exchange, code: UInt32) throws(HTTP2Error) {
    try session.reset(exchange.streamID, code: code)
  }

  /// Streams that ended since the last call, in the order of their ends.
  package func takeFinished() -> [HTTP2Exchange] {
    defer { session.streams.ready.removeAll() }
    return session.streams.ready
  }

  /// Says GOAWAY; the session is finished once that went out.
  package func terminate() throws(HTTP2Error) { try session.terminate(code: HTTP2ErrorCode.noError) }

  /// Ends all open streams as ``HTTP2End/connectionLost``.
  package func connectionLost() { session.streams.endAll(.connectionLost) }
}
