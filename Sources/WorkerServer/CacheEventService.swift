// A worker's cache events: who publishes what, where, and what `/kv_event_sources` says of it. First loop only.

internal import Base
internal import Engine
internal import EventLoop
internal import KVEvents
internal import Logging
internal import Workers

/// A publisher whose sockets are open, on its way to the loop that will use it.
struct OpenedCachePublisher {
  let publisher: CacheEventPublisher
  let context: ZeroMQContext
  let source: CacheEventSource
}

/// What a worker does with cache events.
enum CacheEventPlan: Equatable {
  case none
  /// The simulated engine's are published.
  case publish
  /// The attached engine's are published again.
  case relay
  /// The attached engine's own answer is passed on: who reaches the worker reaches the engine.
  case passOn
}

extension WorkerConfiguration {
  /// What is to be done, and what is worth a warning.
  func cacheEventPlan(hasLibrary: Bool) -> (plan: CacheEventPlan, warning: String?) {
    if case .off = cacheEvents.endpoint { return (.none, nil) }
    let isAutomatic = cacheEvents.endpoint == .automatic
    switch engine {
    case .simulated(let engine):
      // A cache that keeps nothing has nothing to tell.
      if isAutomatic, !hasLibrary || !engine.prefixCaching { return (.none, nil) }
      return (.publish, nil)
    case .openAI(let url, _):
      guard isAutomatic else { return (.relay, nil) }
      if let url = try? EngineURL(url), isOwnHost(url.host) { return (.passOn, nil) }
      if hasLibrary { return (.relay, nil) }
      return (
        .none, "cache events of the engine, which runs on another machine, need libzmq to be published again"
      )
    }
  }

  /// True when `host` is the machine under whose name the worker is known.
  private func isOwnHost(_ host: String) -> Bool {
    if host == "localhost" || host == "::1" || host.hasPrefix("127.") { return true }
    if let url = advertiseURL, case .success(let advertised) = WorkerURL.parse(url) {
      return advertised.host == host
    }
    return self.host == host
  }
}

/// Owns the publishers and relays of one worker. Confined to the first loop.
final class CacheEventService {
  private let worker: WorkerLoop
  private let logger: Logger
  private let plan: CacheEventPlan
  private let host: String
  private var context: ZeroMQContext?
  private var outlets: [Int: CacheEventOutlet] = [:]
  private var relays: [Int: CacheRelay] = [:]
  private var engineIsGone = false

  private var configuration: WorkerConfiguration { worker.shared.configuration }

  /// `opened` is the publisher of rank 0, when the plan needs one; `host` the numeric address of the worker.
  init(
    _ plan: CacheEventPlan, _ opened: OpenedCachePublisher?, host: String, on worker: WorkerLoop,
    logger: Logger
  ) throws(SystemError) {
    self.plan = plan
    self.host = host
    self.worker = worker
    self.logger = logger
    guard let opened else { return }
    context = opened.context
    try take(opened)
  }

  /// Opens the sockets of `rank`. On the starting thread for rank 0, so that a bad address ends the start.
  static func open(
    _ settings: CacheEventSettings, host: String, rank: Int, context: ZeroMQContext? = nil
  ) throws(ZeroMQError) -> OpenedCachePublisher? {
    guard let publication = settings.publication(host: host, rank: rank) else { return nil }
    let shared: ZeroMQContext
    if let context { shared = context } else { shared = try ZeroMQContext() }
    let publisher = try CacheEventPublisher(publication, context: shared)
    let endpoint =
      publication.isBound
      ? CacheEventSettings.announced(publisher.boundAddress, for: settings.endpoint, isPublisher: true)
      : publication.endpoint
    let replay = publisher.boundReplayAddress.map {
      CacheEventSettings.announced($0, for: settings.replayEndpoint, isPublisher: false)
    }
    let source = CacheEventSource(
      rank: rank, endpoint: endpoint, replayEndpoint: replay, topic: publication.topic)
    return OpenedCachePublisher(publisher: publisher, context: shared, source: source)
  }

  private func take(_ opened: OpenedCachePublisher) throws(SystemError) {
    let source = opened.source
    outlets[source.rank] = try CacheEventOutlet(
      opened.publisher, source, on: worker.loop, metrics: worker.shared.metrics)
    logger.info(
      "publishing cache events",
      metadata: [
        "endpoint": "\(source.endpoint)", "replay_endpoint": "\(source.replayEndpoint ?? "none")",
        "rank": .stringConvertible(source.rank),
        "of": plan == .relay ? "attached engine" : "simulated engine",
      ])
  }

  /// Who hears of the simulated engine's cache; nil when nobody wants to. Announced from now on.
  func observer(blockSize: Int) -> (any BlockObserver)? {
    guard case .publish = plan, let outlet = outlets[0] else { return nil }
    worker.shared.cacheEventSources.value = [
      outlet.announcement(tokenSource: configuration.tokenizer == nil ? "bytes" : nil)
    ]
    return SimulatedCacheReporter(to: outlet, blockSize: blockSize)
  }

  // MARK: The attached engine

  /// The engine answered; `sources` is what it says of its publishers.
  func engineAnswered(_ sources: [CacheEventSource]) {
    var sources = sources
    if let endpoint = configuration.cacheEvents.engineEndpoint {
      sources = [
        CacheEventSource(
          rank: 0, endpoint: endpoint, replayEndpoint: configuration.cacheEvents.engineReplayEndpoint)
      ]
    }
    switch plan {
    case .none, .publish: break
    case .passOn: worker.shared.cacheEventSources.value = sources
    case .relay: follow(sources)
    }
    engineIsGone = false
  }

  /// The engine does not answer.
  func engineFailed() { engineIsGone = true }

  private func follow(_ sources: [CacheEventSource]) {
    for (rank, relay) in relays {
      if !sources.contains(relay.source) {
        relay.close()
        relays[rank] = nil
      } else if engineIsGone {
        relay.engineReturned()
      }
    }
    for source in sources where relays[source.rank] == nil {
      if let relay = relay(for: source) { relays[source.rank] = relay }
    }
    worker.shared.cacheEventSources.value = relays.sorted { $0.key < $1.key }.compactMap { rank, relay in
      outlets[rank]?.announcement(tokenSource: relay.source.tokenSource)
    }
  }

  private func relay(for source: CacheEventSource) -> CacheRelay? {
    do {
      guard let url = engineHost, let outlet = try outlet(rank: source.rank), let context else { return nil }
      return try CacheRelay(
        of: source, engineHost: url, to: outlet, context: context, worker: worker, logger: logger)
    } catch {
      logger.error(
        "cache events of the engine cannot be followed",
        metadata: [
          "endpoint": "\(source.endpoint)", "rank": .stringConvertible(source.rank), "error": "\(error)",
        ])
      return nil
    }
  }

  private func outlet(rank: Int) throws -> CacheEventOutlet? {
    if let outlet = outlets[rank] { return outlet }
    guard
      let opened = try Self.open(configuration.cacheEvents, host: host, rank: rank, context: context)
    else { return nil }
    try take(opened)
    return outlets[rank]
  }

  private var engineHost: String? {
    guard case .openAI(let text, _) = configuration.engine else { return nil }
    return (try? EngineURL(text))?.host
  }

  /// The worker ends.
  func close() {
    for relay in relays.values { relay.close() }
    for outlet in outlets.values { outlet.close() }
    relays = [:]
    outlets = [:]
  }
}
