// Waiting for room: who waits, who goes first, and that nobody is forgotten.

import Base
import Testing

@testable import Routing

extension Bench {
  func explain(
    _ chain: [UInt64], _ change: (inout RoutingRequest) -> Void = { _ in }
  ) -> [RoutingCandidate] {
    chain.withUnsafeBufferPointer {
      var request = RoutingRequest(chain: $0, tokens: $0.count * 16)
      change(&request)
      return router.survey(request, now: now).preview().candidates.map(\.facts)
    }
  }

  /// Tries to place a request of so many tokens.
  func place(
    tokens: Int = 1000, chain: [UInt64] = [], ticket: QueueTicket? = nil,
    _ change: (inout RoutingRequest) -> Void = { _ in }
  ) -> Placement {
    chain.withUnsafeBufferPointer {
      var request = RoutingRequest(chain: $0, tokens: tokens)
      change(&request)
      return router.selectOrQueue(request, ticket: ticket, now: now, random: &random, into: decision)
    }
  }

  var queueNumbers: QueueStatistics { router.queueStatistics }

  func next() -> QueueTicket? { router.nextReleasable(now: now) }

  /// The ticket of a request that must wait.
  func wait(
    tokens: Int = 1000, chain: [UInt64] = [], _ change: (inout RoutingRequest) -> Void = { _ in }
  ) -> QueueTicket? {
    if case .queued(let ticket) = place(tokens: tokens, chain: chain, change) { return ticket }
    Issue.record("the request did not wait")
    return nil
  }
}

/// Workers that compute 1000 tokens at once and are full above that.
private func queueBench(
  _ workers: Int = 1, _ change: (inout QueueOptions) -> Void = { _ in }
) -> Bench {
  var queue = QueueOptions(threshold: 1)
  change(&queue)
  let bench = Bench { $0.queue = queue }
  for worker in 1...workers { bench.router.add(worker: UInt64(worker), batchedTokensMax: 1000) }
  return bench
}

@Suite struct NewestFirst {
  private static let bound = 5 * second

  private func bench(_ workers: Int = 1) -> Bench { queueBench(workers) { $0.newestFirstAfter = Self.bound } }

  /// Fills the worker; gives what ends its load.
  private func fill(_ bench: Bench) -> Booking {
    #expect(bench.place(tokens: 1_100) == .decided(.chosen))
    return bench.decision.booking
  }

  @Test func onceTheOldestHasWaitedForTooLongTheNewestGoes() {
    let bench = bench()
    var booking = fill(bench)
    var tickets: [QueueTicket?] = []
    for _ in 0..<4 {
      tickets.append(bench.wait(tokens: 1_100))
      bench.now += second
    }
    func release() -> QueueTicket? {
      bench.router.free(booking, served: true, now: bench.now)
      let ticket = bench.next()
      #expect(bench.place(tokens: 1_100, ticket: ticket) == .decided(.chosen))
      booking = bench.decision.booking
      return ticket
    }
    // The oldest has waited for 4 s: it is still its turn.
    #expect(release() == tickets[0])
    // The next one then for 9 s.
    bench.now += 6 * second
    #expect(release() == tickets[3] && release() == tickets[2] && release() == tickets[1])
    #expect(bench.queueNumbers.newestFirstTotal == 3)
    // It is over with the oldest one.
    let late = [bench.wait(tokens: 1_100), bench.wait(tokens: 1_100)]
    #expect(release() == late[0] && release() == late[1])
    #expect(bench.queueNumbers.newestFirstTotal == 3)
  }

  @Test func priorityGoesBeforeAge() {
    let bench = bench()
    let booking = fill(bench)
    let first = bench.wait { $0.strictPriority = 1 }
    let second = bench.wait { $0.strictPriority = 1 }
    _ = bench.wait()
    bench.now += 2 * Self.bound
    bench.router.free(booking, served: true, now: bench.now)
    #expect(bench.next() == second && first != nil)
  }

