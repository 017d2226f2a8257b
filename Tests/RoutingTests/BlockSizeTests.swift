// Workers of several block sizes under one model: each is found by its own blocks, costs are in the model's.

import Base
import Testing

@testable import Routing

/// A model of blocks of 16 with workers of 16 (1), 32 (2) and 64 (3), and prompts of real tokens.
private final class MixedBench {
  let bench: Bench
  let sizes = BlockSizes(model: 16, workers: [16, 32, 64])

  init(_ change: (inout RoutingOptions) -> Void = { _ in }) {
    bench = Bench(workers: 0, change)
    for (id, size) in [(UInt64(1), 16), (2, 32), (3, 64)] {
      bench.router.add(worker: id, blocksMax: 10_000, blockSize: size)
    }
  }

  static func chain(_ tokens: [UInt32], _ size: Int) -> [UInt64] {
    var blocks = PromptBlocks()
    tokens.withUnsafeBufferPointer { blocks.hash(tokens: $0, blockSize: size) }
    return Array(blocks.chain)
  }

  func select(_ tokens: [UInt32], named: UInt64? = nil, sizes given: [Int]? = nil) {
    let chains = ([sizes.model] + (given ?? sizes.others)).map { size in Self.chain(tokens, size) }
    var memory: [UnsafeMutableBufferPointer<UInt64>] = []
    defer { for buffer in memory { buffer.deallocate() } }
    for chain in chains {
      let buffer = UnsafeMutableBufferPointer<UInt64>.allocate(capacity: chain.count)
      _ = buffer.initialize(from: chain)
      memory.append(buffer)
    }
    var request = RoutingRequest(chain: UnsafeBufferPointer(memory[0]), tokens: tokens.count)
    request.otherChains = zip(given ?? sizes.others, memory.dropFirst()).map {
      SizedChain(blockSize: $0, chain: UnsafeBufferPointer($1))
    }
    request.named = named
    _ = bench.router.select(request, now: bench.now, random: &bench.random, into: bench.decision)
  }

  func serve(_ tokens: [UInt32], on worker: UInt64) {
    select(tokens, named: worker)
    bench.router.free(bench.decision.booking, served: true, now: bench.now)
  }

  /// The overlap with each worker, in blocks of 16.
  func overlaps(_ tokens: [UInt32]) -> [UInt64: Int] {
    select(tokens)
    defer { bench.router.free(bench.decision.booking, served: false, now: bench.now) }
    return Dictionary(uniqueKeysWithValues: bench.decision.candidates.map { ($0.worker, $0.overlapBlocks) })
  }
}

@Suite struct SeveralBlockSizes {
  private func prompt(_ seed: UInt64, _ count: Int) -> [UInt32] {
    var random = Xoshiro256(seed: seed)
    return (0..<count).map { _ in UInt32(truncatingIfNeeded: random.next() % 30_000) }
  }

  @Test func predictionsOfEachSizeAreFound() {
    let mixed = MixedBench()
    let tokens = prompt(1, 16 * 21)
    for worker in 1...3 { mixed.serve(tokens, on: UInt64(worker)) }
    // 21 blocks of 16, 10 of 32, 5 of 64; in blocks of 16 that is 21, 20, 20.
    #expect(mixed.overlaps(tokens) == [1: 21, 2: 20, 3: 20])
    // A prompt that parts after 100 tokens: 6 blocks of 16, 3 of 32, 1 of 64.
    let parted = Array(tokens[..<100]) + prompt(2, 200)
    #expect(mixed.overlaps(parted) == [1: 6, 2: 6, 3: 4])
  }

  @Test func eventsOfEachSizeAreFound() {
    let mixed = MixedBench()
    let tokens = prompt(3, 16 * 21)
    for (worker, size) in [(UInt64(1), 16), (2, 32), (3, 64)] {
      mixed.bench.store(MixedBench.chain(tokens, size), on: worker)
      mixed.bench.follow(worker)
    }
    mixed.bench.store(MixedBench.chain(tokens + prompt(4, 64), 64).suffix(1), on: 3, tier: .host)
    #expect(mixed.overlaps(tokens) == [1: 21, 2: 20, 3: 20])
    mixed.bench.router.clearEvents(worker: 1)
    mixed.select(tokens)
    #expect(mixed.bench.decision.worker != 1)
    #expect(mixed.bench.decision.overlapBlocks == 20)
  }

  @Test(arguments: [1, 2, 3])
  func theWorkerThatCachesThePromptWins(_ owner: Int) {
    for source in [CacheSource.predicted, .events] {
      let mixed = MixedBench()
      let tokens = prompt(UInt64(owner), 640)
      if source == .events {
        mixed.bench.store(MixedBench.chain(tokens, [16, 32, 64][owner - 1]), on: UInt64(owner))
        mixed.bench.follow(1, 2, 3)
      } else {
        mixed.serve(tokens, on: UInt64(owner))
      }
      for _ in 0..<5 {
        mixed.select(tokens)
        #expect(mixed.bench.decision.worker == UInt64(owner))
        #expect(mixed.bench.decision.overlapBlocks == 40)
        mixed.bench.router.free(mixed.bench.decision.booking, served: true, now: mixed.bench.now)
      }
    }
  }

