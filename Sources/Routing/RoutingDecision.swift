// What was decided and why, in the form in which spans want it.

package import Base

/// A request as routing sees it.
package struct RoutingRequest {
  /// The prompt's chained block hashes in the model's block size; empty outside KV mode.
  package var chain: UnsafeBufferPointer<UInt64>
  /// Its chains in the further sizes of the model's workers; at most one for each of ``BlockSizes/others``.
  package var otherChains: [SizedChain] = []
  /// Prompt tokens, or a quarter of the canonical bytes.
  package var tokens: Int
  /// Workers that must not be chosen, and why.
  package var excluded: [(worker: UInt64, reason: RefusalReason)] = []
  /// Tokens that its answer is expected to have (Dynamo's `agent_hints.osl`); 0 when unknown.
  package var expectedTokens = 0
  /// The only worker that may be chosen.
  package var named: UInt64?
  /// The workers that may be chosen; nil for all.
  package var allowed: [UInt64]?
  /// Seconds by which the request goes before others in the queue, and its weight there.
  package var priorityJump = 0.0
  /// Requests of a higher one leave the queue first.
  package var strictPriority = 0
  package var session: RoutingSession?
  /// What this request weighs differently.
  package var weights: RequestWeights?
  /// Whether the candidates are to be listed.
  package var explains = true

  package init(chain: UnsafeBufferPointer<UInt64>, tokens: Int) {
    self.chain = chain
    self.tokens = tokens
  }
}

/// What one request weighs differently than its model (Dynamo's `router_config_override`); nil leaves the model's value.
package struct RequestWeights: Sendable, Equatable {
  package var overlapCredit: Double?
  package var prefillScale: Double?
  package var temperature: Double?
  package var assumesReuse: Bool?

  package init(overlapCredit: Double? = nil, temperature: Double? = nil, assumesReuse: Bool? = nil) {
    self.overlapCredit = overlapCredit
    self.temperature = temperature
    self.assumesReuse = assumesReuse
  }
}

/// How a selection ended.
package enum RoutingOutcome: Sendable {
  case chosen
  /// No worker is known.
  case noWorkers
  /// Workers are known, and every one is refused.
  case allRefused
  /// Some worker would do, but all such are busy.
  case allBusy
}

/// One worker as a decision saw it. Blocks are the model's, whatever the worker's size.
package struct RoutingCandidate: Sendable, Equatable {
  package let worker: UInt64
  /// Leading blocks that it is predicted to cache.
  package let overlapBlocks: Int
  package let activeBlocks: Int
  package let prefillTokens: Int
  /// -1 for a refused one.
  package let cost: Double
  package let refusal: RefusalReason
  /// Blocks beyond the overlap that it holds on its host, and beyond these on disk. Only in a dry run.
  package var hostBlocks = 0
  package var diskBlocks = 0
  /// The hot-prefix term in the cost. Only in a dry run.
  package var spread = 0.0
  package var cacheSource = CacheSource.predicted
}

/// A decision and its explanation, in blocks of the model's size. One object a loop, filled anew by each selection, so that deciding allocates nothing.
package final class RoutingDecision {
  /// The most candidates that are listed.
  package static let candidatesMax = 8

  package internal(set) var worker: UInt64 = 0
  package internal(set) var booking = Booking.none
  package internal(set) var promptBlocks = 0
  /// Tokens that the prompt probably has; set by whoever keeps the estimate.
  package var estimatedTokens = 0
  /// Leading blocks that the chosen worker is predicted to cache.
  package internal(set) var overlapBlocks = 0
  /// Blocks beyond the overlap that the chosen worker holds on its host, and beyond these on disk.
  package internal(set) var hostBlocks = 0
  package internal(set) var diskBlocks = 0
  /// By what the chosen worker's overlap was counted.
  package internal(set) var cacheSource = CacheSource.predicted
  /// The largest overlap among the workers that could be chosen.
  package internal(set) var bestOverlapBlocks = 0
  package internal(set) var cost = 0.0
  /// By how much the next best worker costs more; negative when temperature chose a dearer one; nil without another.
  package internal(set) var margin: Double?
  /// Share of the hot-prefix term in the chosen worker's cost, from 0 to 1.
  package internal(set) var spreadShare = 0.0
  /// Blocks that the chosen worker must probably evict; 0 where the decision is not explained.
  package internal(set) var evictedBlocks = 0

  /// Requests that wait for a worker; 0 where none ever does.
  package internal(set) var waitingRequests = 0

  /// The best candidates, cheapest first and refused ones last.
  package internal(set) var candidates: [RoutingCandidate] = []
  /// True when a refused worker is listed.
  package internal(set) var listsRefusal = false

  /// How long it took to find what each worker caches of the prompt; 0 without a clock.
  package internal(set) var lookUpTime: Nanoseconds = 0
  private let clock: (() -> Nanoseconds)?

  /// - Parameter clock: is read around the look-up.
  package init(clock: (() -> Nanoseconds)? = nil) {
    self.clock = clock
    candidates.reserveCapacity(Self.candidatesMax)
  }

  /// The clock's time; 0 without one.
  var time: Nanoseconds { clock?() ?? 0 }

  func reset(promptBlocks: Int) {
    worker = 0
    booking = .none
    self.promptBlocks = promptBlocks
    overlapBlocks = 0
    hostBlocks = 0
    diskBlocks = 0
    cacheSource = .predicted
    bestOverlapBlocks = 0
    cost = 0
    margin = nil
    spreadShare = 0
    evictedBlocks = 0
    waitingRequests = 0
    lookUpTime = 0
    listsRefusal = false
    if !candidates.isEmpty { candidates.removeAll(keepingCapacity: true) }
  }
}
