// Blocks of a prompt that another engine computed: they take their way's time, and are not computed again.

import Base
import Testing

@testable import Engine

struct TransferTests {
  private func engine(_ edit: (inout EngineConfiguration) -> Void = { _ in }) -> SimulatedEngine {
    var configuration = EngineConfiguration()
    edit(&configuration)
    return SimulatedEngine(configuration)
  }

  /// The names that another engine gives the blocks of that prompt.
  private func names(_ prompt: [UInt8]) throws -> [Int] {
    try engine().submit(prompt, to: Recorder()) { $0.outputTokensMax = 1 }.promptBlockNames
  }

  @Test func receivedBlocksAreNotComputedAgain() throws {
    let prompt = SimulatedEngine.prompt(800)
    let names = try names(prompt)
    #expect(names.count == 50)
    let (whole, decode) = (engine(), engine())
    let (first, second) = (Recorder(), Recorder())
    try whole.submit(prompt, to: first) { $0.outputTokensMax = 5 }
    try decode.submit(prompt, to: second) {
      $0.outputTokensMax = 5
      $0.receivedBlockNames = names
    }
    let (slow, fast) = (whole.drain(), decode.drain())
    #expect(first.text == second.text)
    // The last token is always computed, and so is its block.
    #expect(second.summary?.usage.cachedTokens == 784 && first.summary?.usage.cachedTokens == 0)
    #expect(fast < slow)
    #expect(decode.load.activeBlocks == 0)
  }

  @Test func theWayTakesTime() throws {
    let prompt = SimulatedEngine.prompt(800)
    let names = try names(prompt)
    let decode = engine { $0.transferBandwidth = 1 }
    let client = Recorder()
    try decode.submit(prompt, to: client) {
      $0.outputTokensMax = 1
      $0.receivedBlockNames = names
    }
    // 800 tokens of 131,072 bytes at 1 GB/s.
    decode.advance(to: 0)
    #expect(decode.nextDeadline == 104_857_600)
    #expect(decode.load.waiting == 1 && decode.load.running == 0)
    decode.advance(to: 104_857_599)
    #expect(decode.load.running == 0)
    decode.advance(to: 104_857_600)
    #expect(decode.load.running == 1)
    decode.drain()
    #expect(client.isFinished)
    #expect((client.summary?.usage.queueTime ?? 0) == 104_857_600)
  }

  @Test func othersGoOnMeanwhile() throws {
    let prompt = SimulatedEngine.prompt(800)
    let names = try names(prompt)
    let decode = engine { $0.transferBandwidth = 0.01 }
    let (late, now) = (Recorder(), Recorder())
    try decode.submit(prompt, to: late) { $0.receivedBlockNames = names }
    try decode.submit(SimulatedEngine.prompt(40, name: 70), to: now) { $0.outputTokensMax = 2 }
    decode.advance(to: 0)
    decode.advance(to: second)
    #expect(now.isFinished && !late.isFinished)
    decode.drain()
    #expect(late.isFinished)
  }

  @Test func unknownBlocksAreComputed() throws {
    let prompt = SimulatedEngine.prompt(800)
    var names = try names(prompt)
    names[20] ^= 1
    for (given, expected) in [(names, 320), ([1, 2, 3], 0), (Array(names.prefix(10)), 160)] {
      let decode = engine()
      let client = Recorder()
      try decode.submit(prompt, to: client) {
        $0.outputTokensMax = 3
        $0.receivedBlockNames = given
      }
      decode.drain()
      #expect(client.summary?.usage.cachedTokens == expected)
    }
  }

  @Test func aCancelledTransferLeavesNothing() throws {
    let prompt = SimulatedEngine.prompt(800)
    let names = try names(prompt)
    let decode = engine()
    let sequence = try decode.submit(prompt, to: Recorder()) { $0.receivedBlockNames = names }
    decode.advance(to: 0)
    decode.cancel(sequence, now: 1)
    #expect(decode.nextDeadline == nil)
    #expect(decode.load.waiting == 0 && decode.load.activeBlocks == 0)
  }
}
