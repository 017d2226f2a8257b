// The router against a naive one that keeps a dictionary of blocks for each worker: same answers on random histories.

import Base
import Testing

@testable import Routing

/// Every block of every worker, one by one.
private struct NaiveRouter {
  struct Request {
    let worker: UInt64
    let chain: [UInt64]
    let overlap: Int
    let stamp: Nanoseconds
    var prefill: Int
    var hasFirstToken = false
  }

  var cached: [UInt64: [UInt64: Nanoseconds]] = [:]
  var voidUntil: [UInt64: Nanoseconds] = [:]
  var lastStamp: [UInt64: Nanoseconds] = [:]
  var running: [Int: Request] = [:]
  let life: Nanoseconds = 120 * second

  func overlap(_ worker: UInt64, _ chain: [UInt64], _ now: Nanoseconds) -> Int {
    chain.prefix { block in
      guard let stamp = cached[worker]?[block] else { return false }
      return stamp > voidUntil[worker] ?? 0 && now < stamp + life
    }.count
  }

  func activeBlocks(_ worker: UInt64) -> Set<UInt64> {
    Set(running.values.filter { $0.worker == worker }.flatMap(\.chain))
  }

  func prefill(_ worker: UInt64) -> Int {
    running.values.filter { $0.worker == worker }.map(\.prefill).reduce(0, +)
  }

  func cost(_ worker: UInt64, _ chain: [UInt64], _ now: Nanoseconds) -> Double {
    let active = activeBlocks(worker)
    let raw = Double(prefill(worker) + chain.count * 16) / 16
    return max(0, raw - Double(overlap(worker, chain, now))) + Double(active.union(chain).count)
  }

  mutating func start(_ id: Int, _ worker: UInt64, _ chain: [UInt64], _ now: Nanoseconds) {
    let overlap = overlap(worker, chain, now)
    let stamp = max(now, (lastStamp[worker] ?? 0) + 1, (voidUntil[worker] ?? 0) + 1)
    lastStamp[worker] = stamp
    for block in chain { cached[worker, default: [:]][block] = stamp }
    running[id] = Request(
      worker: worker, chain: chain, overlap: overlap, stamp: stamp, prefill: (chain.count - overlap) * 16)
  }

  mutating func end(_ id: Int, served: Bool) {
    guard let request = running.removeValue(forKey: id), !served, !request.hasFirstToken else { return }
    for block in request.chain.dropFirst(request.overlap)
    where cached[request.worker]?[block] == request.stamp {
      cached[request.worker]?[block] = nil
    }
  }

  mutating func forget(_ worker: UInt64, _ now: Nanoseconds) {
    voidUntil[worker] = max(voidUntil[worker] ?? 0, now, lastStamp[worker] ?? 0)
  }
}

@Suite struct ModelCheck {
  @Test(arguments: 0..<24)
  func randomHistoriesAgree(_ seed: UInt64) {
    var random = Xoshiro256(seed: seed)
    let workers = 1 + UInt64(seed % 5)
    let bench = Bench(workers: Int(workers), seed: seed) { $0.cost.spreadsHotPrefixes = false }
    var naive = NaiveRouter()
    var bookings: [Int: Booking] = [:]
    for step in 0..<250 {
      switch random.below(10) {
      case 0...4:
        let blocks = prompt(&random)
        let chain = chain(blocks)
        let costs = (1...workers).map { naive.cost($0, chain, bench.now) }
        bench.select(blocks)
        let chosen = bench.decision.worker
        #expect(bench.decision.cost == costs.min(), "seed \(seed), step \(step)")
        #expect(costs[Int(chosen) - 1] == costs.min(), "seed \(seed), step \(step)")
        #expect(bench.decision.overlapBlocks == naive.overlap(chosen, chain, bench.now))
        bookings[step] = bench.decision.booking
        naive.start(step, chosen, chain, bench.now)
      case 5, 6:
        guard let id = bookings.keys.sorted().randomElement(using: &random) else { continue }
        let served = random.below(3) > 0
        bench.router.free(bookings.removeValue(forKey: id) ?? .none, served: served, now: bench.now)
        naive.end(id, served: served)
      case 7:
        guard let id = bookings.keys.sorted().randomElement(using: &random) else { continue }
        bench.router.firstToken(bookings[id] ?? .none)
        naive.running[id]?.prefill = 0
        naive.running[id]?.hasFirstToken = true
      case 8:
        // Never so far that a booking expires, which the naive router does not know.
        bench.now += UInt64(random.below(Int(second)))
        if random.below(8) == 0, bookings.isEmpty { bench.now += 100 * second }
      default:
        let worker = 1 + UInt64(random.below(Int(workers)))
        if random.below(4) == 0 {
          bench.router.forgetPredictions(worker: worker, now: bench.now)
          naive.forget(worker, bench.now)
        }
        for id in bookings.keys.sorted() where random.below(2) == 0 {
          bench.router.free(bookings.removeValue(forKey: id) ?? .none, served: true, now: bench.now)
          naive.end(id, served: true)
        }
      }
      bench.router.index.checkInvariants()
      for worker in 1...workers {
        #expect(bench.load(of: worker)?.activeBlocks == naive.activeBlocks(worker).count)
        #expect(bench.load(of: worker)?.prefillTokens == naive.prefill(worker))
      }
    }
  }

  @Test(arguments: 0..<8)
  func randomHistoriesKeepTheInvariantsUnderPressure(_ seed: UInt64) {
    var random = Xoshiro256(seed: seed)
    let bench = Bench(workers: 3, blocksMax: 60, seed: seed) {
      $0.indexBytesMax = seed % 2 == 0 ? 8 << 10 : 1 << 20
      if seed % 4 < 2 { $0.cachePolicy = .leastRecentlyUsed }
    }
    var bookings: [Booking] = []
    for _ in 0..<400 {
      switch random.below(8) {
      case 0...3:
        if bench.select(prompt(&random)) == .chosen { bookings.append(bench.decision.booking) }
      case 4, 5:
        if !bookings.isEmpty {
          let booking = bookings.remove(at: random.below(bookings.count))
          bench.router.free(
            booking, served: random.below(2) == 0, now: bench.now, promptTokens: 64,
            cachedTokens: random.below(64))
        }
      case 6:
        bench.now += UInt64(random.below(Int(40 * second)))
      default:
        let worker = 1 + UInt64(random.below(3))
        bench.router.remove(worker: worker)
        if random.below(2) == 0 { _ = bench.router.maintain(now: bench.now) }
        bench.router.add(worker: worker, blocksMax: 60)
      }
      bench.router.index.checkInvariants()
      if seed % 4 < 2 {
        for load in bench.router.loads { #expect(load.cachedBlocks <= 60) }
      }
    }
    for booking in bookings { bench.router.free(booking, served: true, now: bench.now) }
    for worker in 1...3 { bench.router.remove(worker: UInt64(worker)) }
    _ = bench.router.maintain(now: bench.now + 1000 * second)
    #expect(bench.router.statistics.indexBytes <= 8 << 10)
    #expect(bench.router.statistics.bookings == 0)
    #expect(bench.router.index.workers.count == 0)
  }

  /// One of a few shared beginnings, cut at a random place, with a tail of its own half of the time.
  private func prompt(_ random: inout Xoshiro256) -> [UInt64] {
    let family = UInt64(random.below(3)) * 100
    var blocks = (0..<UInt64(random.below(14))).map { family + $0 }
    if random.below(2) == 0 {
      let tail = 1000 + UInt64(random.below(4)) * 100
      blocks += (0..<UInt64(random.below(6))).map { tail + $0 }
    }
    return blocks
  }
}
