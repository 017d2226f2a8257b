// All workers of the frontend, known by configuration and discovery: the facade over the control thread.

internal import Base
package import EventLoop
internal import KVEvents
package import Logging
package import Routing
internal import Synchronization
package import Telemetry
internal import TLS

/// Knows the workers and tells the loops of them by immutable snapshots.
package final class WorkerDirectory: Sendable {
  private struct Running: Sendable {
    let mailbox: Mailbox
    let control: LoopBound<DirectoryControl>
    let thread: Thread
  }

  private let configuration: WorkerDirectoryConfiguration
  private let fixed: [WorkerURL]
  private let simulated: [WorkerURL]
  private let logger: Logger
  private let lockWait: Histogram
  private let ejections: [EjectionCause: Counter]
  private let security: WorkerSecurity
  private let board = SnapshotBoard()
  private let feedBoard = CacheFeedBoard()
  private let discoveryBoard = DiscoveryBoard()
  private let running = Mutex<Running?>(nil)
  /// The static workers that the settings named last. Those in force may be others: operators change them.
  private let named: Mutex<[WorkerURL]>

  /// Reads the configuration; nothing is asked before ``start()``. Throws `.urls` with every URL that cannot be used, or
  /// `.tls` with the file that cannot.
  package init(
    configuration: WorkerDirectoryConfiguration, logger: Logger, registry: MetricRegistry
  ) throws(WorkerDirectoryError) {
    self.configuration = configuration
    self.logger = logger
    lockWait = registry.histogram(.routingLockWait, buckets: .lockSeconds)
    ejections = Dictionary(
      uniqueKeysWithValues: EjectionCause.allCases.map {
        ($0, registry.counter(.workerEjections, labels: [("reason", $0.rawValue)]))
      })
    let security: WorkerSecurity
    do throws(TLSError) { security = try WorkerSecurity(configuration.security) } catch { throw .tls(error) }
    self.security = security
    var faults: [WorkerURLFault] = []
    fixed = Self.parse(configuration.urls, security, &faults)
    simulated = Self.parse(configuration.simulatedURLs, security, &faults)
    named = Mutex(fixed)
    guard faults.isEmpty else { throw .urls(faults) }
    if let fault = configuration.canary?.fault { throw .canary(fault) }
    register(on: registry)
  }

  /// Why engines' cache events cannot be followed here; nil when they can.
  package static var whyNoCacheEvents: String? { ZeroMQContext.unavailableReason }

  static func parse(
    _ texts: [String], _ security: WorkerSecurity, _ faults: inout [WorkerURLFault]
  ) -> [WorkerURL] {
    var urls: [WorkerURL] = []
    for text in texts {
      switch WorkerURL.parse(text) {
      case .success(let url):
        do throws(TLSError) {
          if url.isSecure { try security.prepare() }
          if !urls.contains(url) { urls.append(url) }
        } catch {
          faults.append(WorkerURLFault(url: text, reason: "\(error)"))
        }
      case .failure(let refusal): faults.append(WorkerURLFault(url: text, reason: refusal.reason))
      }
    }
    return urls
  }

  /// Starts the control thread. Throws when the discovery folder that the user named cannot be used, or when the
  /// system refuses a descriptor or the thread. A folder chosen by default that cannot be used is logged and tried again.
  package func start() throws(WorkerDirectoryError) {
    guard running.withLock({ $0 == nil }) else { return }
    if let folder = configuration.discoveryFolder, folder.isExplicit {
      do throws(DiscoveryFolderError) { try folder.prepare() } catch { throw .folder(error) }
    }
    do {
      let loop = try EventLoop(index: 0, seed: Machine.randomSeed())
      let board = board
      let control = DirectoryControl(
        loop: loop, configuration: configuration,
        prober: HTTPWorkerProber(
          loop: loop, timeout: configuration.probeTimeout, apiKey: configuration.apiKey),
        security: security, logger: logger, source: try configuration.makeSource(on: loop),
        lockWait: lockWait, feedBoard: feedBoard, discoveryBoard: discoveryBoard,
        countEjection: { [ejections] in ejections[$0]?.add() }, publish: board.publish)
      let bound = LoopBound(control, of: loop)
      let mailbox = loop.mailbox
      let handed = HandedLoop(loop: loop)
      let fixed = fixed
      let simulated = simulated
      mailbox.submit { bound.open(on: $0).start(fixed: fixed, simulated: simulated) }
      let thread = try Thread(name: "workers") { handed.loop.run() }
      running.withLock { $0 = Running(mailbox: mailbox, control: bound, thread: thread) }
    } catch let error as SystemError {
      throw .system(error)
    } catch let error as TLSError {
      throw .tls(error)
    } catch {
      preconditionFailure("the loop and the source throw nothing else")
    }
  }

  /// Ends the control thread and waits for it. The last snapshot stays. Not to be called from a subscriber.
  package func stop() {
    guard let running = running.withLock({ $0.take() }) else { return }
    let control = running.control
    running.mailbox.submit { loop in
      control.open(on: loop).close()
      loop.stop()
    }
    running.thread.join()
  }

  /// Calls `adopt` on the loop behind `mailbox` with the present snapshot and then with each new one, in order.
  package func subscribe(
    _ mailbox: Mailbox, _ adopt: @escaping @Sendable (EventLoop, WorkerSet) -> Void
  ) {
    board.subscribe(mailbox, adopt)
  }

  /// Takes other static workers and other weights of routing. Throws `.urls` with every URL that cannot be used; then
  /// nothing changes.
  package func adopt(urls: [String], weights: RoutingWeights) throws(WorkerDirectoryError) {
    try prepare(urls: urls, weights: weights)()
  }

  /// Checks other static workers, reads the certificates for https workers again, and returns what puts all that and
  /// other weights of routing into force. The same URLs again leave the workers as they are, those that an operator added
  /// or removed too. Throws `.urls` with every URL that cannot be used, or `.tls` with the file that cannot.
  package func prepare(
    urls: [String], weights: RoutingWeights
  ) throws(WorkerDirectoryError) -> @Sendable () -> Void {
    var faults: [WorkerURLFault] = []
    let fixed = Self.parse(urls, security, &faults)
    guard faults.isEmpty else { throw .urls(faults) }
    let secureAnew: (@Sendable () -> Void)?
    do throws(TLSError) { secureAnew = try security.prepareAnew() } catch { throw .tls(error) }
    return {
      secureAnew?()
      let isOther = self.named.withLock { named in
        defer { named = fixed }
        return Set(named) != Set(fixed)
      }
      self.onControl { control in
        control.adopt(fixed: isOther ? fixed : control.fixed)
        control.adopt(weights)
        control.renewSecurity()
      }
    }
  }

  /// A connect to this worker was not made in time. That is its caller's deadline: the worker is asked, and not chosen
  /// any more when that is not answered either, or another connect takes as long. May be called from any thread.
  package func connectTimedOut(_ worker: UInt64) {
    onControl { $0.requestTimedOut(worker) }
  }

  /// Runs `work` on the control thread, which may read small files; dropped when it does not run.
  package func perform(_ work: @escaping @Sendable () -> Void) { onControl { _ in work() } }

  /// A connect to this worker failed: it is not chosen for 1 s, doubling to 30 s until a probe after that succeeds.
  /// May be called from any thread.
  package func connectFailed(_ worker: UInt64) {
    onControl { $0.requestFailed(worker) }
  }

  /// As many requests of this worker failed in a row as its ``WorkerTally`` was to tell of. May be called from any thread.
  package func requestsFailed(_ worker: UInt64) {
    onControl { $0.requestsFailed(worker) }
  }

  func onControl(_ work: @escaping @Sendable (DirectoryControl) -> Void) {
    running.withLock { running in
      guard let running else { return }
      let control = running.control
      running.mailbox.submit { work(control.open(on: $0)) }
    }
  }

  /// The present snapshot; for cold paths that have no subscription.
  package var current: WorkerSet { board.current }

  private func register(on registry: MetricRegistry) {
    let board = board
    registry.collect(.workerUp, .gauge) { samples in
      for worker in board.current.workers {
        samples.add(worker.isReady ? 1 : 0, labels: [("worker_id", "\(worker.id)")])
      }
    }
    registry.collect(.workerState, .gauge) { samples in
      for worker in board.current.workers {
        samples.add(1, labels: [("worker_id", "\(worker.id)"), ("state", worker.stateInWords.state)])
      }
    }
    func perModel(_ metric: MetricDescription, _ value: @escaping @Sendable (ServedModel) -> Int?) {
      registry.collect(metric, .gauge) { samples in
        for model in board.current.models {
          if let value = value(model) { samples.add(Double(value), labels: [("model", model.name)]) }
        }
      }
    }
    registerRouting(on: registry)
    let security = security
    registry.collect(.tlsHandshakes, .counter) { samples in
      if security.isInUse { security.counters.add(to: &samples, peer: "worker") }
    }
    registry.collect(.tlsResumptions, .counter) { samples in
      if security.isInUse { security.counters.addResumed(to: &samples, peer: "worker") }
    }
    feedBoard.register(on: registry)
    if let source = configuration.discoverySource {
      discoveryBoard.register(on: registry, source: source, board)
    }
    board.registerQueues(on: registry)
    perModel(.modelWorkers) { $0.workers.count }
    perModel(.modelPanic) { $0.isPanicking ? 1 : 0 }
    perModel(.modelReady) { $0.workers.isEmpty ? 0 : 1 }
    perModel(.modelContextLength) { $0.workers.compactMap(\.facts.contextLength).min() }
    perModel(.modelSequencesMax) { $0.workers.compactMap(\.facts.sequencesMax).min() }
    perModel(.modelBatchedTokensMax) { $0.workers.compactMap(\.facts.batchedTokensMax).min() }
    perModel(.modelKVCacheBlockSize) { $0.workers.first?.facts.blockSize }
    perModel(.blockSizesLeftOut) { $0.blockSizes.leftOut }
    perModel(.modelTotalKVBlocks) { model in
      model.workers.isEmpty ? nil : model.workers.reduce(0) { $0 &+ $1.facts.totalBlocks }
    }
  }

  /// What the routers of all models know, asked for at a scrape.
  private func registerRouting(on registry: MetricRegistry) {
    let board = board
    func total(
      _ metric: MetricDescription, _ value: @escaping @Sendable (RoutingStatistics) -> Int
    ) {
      // The router's families are the KV router's: without it they stay 0, as Dynamo's do.
      registry.observe(metric, .gauge) {
        let models = board.current.models.filter { $0.routing.options.mode == .kv }
        return Double(models.reduce(0) { $0 + value($1.routing.statistics) })
      }
    }
    // Counters must not fall when a model is forgotten.
    registry.observe(.routerRequestsStarted, .counter) { Double(board.selectionCounts.selections) }
    registry.observe(.routerRequests, .counter) { Double(board.selectionCounts.decisions) }
    total(.routingIndexBytes) { $0.indexBytes }
    total(.routingIndexNodes) { $0.indexNodes }
    /// `combine` makes one figure of those of the several models that a worker may serve; 0 is left out unless `shows0`.
    func perWorker(
      _ metric: MetricDescription, shows0: Bool, _ combine: @escaping @Sendable (Double, Double) -> Double,
      _ value: @escaping @Sendable (WorkerLoad) -> Double
    ) {
      registry.collect(metric, .gauge) { samples in
        var values: [UInt64: Double] = [:]
        for model in board.current.models {
          for load in model.routing.loads {
            values[load.worker] = combine(values[load.worker, default: 0], value(load))
          }
        }
        for (worker, value) in values.sorted(by: { $0.key < $1.key }) where shows0 || value > 0 {
          // Workers here have one rank and do both phases, which Dynamo counts as decode.
          samples.add(
            value, labels: [("worker_id", "\(worker)"), ("dp_rank", "0"), ("worker_type", "decode")])
        }
      }
    }
    registry.collect(.routerWorkerRegistered, .gauge) { samples in
      let models = board.current.models.filter { $0.routing.options.mode == .kv }
      for worker in Set(models.flatMap { $0.workers.map(\.facts.id) }).sorted() {
        samples.add(1, labels: [("worker_id", "\(worker)"), ("dp_rank", "0"), ("worker_type", "decode")])
      }
    }
    perWorker(.workerActiveDecodeBlocks, shows0: true, +) { Double($0.activeBlocks) }
    perWorker(.workerActivePrefillTokens, shows0: true, +) { Double($0.prefillTokens) }
    perWorker(.workerLastTimeToFirstToken, shows0: false, max) { Double($0.latest.timeToFirstToken) / 1e9 }
    perWorker(.workerLastInterTokenLatency, shows0: false, max) { Double($0.latest.interTokenLatency) / 1e9 }
    perWorker(.workerLastInputTokens, shows0: false, max) { Double($0.latest.promptTokens) }
  }
}
