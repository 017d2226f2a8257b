// What scrapes read of the exchange of load with other frontends.

internal import Routing
internal import Synchronization
internal import Telemetry

/// What the control thread last saw of the exchange, for other threads.
final class PeerBoard: Sendable {
  struct Status: Sendable {
    var isBound = false
    var presence: [(address: String, isHeard: Bool)] = []
    var counters = PeerCounters()
    var sent: UInt64 = 0
    /// Prompts and rows that found no room in what is told.
    var droppedPrompts = 0
    var omittedRows = 0
    /// Calls of sockets that failed; none is expected.
    var failedSends = 0
    var failedReceives = 0
  }

  private let state = Mutex(Status())

  var status: Status { state.withLock { $0 } }

  func set(_ status: Status) { state.withLock { $0 = status } }

  /// Gives the figures to `registry`; the load itself is read off `board`'s routers.
  func register(on registry: MetricRegistry, _ board: SnapshotBoard) {
    registry.collect(.peerUp, .gauge) { samples in
      for peer in self.status.presence {
        samples.add(peer.isHeard ? 1 : 0, labels: [("peer", peer.address)])
      }
    }
    registry.observe(.peerListening, .gauge) { self.status.isBound ? 1 : 0 }
    registry.observe(.peerMessagesSent, .counter) { Double(self.status.sent) }
    registry.observe(.peerMessages, .counter) { Double(self.status.counters.messages) }
    registry.observe(.peerMessagesMissed, .counter) { Double(self.status.counters.missed) }
    registry.collect(.peerDropped, .counter) { samples in
      let status = self.status
      for (reason, count) in [
        ("malformed", Double(status.counters.malformed)), ("repeated", Double(status.counters.repeated)),
        ("rows", Double(status.counters.refusedRows) + Double(status.omittedRows)),
        ("prompts_full", Double(status.droppedPrompts)),
        ("prompts_other_hashing", Double(status.counters.otherPrompts)),
        ("socket", Double(status.failedSends + status.failedReceives)),
      ] {
        samples.add(count, labels: [("reason", reason)])
      }
    }
    registry.collect(.peerLosses, .counter) { samples in
      let counters = self.status.counters
      samples.add(Double(counters.restarts), labels: [("reason", "restart")])
      samples.add(Double(counters.expired), labels: [("reason", "silence")])
    }
    func perWorker(_ metric: MetricDescription, _ value: @escaping @Sendable (PeerLoad) -> Int) {
      registry.collect(metric, .gauge) { samples in
        var sums: [UInt64: Int] = [:]
        for model in board.current.models {
          for load in model.routing.loads { sums[load.worker, default: 0] += value(load.peers) }
        }
        for (worker, sum) in sums.sorted(by: { $0.key < $1.key }) {
          samples.add(Double(sum), labels: [("worker_id", "\(worker)")])
        }
      }
    }
    perWorker(.peerRequests) { $0.requests }
    perWorker(.peerBlocks) { $0.blocks }
    perWorker(.peerPrefillTokens) { $0.prefillTokens }
  }
}
