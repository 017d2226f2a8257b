// What the store's thread tells the others: numbers for metrics, copied out after each change.

internal import Synchronization
internal import Telemetry

/// Numbers of one store, readable from any thread.
final class StoreStatus: Sendable {
  struct Snapshot {
    var counters = StoreCounters()
    var traces = 0
    var spans = 0
    var bytes = 0
    /// Messages by the way they came.
    var grpcMessages = 0
    var httpMessages = 0
    var localBatches = 0
    var queries = 0
    /// Queries that a bound ended before they had seen everything.
    var queriesCut = 0
    /// Queries that were not begun: too many were under way.
    var queriesRefused = 0
    /// Requests by a name that the store does not answer to.
    var hostsRefused = 0
    /// Messages that could not be written to the file.
    var fileFailures = 0
  }

  private let state = Mutex(Snapshot())

  /// The numbers as of the last change.
  var snapshot: Snapshot { state.withLock { $0 } }

  /// Takes the store's numbers over, and lets `change` count what happened beside it.
  func update(_ store: SpanStore, _ change: (inout Snapshot) -> Void) {
    state.withLock { state in
      state.counters = store.counters
      state.traces = store.traceCount
      state.spans = store.spanCount
      state.bytes = store.bytes
      change(&state)
    }
  }

  /// Counts what happened beside the store.
  func count(_ change: (inout Snapshot) -> Void) { state.withLock { change(&$0) } }

  /// Shows the numbers on `/metrics`.
  func register(on registry: MetricRegistry) {
    func observe(
      _ metric: MetricDescription, _ kind: MetricKind, _ read: @escaping @Sendable (Snapshot) -> Int
    ) {
      registry.observe(metric, kind) { [self] in Double(read(snapshot)) }
    }
    observe(.traceStoreTraces, .gauge) { $0.traces }
    observe(.traceStoreSpans, .gauge) { $0.spans }
    observe(.traceStoreBytes, .gauge) { $0.bytes }
    observe(.traceStoreSpansStored, .counter) { $0.counters.spansStored }
    observe(.traceStoreSpansRefused, .counter) { $0.counters.spansRefused }
    observe(.traceStoreMessagesRefused, .counter) { $0.counters.messagesRefused }
    observe(.traceStoreQueries, .counter) { $0.queries }
    observe(.traceStoreQueriesCut, .counter) { $0.queriesCut }
    observe(.traceStoreQueriesRefused, .counter) { $0.queriesRefused }
    observe(.traceStoreHostsRefused, .counter) { $0.hostsRefused }
    observe(.traceStoreFileFailures, .counter) { $0.fileFailures }
    registry.collect(.traceStoreEvicted, .counter) { [self] samples in
      let counters = snapshot.counters
      samples.add(Double(counters.tracesEvictedBySize), labels: [("reason", "size")])
      samples.add(Double(counters.tracesEvictedByAge), labels: [("reason", "age")])
    }
    registry.collect(.traceStoreMessages, .counter) { [self] samples in
      let snapshot = snapshot
      samples.add(Double(snapshot.grpcMessages), labels: [("protocol", "grpc")])
      samples.add(Double(snapshot.httpMessages), labels: [("protocol", "http")])
      samples.add(Double(snapshot.localBatches), labels: [("protocol", "process")])
    }
  }
}
