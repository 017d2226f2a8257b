// What engines tell of their caches, against a naive dictionary; lanes, bounds, memory.

import Base
import Testing

@testable import Routing

extension Bench {
  func tell(_ worker: UInt64, _ operations: [CacheOperation]) {
    operations.withUnsafeBufferPointer { router.apply(worker: worker, $0) }
  }

  func store(_ chain: some Sequence<UInt64>, on worker: UInt64, tier: CacheTier = .device) {
    tell(worker, chain.map { CacheOperation(.stored, hash: $0, tier: tier) })
  }

  func drop(_ chain: some Sequence<UInt64>, on worker: UInt64, tier: CacheTier = .device) {
    tell(worker, chain.map { CacheOperation(.removed, hash: $0, tier: tier) })
  }

  func follow(_ workers: UInt64...) {
    for worker in workers { router.setSource(worker: worker, .events, reason: .feedLive) }
  }

  /// Leading blocks by worker as events tell, without those that have none.
  func told(_ chain: [UInt64]) -> [UInt64: [Int]] {
    var result: [UInt64: [Int]] = [:]
    let ids = (0..<router.index.workers.used).map { router.index.workers.base[$0].id }
    chain.withUnsafeBufferPointer {
      router.events.match($0) { slot, device, host, disk in
        result[ids[slot]] = [Int(device), Int(host), Int(disk)]
      }
    }
    return result
  }
}

@Suite struct Events {
  private let long = (1...400).map { UInt64($0) &* 0x9e37_79b9_7f4a_7c15 }

  @Test func longestPrefixOfEachWorkerIsFound() {
    let bench = Bench(workers: 5)
    for (worker, length) in [(1, 400), (2, 399), (3, 33), (4, 1)] {
      bench.store(long[..<length], on: UInt64(worker))
    }
    bench.store(long[5...], on: 5)
    #expect(bench.told(long) == [1: [400, 0, 0], 2: [399, 0, 0], 3: [33, 0, 0], 4: [1, 0, 0]])
    #expect(bench.told(Array(long[..<1])) == [1: [1, 0, 0], 2: [1, 0, 0], 3: [1, 0, 0], 4: [1, 0, 0]])
    #expect(bench.told([]) == [:])
    #expect(bench.told([42]) == [:])
  }

  @Test(arguments: [1, 31, 32, 33, 63, 64, 65, 399, 400])
  func everyLengthIsExact(_ length: Int) {
    let bench = Bench(workers: 3)
    bench.store(long[..<length], on: 1)
    bench.store(long, on: 2)
    bench.store(long[..<(length / 2)], on: 3)
    var expected = [UInt64(1): [length, 0, 0], 2: [400, 0, 0]]
    if length > 1 { expected[3] = [length / 2, 0, 0] }
    #expect(bench.told(long) == expected)
  }

  @Test func lowerTiersContinueWhereHigherOnesEnd() {
    let bench = Bench(workers: 3)
    bench.store(long[..<100], on: 1)
    bench.store(long[50..<300], on: 1, tier: .host)
    bench.store(long[300..<400], on: 1, tier: .disk)
    bench.store(long[..<70], on: 2, tier: .host)
    bench.store(long[..<10], on: 3)
    bench.store(long[11..<20], on: 3, tier: .host)
    #expect(bench.told(long) == [1: [100, 200, 100], 2: [0, 70, 0], 3: [10, 0, 0]])
    bench.follow(1, 2, 3)
    bench.selectChain(long)
    #expect(bench.decision.worker == 1)
    #expect(bench.decision.overlapBlocks == 100)
    #expect(bench.decision.hostBlocks == 200)
    #expect(bench.decision.diskBlocks == 100)
    // 400 - 100 - 0.75 * 200 - 0.25 * 100, and 400 in use.
    #expect(bench.decision.cost == 125 + 400)
  }

  @Test func sourceDecidesWhatCounts() {
    let bench = Bench(workers: 2)
    bench.store(long[..<20], on: 1)
    #expect(bench.overlap(long, 1) == 0)
    bench.follow(1)
    #expect(bench.overlap(long, 1) == 20)
    #expect(bench.decision.cacheSource == .events)
    #expect(bench.load(of: 1)?.cacheSource == .events)
    #expect(bench.load(of: 1)?.cachedBlocks == 20)
    // The request that was just booked predicts all 400, which events have not told of.
    #expect(bench.overlap(long, 1) == 20)
    bench.router.setSource(worker: 1, .predicted, reason: .feedLost)
    #expect(bench.overlap(long, 1) == 400)
    #expect(bench.decision.cacheSource == .predicted)
    #expect(bench.router.workersWithEvents == 0)
    // A worker without a word of its cache has none, once it has a feed.
    bench.follow(2)
    #expect(bench.overlap(long, 2) == 0)
    #expect(bench.overlap(long, 2) == 0)
  }

  @Test func recentPredictionsCountBesideEventsForTheirTime() {
    let bench = Bench(workers: 1) { $0.predictedTTL = 2 * second }
    bench.follow(1)
    bench.store(long[..<20], on: 1)
    bench.store(long[20..<30], on: 1, tier: .host)
    #expect(bench.overlap(Array(long[..<25]), 1) == 20)
    #expect(bench.overlap(long, 1) == 25)
    #expect(bench.decision.hostBlocks == 5)
    bench.now += 3 * second
    #expect(bench.overlap(long, 1) == 20)
    #expect(bench.decision.hostBlocks == 10)
  }

