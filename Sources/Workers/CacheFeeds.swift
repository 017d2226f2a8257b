// The cache events of all workers: who is listened to, and what scrapes read of it.

internal import Base
internal import EventLoop
internal import KVEvents
internal import Logging
internal import Routing
internal import Synchronization
internal import Telemetry
internal import Transport

/// What the control thread last saw of each worker's feed, for other threads.
final class CacheFeedBoard: Sendable {
  private let state = Mutex<[UInt64: WorkerFeed.Status]>([:])
  private let refused = Atomic<Int>(0)

  /// Ready workers whose events are not used: none of them, or those that came say that they are of no use.
  var mismatches: Int {
    let unused = all.count { entry in
      switch entry.status.reason {
      case .blockSize, .drift, .overflow: true
      default: false
      }
    }
    return refused.load(ordering: .relaxed) + unused
  }

  /// How many workers' events are not even listened to.
  func setRefused(_ count: Int) { refused.store(count, ordering: .relaxed) }

  /// Sorted by worker.
  var all: [(worker: UInt64, status: WorkerFeed.Status)] {
    state.withLock { $0.sorted { $0.key < $1.key }.map { ($0.key, $0.value) } }
  }

  func set(_ worker: UInt64, _ status: WorkerFeed.Status?) {
    state.withLock { $0[worker] = status }
  }

  /// Gives the counts to `registry`. A feed that ended takes its counts with it, as its worker does.
  func register(on registry: MetricRegistry) {
    func counter(_ metric: MetricDescription, _ read: @escaping @Sendable (WorkerFeed.Status) -> UInt64) {
      registry.collect(metric, .counter) { samples in
        for (worker, status) in self.all {
          samples.add(Double(read(status)), labels: [("worker_id", "\(worker)")])
        }
      }
    }
    counter(.kvEventBatches) { $0.counters.batches }
    counter(.kvEvents) { $0.counters.events }
    counter(.kvEventGaps) { $0.counters.gaps }
    counter(.kvEventMissedBatches) { $0.counters.missedBatches }
    counter(.kvEventReplays) { $0.counters.replays }
    counter(.kvEventResets) { $0.counters.resets }
    counter(.kvEventRests) { $0.rests }
    counter(.kvEventDropped) { $0.counters.dropped }
    counter(.kvEventMalformed) {
      $0.counters.malformedMessages + $0.counters.malformedBatches + $0.counters.malformedEvents
    }
    registry.collect(.kvEventFaults, .counter) { samples in
      for (worker, status) in self.all {
        let mirror = status.mirror
        for (fault, count) in [
          ("parent_block_not_found", mirror.parentsNotFound), ("block_not_found", mirror.blocksNotFound),
          ("block_size", mirror.wrongBlockSizes), ("malformed", mirror.malformed), ("full", mirror.refused),
          ("drift", status.drifts),
        ] {
          samples.add(Double(count), labels: [("worker_id", "\(worker)"), ("fault", fault)])
        }
      }
    }
    registry.observe(.routerSourceMismatches, .gauge) { Double(self.mismatches) }
    registry.collect(.kvEventLag, .gauge) { samples in
      for (worker, status) in self.all {
        samples.add(status.counters.lagSeconds, labels: [("worker_id", "\(worker)")])
      }
    }
    registry.collect(.kvEventBlocks, .gauge) { samples in
      for (worker, status) in self.all {
        samples.add(Double(status.blocks), labels: [("worker_id", "\(worker)")])
      }
    }
    registry.collect(.kvEventSource, .gauge) { samples in
      for (worker, status) in self.all {
        samples.add(
          status.source == .events ? 1 : 0,
          labels: [("worker_id", "\(worker)"), ("reason", status.reason.label)])
      }
    }
  }
}

/// One ``WorkerFeed`` for each ready worker that publishes events. Loop-confined.
final class CacheFeeds {
  private let loop: EventLoop
  private let logger: Logger
  private let configuration: WorkerDirectoryConfiguration
  private let board: CacheFeedBoard
  private var feeds: [UInt64: WorkerFeed] = [:]
  /// Workers whose events are of no use, with the reason; said once.
  private var refused: [UInt64: Refusal] = [:]
  private var context: ZeroMQContext?
  private var contextFailure: String?

  init(
    loop: EventLoop, configuration: WorkerDirectoryConfiguration, board: CacheFeedBoard, logger: Logger
  ) {
    self.loop = loop
    self.configuration = configuration
    self.board = board
    self.logger = logger
  }

