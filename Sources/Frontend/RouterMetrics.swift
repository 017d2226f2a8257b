// What the KV router does for requests and what it takes: Dynamo's families of router and overhead, on one loop.

internal import Base
internal import Routing
internal import Telemetry

/// One loop's cells; there where prompts are looked up. An object, because each use of a struct in an optional copies its
/// ten references.
final class RouterMetrics {
  private let hashing: LocalHistogram
  private let matching: LocalHistogram
  private let scheduling: LocalHistogram
  private let total: LocalHistogram
  private let bestPrefix: LocalCounter
  private let selectedPrefix: LocalCounter
  private let reused: LocalCounter
  private let notBest: LocalCounter
  private let blocksLost: LocalHistogram
  private let drift: LocalHistogram

  init(_ registry: MetricRegistry) {
    func overhead(_ metric: MetricDescription) -> LocalHistogram {
      // There is one router in a process, and it keeps no number.
      LocalHistogram(
        registry.histogram(metric, buckets: .overheadMilliseconds, labels: [("router_id", "0")]))
    }
    hashing = overhead(.routerOverheadHashing)
    matching = overhead(.routerOverheadMatching)
    scheduling = overhead(.routerOverheadScheduling)
    total = overhead(.routerOverheadTotal)
    bestPrefix = LocalCounter(registry.counter(.routerBestPrefix))
    selectedPrefix = LocalCounter(registry.counter(.routerSelectedPrefix))
    reused = LocalCounter(registry.counter(.routerReusedTokens))
    let phase = [("worker_type", "decode")]
    notBest = LocalCounter(registry.counter(.routerNotBest, labels: phase))
    blocksLost = LocalHistogram(
      registry.histogram(.routerBlocksLost, buckets: .powersOfTwo, labels: phase))
    drift = LocalHistogram(registry.histogram(.kvTruthDrift, buckets: .drift))
  }

  /// A worker was chosen. `scheduling` is the time from the prompt's blocks, or from the queue, to the choice, of which
  /// the look-up is a part; `hashing` the time that the blocks took, nil when they were there from before.
  func placed(_ decision: RoutingDecision, blockSize: Int, hashing: Nanoseconds?, scheduling: Nanoseconds) {
    func observe(_ histogram: LocalHistogram, _ time: Nanoseconds) { histogram.observe(Double(time) / 1e6) }
    if let hashing { observe(self.hashing, hashing) }
    observe(matching, decision.lookUpTime)
    observe(self.scheduling, scheduling - min(decision.lookUpTime, scheduling))
    observe(total, (hashing ?? 0) + scheduling)
    bestPrefix.add(decision.bestOverlapBlocks * blockSize)
    selectedPrefix.add(decision.overlapBlocks * blockSize)
    let lost = decision.bestOverlapBlocks - decision.overlapBlocks
    guard lost > 0 else { return }
    notBest.add()
    blocksLost.observe(Double(lost))
  }

  /// An engine reported how many of a prompt's tokens it had cached. `error` is how far the router's expectation was from
  /// that, as a share of the prompt; nil where the two cannot be compared.
  func reported(cachedTokens: Int?, error: Double?) {
    if let cachedTokens { reused.add(max(0, cachedTokens)) }
    if let error { drift.observe(error) }
  }
}
