// Events are applied in slices of bounded work: counted in words of the tables, not in operations.

import Base
import Testing

@testable import Routing

extension Bench {
  /// Applies operations as the owner of a lock does; returns the work of each hold and how many operations it took.
  fileprivate func holds(_ worker: UInt64, _ operations: [CacheOperation]) -> [(
    work: Int, applied: Int, evicted: Int
  )] {
    var holds: [(work: Int, applied: Int, evicted: Int)] = []
    operations.withUnsafeBufferPointer { all in
      var rest = all[...]
      while !rest.isEmpty {
        let (before, evicted) = (router.events.work, router.index.evictedNodes)
        let applied = router.applySlice(worker: worker, UnsafeBufferPointer(rebasing: rest))
        let work = router.events.work - before + applied * Router.workPerOperation
        holds.append((work, applied, router.index.evictedNodes - evicted))
        rest = rest.dropFirst(applied)
      }
    }
    return holds
  }
}

@Suite struct EventSlices {
  /// One segment that splits, with the directory's growth, and is then enlarged because its keys were all on one side.
  private let largestOperation = 2 * EventTable.segmentPlaces * 2 + (1 << EventTable.depthMax) / 8

  @Test func theLongestHoldIsLessThanDesignAllows() {
    // 50 µs at 10 ns a word. Directories of the size that the default memory takes are doubled in less than one split.
    #expect(Router.workPerSlice + 4 * EventTable.segmentPlaces + 1_024 <= 5_000)
  }

  @Test(arguments: [1, 70, 700])
  func aHoldIsBoundedWorkHoweverManySegmentsGrow(workers: Int) {
    let bench = Bench(workers: workers)
    // A lane for each, so that sets are as wide as they get.
    for worker in 1...UInt64(workers) { bench.store([worker], on: worker) }
    var random = Xoshiro256(seed: 3)
    let hashes = (0..<40_000).map { _ in random.next() }
    let stored = bench.holds(1, hashes.map { CacheOperation(.stored, hash: $0) })
    let removed = bench.holds(1, hashes.map { CacheOperation(.removed, hash: $0) })
    for holds in [stored, removed] {
      #expect(holds.allSatisfy { $0.work <= Router.workPerSlice + largestOperation })
      #expect(holds.reduce(0) { $0 + $1.applied } == hashes.count)
    }
    // Segments that fill at one pace split at one time: slices of a number of operations would hold many splits.
    #expect(stored.contains { $0.work > Router.workPerSlice + EventTable.segmentPlaces / 2 })
    #expect(stored.map(\.applied).max() == Router.workPerSlice / Router.workPerOperation)
    #expect(bench.router.events.blocks.device == workers)
  }

  @Test func aFurther64WorkersMoveNothing() {
    let bench = Bench(workers: 65)
    var random = Xoshiro256(seed: 7)
    let many = (0..<50_000).map { _ in random.next() }
    bench.store(many, on: 1)
    for worker in 2...64 { bench.store(many[..<3], on: UInt64(worker)) }
    let before = bench.router.events.work
    let holds = bench.holds(65, many[..<3].map { CacheOperation(.stored, hash: $0) })
    #expect(holds.map(\.applied) == [3])
    #expect(bench.router.events.work == before)
    #expect(bench.told(Array(many[..<4]))[65] == [3, 0, 0])
    #expect(bench.told(Array(many[..<4]))[1] == [4, 0, 0])
  }

  @Test func clearingSweepsOneSegmentAtATime() {
    let bench = Bench(workers: 2)
    var random = Xoshiro256(seed: 8)
    let many = (0..<50_000).map { _ in random.next() }
    bench.store(many, on: 1)
    var holds: [Int] = []
    for _ in 0..<2_000 {
      holds += bench.holds(2, [CacheOperation(.stored, hash: many[0]), CacheOperation(.cleared)]).map(\.work)
    }
    #expect(holds.allSatisfy { $0 <= Router.workPerSlice + 4 * EventTable.segmentPlaces })
    // Lanes come back at the pace at which they are given up.
    #expect(bench.router.events.lanes.count <= 64 * 8)
    #expect(bench.told(Array(many[..<50])) == [1: [50, 0, 0]])
  }

  @Test func keysOfOneSideEnlargeASegmentInsteadOfSplittingOnAndOn() {
    let bench = Bench(workers: 1)
    // The upper 20 bits are equal, so every split leaves all keys on one side.
    let holds = bench.holds(1, (1...3_000).map { CacheOperation(.stored, hash: $0) })
    #expect(bench.told([1, 2, 3_000]) == [1: [3, 0, 0]])
    // Twice the places of the largest segment, which is as large as it must be for these keys.
    #expect(holds.allSatisfy { $0.work <= Router.workPerSlice + 4 * 4_096 + largestOperation })
    #expect(bench.router.statistics.eventBytes < 512 << 10)
  }

  @Test func slicesMakeTheSameIndexAsTheWhole() {
    let (sliced, whole) = (Bench(workers: 2), Bench(workers: 2))
    var random = Xoshiro256(seed: 4)
    let chain = (0..<6_000).map { _ in random.next() }
    var operations = chain.map { CacheOperation(.stored, hash: $0) }
    operations += chain[3_000...].map { CacheOperation(.removed, hash: $0) }
    operations.insert(CacheOperation(.cleared), at: 1_000)
    _ = sliced.holds(1, operations)
    whole.tell(1, operations)
    #expect(sliced.router.events.blocks == whole.router.events.blocks)
    #expect(sliced.told(Array(chain[1_000...])) == [1: [2_000, 0, 0]])
    #expect(whole.told(Array(chain[1_000...])) == [1: [2_000, 0, 0]])
  }

  @Test func aWorkerThatIsGoneTakesAllAtOnce() {
    let bench = Bench(workers: 1)
    #expect(
      bench.holds(9, [CacheOperation(.stored, hash: 5), CacheOperation(.cleared)]).map(\.applied) == [2])
  }

  @Test func predictionsGiveWayAFewAtATime() {
    let bench = Bench(workers: 1) { $0.indexBytesMax = 1 << 19 }
    for prompt in 0..<600 { bench.serve((0..<40).map { UInt64(prompt * 1_000 + $0) }, on: 1) }
    var random = Xoshiro256(seed: 5)
    let holds = bench.holds(1, (0..<15_000).map { _ in CacheOperation(.stored, hash: random.next()) })
    #expect(holds.contains { $0.evicted > 0 })
    // A node and its one entry are two of the 32.
    #expect(holds.allSatisfy { $0.evicted <= 16 })
  }
}
