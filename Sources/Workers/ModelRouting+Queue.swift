// Placing requests that may have to wait, waking them, and what operators ask of a model's routing.

package import Base
package import EventLoop
package import Routing
internal import Telemetry

/// How a waiting request is told to try again: by its own loop's mailbox.
package struct QueueWaiter: Sendable {
  let mailbox: Mailbox
  let wake: Mailbox.Work

  package init(_ mailbox: Mailbox, wake: @escaping Mailbox.Work) {
    self.mailbox = mailbox
    self.wake = wake
  }
}

extension ModelRouting {
  /// Workers that are looked at under one hold of the lock to wake requests; a request looks at each of them.
  private static let visitsPerHold = 4_096

  /// Chooses a worker like ``select(_:bytes:now:random:into:)``, but keeps sessions, and has the request wait where it
  /// must. `waiter` is asked for only then; it is woken once, and then places the request again with its ticket.
  package func place(
    _ request: RoutingRequest, ticket: QueueTicket?, bytes: Int, now: Nanoseconds,
    random: inout Xoshiro256, into decision: RoutingDecision, waiter: () -> QueueWaiter
  ) -> Placement {
    func decide() -> Placement {
      decision.estimatedTokens = estimate.tokens(forBytes: bytes)
      let placement = router.selectOrQueue(
        request, ticket: ticket, now: now, random: &random, into: decision)
      if case .queued(let given) = placement, given != ticket { waiters[given] = waiter() }
      return placement
    }
    // What was kept free for a waiting request may be free for another now.
    return ticket == nil ? locked(decide) : lockedThenWaking(now: now, decide)
  }

  /// A request waits no more although it was not placed: its caller left, or it gave up.
  package func cancel(_ ticket: QueueTicket, now: Nanoseconds) {
    lockedThenWaking(now: now) {
      waiters[ticket] = nil
      router.cancel(ticket)
    }
  }

  /// Wakes those that there is room for now. To be called whenever there may be.
  package func wakeWaiters(now: Nanoseconds) {
    lockedThenWaking(now: now) {}
  }

  /// Runs `body` under the lock, and under the same hold finds those that it made room for; then wakes them.
  func lockedThenWaking<Result>(now: Nanoseconds, _ body: () -> Result) -> Result {
    guard mayQueue else { return locked(body) }
    var woken: [QueueWaiter] = []
    var (result, isDone) = locked { (body(), takeReleased(now: now, into: &woken)) }
    while true {
      for waiter in woken { waiter.mailbox.submit(waiter.wake) }
      if isDone { return result }
      woken.removeAll(keepingCapacity: true)
      isDone = locked { takeReleased(now: now, into: &woken) }
    }
  }

  /// Takes the waiters of requests that there is room for; false when there may be more of them.
  private func takeReleased(now: Nanoseconds, into woken: inout [QueueWaiter]) -> Bool {
    var visits = 0
    while visits < Self.visitsPerHold {
      guard let ticket = router.nextReleasable(now: now) else { return true }
      if let waiter = waiters.removeValue(forKey: ticket) { woken.append(waiter) }
      visits += router.slotCount + 64
    }
    return false
  }

  /// A request of a session was placed on another worker than the session's, which failed.
  package func moveSession(_ session: RoutingSession, to worker: UInt64, now: Nanoseconds) {
    locked { router.moveSession(session, to: worker, now: now) }
  }

  // MARK: What operators ask

  /// What would become of a request now; nothing is booked.
  package func preview(_ request: RoutingRequest, now: Nanoseconds) -> PlacementPreview {
    locked { router.survey(request, now: now) }.preview()
  }

  /// All that is known at this moment.
  package func report(now: Nanoseconds) -> RouterReport { locked { router.report(now: now) } }

  /// Tokens that a prompt of `bytes` canonical bytes probably has.
  package func estimatedTokens(bytes: Int) -> Int { locked { estimate.tokens(forBytes: bytes) } }

  /// What waits, and what has.
  package var queueStatistics: QueueStatistics { locked { router.queueStatistics } }
}

extension SnapshotBoard {
  /// The gauges of the routers' queues, for models that have one; under Dynamo's names and labels.
  func registerQueues(on registry: MetricRegistry) {
    func gauge(_ metric: MetricDescription, _ value: @escaping @Sendable (QueueStatistics) -> Int) {
      registry.collect(metric, .gauge) { samples in
        for model in self.current.models where model.routing.mayQueue {
          samples.add(
            Double(value(model.routing.queueStatistics)),
            labels: [("model", model.name), ("worker_type", "decode"), ("policy_class", "default")])
        }
      }
    }
    gauge(.routerQueueRequests) { $0.waiting }
    gauge(.routerQueueTokens) { $0.waitingTokens }
    registry.collect(.routerQueueNewestFirst, .counter) { samples in
      for model in self.current.models where model.routing.mayQueue {
        samples.add(
          Double(model.routing.queueStatistics.newestFirstTotal), labels: [("model", model.name)])
      }
    }
  }
}
