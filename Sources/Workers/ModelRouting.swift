// The routing state of one model: one per process, shared by all loops behind one lock.

package import Base
internal import EventLoop
package import Routing
internal import Synchronization
package import Telemetry

/// Guards the router of one model. A decision is one critical section; first token and end are two more.
///
/// Unchecked: `router` and `estimate` are touched inside ``locked(_:)`` alone. They lie beside the lock and not in it, because
/// a decision fills an object of the deciding loop, which must not be sent into the lock's region.
package final class ModelRouting: @unchecked Sendable {
  /// As the model began with them; the weights among them may have changed since.
  package let options: RoutingOptions
  /// What every decision's span says of this model's routing.
  package let spanAttributes: EncodedAttributes
  private let lock = Mutex(())
  var router: Router
  var estimate = TokenEstimate()
  /// Requests may wait for room; then ``waiters`` has how each of them is told. As many at most as the queue takes.
  package let mayQueue: Bool
  var waiters: [QueueTicket: QueueWaiter] = [:]
  /// Workers that are out of service and stay in the router: an operator drains them, or they were ejected.
  private var held: Set<UInt64> = []
  private let lockWait: Histogram?
  /// Times that the lock was free, not yet in the histogram.
  private var freeLocks = 0
  /// At how many of them the histogram hears of it: a shared line each time would cost more than the lock.
  private static let freeLocksMax = 64
  /// Request ids in flight, as hashes; as many at most as there are requests.
  private var claims: [UInt64: Int] = [:]

  /// - Parameter lockWait: where waits for the lock are observed, in seconds.
  package init(options: RoutingOptions, lockWait: Histogram? = nil) {
    self.options = options
    mayQueue = options.queue != nil
    spanAttributes = EncodedAttributes { span in
      span.attribute(AttributeName.routerMode, options.mode.name)
      span.attribute(AttributeName.blockSize, options.blockSize)
    }
    self.lockWait = lockWait
    router = Router(options: options)
  }

  /// Chooses a worker and books the request on it. `decision` also learns how many tokens a prompt of `bytes` canonical
  /// bytes probably has, by what engines reported so far.
  package func select(
    _ request: RoutingRequest, bytes: Int, now: Nanoseconds, random: inout Xoshiro256,
    into decision: RoutingDecision
  ) -> RoutingOutcome {
    locked {
      decision.estimatedTokens = estimate.tokens(forBytes: bytes)
      return router.select(request, now: now, random: &random, into: decision)
    }
  }

  /// The worker gave the request's first token.
  package func firstToken(_ booking: Booking, now: Nanoseconds) {
    lockedThenWaking(now: now) { router.firstToken(booking) }
  }

  /// The request has generated `tokens` tokens so far. To be called when they fill a block, not for each.
  package func outputGrew(_ booking: Booking, tokens: Int) {
    locked { router.outputGrew(booking, tokens: tokens) }
  }

  /// The request ended; `usage` is what the engine reported for a prompt of `bytes` canonical bytes. Returns how far that
  /// is from what was expected of its cache (``Router``).
  @discardableResult
  package func free(
    _ booking: Booking, served: Bool, now: Nanoseconds, bytes: Int, promptTokens: Int?, cachedTokens: Int?,
    request: ServedRequest = ServedRequest()
  ) -> Double? {
    lockedThenWaking(now: now) {
      let error = router.free(
        booking, served: served, now: now, promptTokens: promptTokens, cachedTokens: cachedTokens,
        request: request)
      if let promptTokens { estimate.observe(bytes: bytes, promptTokens: promptTokens) }
      return error
    }
  }

  /// A connect to the worker failed: nothing is predicted of its cache, and it is not chosen until `time`.
  package func connectFailed(_ worker: UInt64, now: Nanoseconds, refusedUntil time: Nanoseconds) {
    lockedThenWaking(now: now) {
      router.forgetPredictions(worker: worker, now: now)
      // That ends by itself; what the directory holds does not.
      if !held.contains(worker) { router.refuse(worker: worker, .ejected, until: time) }
    }
  }

  /// Notes that a caller's request id is in flight at a worker; false when it is already. `key` stands for the pair.
  package func claim(_ key: UInt64) -> Bool {
    locked {
      claims[key, default: 0] += 1
      return claims[key] == 1
    }
  }

  /// Ends a ``claim(_:)``.
  package func unclaim(_ key: UInt64) {
    locked {
      guard let count = claims[key] else { return }
      claims[key] = count > 1 ? count - 1 : nil
    }
  }

  /// Takes the model's ready workers: new ones join, those that are gone leave in one step. Called before the snapshot
  /// that holds them is published, so that no loop names a worker that the router has not heard of.
  package func workersChanged(_ workers: [Worker]) {
    lockedThenWaking(now: Machine.monotonicNanoseconds) {
      let known = router.loads.map(\.worker)
      let sizes = BlockSizes(model: options.blockSize, workers: workers.map(\.blockSize))
      for id in known where !workers.contains(where: { $0.id == id }) { router.remove(worker: id) }
      for worker in workers {
        router.add(
          worker: worker.id, blocksMax: worker.totalBlocks, batchedTokensMax: worker.batchedTokensMax,
          blockSize: sizes.known(worker.blockSize))
        if worker.isDraining {
          router.refuse(worker: worker.id, .draining)
        } else if worker.isEjected {
          router.refuse(worker: worker.id, .ejected)
        } else if !known.contains(worker.id) || held.contains(worker.id) {
          router.allow(worker: worker.id)
        }
        if case .recovering(let since, let until) = worker.standing {
          router.recover(worker: worker.id, since: since, until: until)
        } else {
          router.recover(worker: worker.id, since: 0, until: 0)
        }
      }
      held = Set(workers.filter { $0.isDraining || $0.isEjected }.map(\.id))
    }
  }

  /// Weighs candidates by `weights` from the next decision on.
  package func adopt(_ weights: RoutingWeights) {
    locked { router.adopt(weights) }
  }

  /// Upkeep, every few seconds; true when memory should be given back to the system.
  package func maintain(now: Nanoseconds) -> Bool {
    // In slices: whoever decides meanwhile waits for one of them at most.
    var idle = 0
    while idle <= locked({ router.slotCount }) {
      idle = locked { router.maintainSlice(now: now, budget: 256) } ? 0 : idle + 1
    }
    return lockedThenWaking(now: now) {
      showFreeLocks()
      return router.noteShrinkage()
    }
  }

  /// What is booked on each worker.
  package var loads: [WorkerLoad] { locked { router.loads } }

  /// Size and history of the router's state.
  package var statistics: RoutingStatistics { locked { router.statistics } }

  private func noteFreeLock() {
    freeLocks += 1
    if freeLocks == Self.freeLocksMax { showFreeLocks() }
  }

  private func showFreeLocks() {
    lockWait?.observe(0, count: freeLocks)
    freeLocks = 0
  }

  func locked<Result>(_ body: () -> Result) -> Result {
    var result: Result?
    let found: Void? = lock.withLockIfAvailable { _ in
      noteFreeLock()
      result = body()
    }
    if found == nil {
      let began = Machine.monotonicNanoseconds
      lock.withLock { _ in
        lockWait?.observe(Double(Machine.monotonicNanoseconds - began) / 1e9)
        result = body()
      }
    }
    guard let result else { preconditionFailure("the body ran in one of the two branches") }
    return result
  }
}
