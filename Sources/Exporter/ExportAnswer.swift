// What an answer to an export means for its spans: OTLP's tables of gRPC and HTTP statuses.

package import Base
package import GRPC

/// What becomes of the spans of a message.
package enum ExportVerdict: Equatable, Sendable {
  /// Taken, but for `rejected` spans. `message` is the receiver's remark or empty.
  case accepted(rejected: Int, message: String)
  /// To be sent again, not before `after` when the receiver named a time.
  case retry(after: Nanoseconds?)
  /// Never to be sent again.
  case refused
}

/// The end of one call, whatever protocol it went over.
package struct ExportAnswer: Sendable {
  package let verdict: ExportVerdict
  /// The status as the metrics name it: gRPC's name, or the number of an HTTP status.
  package let status: String
  /// Status and message for a person.
  package let description: String
  /// True when the receiver did not begin with the call: it may be repeated at once on another connection.
  package let wasNotBegun: Bool
  /// True when the receiver said so itself; false when it was concluded from a silence or a lost connection.
  package let isFromReceiver: Bool

  /// Judges `answer` by the table of the OTLP specification ("OTLP/gRPC Response", "Failures").
  package init(_ answer: GRPCAnswer, wasNotBegun: Bool = false) {
    switch answer.status.code {
    case .ok:
      let partial = answer.message.withUnsafeBytes { ExportReply.partialSuccess($0) }
      verdict = .accepted(rejected: partial.rejected, message: partial.message)
    case .cancelled, .deadlineExceeded, .aborted, .outOfRange, .unavailable, .dataLoss:
      verdict = .retry(after: ExportReply.retryDelay(answer.details))
    case .resourceExhausted:
      // Without RetryInfo the receiver does not expect to recover, as for a message over its size limit.
      if let delay = ExportReply.retryDelay(answer.details) {
        verdict = .retry(after: delay)
      } else {
        verdict = .refused
      }
    case .unknown, .invalidArgument, .notFound, .alreadyExists, .permissionDenied, .failedPrecondition,
      .unimplemented, .internalError, .unauthenticated:
      verdict = .refused
    }
    status = "\(answer.status.code.name)"
    description = "\(answer.status)"
    self.wasNotBegun = wasNotBegun
    isFromReceiver = answer.isFromServer
  }

  /// A call that came to nothing on our side of the network.
  package init(_ code: GRPCCode, _ cause: String) { self.init(GRPCAnswer(GRPCStatus(code, cause))) }

  /// Judges an HTTP answer by the table of the OTLP specification ("OTLP/HTTP Response").
  ///
  /// - Parameter retryAfter: how long the receiver asks to wait.
  /// - Parameter body: a protobuf message, decoded; nil when it is none or over its bound.
  package init(httpStatus: Int, retryAfter: Nanoseconds?, body: UnsafeRawBufferPointer?) {
    status = String(httpStatus)
    wasNotBegun = false
    isFromReceiver = true
    switch httpStatus {
    case 200..<300:
      let partial = body.map { ExportReply.partialSuccess($0) } ?? (rejected: 0, message: "")
      verdict = .accepted(rejected: partial.rejected, message: partial.message)
      description = "HTTP \(httpStatus)"
      return
    case 429, 502, 503, 504: verdict = .retry(after: retryAfter)
    default: verdict = .refused
    }
    let message = body.map { ExportReply.statusMessage($0) } ?? ""
    description = message.isEmpty ? "HTTP \(httpStatus)" : "HTTP \(httpStatus): \(message)"
  }

  /// An HTTP answer that cannot be taken and that a second try would not mend.
  package init(httpStatus: Int, unusable cause: String) {
    status = String(httpStatus)
    verdict = .refused
    description = "HTTP \(httpStatus): \(cause)"
    wasNotBegun = false
    isFromReceiver = true
  }
}
