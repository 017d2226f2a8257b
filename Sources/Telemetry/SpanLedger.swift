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
  /// The oldest of the spool, which had no room for more.
  case spoolFull
  /// Its file in the spool was damaged.
  case spoolDamaged

  /// True for what happens only where there is a spool.
  package var concernsSpool: Bool { self == .spoolFull || self == .spoolDamaged }

  /// The value of the `reason` label.
  package var label: String {
    switch self {
    case .queueFull: "queue_full"
    case .tooLarge: "too_large"
    case .rejected: "rejected"
    case .deadline: "deadline"
    case .shutdown: "shutdown"
    case .spoolFull: "spool_full"
    case .spoolDamaged: "spool_damaged"
    }
  }
}

/// Counts spans across threads. When nothing is queued or in flight, `made + recovered == sent + dropped + spooled`;
/// without a spool that is `made == sent + dropped`.
package final class SpanLedger: Sendable {
  private let madeCount = Atomic<Int>(0)
  private let sentCount = Atomic<Int>(0)
  private let queueFullCount = Atomic<Int>(0)
  private let tooLargeCount = Atomic<Int>(0)
  private let rejectedCount = Atomic<Int>(0)
  private let deadlineCount = Atomic<Int>(0)
  private let shutdownCount = Atomic<Int>(0)
  private let spoolFullCount = Atomic<Int>(0)
  private let spoolDamagedCount = Atomic<Int>(0)
  private let recoveredCount = Atomic<Int>(0)
  private let spooledCount = Atomic<Int>(0)

  package init() {}

  /// Spans that were finished and handed on for export.
  package var made: Int { madeCount.load(ordering: .relaxed) }

  /// Spans that a receiver took.
  package var sent: Int { sentCount.load(ordering: .relaxed) }

  /// Spans lost for all reasons.
  package var dropped: Int { SpanDropReason.allCases.reduce(0) { $0 + dropped($1) } }

  /// Spans that an earlier process had left in the spool.
  package var recovered: Int { recoveredCount.load(ordering: .relaxed) }

  /// Spans that lie in the spool now.
  package var spooled: Int { spooledCount.load(ordering: .relaxed) }

  /// Spans that are on their way: collected, queued, or in flight.
  package var pending: Int { made + recovered - sent - dropped - spooled }

  /// Spans lost for one reason.
  package func dropped(_ reason: SpanDropReason) -> Int {
    switch reason {
    case .queueFull: queueFullCount.load(ordering: .relaxed)
    case .tooLarge: tooLargeCount.load(ordering: .relaxed)
    case .rejected: rejectedCount.load(ordering: .relaxed)
    case .deadline: deadlineCount.load(ordering: .relaxed)
    case .shutdown: shutdownCount.load(ordering: .relaxed)
    case .spoolFull: spoolFullCount.load(ordering: .relaxed)
    case .spoolDamaged: spoolDamagedCount.load(ordering: .relaxed)
    }
  }

  /// Counts `count` finished spans.
  package func recordMade(_ count: Int) { madeCount.wrappingAdd(count, ordering: .relaxed) }

  /// Counts `count` delivered spans.
  package func recordSent(_ count: Int) { sentCount.wrappingAdd(count, ordering: .relaxed) }

  /// Counts `count` spans that an earlier process left in the spool, which holds them still.
  package func recordRecovered(_ count: Int) {
    recoveredCount.wrappingAdd(count, ordering: .relaxed)
    spooledCount.wrappingAdd(count, ordering: .relaxed)
  }

  /// Counts `count` spans that went into the spool.
  package func recordSpooled(_ count: Int) { spooledCount.wrappingAdd(count, ordering: .relaxed) }

  /// Counts `count` spans that left the spool; where they went is counted apart.
  package func recordUnspooled(_ count: Int) { spooledCount.wrappingSubtract(count, ordering: .relaxed) }

  /// Counts `count` lost spans.
  package func recordDropped(_ count: Int, _ reason: SpanDropReason) {
    switch reason {
    case .queueFull: queueFullCount.wrappingAdd(count, ordering: .relaxed)
    case .tooLarge: tooLargeCount.wrappingAdd(count, ordering: .relaxed)
    case .rejected: rejectedCount.wrappingAdd(count, ordering: .relaxed)
    case .deadline: deadlineCount.wrappingAdd(count, ordering: .relaxed)
    case .shutdown: shutdownCount.wrappingAdd(count, ordering: .relaxed)
    case .spoolFull: spoolFullCount.wrappingAdd(count, ordering: .relaxed)
    case .spoolDamaged: spoolDamagedCount.wrappingAdd(count, ordering: .relaxed)
    }
  }
}
