// Placing a request with all that may come between it and a worker: its session, and the queue.

package import Base

/// A request's session.
package struct RoutingSession: Sendable, Equatable {
  /// The hash of the session's name.
  package let key: UInt64
  /// The request must go to the session's worker; otherwise it goes there if that worker may be chosen.
  package let isHard: Bool

  package init(key: UInt64, isHard: Bool) {
    self.key = key
    self.isHard = isHard
  }
}

/// How an attempt to place a request ended.
package enum Placement: Sendable, Equatable {
  case decided(RoutingOutcome)
  /// The request waits: keep it until ``Router/nextReleasable(now:)`` names its ticket.
  case queued(QueueTicket)
  /// It would have to wait, and too many do.
  case queueFull
  /// The worker of its hard session is gone or refused. The session is forgotten, so the next request begins it anew.
  case sessionLost
}

extension Router {
  /// How many waiting requests are asked whether a worker is free for them, when the first ones must go to full ones.
  private static let headsMax = 256

  /// Chooses a worker like ``select(_:now:random:into:)``, or has the request wait while every worker that may be chosen
  /// has more prefill before it than the queue's threshold.
  ///
  /// - Parameter ticket: of a request that waits already. Once it was named by ``nextReleasable(now:)`` it is placed
  ///   whatever the load; before that it goes on waiting.
  package mutating func selectOrQueue(
    _ request: RoutingRequest, ticket: QueueTicket? = nil, now: Nanoseconds, random: inout Xoshiro256,
    into decision: RoutingDecision
  ) -> Placement {
    var request = request
    var hasNoRoom = options.queue != nil
    if let ticket, let index = queue.find(ticket) {
      if case .waiting = queue.slots[index].state { return .queued(ticket) }
      giveBack(queue.end(index))
      hasNoRoom = false
    }
    if let session = request.session, request.named == nil {
      switch sessionWorker(session, request, now) {
      case .none: break
      case .worker(let worker): request.named = worker
      case .lost:
        decision.reset(promptBlocks: request.chain.count)
        sessions.remove(session.key)
        return .sessionLost
      }
    }
    if hasNoRoom, let waits = waits(request, now: now) {
      decision.reset(promptBlocks: request.chain.count)
      return waits
    }
    let outcome = select(request, now: now, random: &random, into: decision)
    decision.waitingRequests = queue.statistics.waiting
    if case .chosen = outcome, let session = request.session {
      sessions.set(session.key, worker: decision.worker, now: now)
    }
    return .decided(outcome)
  }

  enum SessionWorker {
    case none
    case worker(UInt64)
    case lost
  }

  /// Where a request's session wants it.
  mutating func sessionWorker(
    _ session: RoutingSession, _ request: RoutingRequest, _ now: Nanoseconds
  ) -> SessionWorker {
    guard let worker = sessions.worker(of: session.key, now: now) else { return .none }
    guard let slot = slot(of: worker) else { return session.isHard ? .lost : .none }
    var named = request
    named.named = worker
    switch refusal(index.workers.base + slot, named, now) {
    case .none:
      // A soft session does not wait for its worker while others are free.
      return session.isHard || !isFull(slot) ? .worker(worker) : .none
    case .busyBlocks, .busyPrefill: return session.isHard ? .worker(worker) : .none
    default: return session.isHard ? .lost : .none
    }
  }

  /// Puts the request into the queue if every worker that may be chosen is full; nil when it need not wait.
  private mutating func waits(_ request: RoutingRequest, now: Nanoseconds) -> Placement? {
    guard let limits = options.queue else { return nil }
    tidy(now: now, budget: 4)
    var workers = 0
    var eligible = 0
    for slot in 0..<index.workers.used where index.workers.base[slot].isLive {
      workers += 1
      guard case .none = refusal(index.workers.base + slot, request, now) else { continue }
      eligible += 1
      if !isFull(slot) { return nil }
    }
    guard eligible > 0 else { return nil }
    let statistics = queue.statistics
    guard statistics.waiting < limits.requestsPerWorkerMax * workers,
      statistics.waitingTokens + request.tokens <= limits.tokensMax
    else {
      queue.statistics.refusedTotal += 1
      return .queueFull
    }
    let uncached = max(0, request.tokens - longestOverlap(request, now: now))
    return .queued(queue.add(request, uncached: uncached, policy: limits.policy, now: now))
  }

  /// Tokens of the longest overlap on any worker that may be chosen.
  private mutating func longestOverlap(_ request: RoutingRequest, now: Nanoseconds) -> Int {
    _ = look(request, now: now)
    var longest = 0
    for slot in 0..<index.workers.used where index.workers.base[slot].isLive {
      guard case .none = refusal(index.workers.base + slot, request, now) else { continue }
      longest = max(longest, Int(scratch.cached[slot]) * index.workers.base[slot].blockSize)
    }
    return longest
  }

  /// True when the worker has more prefill before it, booked or reserved, than the queue's threshold.
  func isFull(_ slot: Int) -> Bool {
    guard let limits = options.queue else { return false }
    let worker = index.workers.base + slot
    return Double(worker.pointee.prefillTokens + worker.pointee.reservedTokens)
      > limits.threshold * Double(worker.pointee.batchedTokensMax)
  }

