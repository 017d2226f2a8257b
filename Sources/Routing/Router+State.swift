// What metrics and operators see of a router.

package import Base

// MARK: What metrics show

/// Counters and sizes of one router.
package struct RoutingStatistics: Sendable, Equatable {
  /// Times that a worker was asked for, and how many of them one was found.
  package let selections: Int
  package let decisions: Int
  package let bookings: Int
  package let expiredBookings: Int
  /// How often a report of cached tokens voided a worker's older predictions.
  package let corrections: Int
  package let indexBytes: Int
  package let indexNodes: Int
  package let evictedNodes: Int
  /// Prompts that the full index could not take; they count as load without sharing.
  package let refusedChains: Int
  /// Of the index of events: memory, blocks that some worker holds on its device, and those that found no room.
  package var eventBytes = 0
  package var eventBlocks = 0
  package var refusedEventBlocks = 0
}

extension Router {
  package var statistics: RoutingStatistics {
    RoutingStatistics(
      selections: selections, decisions: decisions, bookings: load.records.count,
      expiredBookings: expiredBookings,
      corrections: correctedWorkers, indexBytes: index.bytes, indexNodes: index.nodes.count,
      evictedNodes: index.evictedNodes, refusedChains: index.refusedChains,
      eventBytes: events.bytes, eventBlocks: events.blocks.device, refusedEventBlocks: events.refusedBlocks)
  }

  /// Workers that have a place in the books, also those that are leaving.
  package var slotCount: Int { index.workers.used }

  /// The load of every worker that may be chosen or still has requests, in the order in which they came.
  package var loads: [WorkerLoad] {
    (0..<index.workers.used).compactMap { slot in
      let worker = index.workers.base[slot]
      return worker.isLive || worker.activeRequests > 0 ? load(worker) : nil
    }
  }

  /// The load of one worker; nil when it is not known.
  package func load(of id: UInt64) -> WorkerLoad? {
    slot(of: id).map { load(index.workers.base[$0]) }
  }

  /// Blocks that the worker caches on its device, by its present source.
  func cachedBlocks(_ worker: WorkerState) -> Int {
    guard case .events = worker.source else { return worker.cachedBlocks }
    return worker.lane >= 0 ? events.lanes[Int(worker.lane)].device : 0
  }

  private func load(_ worker: WorkerState) -> WorkerLoad {
    let own = worker.ownLoad
    return WorkerLoad(
      worker: worker.id, activeRequests: own.requests, activeBlocks: own.blocks,
      prefillTokens: own.prefillTokens,
      cachedBlocks: cachedBlocks(worker), cacheSource: worker.source, cacheReason: worker.sourceReason,
      peers: worker.peers, latest: worker.latest)
  }
}

// MARK: What operators ask

/// All that the router knows of one worker.
package struct RouterWorkerState: Sendable, Equatable {
  package let load: WorkerLoad
  /// Tokens in each of its blocks, as it is known here.
  package let blockSize: Int
  /// Blocks that the router predicts, whatever the source.
  package let predictedBlocks: Int
  package let events: EventState
  /// Blocks of its cache; nil when unknown.
  package let blocksMax: Int?
  package let batchedTokensMax: Int
  /// Prompt tokens for which room is kept, of requests that just left the queue.
  package let reservedTokens: Int
  /// Why no request may go there now, of what does not depend on the request.
  package let refusal: RefusalReason
  /// When the refusal ends by itself; nil without one, and when it is lifted by hand.
  package let refusedUntil: Nanoseconds?
  /// Until when it takes but a growing share of the decisions; nil when it takes all that fall to it.
  package let recoveringUntil: Nanoseconds?
  package let truth: CacheTruth
  /// False for a worker that left and still has requests.
  package let isLive: Bool
}

extension Router {
  /// What is known of every worker, in the order in which they came.
  package func state(now: Nanoseconds) -> [RouterWorkerState] {
    (0..<index.workers.used).compactMap { slot in
      let worker = index.workers.base[slot]
      guard worker.isLive || worker.activeRequests > 0 else { return nil }
      let isRefused = worker.refusal != .none && worker.refusedUntil > now
      let isRecovering = !isRefused && worker.recoveringUntil > now
      return RouterWorkerState(
        load: load(worker), blockSize: worker.blockSize, predictedBlocks: worker.cachedBlocks,
        events: eventState(worker), blocksMax: worker.blocksMax < Int.max ? worker.blocksMax : nil,
        batchedTokensMax: worker.batchedTokensMax, reservedTokens: worker.reservedTokens,
        refusal: isRefused
          ? worker.refusal
          : Self.busyReason(
            index.workers.base + slot, blocksShare: options.busyBlocksShare,
            prefillTokens: options.busyPrefillTokens),
        refusedUntil: isRefused && worker.refusedUntil < .max ? worker.refusedUntil : nil,
        recoveringUntil: isRecovering ? worker.recoveringUntil : nil,
        truth: worker.truth,
        isLive: worker.isLive)
    }
  }

  /// What reports say of the router's idea of a worker's cache; nil when the worker is not known.
  package func truth(of id: UInt64) -> CacheTruth? {
    slot(of: id).map { index.workers.base[$0].truth }
  }

  /// Begins the comparison anew, as after a change of the worker's source.
  package mutating func resetTruth(worker id: UInt64) {
    guard let slot = slot(of: id) else { return }
    index.workers.base[slot].truth = CacheTruth()
  }
}
