// How a worker's requests went: counted by the loops at their ends, read by the control thread.

internal import Synchronization

/// One worker's counts, which outlive its snapshots. A good request costs one atomic addition.
package final class WorkerTally: Sendable {
  private let goodCount = Atomic<Int>(0)
  private let faultCount = Atomic<Int>(0)
  private let faultsInARow = Atomic<Int>(0)
  /// Faults in a row at which somebody is to be told; 0 for never.
  private let rowMax: Int

  package init(rowMax: Int = 0) { self.rowMax = rowMax }

  /// A request was answered as it should be.
  package func succeeded() {
    goodCount.add(1, ordering: .relaxed)
    // Read first: a store each time would take the line from the other loops.
    if faultsInARow.load(ordering: .relaxed) != 0 { faultsInARow.store(0, ordering: .relaxed) }
  }

  /// A request failed by the worker's fault. True when the worker directory should hear of it: once for each ``rowMax``
  /// in a row, so that a storm of failures does not flood it.
  package func failed() -> Bool {
    faultCount.add(1, ordering: .relaxed)
    let row = faultsInARow.add(1, ordering: .relaxed).newValue
    return rowMax > 0 && row % rowMax == 0
  }

  /// Requests that went well and that failed, since the worker is known; never falling.
  var counts: OutlierCounts {
    OutlierCounts(
      good: goodCount.load(ordering: .relaxed), faults: faultCount.load(ordering: .relaxed))
  }

  /// Faults since the last good request.
  var row: Int { faultsInARow.load(ordering: .relaxed) }

  /// What was before tells nothing of what comes.
  func forgetRow() { faultsInARow.store(0, ordering: .relaxed) }
}

/// Requests of a worker by how they went.
struct OutlierCounts: Sendable, Equatable {
  var good = 0
  var faults = 0
}
