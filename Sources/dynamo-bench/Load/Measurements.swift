// What a phase of load saw: latencies, counts, failures by kind with examples.

import Base

/// Why an answer does not count.
enum FailureKind: String, CaseIterable {
  case connect
  case closed
  case timeout
  case framing
  case status
  case contentType = "content_type"
  case event
  case order
  case count
  case done
  case usage
  case shape
  case streamError = "stream_error"
}

/// A failed answer.
struct Failure {
  var kind: FailureKind
  var detail: String
}

/// Collects one phase; confined to the load generator's loop.
final class Measurements {
  private static let examplesMax = 5

  var firstToken = LatencyHistogram()
  var tokenGap = LatencyHistogram()
  var endToEnd = LatencyHistogram()
  private(set) var completed = 0
  private(set) var failed = 0
  var tokens = 0
  var bytesReceived = 0
  /// Open loop: requests that had to wait for a free connection.
  var waited = 0
  private(set) var failures: [FailureKind: Int] = [:]
  private(set) var examples: [String] = []

  /// Notes a good answer that took `duration`.
  func succeed(after duration: Nanoseconds) {
    completed += 1
    endToEnd.record(duration)
  }

  func fail(_ failure: Failure) {
    failed += 1
    failures[failure.kind, default: 0] += 1
    if examples.count < Self.examplesMax { examples.append("\(failure.kind.rawValue): \(failure.detail)") }
  }
}