  /// The next waiting request that some worker has room for; the room is kept for it until it is placed or cancelled, or
  /// ``QueueOptions/reservationLife`` is over. A request that no worker may take any more is named too, to learn that.
  ///
  /// To be called until it says nil, after each first token and end, after workers changed, and after upkeep. Each call
  /// looks at every worker a few times, however many wait and whatever workers they name.
  package mutating func nextReleasable(now: Nanoseconds) -> QueueTicket? {
    guard let limits = options.queue else { return nil }
    tidy(now: now, budget: 4)
    while let index = queue.expired(now: now, life: limits.reservationLife) {
      queue.statistics.expiredTotal += 1
      giveBack(queue.end(index))
    }
    guard !queue.isEmpty else { return nil }
    // Most requests may go to any worker, so one look answers for all of them.
    let common = outlook(RoutingRequest(chain: UnsafeBufferPointer(start: nil, count: 0), tokens: 0), now)
    var visitsLeft = 2 * index.workers.used + Self.headsMax
    if let newest = queue.newestUnderOverload(after: limits.newestFirstAfter, now: now),
      let ticket = release(newest, common, &visitsLeft, now)
    {
      queue.statistics.newestFirstTotal += 1
      return ticket
    }
    var walk = queue.walk()
    for _ in 0..<Self.headsMax {
      guard visitsLeft > 0, let head = queue.next(&walk) else { return nil }
      if let ticket = release(head, common, &visitsLeft, now) { return ticket }
    }
    return nil
  }

  /// Releases a waiting request if there is room for it; nil when it must wait on.
  private mutating func release(
    _ waiting: Int32, _ common: Outlook, _ visitsLeft: inout Int, _ now: Nanoseconds
  ) -> QueueTicket? {
    let request = queue.slots[Int(waiting)].request
    var found = common
    if !isCommon(request, common) {
      // However many want one full worker, those behind them may want another.
      if let named = request.named, let slot = slot(of: named), isFull(slot) { return nil }
      found = outlook(request, now)
      visitsLeft -= found.visits
    }
    if found.eligible == 0 { return queue.release(waiting, slot: -1, worker: 0, now: now) }
    guard let least = found.least else { return nil }
    index.workers.record(Int32(least)).pointee.reservedTokens += queue.slots[Int(waiting)].uncached
    return queue.release(waiting, slot: Int32(least), worker: index.workers.base[least].id, now: now)
  }

  /// What one look at the workers tells of a waiting request.
  private struct Outlook {
    /// Workers that were looked at, and those of them that may be chosen.
    var visits = 0
    var eligible = 0
    /// Of the latter the one with the least before it, and that has room.
    var least: Int?
  }

  private mutating func outlook(_ request: RoutingRequest, _ now: Nanoseconds) -> Outlook {
    var outlook = Outlook()
    if let candidates = request.named.map({ [$0] }) ?? request.allowed {
      for worker in candidates {
        if let slot = slot(of: worker) { look(at: slot, for: request, now, &outlook) }
      }
    } else {
      for slot in 0..<index.workers.used { look(at: slot, for: request, now, &outlook) }
    }
    return outlook
  }

  /// True when `common`, which was asked for a request without wishes, is the answer for this one too.
  private func isCommon(_ request: RoutingRequest, _ common: Outlook) -> Bool {
    guard request.named == nil, request.allowed == nil else { return false }
    guard !request.excluded.isEmpty else { return true }
    let least = common.least.map { index.workers.base[$0].id }
    return request.excluded.count < common.eligible && !request.excluded.contains { $0.worker == least }
  }

  private mutating func look(
    at slot: Int, for request: RoutingRequest, _ now: Nanoseconds, _ outlook: inout Outlook
  ) {
    outlook.visits += 1
    guard index.workers.base[slot].isLive, case .none = refusal(index.workers.base + slot, request, now)
    else { return }
    outlook.eligible += 1
    guard !isFull(slot) else { return }
    let least = outlook.least.map { (waitingTokens($0), $0) } ?? (.max, .max)
    if (waitingTokens(slot), slot) < least { outlook.least = slot }
  }

  private func waitingTokens(_ slot: Int) -> Int {
    index.workers.base[slot].prefillTokens + index.workers.base[slot].reservedTokens
  }

  /// The caller left: its request waits no more, and what was kept for it is free.
  package mutating func cancel(_ ticket: QueueTicket) {
    guard let index = queue.find(ticket) else { return }
    queue.statistics.cancelledTotal += 1
    giveBack(queue.end(index))
  }

  private func giveBack(_ reserved: (slot: Int32, worker: UInt64, tokens: Int)?) {
    guard let reserved, Int(reserved.slot) < index.workers.used else { return }
    let worker = index.workers.record(reserved.slot)
    // The slot may be another worker's by now, which began without reservations.
    guard worker.pointee.isLive, worker.pointee.id == reserved.worker else { return }
    worker.pointee.reservedTokens = max(0, worker.pointee.reservedTokens - reserved.tokens)
  }

  /// What waits, and what has.
  package var queueStatistics: QueueStatistics { queue.statistics }

  /// Sessions that are remembered.
  package var sessionCount: Int { sessions.count }
}