  /// Listens to those of `workers` that are ready and publish, and no longer to others. `models` are what they serve.
  ///
  /// - Parameter retriesFailed: feeds whose sockets failed are made anew: an address may be free again.
  func follow(_ workers: [Worker], _ models: [ServedModel], retriesFailed: Bool = false) {
    guard configuration.followsCacheEvents else { return }
    var wanted: Set<UInt64> = []
    var refusals = 0
    for worker in workers where worker.isReady && !worker.eventSources.isEmpty {
      let served = worker.models.compactMap { name in
        models.first { $0.name == name }.flatMap { worker.role == .prefill ? $0.prefill : $0 }
      }
      guard !served.isEmpty else { continue }
      if let refusal = refusal(worker) {
        refusals += 1
        for model in served { model.routing.setSource(.predicted, refusal.reason, worker: worker.id) }
        say(worker, refusal)
        continue
      }
      wanted.insert(worker.id)
      if let feed = feeds[worker.id] {
        let isSame = feed.sources == worker.eventSources && feed.serves(served, worker)
        if isSame, !feed.hasFailed || !retriesFailed { continue }
        end(worker.id)
        begin(worker, served, isQuiet: isSame)
      } else {
        begin(worker, served, isQuiet: false)
      }
    }
    board.setRefused(refusals)
    for id in feeds.keys where !wanted.contains(id) { end(id) }
    refused = refused.filter { entry in workers.contains { $0.id == entry.key } }
  }

  /// Compares events with engines' reports; called every few seconds.
  func checkTruth() {
    for feed in feeds.values { feed.checkTruth() }
  }

  func close() {
    for id in feeds.keys { end(id) }
    context = nil
  }

  /// Why the worker's events are not used.
  private struct Refusal: Equatable {
    let reason: CacheSourceReason
    let text: String
  }

  private func refusal(_ worker: Worker) -> Refusal? {
    if worker.eventSources.contains(where: \.isOfBytes) == configuration.hashesTokens {
      return Refusal(
        reason: .otherUnit,
        text: configuration.hashesTokens
          ? "the engine counts in bytes of the prompt, and this process in tokens (--model-path)"
          : "the engine counts in tokens, and this process has no tokenizer (--model-path)")
    }
    // Whoever can register a worker must not have this process call, or listen, anywhere else.
    if !configuration.followsForeignEvents,
      let address = worker.eventSources.lazy.compactMap({ self.foreignAddress($0, of: worker) }).first
    {
      return Refusal(
        reason: .foreignEndpoint,
        text: "\(address) is not a tcp:// address on the worker's own host (--follow-foreign-kv-events)")
    }
    if context == nil, contextFailure == nil {
      do throws(ZeroMQError) {
        context = try ZeroMQContext()
      } catch {
        contextFailure = "\(error)"
      }
    }
    return contextFailure.map { Refusal(reason: .noLibrary, text: $0) }
  }

  /// An address of the source that is not to be connected to on the worker's own host.
  private func foreignAddress(_ source: CacheEventSource, of worker: Worker) -> String? {
    let host = host(of: worker)
    let own = [host] + worker.upstream.addresses.map(\.host)
    let events = CacheEventEndpoint.events(of: source.endpoint, host: host, rank: 0)
    guard events?.isTCP(to: own) == true else { return source.endpoint }
    guard let replay = source.replayEndpoint else { return nil }
    return CacheEventEndpoint.replay(of: replay, host: host, rank: 0)?.isTCP(to: own) == true ? nil : replay
  }

  private func host(of worker: Worker) -> String {
    (try? WorkerURL.parse(worker.url).get())?.host ?? "127.0.0.1"
  }

  private func say(_ worker: Worker, _ refusal: Refusal) {
    guard refused[worker.id] != refusal else { return }
    refused[worker.id] = refusal
    logger.warning(
      "the engine's cache events are not used: its cache is predicted",
      metadata: ["worker_id": .stringConvertible(worker.id), "reason": "\(refusal.text)"])
  }

  private func begin(_ worker: Worker, _ models: [ServedModel], isQuiet: Bool) {
    guard let context else { return }
    let feed = WorkerFeed(worker, models: models, isQuiet: isQuiet, loop: loop, logger: logger)
    let board = board
    feed.reported = { board.set(worker.id, $0) }
    feeds[worker.id] = feed
    feed.start(host: host(of: worker), context: context)
  }

  private func end(_ id: UInt64) {
    feeds.removeValue(forKey: id)?.close()
    board.set(id, nil)
  }
}
