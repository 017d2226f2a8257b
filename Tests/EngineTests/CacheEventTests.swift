// What the cache reports: vLLM's order of events, step by step.

import Base
import Testing

@testable import Engine

@Suite struct CacheEventTests {
  private let observer = BlockRecorder()

  private func engine(blocks: Int = 100, batchedTokensMax: Int = 8_192) -> SimulatedEngine {
    var configuration = EngineConfiguration()
    configuration.speedupRatio = 0
    configuration.blockSize = 4
    configuration.blockCount = blocks
    configuration.batchedTokensMax = batchedTokensMax
    configuration.watermark = 0
    return SimulatedEngine(configuration, observer: observer)
  }

  @discardableResult
  private func run(
    _ engine: SimulatedEngine, _ prompt: [UInt8], output: Int = 1, salt: String = ""
  ) throws -> SequenceUsage {
    let client = Recorder()
    try engine.submit(prompt, to: client) {
      $0.outputTokensMax = output
      $0.cacheSalt = salt
    }
    engine.drain()
    return try #require(client.summary).usage
  }

  /// The prompt's tokens: its bytes in words of four, the last filled up with zeros.
  private func words(_ prompt: [UInt8]) -> [UInt32] {
    stride(from: 0, to: prompt.count, by: 4).map { start in
      (0..<4).reduce(0) {
        $0 | (start + $1 < prompt.count ? UInt32(prompt[start + $1]) << (8 * UInt32($1)) : 0)
      }
    }
  }

  @Test func aPromptIsOneEventWithItsOwnTokens() throws {
    let prompt = SimulatedEngine.prompt(14)
    try run(engine(), prompt)
    let stored = try #require(observer.stored.first)
    #expect(observer.events.count == 1)
    #expect(stored.hashes.count == 3 && Set(stored.hashes).count == 3)
    #expect(stored.parent == nil && stored.salt.isEmpty)
    #expect(stored.tokens == Array(words(prompt).prefix(12)))
  }

  @Test func anIncompleteLastWordIsFilledUp() throws {
    let prompt = Array(SimulatedEngine.prompt(8).dropLast(3))
    try run(engine(), prompt)
    #expect(observer.stored.map(\.tokens) == [words(prompt)])
  }

  @Test func aCachedPrefixIsSilent() throws {
    let engine = engine()
    let prompt = SimulatedEngine.prompt(12)
    try run(engine, prompt)
    try run(engine, prompt)
    #expect(observer.events.count == 1)
    // What goes on from it names the last cached block as its parent.
    #expect(try run(engine, prompt + SimulatedEngine.prompt(8, name: 80)).cachedTokens == 12)
    #expect(observer.stored.count == 2)
    #expect(observer.stored[1].parent == observer.stored[0].hashes.last)
    #expect(observer.stored[1].hashes.count == 2)
  }

  @Test func longPromptsAreABatchForEachStep() throws {
    try run(engine(batchedTokensMax: 8), SimulatedEngine.prompt(20))
    #expect(observer.batches.map(\.count) == [1, 1, 1])
    #expect(observer.stored.map(\.hashes.count) == [2, 2, 1])
    #expect(observer.stored[1].parent == observer.stored[0].hashes.last)
    #expect(observer.stored[2].parent == observer.stored[1].hashes.last)
  }

  @Test func sequencesOfOneStepShareABatch() throws {
    let engine = engine()
    for name: UInt8 in [65, 80] {
      try engine.submit(SimulatedEngine.prompt(8, name: name), to: Recorder()) { $0.outputTokensMax = 1 }
    }
    engine.drain()
    #expect(observer.batches.map(\.count) == [2])
    #expect(observer.stored.allSatisfy { $0.parent == nil && $0.hashes.count == 2 })
  }

  @Test func equalPromptsOfOneStepAreToldOnce() throws {
    let engine = engine()
    for _ in 0..<2 {
      try engine.submit(SimulatedEngine.prompt(8), to: Recorder()) { $0.outputTokensMax = 1 }
    }
    engine.drain()
    #expect(observer.stored.map(\.hashes.count) == [2])
  }

  @Test func blocksThatOutputFillsComeOneByOne() throws {
    try run(engine(), SimulatedEngine.prompt(6), output: 8)
    // 6 + 7 tokens are computed: the prompt's one block, and two that output filled.
    #expect(observer.stored.map(\.hashes.count) == [1, 1, 1])
    #expect(observer.batches.map(\.count) == [1, 1, 1])
    #expect(observer.stored[1].parent == observer.stored[0].hashes.last)
    #expect(observer.stored[2].parent == observer.stored[1].hashes.last)
    let mixed = observer.stored[1].tokens
    #expect(Array(mixed.prefix(2)) == Array(words(SimulatedEngine.prompt(6)).suffix(2)))
    #expect(mixed.suffix(2).allSatisfy { $0 >> 24 == 0xff })
  }

