// gRPC status codes, and how HTTP and HTTP/2 failures become them.

import HTTP

/// The canonical status codes of gRPC.
package enum GRPCCode: Int, Sendable, CaseIterable {
  case ok = 0
  case cancelled = 1
  case unknown = 2
  case invalidArgument = 3
  case deadlineExceeded = 4
  case notFound = 5
  case alreadyExists = 6
  case permissionDenied = 7
  case resourceExhausted = 8
  case failedPrecondition = 9
  case aborted = 10
  case outOfRange = 11
  case unimplemented = 12
  case internalError = 13
  case unavailable = 14
  case dataLoss = 15
  case unauthenticated = 16

  /// The name as the gRPC specification spells it.
  package var name: StaticString {
    switch self {
    case .ok: "OK"
    case .cancelled: "CANCELLED"
    case .unknown: "UNKNOWN"
    case .invalidArgument: "INVALID_ARGUMENT"
    case .deadlineExceeded: "DEADLINE_EXCEEDED"
    case .notFound: "NOT_FOUND"
    case .alreadyExists: "ALREADY_EXISTS"
    case .permissionDenied: "PERMISSION_DENIED"
    case .resourceExhausted: "RESOURCE_EXHAUSTED"
    case .failedPrecondition: "FAILED_PRECONDITION"
    case .aborted: "ABORTED"
    case .outOfRange: "OUT_OF_RANGE"
    case .unimplemented: "UNIMPLEMENTED"
    case .internalError: "INTERNAL"
    case .unavailable: "UNAVAILABLE"
    case .dataLoss: "DATA_LOSS"
    case .unauthenticated: "UNAUTHENTICATED"
    }
  }

  /// The code for an HTTP answer that carries no `grpc-status` (gRPC's HTTP to gRPC status mapping).
  package init(httpStatus: Int) {
    self =
      switch httpStatus {
      case 400: .internalError
      case 401: .unauthenticated
      case 403: .permissionDenied
      case 404: .unimplemented
      case 429, 502, 503, 504: .unavailable
      default: .unknown
      }
  }

  /// The code for a stream that was reset before a status came (gRPC over HTTP/2, "Errors").
  package init(resetCode: UInt32) {
    self =
      switch resetCode {
      case HTTP2ErrorCode.refusedStream: .unavailable
      case HTTP2ErrorCode.cancel: .cancelled
      case HTTP2ErrorCode.enhanceYourCalm: .resourceExhausted
      case HTTP2ErrorCode.inadequateSecurity: .permissionDenied
      case HTTP2ErrorCode.streamClosed, HTTP2ErrorCode.http11Required: .unknown
      default: .internalError
      }
  }
}

/// A status with its message, as it came in trailers or as it was derived.
package struct GRPCStatus: Sendable, Equatable {
  package let code: GRPCCode
  /// Decoded text, at most 1,024 characters; empty when there was none.
  package let message: String

  package init(_ code: GRPCCode, _ message: String = "") {
    self.code = code
    self.message = message
  }
}

extension GRPCStatus: CustomStringConvertible {
  package var description: String { message.isEmpty ? "\(code.name)" : "\(code.name): \(message)" }
}