  /// The newest may want a worker that is still full.
  @Test func whoeverCannotGoDoesNotKeepOthers() {
    let bench = bench(2)
    let bookings = [fill(bench), fill(bench)]
    let busy = bench.decision.worker
    let old = bench.wait()
    _ = bench.wait { $0.named = busy }
    bench.now += 2 * Self.bound
    bench.router.free(bookings[0], served: true, now: bench.now)
    #expect(bench.next() == old)
  }

  /// Links hold through every way out of the queue.
  @Test func leavingKeepsTheOthersInOrder() {
    for gone in 0..<4 {
      let bench = bench()
      let booking = fill(bench)
      let tickets = (0..<4).map { _ in bench.wait(tokens: 1) }
      if let ticket = tickets[gone] { bench.router.cancel(ticket) }
      bench.now += 2 * Self.bound
      bench.router.free(booking, served: true, now: bench.now)
      var order: [QueueTicket?] = []
      while let ticket = bench.next() { order.append(ticket) }
      let left = tickets.indices.filter { $0 != gone }.reversed().map { tickets[$0] }
      #expect(order == left)
      #expect(bench.queueNumbers.waiting == 0)
    }
  }
}

@Suite struct Queueing {
  @Test func requestsWaitWhileEveryWorkerIsFull() {
    let bench = queueBench(2)
    for _ in 0..<4 { #expect(bench.place(tokens: 600) == .decided(.chosen)) }
    let booking = bench.decision.booking
    let ticket = bench.wait(tokens: 600)
    #expect(bench.next() == nil)
    #expect(bench.router.queueStatistics.waiting == 1)
    #expect(bench.router.queueStatistics.waitingTokens == 600)
    bench.router.firstToken(booking)
    #expect(bench.next() == ticket)
    #expect(bench.router.queueStatistics.waiting == 0)
  }

  @Test func thresholdScalesWithTheWorker() {
    let bench = Bench { $0.queue = QueueOptions(threshold: 0.5) }
    bench.router.add(worker: 1)
    #expect(bench.place(tokens: 4096) == .decided(.chosen))
    #expect(bench.place(tokens: 1) == .decided(.chosen))
    #expect(bench.wait(tokens: 1) != nil)
    // More room by a better word of the worker.
    bench.router.add(worker: 1, batchedTokensMax: 16_384)
    #expect(bench.next() != nil)
  }

  @Test func releasedRequestIsPlacedOnceAndItsTicketIsSpent() throws {
    let bench = queueBench()
    #expect(bench.place(tokens: 1001) == .decided(.chosen))
    let first = bench.decision.booking
    let ticket = try #require(bench.wait())
    #expect(bench.place(ticket: ticket) == .queued(ticket))
    bench.router.firstToken(first)
    #expect(bench.next() == ticket)
    #expect(bench.router.queueStatistics.released == 1)
    #expect(bench.place(ticket: ticket) == .decided(.chosen))
    #expect(bench.router.queueStatistics.released == 0)
    #expect(bench.load(of: 1)?.prefillTokens == 1000)
    #expect(bench.router.state(now: bench.now)[0].reservedTokens == 0)
    // The ticket is spent: with it or without, the request is a new one.
    #expect(bench.place(ticket: ticket) == .decided(.chosen))
    guard case .queued(let other) = bench.place(ticket: ticket) else {
      Issue.record("a full worker takes nothing")
      return
    }
    #expect(other != ticket)
  }

  @Test func roomIsGivenOnceHoweverManyWait() {
    let bench = queueBench()
    #expect(bench.place(tokens: 5000) == .decided(.chosen))
    let booking = bench.decision.booking
    let tickets = (0..<10).compactMap { _ in bench.wait(tokens: 600) }
    bench.router.free(booking, served: true, now: bench.now)
    // Two fill the worker above its 1000 tokens.
    #expect(bench.next() == tickets[0])
    #expect(bench.next() == tickets[1])
    #expect(bench.next() == nil)
    // A newcomer does not take the room that is kept.
    #expect(bench.wait(tokens: 1) != nil)
    bench.router.cancel(tickets[0])
    #expect(bench.next() == tickets[2])
    #expect(bench.next() == nil)
    // Reservations of those who do not come back run out.
    bench.now += 6 * second
    #expect(bench.next() == tickets[3])
    #expect(bench.router.queueStatistics.expiredTotal == 2)
  }

  @Test func firstComeFirstServedCountsThePriorityJump() {
    let bench = queueBench()
    #expect(bench.place(tokens: 5000) == .decided(.chosen))
    let booking = bench.decision.booking
    let early = bench.wait()
    bench.now += 3 * second
    let late = bench.wait()
    let hasty = bench.wait { $0.priorityJump = 2 }
    let hastier = bench.wait { $0.priorityJump = 4 }
    let strict = bench.wait { $0.strictPriority = 1 }
    let odd = bench.wait { $0.priorityJump = .nan }
    bench.router.free(booking, served: true, now: bench.now)
    var order: [QueueTicket?] = []
    while let ticket = order.count < 6 ? bench.next() : nil {
      order.append(ticket)
      bench.router.cancel(ticket)
    }
    #expect(order == [strict, hastier, early, hasty, late, odd])
  }

  @Test func shortestPrefillFirstCountsWhatIsCached() {
    let bench = queueBench { $0.policy = .weightedShortestPrefill }
    let prompt = chain(Array(1...60))
    #expect(bench.place(tokens: 960, chain: prompt) == .decided(.chosen))
    bench.router.free(bench.decision.booking, served: true, now: bench.now)
    #expect(bench.place(tokens: 5000) == .decided(.chosen))
    let booking = bench.decision.booking
    let long = bench.wait(tokens: 900)
    let cached = bench.wait(tokens: 960, chain: prompt)
    let short = bench.wait(tokens: 100)
    let urgent = bench.wait(tokens: 900) { $0.priorityJump = 20 }
    bench.router.free(booking, served: true, now: bench.now)
    var order: [QueueTicket?] = []
    while let ticket = order.count < 4 ? bench.next() : nil {
      order.append(ticket)
      bench.router.cancel(ticket)
    }
    #expect(order == [cached, urgent, short, long])
  }

  @Test func boundsRefuseAndCount() {
    let bench = queueBench(2) {
      $0.requestsPerWorkerMax = 2
      $0.tokensMax = 3000
    }
    for _ in 0..<4 { #expect(bench.place(tokens: 600) == .decided(.chosen)) }
    #expect(bench.wait(tokens: 2999) != nil)
    #expect(bench.place(tokens: 2) == .queueFull)
    for _ in 0..<1 { #expect(bench.wait(tokens: 1) != nil) }
    #expect(bench.wait(tokens: 0) != nil)
    let last = bench.wait(tokens: 0)
    #expect(bench.place(tokens: 0) == .queueFull)
    #expect(bench.router.queueStatistics.refusedTotal == 2)
    if let last { bench.router.cancel(last) }
    #expect(bench.wait(tokens: 0) != nil)
  }

  @Test func requestForOneWorkerDoesNotBlockOthers() {
    let bench = queueBench(2)
    for worker in 1...2 {
      #expect(bench.place(tokens: 2000) { $0.named = UInt64(worker) } == .decided(.chosen))
    }
    let onSecond = bench.decision.booking
    let pinned = bench.wait { $0.named = 1 }
    let free = bench.wait()
    bench.router.firstToken(onSecond)
    #expect(bench.next() == free)
    #expect(bench.next() == nil)
    // Its worker left: it is told, so that it can say so.
    bench.router.remove(worker: 1)
    #expect(bench.next() == pinned)
    #expect(bench.place(ticket: pinned) { $0.named = 1 } == .decided(.allRefused))
  }

  @Test func manyRequestsForOneFullWorkerDoNotBlockOthers() {
    let bench = queueBench(2)
    var bookings: [Booking] = []
    for worker in [1, 1, 2, 2] as [UInt64] {
      #expect(bench.place(tokens: 600) { $0.named = worker } == .decided(.chosen))
      bookings.append(bench.decision.booking)
    }
    for _ in 0..<100 { _ = bench.wait(tokens: 600) { $0.named = 1 } }
    let free = bench.wait(tokens: 600)
    #expect(bench.next() == nil)
    bench.router.firstToken(bookings[2])
    #expect(bench.next() == free)
    #expect(bench.next() == nil)
  }

  @Test func withoutThresholdOrWorkersNothingWaits() {
    let plain = Bench(workers: 1)
    for _ in 0..<5 { #expect(plain.place(tokens: 100_000) == .decided(.chosen)) }
    #expect(plain.next() == nil)
    let empty = Bench { $0.queue = QueueOptions(threshold: 1) }
    #expect(empty.place() == .decided(.noWorkers))
    let refused = queueBench()
    refused.router.refuse(worker: 1, .draining)
    #expect(refused.place() == .decided(.allRefused))
  }

  @Test(arguments: 0..<8)
  func randomHistoriesPlaceEverybodyInOrder(_ seed: UInt64) {
    var random = Xoshiro256(seed: seed)
    let bench = queueBench(1 + Int(seed % 4)) { $0.requestsPerWorkerMax = 40 }
    var waiting: [QueueTicket: RouterQueue.Order] = [:]
    var released: [QueueTicket] = []
    var bookings: [Booking] = []
    for _ in 0..<600 {
      bench.now += UInt64(random.below(Int(second) / 100))
      switch random.below(10) {
      case 0...5:
        let placement = bench.place(tokens: random.below(900)) {
          $0.strictPriority = random.below(2)
          $0.priorityJump = Double(random.below(3))
        }
        switch placement {
        case .queued(let ticket): waiting[ticket] = bench.order(ticket)
        case .decided(.chosen): bookings.append(bench.decision.booking)
        default: #expect(placement == .queueFull)
        }
      case 6, 7:
        if !bookings.isEmpty {
          bench.router.free(bookings.remove(at: random.below(bookings.count)), served: true, now: bench.now)
        }
      case 8:
        if let ticket = waiting.keys.sorted(by: { $0.index < $1.index }).randomElement(using: &random) {
          bench.router.cancel(ticket)
          waiting[ticket] = nil
        }
      default:
        for ticket in released {
          #expect(bench.place(tokens: 1, ticket: ticket) == .decided(.chosen))
          bookings.append(bench.decision.booking)
        }
        released = []
      }
      while let ticket = bench.next() {
        let order = waiting.removeValue(forKey: ticket)
        // Nobody who goes before it waits still.
        if let order { for other in waiting.values { #expect(order < other) } }
        #expect(order != nil)
        released.append(ticket)
      }
      bench.checkQueue()
      #expect(bench.router.queueStatistics.waiting == waiting.count)
    }
    for booking in bookings { bench.router.free(booking, served: true, now: bench.now) }
    for ticket in Array(waiting.keys) + released { bench.router.cancel(ticket) }
    #expect(bench.router.queueStatistics.waiting == 0)
    #expect(bench.router.queueStatistics.waitingTokens == 0)
    #expect(bench.router.queueStatistics.released == 0)
    for row in bench.router.state(now: bench.now) { #expect(row.reservedTokens == 0) }
    #expect(bench.router.queue.slots.isEmpty)
  }
}

extension Bench {
  fileprivate func order(_ ticket: QueueTicket) -> RouterQueue.Order? {
    router.queue.find(ticket).map { router.queue.slots[$0].order }
  }

  fileprivate func checkQueue() {
    let queue = router.queue
    for (place, index) in queue.heap.enumerated() {
      #expect(queue.slots[Int(index)].place == place)
      if place > 0 {
        let parent = queue.heap[(place - 1) / 2]
        #expect(queue.slots[Int(parent)].order < queue.slots[Int(index)].order)
      }
    }
  }
}

@Suite struct Sessions {
  @Test func softSessionReturnsUnlessItsWorkerIsRefusedOrFull() {
    let bench = queueBench(3)
    let soft: (inout RoutingRequest) -> Void = { $0.session = RoutingSession(key: 5, isHard: false) }
    #expect(bench.place(tokens: 10, soft) == .decided(.chosen))
    let home = bench.decision.worker
    for _ in 0..<20 {
      #expect(bench.place(tokens: 10, soft) == .decided(.chosen))
      #expect(bench.decision.worker == home)
    }
    // Full: another takes it, and is the session's worker from then on.
    #expect(bench.place(tokens: 2000) { $0.named = home } == .decided(.chosen))
    #expect(bench.place(tokens: 10, soft) == .decided(.chosen))
    let second = bench.decision.worker
    #expect(second != home)
    bench.router.refuse(worker: second, .draining)
    #expect(bench.place(tokens: 10, soft) == .decided(.chosen))
    #expect(bench.decision.worker != second)
    bench.router.remove(worker: bench.decision.worker)
    bench.router.allow(worker: second)
    #expect(bench.place(tokens: 10, soft) == .decided(.chosen))
    #expect(bench.decision.worker == second)
  }

  @Test func hardSessionWaitsForItsWorkerAndFailsWithoutIt() throws {
    let bench = queueBench(2)
    let hard: (inout RoutingRequest) -> Void = { $0.session = RoutingSession(key: 5, isHard: true) }
    #expect(bench.place(tokens: 10, hard) == .decided(.chosen))
    let home = bench.decision.worker
    #expect(bench.place(tokens: 2000) { $0.named = home } == .decided(.chosen))
    let ticket = try #require(bench.wait(tokens: 10, hard))
    #expect(bench.next() == nil)
    bench.router.remove(worker: home)
    #expect(bench.next() == ticket)
    #expect(bench.place(tokens: 10, ticket: ticket, hard) == .sessionLost)
    // Told once; the next request begins it anew.
    #expect(bench.place(tokens: 10, hard) == .decided(.chosen))
    #expect(bench.decision.worker != home)
    bench.router.refuse(worker: bench.decision.worker, .ejected)
    #expect(bench.place(tokens: 10, hard) == .sessionLost)
    #expect(bench.router.queueStatistics.released == 0)
  }

  @Test func busyWorkerOfAHardSessionIsBusyNotLost() {
    let bench = Bench(workers: 2) { $0.busyPrefillTokens = 100 }
    let hard: (inout RoutingRequest) -> Void = { $0.session = RoutingSession(key: 5, isHard: true) }
    #expect(bench.place(tokens: 200, hard) == .decided(.chosen))
    #expect(bench.place(tokens: 10, hard) == .decided(.allBusy))
    #expect(
      bench.place(tokens: 10) { $0.session = RoutingSession(key: 5, isHard: false) } == .decided(.chosen))
  }

  @Test func sessionsEndByTimeAndByNumber() {
    var table = SessionAffinity(SessionAffinityOptions(life: 10 * second, sessionsMax: 3))
    for key in 1...4 { table.set(UInt64(key), worker: UInt64(key), now: UInt64(key) * second) }
    func found(_ now: Nanoseconds) -> [UInt64?] { (1...4).map { table.worker(of: $0, now: now) } }
    #expect(found(5 * second) == [nil, 2, 3, 4])
    table.set(2, worker: 9, now: 11 * second)
    #expect(found(12 * second) == [nil, 9, 3, 4])
    #expect(found(13 * second) == [nil, 9, nil, 4])
    table.expire(now: 30 * second, budget: 1)
    let (left, evictions) = (table.count, table.evictions)
    #expect(left == 2)
    #expect(evictions == 1)
    table.expire(now: 30 * second, budget: .max)
    table.remove(77)
    let count = table.count
    #expect(count == 0)
  }

  @Test func manySessionsGiveTheirMemoryBack() {
    var table = SessionAffinity(SessionAffinityOptions(life: second, sessionsMax: 10_000))
    for key in 0..<20_000 { table.set(UInt64(key) &* 0x9e37_79b9_7f4a_7c15, worker: 1, now: 0) }
    let (count, full, evictions) = (table.count, table.bytes, table.evictions)
    #expect(count == 10_000)
    #expect(full < 120 * 10_000)
    #expect(evictions == 10_000)
    table.expire(now: second, budget: .max)
    let empty = table.bytes
    #expect(empty == 0)
  }
}