  @Test func clearAndRemovalForgetInOneStep() {
    let bench = Bench(workers: 3)
    bench.follow(1, 2, 3)
    for worker in 1...3 { bench.store(long, on: UInt64(worker)) }
    bench.router.clearEvents(worker: 1)
    #expect(bench.told(long).keys.sorted() == [2, 3])
    bench.store(long[..<7], on: 1)
    #expect(bench.told(long)[1] == [7, 0, 0])
    bench.router.remove(worker: 2)
    #expect(bench.told(long).keys.sorted() == [1, 3])
    #expect(bench.router.workersWithEvents == 2)
    bench.router.add(worker: 2)
    #expect(bench.told(long)[2] == nil)
    #expect(bench.router.eventState(of: 2) == EventState())
    bench.tell(3, [CacheOperation(.cleared)] + long[..<2].map { CacheOperation(.stored, hash: $0) })
    #expect(bench.told(long) == [1: [7, 0, 0], 3: [2, 0, 0]])
    _ = bench.router.maintain(now: bench.now)
    #expect(bench.told(long) == [1: [7, 0, 0], 3: [2, 0, 0]])
    #expect(bench.router.statistics.eventBlocks == 7)
    bench.router.clearEvents(worker: 1)
    bench.router.clearEvents(worker: 3)
    _ = bench.router.maintain(now: bench.now)
    #expect(bench.router.statistics.eventBytes == 0)
  }

  @Test func moreThan64WorkersAreSeveralBanks() {
    let bench = Bench(workers: 150)
    for worker in 1...150 { bench.store(long[..<worker], on: UInt64(worker)) }
    let told = bench.told(long)
    #expect(told.count == 150)
    for worker in 1...150 { #expect(told[UInt64(worker)] == [worker, 0, 0]) }
    for worker in 1...149 { bench.router.remove(worker: UInt64(worker)) }
    #expect(bench.told(long) == [150: [150, 0, 0]])
  }

  @Test func lanesAreUsedAgainHoweverOftenWorkersClear() {
    let bench = Bench(workers: 60)
    for worker in 1...60 { bench.store(long[..<3], on: UInt64(worker)) }
    for round in 0..<300 {
      bench.router.clearEvents(worker: 7)
      bench.store(long[..<(1 + round % 5)], on: 7)
    }
    #expect(bench.router.events.lanes.count == 128 || bench.router.events.lanes.count == 64)
    #expect(bench.told(long)[7] == [5, 0, 0])
    #expect(bench.told(long).count == 60)
  }

  @Test func sweepsInSlicesForgetNothingThatLives() {
    let bench = Bench(workers: 4)
    var random = Xoshiro256(seed: 5)
    let many = (0..<8000).map { _ in random.next() }
    bench.store(many, on: 1)
    bench.store(many[..<500], on: 2)
    bench.store(many[..<100], on: 3, tier: .host)
    let full = bench.router.statistics.eventBytes
    bench.router.clearEvents(worker: 1)
    var more = random.next()
    while bench.router.maintainSlice(now: bench.now, budget: 64) {
      // Blocks that come during a pass make segments split behind it and before it.
      for _ in 0..<300 {
        more = random.next()
        bench.store([more], on: 4)
      }
      bench.drop([more], on: 4)
    }
    #expect(bench.router.eventState(of: 2)?.deviceBlocks == 500)
    #expect(bench.told(Array(many[..<500])) == [2: [500, 0, 0], 3: [0, 100, 0]])
    bench.router.clearEvents(worker: 4)
    _ = bench.router.maintain(now: bench.now)
    #expect(bench.router.statistics.eventBlocks == 500)
    #expect(bench.router.statistics.eventBytes < full / 2)
    for worker in 2...3 { bench.router.clearEvents(worker: UInt64(worker)) }
    _ = bench.router.maintain(now: bench.now)
    #expect(bench.router.statistics.eventBytes == 0)
  }

  @Test func boundRefusesCountsAndFlags() {
    let bench = Bench(workers: 2) { $0.indexBytesMax = 64 << 10 }
    var random = Xoshiro256(seed: 9)
    let many = (0..<10_000).map { _ in random.next() }
    bench.store(many, on: 1)
    let state = bench.router.eventState(of: 1)
    #expect(state?.isIncomplete == true)
    #expect(bench.router.statistics.eventBytes <= 48 << 10)
    #expect((state?.deviceBlocks ?? 0) > 500)
    #expect(bench.router.statistics.refusedEventBlocks == 10_000 - (state?.deviceBlocks ?? 0))
    #expect(bench.router.eventState(of: 2)?.isIncomplete == false)
    // Sets of known blocks grow by workers for nothing.
    bench.store(many[..<100], on: 2)
    #expect(bench.router.eventState(of: 2) == EventState(deviceBlocks: 100))
    bench.tell(1, [CacheOperation(.cleared)])
    #expect(bench.router.eventState(of: 1)?.isIncomplete == false)
  }

  @Test func predictionsGiveWayToEvents() {
    let bench = Bench(workers: 1) { $0.indexBytesMax = 64 << 10 }
    var random = Xoshiro256(seed: 9)
    for _ in 0..<200 {
      bench.selectChain((0..<20).map { _ in random.next() })
      bench.router.free(bench.decision.booking, served: true, now: bench.now)
    }
    #expect(bench.router.statistics.indexBytes > 40 << 10)
    for _ in 0..<40 { bench.store((0..<50).map { _ in random.next() }, on: 1) }
    _ = bench.router.maintain(now: bench.now)
    for _ in 0..<20 { _ = bench.router.maintainSlice(now: bench.now, budget: 8) }
    let statistics = bench.router.statistics
    #expect(statistics.eventBytes > 20 << 10)
    #expect(statistics.indexBytes + statistics.eventBytes <= 64 << 10)
    bench.router.index.checkInvariants()
  }
}