  @Test func equalStatesCostTheSameWhateverTheSize() {
    let mixed = MixedBench { $0.cost.creditDecay = 0.5 }
    for worker in 1...3 {
      mixed.serve(prompt(5, 640), on: UInt64(worker))
      mixed.select(prompt(6, 1_280), named: UInt64(worker))
    }
    mixed.select(Array(prompt(5, 640)) + prompt(7, 640))
    let costs = mixed.bench.decision.candidates.map(\.cost)
    #expect(costs.count == 3)
    #expect(Set(costs).count == 1)
    #expect(mixed.bench.decision.candidates.map(\.activeBlocks) == [80, 80, 80])
  }

  @Test func loadIsCountedInTheWorkersOwnBlocks() {
    let mixed = MixedBench { $0.tracksOutputBlocks = true }
    mixed.select(prompt(8, 640), named: 2)
    #expect(mixed.bench.load(of: 2)?.activeBlocks == 20)
    #expect(mixed.bench.load(of: 2)?.prefillTokens == 640)
    mixed.bench.router.outputGrew(mixed.bench.decision.booking, tokens: 31)
    #expect(mixed.bench.load(of: 2)?.activeBlocks == 20)
    mixed.bench.router.outputGrew(mixed.bench.decision.booking, tokens: 32)
    #expect(mixed.bench.load(of: 2)?.activeBlocks == 21)
    mixed.bench.router.free(mixed.bench.decision.booking, served: true, now: mixed.bench.now)
    #expect(mixed.bench.load(of: 2)?.activeBlocks == 0)
    // What is cached by then is not computed again: 20 blocks of 32.
    mixed.select(prompt(8, 640) + prompt(9, 100), named: 2)
    #expect(mixed.bench.load(of: 2)?.prefillTokens == 100)
    mixed.bench.router.index.checkInvariants()
  }

  @Test func reportsAreComparedInTokens() {
    let mixed = MixedBench()
    let tokens = prompt(10, 640)
    for _ in 0..<20 {
      mixed.select(tokens, named: 3)
      mixed.bench.router.free(
        mixed.bench.decision.booking, served: true, now: mixed.bench.now, promptTokens: 640, cachedTokens: 640
      )
    }
    #expect(mixed.bench.router.statistics.corrections == 0)
    let truth = mixed.bench.router.truth(of: 3)
    #expect(truth?.isDrifting == false)
    #expect((truth?.observations ?? 0) > 0)
  }

  @Test func aPromptWithoutAChainOfAWorkersSizeIsPlacedThereAsUnknown() {
    let mixed = MixedBench()
    let tokens = prompt(11, 640)
    mixed.serve(tokens, on: 2)
    mixed.select(tokens, named: 2, sizes: [64])
    #expect(mixed.bench.decision.overlapBlocks == 0)
    #expect(mixed.bench.load(of: 2)?.prefillTokens == 640)
    mixed.bench.router.free(mixed.bench.decision.booking, served: true, now: mixed.bench.now)
    #expect(mixed.bench.load(of: 2)?.activeBlocks == 0)
  }

  @Test func aWorkerThatComesBackWithOtherBlocksBeginsAnew() {
    let mixed = MixedBench()
    let tokens = prompt(12, 640)
    mixed.serve(tokens, on: 2)
    mixed.bench.store(MixedBench.chain(tokens, 32), on: 2)
    mixed.bench.router.add(worker: 2, blocksMax: 10_000, blockSize: 64)
    #expect(mixed.overlaps(tokens)[2] == 0)
    #expect(mixed.bench.router.eventState(of: 2) == EventState())
    mixed.serve(tokens, on: 2)
    #expect(mixed.overlaps(tokens)[2] == 40)
    // The same size again forgets nothing.
    mixed.bench.router.add(worker: 2, blocksMax: 20_000, blockSize: 64)
    #expect(mixed.overlaps(tokens)[2] == 40)
  }

  @Test func sizesAreBoundedAndTheRestIsKnownByTheModels() {
    let sizes = BlockSizes(model: 16, workers: [16, 32, 8, 32, 64, 128, 256, 128, 16])
    #expect(sizes.others == [32, 8, 64])
    #expect(sizes.leftOut == 3)
    #expect([16, 32, 8, 64, 128, 256].map(sizes.known) == [16, 32, 8, 64, 16, 16])
    #expect(BlockSizes(model: 16, workers: [16, 16]) == BlockSizes(model: 16))
    #expect(BlockSizes(model: 16, workers: [0]).known(0) == 16)
  }
}
