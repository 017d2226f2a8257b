// The price of sending a request to a worker, in blocks: Dynamo 1.6.1's formula and two terms of our own.

/// What the cost of one worker is made of. All blocks are blocks of the model's block size.
package struct CostInputs: Sendable {
  /// Prompt tokens waiting on the worker, before this request.
  package var activePrefillTokens = 0.0
  /// Prompt tokens of this request.
  package var promptTokens = 0.0
  package var blockSize = 16.0
  /// Leading blocks of this request that the worker caches.
  package var overlapBlocks = 0.0
  /// Blocks beyond them that the worker holds on its host, and beyond these on disk.
  package var hostBlocks = 0.0
  package var diskBlocks = 0.0
  /// How many more prefill blocks wait on this worker than on the least busy one.
  package var excessPrefillBlocks = 0.0
  /// Distinct blocks in use on the worker if the request goes there.
  package var potentialDecodeBlocks = 0.0
  package var activeRequests = 0.0
  /// Mean requests in flight on the other workers that could be chosen; nil when there is no other.
  package var activeRequestsElsewhere: Double?
  /// Blocks that the worker would have to evict for this request.
  package var evictedBlocks = 0.0

  package init() {}
}

extension CostParameters {
  /// Dynamo's cost.
  ///
  ///     raw    = (active prefill tokens + prompt tokens) / block size
  ///     decay  = 1 / (1 + creditDecay * excess prefill blocks / prompt blocks)
  ///     credit = overlapCredit * decay * overlap + hostCredit * host blocks + diskCredit * disk blocks
  ///     cost   = prefillScale * max(0, raw - credit) + potential decode blocks + activeRequestWeight * requests
  ///
  /// Of workers that only decode, whose prefill is not tracked:
  ///
  ///     cost   = max(0, potential decode blocks - credit) + activeRequestWeight * requests
  package func cost(_ inputs: CostInputs) -> Double {
    if creditsDecodeBlocks {
      return max(0, inputs.potentialDecodeBlocks - credit(inputs)) + activeRequestWeight
        * inputs.activeRequests
    }
    let raw = (inputs.activePrefillTokens + inputs.promptTokens) / inputs.blockSize
    return prefillScale * max(0, raw - credit(inputs)) + inputs.potentialDecodeBlocks
      + activeRequestWeight * inputs.activeRequests
  }

  private func credit(_ inputs: CostInputs) -> Double {
    var credit = overlapCredit * inputs.overlapBlocks
    if creditDecay > 0, inputs.promptTokens > 0 {
      credit /= 1 + creditDecay * inputs.excessPrefillBlocks * inputs.blockSize / inputs.promptTokens
    }
    guard inputs.hostBlocks + inputs.diskBlocks > 0 else { return credit }
    return credit + hostCredit * inputs.hostBlocks + diskCredit * inputs.diskBlocks
  }

  /// The hot-prefix term, to be added to the cost.
  ///
  /// Requests with one prefix share its blocks, so by Dynamo's cost they add next to nothing to the worker that caches
  /// it, and a burst of them stays there however long its queue. Here the credit for the cached prefix melts once the
  /// worker has more requests in flight than a bound, which is twice the mean of the others and at least the floor:
  /// in full at twice the bound. The next worker then takes some, caches the prefix too, and shares the burst.
  ///
  ///     bound = max(spreadFloor, 2 * mean of the others)
  ///     term  = prefillScale * overlapCredit * overlap * min(1, max(0, requests - bound) / bound)
  package func spread(_ inputs: CostInputs) -> Double {
    guard spreadsHotPrefixes, let elsewhere = inputs.activeRequestsElsewhere else { return 0 }
    let bound = max(Double(spreadFloor), 2 * elsewhere)
    guard inputs.activeRequests > bound else { return 0 }
    let part = bound > 0 ? min(1, (inputs.activeRequests - bound) / bound) : 1
    return prefillScale * overlapCredit * inputs.overlapBlocks * part
  }

  /// The eviction term, to be added to the cost.
  ///
  /// By Dynamo's cost a prompt that is cached on one worker goes to another as soon as that is a little less busy, is
  /// computed and stored there once more, and pushes out what somebody will ask for again: with caches that do not hold
  /// everything the copies eat most of what caching gains. Each block that must go therefore has a price, and a copy is
  /// made only where the load is worth it. A cache with room costs nothing.
  ///
  ///     term = evictionWeight * blocks to evict
  package func eviction(_ inputs: CostInputs) -> Double { evictionWeight * inputs.evictedBlocks }
}
