// How a worker is chosen: modes, the parameters of the cost, the bounds.

package import Base

/// How a worker is chosen.
package enum RoutingMode: Sendable, CaseIterable {
  /// By cost: cached prefix against load (Dynamo's KV mode).
  case kv
  /// One after the other.
  case roundRobin
  case random
  /// The less loaded of two drawn at random.
  case powerOfTwo
  /// The fewest requests in flight.
  case leastLoaded
  /// Only the worker that the request names.
  case direct

  /// The mode's name on the command line and on spans.
  package var name: String {
    switch self {
    case .kv: "kv"
    case .roundRobin: "round-robin"
    case .random: "random"
    case .powerOfTwo: "power-of-two"
    case .leastLoaded: "least-loaded"
    case .direct: "direct"
    }
  }

  /// The mode of that name; nil when there is none.
  package init?(name: String) {
    guard let mode = Self.allCases.first(where: { $0.name == name }) else { return nil }
    self = mode
  }
}

/// Everything that shapes routing for one model. The defaults are Dynamo 1.6's, but for the mode and the spread.
package struct RoutingOptions: Sendable {
  package var mode = RoutingMode.kv
  /// Tokens in a block.
  package var blockSize = 16
  package var cost = CostParameters()
  /// 0 takes the lowest cost; above it workers are drawn by softmax.
  package var temperature = 0.0
  /// Requests in flight count with their blocks.
  package var tracksActiveBlocks = true
  /// Prompts before their first token count with their tokens.
  package var tracksPrefillTokens = true
  /// Requests also count with the blocks of what they have generated.
  package var tracksOutputBlocks = false
  /// Equal blocks of requests on one worker count once.
  package var assumesReuse = true
  package var cachePolicy = CachePolicy.timeToLive(120 * second)
  package var bookingExpiry: Nanoseconds = 300 * second
  /// Memory of the prefix index and of the index of events together; events may take three quarters of it.
  package var indexBytesMax = 16 << 20
  /// Life of predictions beside events, for what a worker was sent and has not told of yet; nil counts events alone.
  package var predictedTTL: Nanoseconds?
  /// When requests wait for room; nil for never.
  package var queue: QueueOptions?
  package var sessions = SessionAffinityOptions()
  /// What is booked is gathered for other frontends (``Router/takeShare(isFull:)``).
  package var sharesLoad = false
  /// A worker with this share of its blocks in use is busy; nil for never.
  package var busyBlocksShare: Double?
  /// A worker with this many prompt tokens waiting is busy; nil for never.
  package var busyPrefillTokens: Int?

  package init() {}
}

/// What of the options may change under a running router: how candidates are weighed. Nothing that is booked or indexed
/// depends on it.
package struct RoutingWeights: Sendable {
  package var cost = CostParameters()
  package var temperature = 0.0
  package var busyBlocksShare: Double?
  package var busyPrefillTokens: Int?

  package init() {}
}

extension RoutingOptions {
  package var weights: RoutingWeights {
    get {
      var weights = RoutingWeights()
      weights.cost = cost
      weights.temperature = temperature
      weights.busyBlocksShare = busyBlocksShare
      weights.busyPrefillTokens = busyPrefillTokens
      return weights
    }
    set {
      cost = newValue.cost
      temperature = newValue.temperature
      busyBlocksShare = newValue.busyBlocksShare
      busyPrefillTokens = newValue.busyPrefillTokens
    }
  }
}

/// The parameters of the cost formula.
package struct CostParameters: Sendable {
  /// Prefill blocks taken off for each cached block.
  package var overlapCredit = 1.0
  /// Prefill blocks taken off for each block beyond those that the worker holds on its host.
  package var hostCredit = 0.75
  /// And for each beyond these that it holds on disk.
  package var diskCredit = 0.25
  /// How fast the credit shrinks on workers with more prefill work than the least busy one.
  package var creditDecay = 0.0
  /// Weight of prefill blocks against decode blocks.
  package var prefillScale = 1.0
  /// Cached blocks are taken off decode blocks, and prefill does not count: for workers that only decode.
  package var creditsDecodeBlocks = false
  /// Blocks added for each request in flight.
  package var activeRequestWeight = 0.0
  /// Blocks added for each block that the worker must evict for the request; 0 is Dynamo's cost.
  package var evictionWeight = 4.0
  /// Adds the hot-prefix term above its bound; false is Dynamo's cost exactly.
  package var spreadsHotPrefixes = true
  /// Requests in flight on a worker up to which the hot-prefix term is 0.
  package var spreadFloor = 8

  package init() {}
}
