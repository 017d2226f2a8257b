// A publisher of cache events on a loop, and the simulated engine's way to it.

internal import Base
internal import Engine
internal import EventLoop
internal import KVEvents
internal import Telemetry
internal import Workers

/// One rank's publisher: sends batches and answers requests for replays as they come. Loop-confined.
final class CacheEventOutlet {
  private let publisher: CacheEventPublisher
  private let loop: EventLoop
  private let metrics: WorkerMetrics
  private let source: CacheEventSource
  private var counted = CacheEventPublisherCounters()
  private lazy var turns = FeedTurns(on: loop) { [unowned self] in turn() }

  /// Takes over `publisher`, which `source` announces.
  init(
    _ publisher: CacheEventPublisher, _ source: CacheEventSource, on loop: EventLoop, metrics: WorkerMetrics
  ) throws(SystemError) {
    self.publisher = publisher
    self.source = source
    self.loop = loop
    self.metrics = metrics
    for descriptor in publisher.descriptors { try turns.watch(descriptor) }
    // What came before the registration does not wake the loop.
    turn()
  }

  /// How subscribers are told of it, when the events are of `tokenSource`.
  func announcement(tokenSource: String?) -> CacheEventSource {
    var source = source
    source.tokenSource = tokenSource
    return source
  }

  /// Sends what `encoder` gathered as one batch; nothing when that is nothing.
  func publish(_ encoder: inout CacheEventEncoder) {
    let events = encoder.count
    guard events > 0 else { return }
    publisher.publish(&encoder, timestamp: Double(loop.system.wallNanoseconds()) / Double(second))
    count(events: events)
  }

  /// Sends a batch of `events` events that is encoded already.
  func publish(payload: [UInt8], events: Int) {
    publisher.publish(payload: payload)
    count(events: events)
  }

  private func count(events: Int) {
    metrics.cacheEvents.add(events)
    // A send may have taken in the news of a request, which then wakes nobody.
    turns.request()
  }

  /// Leaves the loop; nothing may be published afterwards.
  func close() { turns.close() }

  private func turn() {
    if publisher.readable() { turns.request() }
    let counters = publisher.counters
    metrics.cacheEventBatches.add(Int(counters.batches - counted.batches))
    metrics.cacheEventReplays.add(Int(counters.replays - counted.replays))
    metrics.cacheEventReplaysRefused.add(Int(counters.refusedReplays - counted.refusedReplays))
    counted = counters
  }
}

/// Gathers what the simulated engine's cache reports; each scheduler step with events becomes one batch. Loop-confined.
final class SimulatedCacheReporter: BlockObserver {
  private let outlet: CacheEventOutlet
  private let blockSize: Int
  private var encoder = CacheEventEncoder()

  init(to outlet: CacheEventOutlet, blockSize: Int) {
    self.outlet = outlet
    self.blockSize = blockSize
  }

  func stored(_ blocks: StoredBlocks) {
    encoder.stored(
      hashes: blocks.hashes, parent: blocks.parent, tokens: blocks.tokens, blockSize: blockSize,
      salt: blocks.salt.isEmpty ? nil : blocks.salt)
  }

  func removed(hash: UInt64) { encoder.removed(hashes: [hash]) }

  func cleared() { encoder.cleared() }

  func stepScheduled() { outlet.publish(&encoder) }
}
