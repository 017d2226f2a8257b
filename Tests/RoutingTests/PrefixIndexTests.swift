// What the index remembers, and everything that makes it forget.

import Base
import Testing

@testable import Routing

@Suite struct Predictions {
  @Test func overlapCountsLeadingBlocksOnly() {
    let bench = Bench(workers: 3)
    bench.serve([1, 2, 3, 4, 5], on: 1)
    bench.serve([1, 2, 9], on: 2)
    #expect(bench.overlaps([1, 2, 3, 4, 5, 6]) == [1: 5, 2: 2, 3: 0])
    #expect(bench.overlaps([1, 2, 9, 9]) == [1: 2, 2: 3, 3: 0])
    #expect(bench.overlaps([1]) == [1: 1, 2: 1, 3: 0])
    #expect(bench.overlaps([2, 3]) == [1: 0, 2: 0, 3: 0])
    #expect(bench.overlaps([]) == [1: 0, 2: 0, 3: 0])
    bench.router.index.checkInvariants()
  }

  @Test(arguments: 1...12)
  func divergenceIsFoundAtEveryPlace(_ place: Int) {
    let bench = Bench(workers: 1)
    bench.serve(Array(1...12), on: 1)
    let other = Array(1...12).map { UInt64($0) }.enumerated().map {
      $0.offset >= place - 1 ? $0.element + 100 : $0.element
    }
    #expect(bench.overlaps(other) == [1: place - 1])
    bench.serve(other, on: 1)
    #expect(bench.overlaps(other) == [1: 12])
    #expect(bench.overlaps(Array(1...12)) == [1: 12])
    bench.router.index.checkInvariants()
  }

  @Test func predictionsEndAfterTheirTime() {
    let bench = Bench(workers: 1)
    bench.serve([1, 2, 3, 4], on: 1)
    bench.now += 60 * second
    bench.serve([1, 2], on: 1)
    bench.now += 60 * second - 1
    #expect(bench.overlaps([1, 2, 3, 4]) == [1: 4])
    bench.now += 1
    #expect(bench.overlaps([1, 2, 3, 4]) == [1: 2])
    bench.now += 60 * second
    #expect(bench.overlaps([1, 2, 3, 4]) == [1: 0])
    _ = bench.router.maintain(now: bench.now)
    #expect(bench.router.statistics.indexNodes == 0)
    #expect(bench.router.statistics.indexBytes <= 8 << 10)
  }

  @Test func leastRecentlyUsedIsBoundedByTheWorkersBlocks() {
    let bench = Bench(workers: 2, blocksMax: 10) { $0.cachePolicy = .leastRecentlyUsed }
    bench.serve([1, 2, 3, 4], on: 1)
    bench.serve([11, 12, 13, 14], on: 1)
    bench.serve([1, 2, 3, 4], on: 1)
    bench.serve([21, 22, 23, 24], on: 1)
    #expect(bench.overlaps([1, 2, 3, 4]) == [1: 4, 2: 0])
    #expect(bench.overlaps([11, 12, 13, 14]) == [1: 0, 2: 0])
    #expect(bench.overlaps([21, 22, 23, 24]) == [1: 4, 2: 0])
    #expect(bench.load(of: 1)?.cachedBlocks == 8)
    bench.now += 100_000 * second
    #expect(bench.overlaps([1, 2, 3, 4]) == [1: 4, 2: 0])
    // A smaller cache takes effect at once.
    bench.router.add(worker: 1, blocksMax: 4)
    #expect(bench.overlaps([1, 2, 3, 4]) == [1: 0, 2: 0])
    bench.router.index.checkInvariants()
  }

  @Test func leavesAreForgottenBeforeTheirPrefix() {
    let bench = Bench(workers: 1, blocksMax: 5) { $0.cachePolicy = .leastRecentlyUsed }
    bench.serve([1, 2, 3], on: 1)
    bench.serve([1, 2, 4, 5], on: 1)
    #expect(bench.overlaps([1, 2, 4, 5]) == [1: 4])
    bench.serve([7], on: 1)
    #expect(bench.overlaps([1, 2, 3]) == [1: 2])
  }

  @Test func forgettingVoidsAWorkerInOneStepAndNoOther() {
    let bench = Bench(workers: 2)
    bench.serve([1, 2, 3], on: 1)
    bench.serve([1, 2, 3], on: 2)
    bench.router.forgetPredictions(worker: 1, now: bench.now)
    #expect(bench.overlaps([1, 2, 3]) == [1: 0, 2: 3])
    bench.serve([1, 2], on: 1)
    #expect(bench.overlaps([1, 2, 3]) == [1: 2, 2: 3])
    bench.router.index.checkInvariants()
  }

  @Test func removedWorkerLeavesNothingOnceItsRequestsEnd() {
    let bench = Bench(workers: 2)
    bench.serve([5, 6], on: 1)
    bench.select([1, 2, 3], named: 1)
    let booking = bench.decision.booking
    bench.router.remove(worker: 1)
    #expect(bench.load(of: 1) == nil)
    bench.router.add(worker: 1)
    #expect(bench.overlaps([5, 6]) == [1: 0, 2: 0])
    #expect(bench.load(of: 1)?.activeRequests == 0)
    bench.router.firstToken(booking)
    bench.router.free(booking, served: true, now: bench.now)
    #expect(bench.load(of: 1)?.activeRequests == 0)
    _ = bench.router.maintain(now: bench.now)
    #expect(bench.router.statistics.indexNodes == 0)
    #expect(bench.router.index.workers.count == 2)
    bench.router.index.checkInvariants()
  }

