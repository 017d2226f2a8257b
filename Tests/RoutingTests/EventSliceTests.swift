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
  /// One segment that splits, rounded up to a power of two of its places, and the directory's growth.
  private let largestOperation = 2 * EventTable.segmentWords + 1_024

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
    #expect(stored.contains { $0.work > Router.workPerSlice + EventTable.segmentWords / 2 })
    #expect(stored.map(\.applied).max() == Router.workPerSlice / Router.workPerOperation)
    #expect(stored.map(\.applied).min() ?? 0 < 32)
    #expect(bench.router.events.blocks.device == workers)
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
