// The prefix cache: reuse, honest counts, eviction, sharing, and the seam for its events.

import Base
import Testing

@testable import Engine

@Suite struct CacheTests {
  private func engine(blocks: Int = 100, observer: BlockRecorder? = nil, caching: Bool = true)
    -> SimulatedEngine
  {
    var configuration = EngineConfiguration()
    configuration.speedupRatio = 0
    configuration.blockSize = 4
    configuration.blockCount = blocks
    configuration.prefixCaching = caching
    return SimulatedEngine(configuration, observer: observer)
  }

  private func run(
    _ engine: SimulatedEngine, _ prompt: [UInt8], _ edit: (inout EngineRequest) -> Void = { _ in }
  ) throws -> SequenceUsage {
    let client = Recorder()
    try engine.submit(prompt, to: client) {
      $0.outputTokensMax = 1
      edit(&$0)
    }
    engine.drain()
    return try #require(client.summary).usage
  }

  @Test func anEqualPromptIsCachedButForItsLastBlock() throws {
    let engine = engine()
    let prompt = SimulatedEngine.prompt(20)
    #expect(try run(engine, prompt).cachedTokens == 0)
    // All five blocks are known, and the last is computed again: something must be, to generate from.
    #expect(try run(engine, prompt).cachedTokens == 16)
    #expect(try run(engine, SimulatedEngine.prompt(22)).cachedTokens == 20)
  }

  @Test func onlyTheSharedPrefixCounts() throws {
    let engine = engine()
    _ = try run(engine, SimulatedEngine.prompt(40, shared: 22, name: 65))
    #expect(try run(engine, SimulatedEngine.prompt(40, shared: 22, name: 80)).cachedTokens == 20)
    #expect(try run(engine, SimulatedEngine.prompt(40, shared: 3, name: 90)).cachedTokens == 0)
  }

  @Test func cachedTokensShortenThePrefill() throws {
    var configuration = EngineConfiguration()
    configuration.watermark = 0
    let engine = SimulatedEngine(configuration)
    let prompt = SimulatedEngine.prompt(1_601)
    let cold = try run(engine, prompt)
    let warm = try run(engine, prompt)
    #expect(warm.cachedTokens == 1_600)
    #expect(cold.prefillTime == Nanoseconds(TimingModel.prefillMilliseconds(tokens: 1_601) * 1e6))
    #expect(warm.prefillTime == Nanoseconds(TimingModel.prefillMilliseconds(tokens: 1) * 1e6))
  }

  @Test func saltsKeepTenantsApartAndCachingCanBeOff() throws {
    let engine = engine()
    let prompt = SimulatedEngine.prompt(21)
    _ = try run(engine, prompt)
    #expect(try run(engine, prompt) { $0.cacheSalt = "tenant" }.cachedTokens == 0)
    #expect(try run(engine, prompt) { $0.cacheSalt = "tenant" }.cachedTokens == 20)
    let uncached = self.engine(caching: false)
    _ = try run(uncached, prompt)
    #expect(try run(uncached, prompt).cachedTokens == 0)
    #expect(uncached.load.cachedBlocks == 0)
  }

  @Test func theLeastRecentlyUsedIsEvictedFirstFromItsEnd() throws {
    let observer = BlockRecorder()
    let engine = engine(blocks: 10, observer: observer)
    let first = SimulatedEngine.prompt(16, name: 65)
    let second = SimulatedEngine.prompt(16, name: 75)
    _ = try run(engine, first)
    _ = try run(engine, second)
    #expect(engine.load.cachedBlocks == 8)
    _ = try run(engine, SimulatedEngine.prompt(16, name: 85))
    // Two free blocks and two evicted: the far end of the first prompt.
    let hashes = observer.stored[0].hashes
    #expect(observer.removed == [hashes[3], hashes[2]])
    #expect(try run(engine, SimulatedEngine.prompt(17, name: 75)).cachedTokens == 16)
    #expect(try run(engine, SimulatedEngine.prompt(17, name: 65)).cachedTokens <= 8)
  }

  @Test func concurrentEqualPromptsShareBlocks() throws {
    let engine = engine()
    let clients = [Recorder(), Recorder()]
    for client in clients {
      try engine.submit(SimulatedEngine.prompt(20), to: client) { $0.outputTokensMax = 9 }
    }
    engine.advance(to: 0)
    // The second computes its last block again, and then shares that one too.
    #expect(engine.load.activeBlocks == 5)
    engine.drain()
    #expect(clients[1].summary?.usage.cachedTokens == 16)
    #expect(clients[0].text == clients[1].text)
    #expect(engine.load.activeBlocks == 0)
  }

  @Test func outputBlocksAreReusedByAContinuation() throws {
    let engine = engine()
    let client = Recorder()
    let sequence = try engine.submit(SimulatedEngine.prompt(8), to: client) { $0.outputTokensMax = 9 }
    engine.drain()
    #expect(sequence.hashes.count == 4)
    #expect(engine.load.cachedBlocks == 4)
  }

  @Test func theLoadCountsWhatTheCacheSaved() throws {
    let engine = engine()
    _ = try run(engine, SimulatedEngine.prompt(20))
    _ = try run(engine, SimulatedEngine.prompt(20))
    #expect(engine.load.promptTokens == 40)
    #expect(engine.load.cachedTokens == 16)
  }
}
