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
  /// Tickets that are named under one hold of the lock.
  private static let releasesPerHold = 64

  /// Chooses a worker like ``select(_:bytes:now:random:into:)``, but keeps sessions, and has the request wait where it
  /// must. `waiter` is asked for only then; it is woken once, and then places the request again with its ticket.
  package func place(
    _ request: RoutingRequest, ticket: QueueTicket?, bytes: Int, now: Nanoseconds,
    random: inout Xoshiro256, into decision: RoutingDecision, waiter: () -> QueueWaiter
  ) -> Placement {
    let placement = locked {
      decision.estimatedTokens = estimate.tokens(forBytes: bytes)
      let placement = router.selectOrQueue(
        request, ticket: ticket, now: now, random: &random, into: decision)
      if case .queued(let given) = placement, given != ticket { waiters[given] = waiter() }
      return placement
    }
    // What was kept free for it may be free for another now.
    if ticket != nil { wakeWaiters(now: now) }
    return placement
  }

  /// A request waits no more although it was not placed: its caller left, or it gave up.
  package func cancel(_ ticket: QueueTicket, now: Nanoseconds) {
    locked {
      waiters[ticket] = nil
      router.cancel(ticket)
    }
    wakeWaiters(now: now)
  }

  /// Wakes those that there is room for now. To be called whenever there may be.
  package func wakeWaiters(now: Nanoseconds) {
    guard mayQueue else { return }
    var isDone = false
    while !isDone {
      var woken: [QueueWaiter] = []
      locked {
        for _ in 0..<Self.releasesPerHold {
          guard let ticket = router.nextReleasable(now: now) else {
            isDone = true
            break
          }
          if let waiter = waiters.removeValue(forKey: ticket) { woken.append(waiter) }
        }
      }
      for waiter in woken { waiter.mailbox.submit(waiter.wake) }
    }
  }

  /// A request of a session was placed on another worker than the session's, which failed.
  package func moveSession(_ session: RoutingSession, to worker: UInt64, now: Nanoseconds) {
    locked { router.moveSession(session, to: worker, now: now) }
  }

  // MARK: What operators ask

  /// What would become of a request now; nothing is booked.
  package func preview(_ request: RoutingRequest, now: Nanoseconds) -> PlacementPreview {
    locked { router.preview(request, now: now) }
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
  }
}
