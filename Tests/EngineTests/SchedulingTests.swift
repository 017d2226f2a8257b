// Batching: order, budget, chunks, preemption, bounds, cancellation.

import Base
import Testing

@testable import Engine

@Suite struct SchedulingTests {
  private func small(_ edit: (inout EngineConfiguration) -> Void = { _ in }) -> EngineConfiguration {
    var configuration = EngineConfiguration()
    configuration.speedupRatio = 0
    configuration.blockSize = 4
    edit(&configuration)
    return configuration
  }

  @Test func requestsAreAdmittedInOrderUpToTheBatchLimit() throws {
    let engine = SimulatedEngine(small { $0.sequencesMax = 2 })
    let clients = (0..<3).map { _ in Recorder() }
    for (index, client) in clients.enumerated() {
      try engine.submit(SimulatedEngine.prompt(8, name: UInt8(65 + 8 * index)), to: client) {
        $0.outputTokensMax = index == 0 ? 2 : 5
      }
    }
    engine.advance(to: 0)
    #expect(engine.load.running == 2)
    #expect(engine.load.waiting == 1)
    engine.advance(to: 0)
    engine.advance(to: 0)
    #expect(clients[0].isFinished)
    #expect(engine.load.running == 2)
    engine.drain()
    #expect(clients.map(\.pieces.count) == [2, 5, 5])
  }

  @Test func oneTokenPerRunningSequencePerStep() throws {
    let engine = SimulatedEngine(small())
    let clients = (0..<4).map { _ in Recorder() }
    for (index, client) in clients.enumerated() {
      try engine.submit(SimulatedEngine.prompt(5 + index, name: UInt8(65 + index)), to: client) {
        $0.outputTokensMax = 10
      }
    }
    engine.advance(to: 0)
    for step in 1...10 {
      engine.advance(to: 0)
      #expect(clients.allSatisfy { $0.pieces.count == step })
    }
    #expect(clients.allSatisfy { $0.isFinished })
  }

  @Test func aLongPromptIsComputedInChunks() throws {
    let engine = SimulatedEngine(small { $0.batchedTokensMax = 10 })
    let client = Recorder()
    try engine.submit(SimulatedEngine.prompt(25), to: client) { $0.outputTokensMax = 1 }
    engine.advance(to: 0)
    #expect(engine.load.activeBlocks == 3)
    engine.advance(to: 0)
    #expect(engine.load.activeBlocks == 5)
    #expect(client.pieces.isEmpty)
    engine.advance(to: 0)
    #expect(engine.load.activeBlocks == 7)
    engine.advance(to: 0)
    #expect(client.isFinished)
    #expect(engine.load.steps == 3)
  }

  @Test func decodingGoesOnBesideAChunkedPrompt() throws {
    let engine = SimulatedEngine(small { $0.batchedTokensMax = 10 })
    let decoding = Recorder()
    let long = Recorder()
    try engine.submit(SimulatedEngine.prompt(4), to: decoding) { $0.outputTokensMax = 20 }
    engine.advance(to: 0)
    engine.advance(to: 0)
    try engine.submit(SimulatedEngine.prompt(27, name: 80), to: long) { $0.outputTokensMax = 1 }
    engine.advance(to: 0)
    for _ in 0..<2 {
      let before = decoding.pieces.count
      engine.advance(to: 0)
      #expect(decoding.pieces.count == before + 1)
      #expect(long.pieces.isEmpty)
    }
    engine.advance(to: 0)
    #expect(long.isFinished)
  }

