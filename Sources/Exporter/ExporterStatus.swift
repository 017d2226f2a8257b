// What the exporter shows of itself: for /metrics, /health and doctor, readable from any thread.

import Synchronization

/// A snapshot of the exporter's condition.
package struct ExporterState: Sendable {
  /// Connections to the receiver that are open.
  package var connections = 0
  /// True from the first failure until a call gets through.
  package var isInOutage = false
  /// The last failure or refusal; empty when there was none.
  package var lastError = ""
  /// Calls that came to an end, by their status: gRPC's names, and the numbers of HTTP statuses.
  package var callsByStatus: [String: Int] = [:]
  /// Spans that were sent again.
  package var spansResent = 0
  /// Bytes of files in the spool.
  package var spoolBytes = 0
  /// Files of the spool that were torn, damaged or none of ours.
  package var spoolFilesSkipped = 0
  /// Messages that could not be written to the spool, or read from it.
  package var spoolErrors = 0

  /// True while a connection to the receiver is open.
  package var isConnected: Bool { connections > 0 }
}

/// The state behind a lock; written by the exporter thread only.
final class ExporterStatus: Sendable {
  private let state = Mutex(ExporterState())

  var snapshot: ExporterState { state.withLock { $0 } }

  func update(_ change: (inout ExporterState) -> Void) { state.withLock { change(&$0) } }
}

/// Lets one log line of a kind through each interval and counts the rest.
struct LineLimiter {
  private let interval: UInt64
  private var nextAllowed: UInt64 = 0
  private var suppressed = 0

  init(interval: UInt64) { self.interval = interval }

  /// The number of lines left out since the last one when a line may be written now; nil when not.
  mutating func allow(at now: UInt64) -> Int? {
    guard now >= nextAllowed else {
      suppressed += 1
      return nil
    }
    nextAllowed = now + interval
    defer { suppressed = 0 }
    return suppressed
  }
}
