// How discovery goes, for scrapes on other threads.

internal import Synchronization
internal import Telemetry

/// Counts what the directory's source does.
final class DiscoveryBoard: Sendable {
  private let failing = Atomic(false)
  private let failures = Atomic(0)

  func failed() {
    failing.store(true, ordering: .relaxed)
    failures.add(1, ordering: .relaxed)
  }

  func recovered() { failing.store(false, ordering: .relaxed) }

  /// Shows what there is of a source; `board` has the records that are not used.
  func register(on registry: MetricRegistry, source: WorkerSource, _ board: SnapshotBoard) {
    let label = [("source", source.label)]
    registry.collect(.discoveryUp, .gauge) { samples in
      samples.add(self.failing.load(ordering: .relaxed) ? 0 : 1, labels: label)
    }
    registry.collect(.discoveryFailures, .counter) { samples in
      samples.add(Double(self.failures.load(ordering: .relaxed)), labels: label)
    }
    registry.collect(.discoveryUnusedRecords, .gauge) { samples in
      samples.add(Double(board.current.unused.count), labels: label)
    }
  }
}