  @Test func withoutChunksAPromptWaitsForAWholeBudget() throws {
    let engine = SimulatedEngine(
      small {
        $0.chunkedPrefill = false
        $0.batchedTokensMax = 10
      })
    let first = Recorder()
    let second = Recorder()
    try engine.submit(SimulatedEngine.prompt(8), to: first) { $0.outputTokensMax = 1 }
    try engine.submit(SimulatedEngine.prompt(8, name: 80), to: second) { $0.outputTokensMax = 1 }
    engine.advance(to: 0)
    #expect(engine.load.running == 1)
    engine.drain()
    #expect(second.isFinished)
    #expect(throws: EngineRefusal.promptTooLong(tokens: 11, limit: 11)) {
      try engine.submit(SimulatedEngine.prompt(11), to: Recorder())
    }
  }

  @Test func aFullCachePreemptsTheYoungestAndBothFinish() throws {
    let configuration = small { $0.blockCount = 6 }
    let engine = SimulatedEngine(configuration)
    let old = Recorder()
    let young = Recorder()
    try engine.submit(SimulatedEngine.prompt(8), to: old) { $0.outputTokensMax = 12 }
    try engine.submit(SimulatedEngine.prompt(8, name: 80), to: young) { $0.outputTokensMax = 12 }
    engine.drain()
    #expect(old.summary?.usage.preemptions == 0)
    #expect((young.summary?.usage.preemptions ?? 0) > 0)
    #expect(engine.load.preemptions == young.summary?.usage.preemptions)
    #expect(engine.load.activeBlocks == 0)

    let alone = Recorder()
    let other = SimulatedEngine(small())
    try other.submit(SimulatedEngine.prompt(8, name: 80), to: alone) { $0.outputTokensMax = 12 }
    other.drain()
    #expect(young.text == alone.text)
    #expect(young.pieces.count == 12)
  }

  @Test func admissionLeavesTheWatermarkFree() throws {
    let engine = SimulatedEngine(
      small {
        $0.blockCount = 10
        $0.watermark = 0.3
      })
    try engine.submit(SimulatedEngine.prompt(16), to: Recorder()) { $0.outputTokensMax = 3 }
    try engine.submit(SimulatedEngine.prompt(16, name: 80), to: Recorder()) { $0.outputTokensMax = 3 }
    engine.advance(to: 0)
    #expect(engine.load.running == 1)
    engine.drain()
    #expect(engine.load.running == 0)
  }

  @Test func theQueueIsBoundedByRequestsAndByTokens() throws {
    let engine = SimulatedEngine(
      small {
        $0.waitingMax = 2
        $0.waitingTokensMax = 100
      })
    try engine.submit(SimulatedEngine.prompt(60), to: Recorder())
    #expect(throws: EngineRefusal.queueFull) { try engine.submit(SimulatedEngine.prompt(60), to: Recorder()) }
    try engine.submit(SimulatedEngine.prompt(8), to: Recorder())
    #expect(throws: EngineRefusal.queueFull) { try engine.submit(SimulatedEngine.prompt(8), to: Recorder()) }
    #expect(engine.load.refusals == 2)
    engine.drain()
    try engine.submit(SimulatedEngine.prompt(60), to: Recorder())
  }

  @Test func aPromptThatCannotFitIsRefusedAndOutputEndsAtTheContext() throws {
    let engine = SimulatedEngine(small { $0.modelTokensMax = 20 })
    #expect(throws: EngineRefusal.promptTooLong(tokens: 20, limit: 20)) {
      try engine.submit(SimulatedEngine.prompt(20), to: Recorder())
    }
    #expect(throws: EngineRefusal.outputTooLong(tokens: 21, limit: 20)) {
      try engine.submit(SimulatedEngine.prompt(2), to: Recorder()) { $0.outputTokensMax = 21 }
    }
    let client = Recorder()
    try engine.submit(SimulatedEngine.prompt(15), to: client) { $0.outputTokensMax = 20 }
    engine.drain()
    #expect(client.pieces.count == 5)
    #expect(client.summary?.reason == .length)
  }

  @Test func cancelFreesBlocksAtOnceAndSilencesTheClient() throws {
    let engine = SimulatedEngine(small { $0.prefixCaching = false })
    let running = Recorder()
    let waiting = Recorder()
    let first = try engine.submit(SimulatedEngine.prompt(40), to: running)
    engine.advance(to: 0)
    let second = try engine.submit(SimulatedEngine.prompt(40), to: waiting)
    #expect(engine.load.activeBlocks == 10)
    engine.cancel(first, now: 0)
    engine.cancel(second, now: 7)
    #expect(engine.cancel(second, now: 9).outputTokens == 0)
    #expect(engine.load.activeBlocks == 0)
    #expect(engine.load.waiting == 0)
    engine.drain()
    #expect(engine.nextDeadline == nil)
    #expect(running.pieces.isEmpty && !running.isFinished && !waiting.isFinished)
  }

  @Test func aClientMayCancelItselfAndOthersFromItsCallback() throws {
    let engine = SimulatedEngine(small())
    let clients = [Recorder(), Recorder(), Recorder()]
    var sequences: [EngineSequence] = []
    for (index, client) in clients.enumerated() {
      let prompt = SimulatedEngine.prompt(8, name: UInt8(65 + 8 * index))
      sequences.append(try engine.submit(prompt, to: client) { $0.outputTokensMax = 4 })
    }
    clients[0].onToken = {
      engine.cancel(sequences[0], now: 0)
      engine.cancel(sequences[1], now: 0)
    }
    engine.drain()
    #expect(clients[0].pieces.count == 1)
    #expect(clients[1].pieces.isEmpty)
    #expect(clients[2].isFinished)
    #expect(engine.load.activeBlocks == 0)
  }

  @Test func aPausedSequenceGetsNoTokensAndKeepsItsBlocks() throws {
    let engine = SimulatedEngine(small())
    let slow = Recorder()
    let other = Recorder()
    let sequence = try engine.submit(SimulatedEngine.prompt(8), to: slow) { $0.outputTokensMax = 6 }
    try engine.submit(SimulatedEngine.prompt(8, name: 80), to: other) { $0.outputTokensMax = 6 }
    slow.onToken = { [unowned slow] in if slow.pieces.count == 2 { engine.pause(sequence) } }
    engine.drain()
    #expect(other.isFinished)
    #expect(slow.pieces.count == 2)
    #expect(engine.nextDeadline == nil)
    #expect(engine.load.activeBlocks == 3)
    engine.resume(sequence)
    engine.drain()
    #expect(slow.pieces.count == 6)
  }

  @Test func randomTrafficEndsWithEveryBlockReturned() throws {
    for seed in [1, 2, 3, 4, 5] as [UInt64] {
      var random = Xoshiro256(seed: seed)
      let engine = SimulatedEngine(
        small {
          $0.blockCount = 40
          $0.sequencesMax = 6
          $0.batchedTokensMax = 24
          $0.preemption = seed % 2 == 0 ? .lifo : .fifo
        })
      var clients: [Recorder] = []
      var sequences: [EngineSequence] = []
      for turn in 0..<400 {
        if random.next() % 3 == 0, clients.count < 60 {
          let client = Recorder()
          let tokens = 1 + Int(random.next() % 60)
          let prompt = SimulatedEngine.prompt(
            tokens, shared: tokens / 2, name: UInt8(65 + random.next() % 20))
          sequences.append(try engine.submit(prompt, to: client) { $0.outputTokensMax = 1 + turn % 30 })
          clients.append(client)
        }
        if random.next() % 11 == 0, let victim = sequences.last { engine.cancel(victim, now: 0) }
        engine.advance(to: 0)
        let load = engine.load
        #expect(load.activeBlocks + load.cachedBlocks <= 40, "seed \(seed) turn \(turn)")
      }
      engine.drain()
      #expect(engine.load.activeBlocks == 0, "seed \(seed)")
      #expect(engine.load.waiting == 0 && engine.load.running == 0, "seed \(seed)")
    }
  }

  @Test func faultsNameTheFlag() {
    var configuration = EngineConfiguration()
    #expect(configuration.faults().isEmpty)
    configuration.blockSize = 0
    configuration.speedupRatio = -1
    #expect(configuration.faults().count >= 2)
    #expect(configuration.faults().contains { $0.contains("--block-size") })
  }
}
