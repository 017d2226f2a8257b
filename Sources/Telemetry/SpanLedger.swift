// The books of a process's spans: each one that was made is sent or dropped, with the reason.

internal import Synchronization

/// Why a span was not delivered. The text is the metric's label.
package enum SpanDropReason: Int, CaseIterable, Sendable {
  /// The exporter's queue was full of spans or bytes.
  case queueFull
  /// One message over the receiver's size limit, which no retry can mend.
  case tooLarge
  /// The receiver refused it for good, or in part.
  case rejected
  /// Retries used up the batch's time.
  case deadline
  /// The process ended before it could be sent.
  case shutdown

  /// The value of the `reason` label.
  package var label: String {
    switch self {
    case .queueFull: "queue_full"
    case .tooLarge: "too_large"
    case .rejected: "rejected"
    case .deadline: "deadline"
    case .shutdown: "shutdown"
    }
  }
}

/// Counts spans across threads. When nothing is queued or in flight, `made == sent + dropped`.
package final class SpanLedger: Sendable {
  private let madeCount = Atomic<Int>(0)
  private let sentCount = Atomic<Int>(0)
  private let queueFullCount = Atomic<Int>(0)
  private let tooLargeCount = Atomic<Int>(0)
  private let rejectedCount = Atomic<Int>(0)
  private let deadlineCount = Atomic<Int>(0)
  private let shutdownCount = Atomic<Int>(0)

  package init() {}

  /// Spans that were finished and handed on for export.
  package var made: Int { madeCount.load(ordering: .relaxed) }

  /// Spans that a receiver took.
  package var sent: Int { sentCount.load(ordering: .relaxed) }

  /// Spans lost for all reasons.
  package var dropped: Int { SpanDropReason.allCases.reduce(0) { $0 + dropped($1) } }

  /// Spans that are on their way: collected, queued, or in flight.
  package var pending: Int { made - sent - dropped }

  /// Spans lost for one reason.
  package func dropped(_ reason: SpanDropReason) -> Int {
    switch reason {
    case .queueFull: queueFullCount.load(ordering: .relaxed)
    case .tooLarge: tooLargeCount.load(ordering: .relaxed)
    case .rejected: rejectedCount.load(ordering: .relaxed)
    case .deadline: deadlineCount.load(ordering: .relaxed)
    case .shutdown: shutdownCount.load(ordering: .relaxed)
    }
  }

  /// Counts `count` finished spans.
  package func recordMade(_ count: Int) { madeCount.wrappingAdd(count, ordering: .relaxed) }

  /// Counts `count` delivered spans.
  package func recordSent(_ count: Int) { sentCount.wrappingAdd(count, ordering: .relaxed) }

  /// Counts `count` lost spans.
  package func recordDropped(_ count: Int, _ reason: SpanDropReason) {
    switch reason {
    case .queueFull: queueFullCount.wrappingAdd(count, ordering: .relaxed)
    case .tooLarge: tooLargeCount.wrappingAdd(count, ordering: .relaxed)
    case .rejected: rejectedCount.wrappingAdd(count, ordering: .relaxed)
    case .deadline: deadlineCount.wrappingAdd(count, ordering: .relaxed)
    case .shutdown: shutdownCount.wrappingAdd(count, ordering: .relaxed)
    }
  }
}
