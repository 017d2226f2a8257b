// A thousand workers and more: the work under the lock is done once for all of them, and decides as one by one would.

import Base
import Testing

@testable import Routing

private let workerCount = 1_200

/// Workers of uneven load, some of them refused, that are full above 1000 tokens.
private func crowd(seed: UInt64, _ change: (inout RoutingOptions) -> Void = { _ in }) -> Bench {
  var random = Xoshiro256(seed: seed)
  let bench = Bench(seed: seed) {
    $0.queue = QueueOptions(threshold: 1)
    change(&$0)
  }
  for worker in 1...UInt64(workerCount) {
    bench.router.add(worker: worker, batchedTokensMax: 1000)
    for _ in 0..<random.below(3) {
      let tokens = 16 * (1 + random.below(120))
      bench.selectChain([]) {
        $0.named = worker
        $0.tokens = tokens
      }
    }
    if random.below(10) == 0 { bench.router.refuse(worker: worker, .ejected) }
    if random.below(50) == 0 { bench.router.remove(worker: worker) }
  }
  return bench
}

extension Bench {
  /// The next ticket as asking every waiting request and every worker in turn finds it, and its worker.
  func nextOneByOne() -> (ticket: QueueTicket, worker: UInt64?)? {
    let waiting = router.queue.heap.sorted {
      router.queue.slots[Int($0)].order < router.queue.slots[Int($1)].order
    }
    for head in waiting {
      let entry = router.queue.slots[Int(head)]
      let ticket = QueueTicket(index: head, generation: entry.generation)
      var (eligible, least, leastTokens) = (0, UInt64?.none, Int.max)
      var wantsFullWorker = false
      for slot in 0..<router.index.workers.used where router.index.workers.base[slot].isLive {
        let worker = router.index.workers.base[slot]
        if worker.id == entry.request.named, router.isFull(slot) { wantsFullWorker = true }
        guard case .none = router.refusal(router.index.workers.base + slot, entry.request, now) else {
          continue
        }
        eligible += 1
        let tokens = worker.prefillTokens + worker.reservedTokens
        if !router.isFull(slot), tokens < leastTokens { (least, leastTokens) = (worker.id, tokens) }
      }
      if wantsFullWorker { continue }
      if eligible == 0 { return (ticket, nil) }
      if let least { return (ticket, least) }
    }
    return nil
  }

  /// For whom a released request's room is kept.
  func reserved(for ticket: QueueTicket) -> UInt64? {
    guard case .released(let slot, let worker, _) = router.queue.slots[Int(ticket.index)].state, slot >= 0
    else { return nil }
    return worker
  }
}

@Suite struct ManyWorkers {
  @Test(arguments: [UInt64(1), 2])
  func releasesAreThoseOfAskingOneByOne(seed: UInt64) {
    var random = Xoshiro256(seed: seed &+ 100)
    let bench = crowd(seed: seed)
    // Fill every worker, so that all that follow wait.
    var bookings: [Booking] = []
    for worker in 1...UInt64(workerCount) where bench.load(of: worker) != nil {
      for _ in 0..<2 {
        guard
          bench.selectChain(
            [],
            {
              $0.named = worker; $0.tokens = 1001
            }) == .chosen
        else { break }
        bookings.append(bench.decision.booking)
      }
    }
    for _ in 0..<200 {
      let kind = random.below(10)
      let some = (0..<3).map { _ in UInt64(1 + random.below(workerCount)) }
      let placement = bench.place(tokens: 1 + random.below(900)) {
        switch kind {
        case 0...4: $0.named = some[0]
        case 5: $0.allowed = some
        case 6: $0.excluded = some.map { ($0, .tried) }
        default: break
        }
        $0.strictPriority = random.below(3)
        $0.priorityJump = Double(random.below(20))
      }
      // Whoever named a worker that is gone or refused learns that at once.
      if case .queueFull = placement { Issue.record("the queue has room for all") }
    }
    #expect(bench.router.queueStatistics.waiting > 100)
    var released = 0
    while bench.router.queueStatistics.waiting > 0, !bookings.isEmpty {
      while true {
        let expected = bench.nextOneByOne()
        let ticket = bench.next()
        #expect(ticket == expected?.ticket)
        guard let ticket else { break }
        #expect(bench.reserved(for: ticket) == expected?.worker)
        released += 1
      }
      for _ in 0..<min(160, bookings.count) {
        let booking = bookings.remove(at: random.below(bookings.count))
        bench.router.free(booking, served: true, now: bench.now)
      }
    }
    #expect(released > 100)
  }

  @Test func manyWaitingAreSeenInTheirOrder() {
    var queue = RouterQueue()
    var random = Xoshiro256(seed: 5)
    for index in 0..<1_000 {
      var request = RoutingRequest(chain: UnsafeBufferPointer(start: nil, count: 0), tokens: index)
      request.priorityJump = Double(random.below(100))
      request.strictPriority = random.below(4)
      _ = queue.add(request, uncached: 1, policy: .firstComeFirstServed, now: 0)
    }
    var walk = queue.walk()
    var seen: [RouterQueue.Order] = []
    while let index = queue.next(&walk) { seen.append(queue.slots[Int(index)].order) }
    #expect(seen == queue.slots.map(\.order).sorted())
  }

  @Test(arguments: [
    (RoutingMode.kv, 0.0), (.kv, 0.7), (.powerOfTwo, 0), (.leastLoaded, 0), (.roundRobin, 0), (.random, 0),
  ])
  func likelihoodsAreThoseOfEachPair(mode: RoutingMode, temperature: Double) {
    let bench = crowd(seed: 4) {
      $0.mode = mode
      $0.temperature = temperature
    }
    for _ in 0..<7 { bench.selectChain([]) }
    let preview = bench.preview([1, 2, 3])
    let found = preview.candidates.filter { $0.facts.refusal == .none }
    #expect(found.count > 1_000)
    let costs = found.map(\.facts.cost)
    #expect(costs == costs.sorted())
    #expect(abs(found.reduce(0) { $0 + $1.likelihood } - 1) < 1e-6)
    let range = (costs.last ?? 0) - (costs.first ?? 0)
    let weights = costs.map {
      range > 0 && temperature > 0 ? exponential(-($0 - costs[0]) / range / temperature) : 1
    }
    let total = weights.reduce(0, +)
    let next = found.map(\.facts.worker).filter { $0 > UInt64(bench.router.nextSlot) }.min()
    for (index, candidate) in found.enumerated() {
      let pairs = costs.enumerated().reduce(0.0) { sum, other in
        other.offset == index
          ? sum : sum + (other.element > costs[index] ? 1 : other.element == costs[index] ? 0.5 : 0)
      }
      let expected: Double =
        switch mode {
        case .kv where temperature > 0: weights[index] / total
        case .kv, .leastLoaded, .direct:
          costs[index] == costs[0] ? 1 / Double(costs.count { $0 == costs[0] }) : 0
        case .random: 1 / Double(costs.count)
        case .powerOfTwo: pairs * 2 / Double(costs.count * (costs.count - 1))
        case .roundRobin: candidate.facts.worker == next ? 1 : 0
        }
      #expect(abs(candidate.likelihood - expected) < 1e-9)
    }
  }
}

/// e^x for -2 < x < 0, by its series.
private func exponential(_ x: Double) -> Double {
  var (term, sum) = (1.0, 1.0)
  for index in 1...30 {
    term *= x / Double(index)
    sum += term
  }
  return sum
}
