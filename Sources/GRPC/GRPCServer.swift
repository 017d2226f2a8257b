// The server side of unary calls: reads a whole request, writes the answer. For the trace store's and the
// bench's receivers, and tests.

import Base
package import HTTP

/// A unary call as a server sees it. The message is valid while the exchange lives.
package struct GRPCServerCall {
  package let exchange: HTTP2Exchange

  /// Wraps a complete request.
  package init(_ exchange: HTTP2Exchange) { self.exchange = exchange }

  /// `/package.Service/Method`.
  package var path: UnsafeRawBufferPointer {
    exchange.head.first(":path") ?? UnsafeRawBufferPointer(start: nil, count: 0)
  }

  /// The request's message, or the status that says why there is none.
  package var message: Result<UnsafeRawBufferPointer, GRPCFault> {
    guard let type = exchange.head.first("content-type"), type.count >= 16,
      type.slice(0..<16).equalsIgnoringCase("application/grpc")
    else { return .failure(GRPCFault(.unknown, "not application/grpc")) }
    let body = exchange.body.readable
    return switch GRPCFrame.read(body) {
    case .message(let range): .success(body.slice(range))
    case .none: .failure(GRPCFault(.invalidArgument, "no message"))
    case .compressed: .failure(GRPCFault(.unimplemented, "compressed messages are not taken"))
    case .malformed: .failure(GRPCFault(.internalError, "the request is no single message"))
    case .tooLarge: .failure(GRPCFault(.resourceExhausted, "the message is over 4 MiB"))
    }
  }

  /// Answers OK with a message, given without its prefix.
  package func succeed(
    on session: HTTP2ServerSession, message: UnsafeRawBufferPointer
  ) throws(HTTP2Error) {
    var body = ByteBuffer(capacity: message.count + GRPCFrame.prefixBytes)
    let mark = GRPCFrame.begin(in: &body)
    body.append(message)
    GRPCFrame.end(mark, in: &body)
    let trailers = HTTP2Fields()
    trailers.append("grpc-status", "0" as StaticString)
    try session.respond(to: exchange, head: head(), body: HTTP2Body(body), trailers: trailers)
  }

  /// Answers with a status and no message, in one header block ("trailers-only"). `details` is a
  /// google.rpc.Status, sent when not empty.
  package func fail(
    on session: HTTP2ServerSession, _ status: GRPCStatus, details: [UInt8] = []
  ) throws(HTTP2Error) {
    let head = head()
    head.append("grpc-status", String(status.code.rawValue))
    if !status.message.isEmpty { head.append("grpc-message", PercentEncoding.encode(status.message)) }
    if !details.isEmpty { head.append("grpc-status-details-bin", Base64.encode(details)) }
    try session.respond(to: exchange, head: head)
  }

  private func head() -> HTTP2Fields {
    let head = HTTP2Fields()
    head.append(":status", "200" as StaticString)
    head.append("content-type", "application/grpc" as StaticString)
    return head
  }
}

/// A status as an error.
package struct GRPCFault: Error, Equatable {
  package let status: GRPCStatus

  package init(_ code: GRPCCode, _ message: String) { status = GRPCStatus(code, message) }
}
