// Reading of what receivers send back: partial successes, waits that they ask for, messages of errors.

import Base
import Protobuf

/// Readers of the protobuf messages in an answer. What cannot be read says nothing.
enum ExportReply {
  /// Longest text of a receiver that is kept.
  private static let textBytesMax = 512

  /// google.rpc.Status.message, as bodies of OTLP/HTTP errors carry it; empty when there is none.
  static func statusMessage(_ status: UnsafeRawBufferPointer) -> String {
    var message = ""
    forEachField(status) { field in
      if field.number == 2, let text = field.bytes {
        message = text.slice(0..<min(text.count, textBytesMax)).text
      }
    }
    return message
  }

  /// `ExportTraceServiceResponse.partial_success`. Receivers send the field also when nothing was rejected,
  /// so only its content counts. A reply that cannot be read says nothing: the status was OK.
  static func partialSuccess(_ reply: UnsafeRawBufferPointer) -> (rejected: Int, message: String) {
    var rejected = 0
    var message = ""
    forEachField(reply) { field in
      guard field.number == 1, let partial = field.bytes else { return }
      forEachField(partial) { field in
        if field.number == 1, let count = field.varint {
          rejected = Int(clamping: Int64(bitPattern: count))
        }
        if field.number == 2, let text = field.bytes {
          message = text.slice(0..<min(text.count, textBytesMax)).text
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
