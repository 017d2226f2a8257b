// The server side of unary calls: reads a whole request, writes the answer. For the trace store's and the
// bench's receivers, and tests.

import Base
package import HTTP

/// A unary call as a server sees it. The message is valid while the call lives.
package struct GRPCServerCall {
  package let exchange: HTTP2Exchange
  /// What a compressed message expands to, or why there is nothing; nil when it came as it is.
  private let expanded: Result<FrozenBytes, GRPCFault>?

  /// Wraps a complete request; a message compressed with gzip is expanded, up to ``GRPCFrame/messageBytesMax``.
  package init(_ exchange: HTTP2Exchange) {
    self.exchange = exchange
    guard case .compressed(let range) = GRPCFrame.read(exchange.body.readable) else {
      expanded = nil
      return
    }
    expanded = GRPCServerCall.expand(
      exchange.body.readable.slice(range), encoding: exchange.head.first("grpc-encoding"))
  }

  private static func expand(
    _ bytes: UnsafeRawBufferPointer, encoding: UnsafeRawBufferPointer?
  ) -> Result<FrozenBytes, GRPCFault> {
    guard let encoding, encoding.equals("gzip") else {
      return .failure(GRPCFault(.unimplemented, "no compression but gzip is taken"))
    }
    var out = ByteBuffer()
    do throws(GzipError) {
      let inflater = try GzipInflater(outputBytesMax: GRPCFrame.messageBytesMax)
      try inflater.receive(bytes, into: &out)
      try inflater.finish()
      return .success(FrozenBytes(out))
    } catch {
      return switch error {
      case .tooLarge: .failure(tooLarge)
      case .library, .malformed, .truncated:
        .failure(GRPCFault(.internalError, "the message cannot be decompressed"))
      }
    }
  }

  private static let tooLarge = GRPCFault(.resourceExhausted, "the message is over 4 MiB")

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
    // The bytes stay where they are while this call holds them.
    case .compressed: expanded?.map { $0.withUnsafeBytes { $0 } } ?? .failure(GRPCServerCall.tooLarge)
    case .malformed: .failure(GRPCFault(.internalError, "the request is no single message"))
    case .tooLarge: .failure(GRPCServerCall.tooLarge)
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
    // An encoding that is not taken is answered with those that are ("Compression" of the gRPC specification).
    if case .unimplemented = status.code {
      head.append("grpc-accept-encoding", "identity,gzip" as StaticString)
    }
    head.append("grpc-status", String(status.code.rawValue))
    if !status.message.isEmpty { head.append("grpc-message", PercentEncoding.encode(status.message)) }
    if !details.isEmpty { head.append("grpc-status-details-bin", Base64.encode(details, isPadded: false)) }
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
