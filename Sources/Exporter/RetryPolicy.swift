// When a failed export is tried again: OTLP's table of statuses, backoff with jitter, and the total bound.

package import Base
package import GRPC
import Protobuf

/// How long to wait between tries and how long to go on. All times in nanoseconds.
package struct RetryPolicy: Sendable {
  /// Wait after the first failure.
  package var firstDelay: Nanoseconds = second
  /// Growth of the wait with each further failure.
  package var factor = 2.0
  /// Share by which a wait is drawn shorter or longer; OTLP makes jitter mandatory.
  package var jitter = 0.5
  /// Longest wait before jitter.
  package var delayMax: Nanoseconds = 10 * second
  /// How long one message is tried, from its first call on.
  package var total: Nanoseconds = 30 * second

  package init() {}

  /// The wait after `failures` failures in a row (1 or more). A `hint` of the receiver is a lower bound.
  package func delay(
    failures: Int, hint: Nanoseconds?, random: inout Xoshiro256
  ) -> Nanoseconds {
    var wait = Double(firstDelay)
    for _ in 1..<max(1, min(failures, 64)) where wait < Double(delayMax) { wait *= factor }
    wait = min(wait, Double(delayMax))
    // 53 random bits make a number in 0..<1.
    let unit = Double(random.next() >> 11) * 0x1p-53
    wait *= 1 - jitter + 2 * jitter * unit
    return max(Nanoseconds(wait), hint ?? 0)
  }
}

/// What an answer to an export means for its spans.
package enum ExportVerdict: Equatable {
  /// Taken, but for `rejected` spans. `message` is the receiver's remark or empty.
  case accepted(rejected: Int, message: String)
  /// To be sent again, not before `after` when the receiver named a time.
  case retry(after: Nanoseconds?)
  /// Never to be sent again.
  case refused

  /// Judges `answer` by the table of the OTLP specification ("OTLP/gRPC Response", "Failures").
  package init(_ answer: GRPCAnswer) {
    switch answer.status.code {
    case .ok:
      let partial = ExportVerdict.partialSuccess(answer.message)
      self = .accepted(rejected: partial.rejected, message: partial.message)
    case .cancelled, .deadlineExceeded, .aborted, .outOfRange, .unavailable, .dataLoss:
      self = .retry(after: ExportVerdict.retryDelay(answer.details))
    case .resourceExhausted:
      // Without RetryInfo the receiver does not expect to recover, as for a message over its size limit.
      if let delay = ExportVerdict.retryDelay(answer.details) {
        self = .retry(after: delay)
      } else {
        self = .refused
      }
    case .unknown, .invalidArgument, .notFound, .alreadyExists, .permissionDenied, .failedPrecondition,
      .unimplemented, .internalError, .unauthenticated:
      self = .refused
    }
  }

  /// `ExportTraceServiceResponse.partial_success`. Receivers send the field also when nothing was rejected,
  /// so only its content counts. A reply that cannot be read says nothing: the status was OK.
  static func partialSuccess(_ reply: [UInt8]) -> (rejected: Int, message: String) {
    var rejected = 0
    var message = ""
    reply.withUnsafeBytes { reply in
      forEachField(reply) { field in
        guard field.number == 1, let partial = field.bytes else { return }
        forEachField(partial) { field in
          if field.number == 1, let count = field.varint {
            rejected = Int(clamping: Int64(bitPattern: count))
          }
          if field.number == 2, let text = field.bytes {
            message = text.slice(0..<min(text.count, 512)).text
          }
        }
      }
    }
    return (max(0, rejected), message)
  }

  /// RetryInfo.retry_delay out of a google.rpc.Status; nil when there is none.
  static func retryDelay(_ status: [UInt8]) -> Nanoseconds? {
    var delay: Nanoseconds?
    status.withUnsafeBytes { status in
      forEachField(status) { field in
        guard field.number == 3, let detail = field.bytes else { return }
        var isRetryInfo = false
        var value: UnsafeRawBufferPointer?
        forEachField(detail) { field in
          if field.number == 1, let url = field.bytes {
            isRetryInfo = url.text.hasSuffix("google.rpc.RetryInfo")
          }
          if field.number == 2 { value = field.bytes }
        }
        guard isRetryInfo else { return }
        delay = value.map(duration) ?? 0
      }
    }
    return delay
  }

  /// RetryInfo{1: Duration{1 seconds, 2 nanos}}, at most a day.
  private static func duration(_ retryInfo: UnsafeRawBufferPointer) -> Nanoseconds {
    var seconds: UInt64 = 0
    var nanos: UInt64 = 0
    forEachField(retryInfo) { field in
      guard field.number == 1, let duration = field.bytes else { return }
      forEachField(duration) { field in
        if field.number == 1 { seconds = field.varint ?? 0 }
        if field.number == 2 { nanos = field.varint ?? 0 }
      }
    }
    // Negative numbers are huge as varints: no wait. More than a day is as good as for ever.
    if seconds > UInt64(Int64.max) { return 0 }
    return min(seconds, 86_400) * second + (nanos < second ? nanos : 0)
  }

  /// Calls `body` with each field up to the first that cannot be read.
  private static func forEachField(
    _ bytes: UnsafeRawBufferPointer, _ body: (ProtobufField) -> Void
  ) {
    var reader = ProtobufReader(bytes)
    while let field = try? reader.next() { body(field) }
  }
}