  @Test func evictionsComeBeforeTheStoresThatNeededTheRoom() throws {
    let engine = engine(blocks: 6)
    try run(engine, SimulatedEngine.prompt(16, name: 65))
    let first = try #require(observer.stored.first).hashes
    try run(engine, SimulatedEngine.prompt(16, name: 80))
    let batch = try #require(observer.batches.last)
    guard case .stored(let blocks)? = batch.last else {
      Issue.record("no store at the end of \(batch)")
      return
    }
    #expect(Array(batch.dropLast()) == [.removed(first[3]), .removed(first[2])])
    #expect(blocks.hashes.count == 4)
  }

  @Test func aMirrorOfTheEventsIsTheCache() throws {
    let engine = engine(blocks: 24)
    var random = Xoshiro256(seed: 5)
    for _ in 0..<200 {
      let shared = Int(random.next() % 10)
      let tokens = 8 + Int(random.next() % 40)
      let name = UInt8(65 + random.next() % 5)
      try run(
        engine, SimulatedEngine.prompt(tokens, shared: shared, name: name),
        output: 1 + Int(random.next() % 12))
    }
    var mirror: Set<UInt64> = []
    for event in observer.events {
      switch event {
      case .stored(let blocks):
        if let parent = blocks.parent { #expect(mirror.contains(parent)) }
        #expect(mirror.isDisjoint(with: blocks.hashes), "no block is stored twice")
        #expect(blocks.tokens.count == blocks.hashes.count * 4)
        mirror.formUnion(blocks.hashes)
      case .removed(let hash): #expect(mirror.remove(hash) != nil, "only what is there is removed")
      case .cleared: mirror.removeAll()
      }
    }
    #expect(mirror.count == engine.load.cachedBlocks)
    #expect(!observer.removed.isEmpty)
  }

  @Test func aSaltIsToldAndChangesTheHashes() throws {
    let engine = engine()
    let prompt = SimulatedEngine.prompt(8)
    try run(engine, prompt)
    try run(engine, prompt, salt: "tenant")
    #expect(observer.stored.map(\.salt) == ["", "tenant"])
    #expect(observer.stored[0].tokens == observer.stored[1].tokens)
    #expect(Set(observer.stored[0].hashes).isDisjoint(with: observer.stored[1].hashes))
  }

  @Test func aResetIsToldWithTheNextStep() throws {
    let engine = engine()
    let prompt = SimulatedEngine.prompt(8)
    try run(engine, prompt)
    #expect(engine.resetPrefixCache())
    #expect(engine.load.cachedBlocks == 0)
    #expect(observer.batches.count == 1)
    #expect(try run(engine, prompt).cachedTokens == 0)
    #expect(observer.batches.count == 2)
    #expect(observer.batches[1].first == .cleared)
    #expect(observer.batches[1].count == 2)
    // All blocks can be had again.
    try run(engine, SimulatedEngine.prompt(390, name: 80))
    #expect(engine.load.activeBlocks == 0)
  }

  @Test func aCacheInUseIsNotReset() throws {
    let engine = engine()
    try engine.submit(SimulatedEngine.prompt(8), to: Recorder()) { $0.outputTokensMax = 4 }
    engine.advance(to: 0)
    #expect(!engine.resetPrefixCache())
    engine.drain()
    #expect(engine.resetPrefixCache())
    #expect(observer.events.last == .cleared)
  }

  @Test func preemptedSequencesAreToldAgainOnlyWhereTheirBlocksWentAway() throws {
    let engine = engine(blocks: 8)
    let clients = [Recorder(), Recorder()]
    for (index, client) in clients.enumerated() {
      try engine.submit(SimulatedEngine.prompt(8, name: UInt8(65 + 15 * index)), to: client) {
        $0.outputTokensMax = 16
      }
    }
    engine.drain()
    #expect(engine.load.preemptions > 0 && clients.allSatisfy(\.isFinished))
    var mirror: Set<UInt64> = []
    for event in observer.events {
      switch event {
      case .stored(let blocks):
        #expect(mirror.isDisjoint(with: blocks.hashes))
        mirror.formUnion(blocks.hashes)
      case .removed(let hash): #expect(mirror.remove(hash) != nil)
      case .cleared: Issue.record("nobody cleared the cache")
      }
    }
    #expect(mirror.count == engine.load.cachedBlocks)
  }
}