  @Test func lastWorkerMayGoAndComeBack() {
    let bench = Bench(workers: 1)
    bench.serve([1, 2], on: 1)
    bench.router.remove(worker: 1)
    bench.router.remove(worker: 1)
    _ = bench.router.maintain(now: bench.now)
    #expect(bench.router.index.workers.count == 0)
    #expect(bench.select([1]) == .noWorkers)
    bench.router.add(worker: 1)
    #expect(bench.select([1]) == .chosen)
  }

  @Test func requestsThatNeverRanLeaveNoPrediction() {
    let bench = Bench(workers: 1)
    bench.serve([1, 2], on: 1)
    bench.select([1, 2, 3, 4])
    let failed = bench.decision.booking
    #expect(bench.overlaps([1, 2, 3, 4]) == [1: 4])
    bench.router.free(failed, served: false, now: bench.now)
    #expect(bench.overlaps([1, 2, 3, 4]) == [1: 2])
    // Another request for the same blocks keeps what it renewed.
    bench.select([1, 2, 3, 4])
    let first = bench.decision.booking
    bench.select([1, 2, 3, 4])
    bench.router.free(first, served: false, now: bench.now)
    #expect(bench.overlaps([1, 2, 3, 4]) == [1: 4])
    // After a first token the blocks are there whatever comes next.
    bench.select([7, 8])
    bench.router.firstToken(bench.decision.booking)
    bench.router.free(bench.decision.booking, served: false, now: bench.now)
    #expect(bench.overlaps([7, 8]) == [1: 2])
    bench.router.index.checkInvariants()
  }

  @Test func reportOfFewCachedTokensVoidsWhatIsOlder() {
    let bench = Bench(workers: 1)
    func ask(_ blocks: [UInt64], cached: Int) {
      bench.now += second
      bench.select(blocks)
      bench.router.free(
        bench.decision.booking, served: true, now: bench.now, promptTokens: blocks.count * 16,
        cachedTokens: cached)
    }
    ask(Array(100...110), cached: 0)
    ask(Array(1...10), cached: 0)
    ask(Array(200...210), cached: 0)
    // No hit was ever reported, so a report of none may only mean that the engine reports nothing.
    ask(Array(1...10), cached: 0)
    #expect(bench.overlaps(Array(100...110)) == [1: 11])
    ask(Array(1...10), cached: 160)
    ask(Array(200...210), cached: 0)
    // 200… was gone although used after 100…, so 100… must be gone too; 1… was used later.
    #expect(bench.overlaps(Array(100...110)) == [1: 0])
    #expect(bench.overlaps(Array(1...10)) == [1: 10])
    #expect(bench.overlaps(Array(200...210)) == [1: 11])
    #expect(bench.router.statistics.corrections == 1)
  }
}

@Suite struct Memory {
  @Test func indexStaysWithinItsBytesAndGivesThemBack() {
    let bench = Bench(workers: 4) { $0.indexBytesMax = 64 << 10 }
    var random = Xoshiro256(seed: 3)
    for step in 0..<3000 {
      let prefix = UInt64(random.below(20)) * 1000
      let blocks = (0..<UInt64(5 + random.below(60))).map {
        prefix + ($0 < 4 ? $0 : $0 + UInt64(step) * 100_000)
      }
      bench.select(blocks)
      bench.router.free(bench.decision.booking, served: true, now: bench.now)
      #expect(bench.router.statistics.indexBytes <= 64 << 10)
    }
    bench.router.index.checkInvariants()
    #expect(bench.router.statistics.evictedNodes > 0)
    #expect(bench.router.statistics.refusedChains == 0)
    bench.now += 200 * second
    _ = bench.router.maintain(now: bench.now)
    #expect(bench.router.statistics.indexBytes <= 8 << 10)
  }

  @Test func fullIndexCountsRequestsWithoutSharing() {
    let bench = Bench(workers: 1) { $0.indexBytesMax = 16 << 10 }
    var bookings: [Booking] = []
    for step in 0..<200 {
      let start = UInt64(step) * 1000
      #expect(bench.select(Array(start..<(start + 20))) == .chosen)
      bookings.append(bench.decision.booking)
      #expect(bench.load(of: 1)?.activeBlocks == (step + 1) * 20)
    }
    #expect(bench.router.statistics.refusedChains > 0)
    bench.router.index.checkInvariants()
    for booking in bookings { bench.router.free(booking, served: true, now: bench.now) }
    #expect(bench.load(of: 1)?.activeBlocks == 0)
    bench.router.index.checkInvariants()
  }

  @Test func hugePromptCannotEmptyTheIndex() {
    let bench = Bench(workers: 1) { $0.indexBytesMax = 32 << 10 }
    bench.serve([1, 2, 3], on: 1)
    bench.select(Array(10_000..<14_000))
    #expect(bench.load(of: 1)?.activeBlocks == 4000)
    #expect(bench.overlaps([1, 2, 3]) == [1: 3])
    bench.router.free(bench.decision.booking, served: true, now: bench.now)
    #expect(bench.load(of: 1)?.activeBlocks == 0)
  }

  @Test func maintenanceTellsWhenMuchWasFreed() {
    let bench = Bench(workers: 1)
    for step in 0..<400 { bench.serve(Array(UInt64(step) * 10_000..<UInt64(step) * 10_000 + 2000), on: 1) }
    #expect(!bench.maintain())
    bench.now += 200 * second
    #expect(bench.maintain())
    #expect(!bench.maintain())
  }
}
