// Follows an attached engine's cache events and publishes them again, so that its subscribers need to know the worker only.

internal import Base
internal import EventLoop
internal import KVEvents
internal import Logging
internal import Telemetry
internal import Workers

/// Relays one rank. Batches go on byte by byte, whatever the engine's release, under the worker's own sequence; what the
/// engine's feed lost is made good as far as its replay goes, and told as a cleared cache beyond. Loop-confined.
final class CacheRelay {
  let source: CacheEventSource
  private let subscriber: CacheEventSubscriber
  private let outlet: CacheEventOutlet
  private let loop: EventLoop
  private let metrics: WorkerMetrics
  private let logger: Logger
  private var encoder = CacheEventEncoder()
  private var counted = CacheFeedCounters()
  private lazy var turns = FeedTurns(on: loop) { [unowned self] in turn() }

  /// Subscribes to `source` of the engine at `engineHost`. Throws when an address cannot be used.
  init(
    of source: CacheEventSource, engineHost: String, to outlet: CacheEventOutlet, context: ZeroMQContext,
    worker: WorkerLoop, logger: Logger
  ) throws {
    guard let events = CacheEventEndpoint.events(of: source.endpoint, host: engineHost, rank: 0) else {
      throw WorkerStartError("no subscriber can reach \(source.endpoint)")
    }
    var subscription = CacheEventSubscription(
      events: events,
      replay: source.replayEndpoint.flatMap { CacheEventEndpoint.replay(of: $0, host: engineHost, rank: 0) })
    subscription.topic = source.topic
    subscription.keepsPayloads = true
    subscriber = try CacheEventSubscriber(subscription, context: context)
    self.source = source
    self.outlet = outlet
    self.logger = logger
    loop = worker.loop
    metrics = worker.shared.metrics
    for descriptor in subscriber.descriptors { try turns.watch(descriptor) }
    logger.info(
      "following cache events of the engine",
      metadata: [
        "address": "\(events.address)", "replay_endpoint": "\(subscription.replay?.address ?? "none")",
        "rank": .stringConvertible(source.rank),
      ])
    turns.request()
  }

  /// Unsubscribes. What was told of the engine's cache is no longer kept true, so it is taken back.
  func close() {
    turns.close()
    tellCleared()
  }

  /// The engine did not answer for a while, and does again. It may have been started anew and be silent since, so its
  /// cache is learnt from its replay once more; without one it is taken for empty.
  func engineReturned() {
    subscriber.engineRestarted { perform($0) }
    turns.request()
  }

  private func turn() {
    let now = CacheFeedTime(
      monotonic: loop.now, wallSeconds: Double(loop.system.wallNanoseconds()) / Double(second))
    subscriber.readable(now: now) { perform($0) }
    let counters = subscriber.counters
    metrics.cacheEventResets.add(Int(counters.resets - counted.resets))
    metrics.cacheEventsMissed.add(Int(clamping: counters.missedBatches &- counted.missedBatches))
    counted = counters
    turns.request(at: subscriber.deadline)
  }

  private func perform(_ action: CacheFeedAction) {
    switch action {
    case .apply(let batch):
      outlet.publish(payload: batch.payload, events: batch.events.count)
      hasTold = true
    case .forgetAll(let reason):
      // What the engine stored before this relay began was never told of here.
      guard hasTold else { return }
      logger.warning(
        "cache events of the engine were lost; its cache is taken for empty",
        metadata: ["reason": "\(reason.rawValue)", "rank": .stringConvertible(source.rank)])
      tellCleared()
    case .requestReplay: break
    }
  }

  private var hasTold = false

  private func tellCleared() {
    guard hasTold else { return }
    hasTold = false
    encoder.cleared()
    outlet.publish(&encoder)
  }
}
