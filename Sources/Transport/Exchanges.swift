// The vocabulary of exchanges: what the application and a connection say to each other, whatever the HTTP version.

package import Base
package import EventLoop
package import HTTP

/// How long a response body is.
package enum ResponseBody {
  /// No body and no framing fields (204, 304, answers to HEAD keep theirs in the field block).
  case none
  /// Exactly this many bytes.
  case length(Int)
  /// Unknown until it ends.
  case stream
}

/// The application's handle on one request being answered. Loop-confined; unusable after its handler was told `ended`.
package protocol ServerExchange: AnyObject {
  var loop: EventLoop { get }
  /// Sends the response head. `fields` are `name: value CRLF` lines without framing, date or connection fields.
  func respond(status: Int, fields: UnsafeRawBufferPointer, body: ResponseBody)
  /// Sends body bytes, copied; they leave at the end of this wake-up.
  func send(_ bytes: UnsafeRawBufferPointer)
  /// Ends the response; `trailers` are `name: value CRLF` lines.
  func finish(trailers: UnsafeRawBufferPointer)
  /// Cuts the exchange: what was not sent is lost and the caller sees a broken response.
  func abort(_ end: EndOfStream)
  /// True while the caller reads too slowly: stop producing until `drained`.
  var outputIsFull: Bool { get }
  /// Stops and resumes delivering the request body.
  func pauseBody()
  func resumeBody()
  /// Asks for no further request on this connection after this response.
  func closeAfterResponse()
  /// The caller's address, by a system call; nil when it is gone already.
  var peerAddress: SocketAddress? { get }
}

extension ServerExchange {
  /// The caller's address as text; for cold paths.
  package var peerDescription: String { peerAddress?.description ?? "unknown" }
}

/// The application's side of one request. Calls come on the loop's thread.
package protocol ServerExchangeHandler: AnyObject {
  /// Body bytes, valid during the call.
  func received(body: UnsafeRawBufferPointer)
  /// The request is complete.
  func receivedEnd()
  /// Output fell below the low watermark.
  func drained()
  /// The server's drain is over its deadline: last words may be sent now, then the exchange is cut.
  func stopping()
  /// The exchange is over, exactly once: `complete` when the kernel took the last byte.
  func ended(_ end: EndOfStream)
}

/// Why a connection answers by itself, and closes.
package struct Refusal: Sendable {
  package let status: Int
  /// Constant, fit for the answer's body.
  package let message: StaticString

  init(_ error: HTTP1ParseError) {
    status = error.status
    message = error.message
  }

  private init(status: Int, message: StaticString) {
    self.status = status
    self.message = message
  }

  static let malformedHead = Refusal(status: 400, message: "malformed request head")
  static let headTimeout = Refusal(status: 408, message: "request head took too long")
  static let bodyTimeout = Refusal(status: 408, message: "request body took too long")
  static let bodyTooSlow = Refusal(status: 408, message: "request body came too slowly")
}

extension ServerExchangeHandler {
  package func stopping() {}
}

/// Takes requests from connections.
package protocol ServerApplication: AnyObject {
  /// A request head arrived; `head` is valid during the call. `began` is when its first byte did.
  func exchangeBegan(
    _ exchange: any ServerExchange, _ head: RequestHead, began: Nanoseconds
  ) -> any ServerExchangeHandler
  /// Bytes that never became a request, or a body that broke, are refused: writes the answer's body and counts it.
  func refused(_ refusal: Refusal, body: inout ByteBuffer)
  /// Appends what such an answer says in its head beside its type and length.
  func appendFields(of refusal: Refusal, to fields: inout ByteBuffer)
  /// A request body came below the least pace; its exchange ends.
  func endedSlowBody()
  /// A connection that should begin with a PROXY header did not, and is closed.
  func refusedConnection(_ fault: ProxyHeaderFault)
}

extension ServerApplication {
  package func endedSlowBody() {}
  package func refusedConnection(_ fault: ProxyHeaderFault) {}
  package func appendFields(of refusal: Refusal, to fields: inout ByteBuffer) {}
}

/// Why a request to a worker did not end well.
package enum UpstreamFailure: Error, Sendable {
  /// No connection came about.
  case connect(SocketFailure)
  case connectTimeout
  /// A kept-alive connection died before any response byte: another one may be tried.
  case stale
  /// The connection broke before the head or in mid-body.
  case broken
  /// The peer spoke something else than HTTP/1.1.
  case malformed(HTTP1ParseError)
  /// The peer broke the rules of HTTP/2, or does not speak it.
  case protocolError
  /// Every connection to it carries all the streams it may, and none became free in time.
  case busy
  /// Nothing came for longer than the deadline.
  case silent
}

/// The requester's side of one request to a worker. Exactly one of `receivedEnd` and `failed` ends it.
package protocol ClientExchangeHandler: AnyObject {
  /// The final response head, valid during the call.
  func responded(_ head: ResponseHead)
  /// Body bytes, valid during the call.
  func received(body: UnsafeRawBufferPointer)
  /// The response is complete; `trailers` are validated lines.
  func receivedEnd(trailers: UnsafeRawBufferPointer)
  /// The response will not complete.
  func failed(_ failure: UpstreamFailure)
}
