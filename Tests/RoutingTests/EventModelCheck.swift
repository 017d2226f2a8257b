// Engines with caches of their own tell their events; the router must know of each what a naive dictionary knows.

import Base
import Testing

@testable import Routing

/// An engine's cache: blocks named by numbers of its own, children evicted before their parents.
private struct NaiveEngine {
  struct Block {
    let external: UInt64
    let parent: UInt64?
  }

  /// By our chained hash.
  var held: [UInt64: Block] = [:]
  let mirror = MirrorRig()
  var waiting: [CacheOperation] = []

  func prefix(_ chain: [UInt64]) -> Int { chain.prefix { held[$0] != nil }.count }

  /// Stores what of the prompt is missing, as one event.
  mutating func run(_ contents: [UInt32], _ random: inout Xoshiro256) {
    let chain = chainOfTokens(contents)
    let known = prefix(chain)
    guard known < chain.count else { return }
    let fresh = chain[known...].map { _ in random.next() }
    let parent = known > 0 ? chain[known - 1] : nil
    mirror.store(fresh, after: parent.flatMap { held[$0]?.external }, Array(contents[known...]))
    for (place, block) in chain[known...].enumerated() {
      held[block] = Block(
        external: fresh[place], parent: known + place > 0 ? chain[known + place - 1] : nil)
    }
    waiting += mirror.takeOperations()
  }

  mutating func evict(_ count: Int, _ random: inout Xoshiro256) {
    var gone: [UInt64] = []
    // Leaves in passes: each pass takes some of those that have no child left.
    while gone.count < count, !held.isEmpty {
      let parents = Set(held.values.compactMap(\.parent))
      let leaves = held.keys.filter { !parents.contains($0) }.sorted()
      for leaf in leaves.shuffled(using: &random).prefix(1 + random.below(4)) where gone.count < count {
        if let block = held.removeValue(forKey: leaf) { gone.append(block.external) }
      }
    }
    mirror.remove(gone)
    waiting += mirror.takeOperations()
  }

  mutating func clear() {
    held = [:]
    mirror.cleared()
    waiting = mirror.takeOperations()
  }
}

@Suite struct EventModelCheck {
  @Test(arguments: 0..<8)
  func randomHistoriesAgree(_ seed: UInt64) {
    var random = Xoshiro256(seed: seed)
    // Some of them beyond one word of workers.
    let workers = seed % 4 == 3 ? 70 : 1 + Int(seed % 7)
    let bench = Bench(workers: workers, seed: seed)
    var engines = (0..<workers).map { _ in NaiveEngine() }
    for worker in 1...workers { bench.follow(UInt64(worker)) }
    for step in 0..<200 {
      let place = random.below(workers)
      let worker = UInt64(place + 1)
      switch random.below(20) {
      case 0...9: engines[place].run(prompt(&random), &random)
      case 10...16: engines[place].evict(1 + random.below(25), &random)
      case 17: engines[place].clear()
      case 18:
        bench.router.remove(worker: worker)
        bench.router.add(worker: worker)
        bench.follow(worker)
        engines[place] = NaiveEngine()
      default: _ = bench.router.maintainSlice(now: bench.now, budget: 8)
      }
      // In slices of any size.
      while !engines[place].waiting.isEmpty {
        let slice = engines[place].waiting.prefix(1 + random.below(30))
        bench.tell(worker, Array(slice))
        engines[place].waiting.removeFirst(slice.count)
      }
      let chain = chainOfTokens(prompt(&random))
      let told = bench.told(chain)
      for place in 0..<workers {
        let expected = engines[place].prefix(chain)
        #expect(
          told[UInt64(place + 1)]?[0] ?? 0 == expected, "seed \(seed), step \(step), worker \(place + 1)")
        #expect(bench.router.eventState(of: UInt64(place + 1))?.deviceBlocks == engines[place].held.count)
      }
      // Blocks of lanes not yet swept may still be there.
      guard step % 40 == 0 else { continue }
      let distinct = Set(engines.flatMap(\.held.keys))
      #expect(bench.router.statistics.eventBlocks >= distinct.count)
    }
    #expect(engines.allSatisfy { $0.mirror.counts.parentsNotFound + $0.mirror.counts.blocksNotFound == 0 })
    _ = bench.router.maintain(now: bench.now)
    #expect(bench.router.statistics.eventBlocks == Set(engines.flatMap(\.held.keys)).count)
    for worker in 1...workers { bench.router.remove(worker: UInt64(worker)) }
    _ = bench.router.maintain(now: bench.now)
    #expect(bench.router.statistics.eventBytes == 0)
  }

  /// Where an engine leaves holes, what is told ends at a hole of the prompt and never before the first.
  @Test(arguments: 0..<8)
  func holesAreNeverTakenForTheEndOfAShorterPrefix(_ seed: UInt64) {
    var random = Xoshiro256(seed: seed)
    let bench = Bench(workers: 5)
    let chain = (0..<300).map { _ in random.next() }
    var held = [Set<UInt64>](repeating: [], count: 5)
    for _ in 0..<200 {
      let place = random.below(5)
      let start = random.below(300)
      let part = chain[start..<min(300, start + random.below(120))]
      if random.below(3) > 0 {
        bench.store(part, on: UInt64(place + 1))
        held[place].formUnion(part)
      } else {
        bench.drop(part, on: UInt64(place + 1))
        held[place].subtract(part)
      }
      let told = bench.told(chain)
      for place in 0..<5 {
        let found = told[UInt64(place + 1)]?[0] ?? 0
        #expect(found >= chain.prefix { held[place].contains($0) }.count)
        if found > 0 { #expect(held[place].contains(chain[found - 1])) }
        if found < 300 { #expect(!held[place].contains(chain[found])) }
      }
    }
  }

  /// One of a few shared beginnings, cut at a random place, with a tail of its own half of the time.
  private func prompt(_ random: inout Xoshiro256) -> [UInt32] {
    let family = UInt32(random.below(3)) * 1000
    var contents = (0..<UInt32(random.below(120))).map { family + $0 }
    if random.below(2) == 0 {
      let tail = 10_000 + UInt32(random.below(4)) * 1000
      contents += (0..<UInt32(random.below(60))).map { tail + $0 }
    }
    return contents
  }
}
