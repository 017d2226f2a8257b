// The cache events of all workers: who is listened to, and what scrapes read of it.

internal import Base
internal import EventLoop
internal import KVEvents
internal import Logging
internal import Routing
internal import Synchronization
internal import Telemetry

/// What the control thread last saw of each worker's feed, for other threads.
final class CacheFeedBoard: Sendable {
  private let state = Mutex<[UInt64: WorkerFeed.Status]>([:])

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
        ] {
          samples.add(Double(count), labels: [("worker_id", "\(worker)"), ("fault", fault)])
        }
      }
    }
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
  private var refused: [UInt64: String] = [:]
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
    for worker in workers where worker.isReady && !worker.eventSources.isEmpty {
      let served = worker.models.compactMap { name in models.first { $0.name == name } }
      guard !served.isEmpty else { continue }
      if let fault = fault(worker) {
        say(worker, fault)
        continue
      }
      wanted.insert(worker.id)
      if let feed = feeds[worker.id] {
        let isSame = feed.sources == worker.eventSources && feed.serves(served.map(\.routing))
        if isSame, !feed.hasFailed || !retriesFailed { continue }
        end(worker.id)
        begin(worker, served, isQuiet: isSame)
      } else {
        begin(worker, served, isQuiet: false)
      }
    }
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

  /// Why the worker's events cannot be used.
  private func fault(_ worker: Worker) -> String? {
    if worker.eventSources.contains(where: \.isOfBytes) == configuration.hashesTokens {
      return configuration.hashesTokens
        ? "the engine counts in bytes of the prompt, and this process in tokens (--model-path)"
        : "the engine counts in tokens, and this process has no tokenizer (--model-path)"
    }
    if context == nil, contextFailure == nil {
      do throws(ZeroMQError) {
        context = try ZeroMQContext()
      } catch {
        contextFailure = "\(error)"
      }
    }
    return contextFailure
  }

  private func say(_ worker: Worker, _ fault: String) {
    guard refused[worker.id] != fault else { return }
    refused[worker.id] = fault
    logger.warning(
      "the engine's cache events are not used: its cache is predicted",
      metadata: ["worker_id": .stringConvertible(worker.id), "reason": "\(fault)"])
  }

  private func begin(_ worker: Worker, _ models: [ServedModel], isQuiet: Bool) {
    guard let context else { return }
    let feed = WorkerFeed(worker, models: models, isQuiet: isQuiet, loop: loop, logger: logger)
    let board = board
    feed.reported = { board.set(worker.id, $0) }
    feeds[worker.id] = feed
    let host = (try? WorkerURL.parse(worker.url).get())?.host ?? "127.0.0.1"
    feed.start(host: host, context: context)
  }

  private func end(_ id: UInt64) {
    feeds.removeValue(forKey: id)?.close()
    board.set(id, nil)
  }
}
