// The client side of a unary call: the request's head, and the judgement of the answer.

package import Base
package import HTTP

/// One method of one service as a client calls it: everything of the request's head but the deadline.
package struct GRPCMethod: Sendable {
  /// `http` or `https`.
  package var scheme: String
  /// Host and port as in the endpoint.
  package var authority: String
  /// `/package.Service/Method`.
  package var path: String
  package var userAgent: String
  /// Lower-case names and values that ``isValidMetadata(name:value:)`` allows.
  package var metadata: [(name: String, value: String)]

  package init(
    scheme: String = "http", authority: String, path: String, userAgent: String,
    metadata: [(name: String, value: String)] = []
  ) {
    self.scheme = scheme
    self.authority = authority
    self.path = path
    self.userAgent = userAgent
    self.metadata = metadata
  }

  /// The head of a call that may take `timeout` nanoseconds; nil sends no deadline.
  ///
  /// - Parameter encoding: how the message is compressed; nil when it is not.
  package func head(timeout: Nanoseconds?, encoding: StaticString? = nil) -> HTTP2Fields {
    let head = HTTP2Fields()
    head.append(":method", "POST" as StaticString)
    head.append(":scheme", scheme)
    head.append(":authority", authority)
    head.append(":path", path)
    head.append("te", "trailers" as StaticString)
    head.append("content-type", "application/grpc" as StaticString)
    head.append("user-agent", userAgent)
    if let timeout { head.append("grpc-timeout", Self.timeoutText(timeout)) }
    if let encoding { head.append("grpc-encoding", encoding) }
    for (name, value) in metadata { head.append(name, value) }
    return head
  }

  /// `grpc-timeout`: at most eight digits and a unit, in the finest unit that fits, never rounded up.
  package static func timeoutText(_ timeout: Nanoseconds) -> String {
    let units: [(divisor: Nanoseconds, unit: String)] = [
      (1, "n"), (1_000, "u"), (millisecond, "m"), (second, "S"), (60 * second, "M"),
    ]
    for (divisor, unit) in units where timeout / divisor < 100_000_000 {
      return "\(timeout / divisor)\(unit)"
    }
    return "\(min(timeout / (3_600 * second), 99_999_999))H"
  }

  /// True when `name` and `value` can be sent as ASCII metadata: the name in lower case, of the characters
  /// that gRPC allows and not one of its own or of HTTP's; the value printable ASCII.
  package static func isValidMetadata(name: String, value: String) -> Bool {
    guard !name.isEmpty, !name.hasPrefix("grpc-"), !name.hasSuffix("-bin") else { return false }
    let reserved = [
      "te", "content-type", "user-agent", "host", "connection", "transfer-encoding", "content-length",
    ]
    guard !reserved.contains(name) else { return false }
    let nameIsValid = name.utf8.allSatisfy { byte in
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
        UInt8(ascii: "_"), UInt8(ascii: "-"), UInt8(ascii: "."):
        true
      default: false
      }
    }
    return nameIsValid && value.utf8.allSatisfy { (0x20...0x7e).contains($0) }
      && !value.hasPrefix(" ") && !value.hasSuffix(" ")
  }
}

/// What a unary call came to.
package struct GRPCAnswer: Sendable, Equatable {
  package let status: GRPCStatus
  /// The reply's message; empty unless the status is OK.
  package let message: [UInt8]
  /// `grpc-status-details-bin`, decoded: a google.rpc.Status.
  package let details: [UInt8]
  /// True when the server sent the status itself; false when it was derived from HTTP, a reset or a lost
  /// connection.
  package let isFromServer: Bool

  private init(_ status: GRPCStatus, message: [UInt8], details: [UInt8], isFromServer: Bool) {
    self.status = status
    self.message = message
    self.details = details
    self.isFromServer = isFromServer
  }

  /// A derived answer without a message.
  package init(_ status: GRPCStatus) {
    self.init(status, message: [], details: [], isFromServer: false)
  }

  /// Judges a stream that ended. A status that was received counts whatever ended the stream.
  package init(_ exchange: HTTP2Exchange) {
    // A trailers-only answer has its status in the head.
    if let fields = GRPCAnswer.statusFields(exchange), let text = fields.first("grpc-status") {
      let received = GRPCAnswer.status(text, fields.first("grpc-message"))
      let (status, message) = GRPCAnswer.read(exchange, received)
      let details = fields.first("grpc-status-details-bin").flatMap { Base64.decode($0) } ?? []
      self.init(status, message: message, details: details, isFromServer: true)
    } else {
      self.init(GRPCAnswer.derived(exchange))
    }
  }

  private static func statusFields(_ exchange: HTTP2Exchange) -> HTTP2Fields? {
    if let trailers = exchange.trailers, trailers.first("grpc-status") != nil { return trailers }
    return exchange.head.first("grpc-status") == nil ? nil : exchange.head
  }

  private static func status(
    _ text: UnsafeRawBufferPointer, _ message: UnsafeRawBufferPointer?
  ) -> GRPCStatus {
    let message = message.map { $0.slice(0..<min($0.count, 3_072)).percentDecoded } ?? ""
    let code = text.decimal.flatMap { GRPCCode(rawValue: $0) } ?? .unknown
    return GRPCStatus(code, String(message.prefix(1_024)))
  }

  /// Takes the message of an OK answer out of the body; one that cannot be taken turns the status.
  private static func read(
    _ exchange: HTTP2Exchange, _ status: GRPCStatus
  ) -> (status: GRPCStatus, message: [UInt8]) {
    guard case .ok = status.code else { return (status, []) }
    // The rest of a body over the limit was dropped; the status may have come right behind it.
    if case .bodyTooLarge = exchange.end { return (derived(exchange), []) }
    switch GRPCFrame.read(exchange.body.readable) {
    case .message(let range): return (status, Array(exchange.body.readable.slice(range)))
    case .none: return (GRPCStatus(.internalError, "OK without a message"), [])
    case .compressed: return (GRPCStatus(.internalError, "the reply is compressed"), [])
    case .malformed: return (GRPCStatus(.internalError, "the reply is no single message"), [])
    case .tooLarge: return (GRPCStatus(.resourceExhausted, "the reply is over 4 MiB"), [])
    }
  }

  private static func derived(_ exchange: HTTP2Exchange) -> GRPCStatus {
    switch exchange.end {
    case .refused: return GRPCStatus(.unavailable, "the stream was refused")
    case .connectionLost: return GRPCStatus(.unavailable, "the connection was lost")
    case .bodyTooLarge: return GRPCStatus(.resourceExhausted, "the reply is too large")
    case .headersTooLarge: return GRPCStatus(.resourceExhausted, "the reply's headers are too large")
    case .reset(let code):
      return GRPCStatus(GRPCCode(resetCode: code), "the stream was reset with code \(code)")
    case .complete, nil: break
    }
    guard let status = exchange.head.status else { return GRPCStatus(.unknown, "no answer") }
    if status == 200 { return GRPCStatus(.unknown, "no grpc-status in the answer") }
    return GRPCStatus(GRPCCode(httpStatus: status), "HTTP status \(status)")
  }
}
