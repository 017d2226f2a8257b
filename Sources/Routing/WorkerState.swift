// What the router knows of one worker: its limits, its load, its part of the index.

package import Base

/// One worker's record, addressed by its slot.
struct WorkerState: BitwiseCopyable {
  var id: UInt64
  /// False once the worker was removed; the slot is used again when nothing refers to it any more.
  var isLive = true
  /// The slot was given back.
  var isReclaimed = false
  var refusal = RefusalReason.none
  /// The refusal holds until this time; `UInt64.max` until it is lifted.
  var refusedUntil: Nanoseconds = 0
  /// It came back from an ejection: until the latter time it takes a growing share of the decisions.
  var recoveringSince: Nanoseconds = 0
  var recoveringUntil: Nanoseconds = 0
  /// What has come together of its next turn; at 1 it may be chosen.
  var recoveryTurn = 0.0

  /// Tokens in a block of this worker; all its blocks are counted in these.
  var blockSize: Int
  /// Blocks of the model's size in one of its own.
  var blockRatio = 1.0

  // Load
  /// Blocks that the worker's cache can hold; `Int.max` when unknown.
  var blocksMax: Int
  var activeRequests = 0
  /// Prompt tokens of requests that have not given a first token yet, without those the worker caches.
  var prefillTokens = 0
  /// Distinct blocks of requests in flight that the index tracks.
  var activeBlocks = 0
  /// Blocks of requests in flight that the index had no room for, or that are not shared by choice.
  var untrackedBlocks = 0
  /// Of these, blocks that requests near their expected end no longer count with.
  var discountedBlocks = 0.0
  /// The part of the sums above that other frontends booked.
  var peers = PeerLoad()
  /// What this frontend booked has changed since it was last told to the others.
  var isUntold = false

  /// What this frontend booked alone.
  var ownLoad: PeerLoad {
    PeerLoad(
      requests: activeRequests - peers.requests, blocks: max(0, blocksInUse - peers.blocks),
      prefillTokens: prefillTokens - peers.prefillTokens)
  }

  /// Distinct blocks of requests in flight, as they count in costs.
  var blocksInUse: Int {
    let blocks = activeBlocks &+ untrackedBlocks
    return discountedBlocks == 0 ? blocks : max(0, blocks - Int(discountedBlocks.rounded()))
  }

  /// Prompt tokens that the worker computes at once, by which the queue judges it.
  var batchedTokensMax = WorkerState.batchedTokensDefault
  /// Prompt tokens for which room is kept, of requests that left the queue and are not placed yet.
  var reservedTokens = 0
  /// What reports say of the router's idea of the cache.
  var truth = CacheTruth()

  /// The last request that came to a first token here.
  var latest = ServedRequest()

  // Index
  var oldest: Int32 = -1
  var newest: Int32 = -1
  /// Blocks of all stored predictions, void ones included until they are swept.
  var cachedBlocks = 0
  /// Predictions stamped at or before this time are void: how a worker is forgotten in one step.
  var voidUntil: Nanoseconds = 0
  var lastStamp: Nanoseconds = 0
  /// The worker has at least once reported cached tokens, so that a report of none means something.
  var hasReportedHits = false

  // Events
  var source = CacheSource.predicted
  var sourceReason = CacheSourceReason.noFeed
  /// The worker's lane in the index of events; -1 while it has none.
  var lane: Int32 = -1
  /// There was no room for a lane when it was needed.
  var lacksLane = false

  /// Dynamo's default of `max_num_batched_tokens`.
  static let batchedTokensDefault = 8192

  init(id: UInt64, blocksMax: Int, blockSize: Int) {
    self.id = id
    self.blocksMax = blocksMax
    self.blockSize = blockSize
  }

  /// The worker's blocks in the model's, whole ones.
  func inModelBlocks(_ blocks: Int) -> Int {
    blockRatio == 1 ? blocks : Int(Double(blocks) * blockRatio)
  }
}

/// Why a worker was not considered.
package enum RefusalReason: UInt8, Sendable, BitwiseCopyable {
  case none
  /// The request has tried it already.
  case tried
  /// It refused connections or failed requests lately.
  case ejected
  /// It came back from an ejection a short time ago, and it is not its turn yet.
  case recovering
  case draining
  case unhealthy
  /// It does not serve this model or this phase.
  case unsuitable
  /// Too many of its blocks are in use.
  case busyBlocks
  /// Too many prompt tokens wait there.
  case busyPrefill
  /// The request names another worker.
  case notNamed
  /// The request allows other workers only.
  case notAllowed

  /// The word for spans; empty for none.
  package var label: String {
    switch self {
    case .none: ""
    case .tried: "tried"
    case .ejected: "ejected"
    case .recovering: "recovering"
    case .draining: "draining"
    case .unhealthy: "unhealthy"
    case .unsuitable: "unsuitable"
    case .busyBlocks: "busy_blocks"
    case .busyPrefill: "busy_prefill"
    case .notNamed: "not_named"
    case .notAllowed: "not_allowed"
    }
  }
}

/// How a request went, as metrics show the latest one of each worker. 0 stands for what is not known.
package struct ServedRequest: Sendable, Equatable, BitwiseCopyable {
  /// Prompt tokens, by the engine's count.
  package var promptTokens: Int
  package var timeToFirstToken: Nanoseconds
  /// Mean time between tokens.
  package var interTokenLatency: Nanoseconds

  package init(promptTokens: Int = 0, timeToFirstToken: Nanoseconds = 0, interTokenLatency: Nanoseconds = 0) {
    self.promptTokens = promptTokens
    self.timeToFirstToken = timeToFirstToken
    self.interTokenLatency = interTokenLatency
  }
}

/// One worker's load as metrics show it, in its own blocks.
package struct WorkerLoad: Sendable, Equatable {
  package let worker: UInt64
  package let activeRequests: Int
  /// Distinct blocks of requests in flight.
  package let activeBlocks: Int
  package let prefillTokens: Int
  /// Blocks that the worker is predicted to cache.
  package let cachedBlocks: Int
  /// By what its cached blocks are counted in decisions.
  package var cacheSource = CacheSource.predicted
  package var cacheReason = CacheSourceReason.noFeed
  /// What other frontends booked, which is no part of the above.
  package var peers = PeerLoad()
  package let latest: ServedRequest
}
