// The mocker's timing formula, and that steps keep to it.

import Base
import Testing

@testable import Engine

@Suite struct TimingModelTests {
  @Test func polynomialsGiveTheMockersFigures() {
    #expect(TimingModel.prefillMilliseconds(tokens: 0) == 0)
    #expect(abs(TimingModel.prefillMilliseconds(tokens: 1_000) - (0.4209989 + 15.18344 + 16.50142)) < 1e-9)
    #expect(abs(TimingModel.decodeMilliseconds(usage: 0) - 5.74) < 1e-9)
    #expect(abs(TimingModel.decodeMilliseconds(usage: 0.5) - 26.31) < 1e-9)
    #expect(TimingModel.decodeMilliseconds(usage: 1) == TimingModel.decodeMilliseconds(usage: 7))
  }

  @Test func ratiosDivideAndZeroMeansNoTime() {
    var configuration = EngineConfiguration()
    configuration.speedupRatio = 2
    configuration.decodeSpeedupRatio = 4
    let timing = TimingModel(configuration)
    #expect(timing.step(prefillTokens: 0, decodes: true, usage: 0) == Nanoseconds(5.74 / 8 * 1e6))
    let prefill = TimingModel.prefillMilliseconds(tokens: 100) / 2 * 1e6
    #expect(timing.step(prefillTokens: 100, decodes: false, usage: 0) == Nanoseconds(prefill))
    configuration.speedupRatio = 0
    #expect(TimingModel(configuration).step(prefillTokens: 9_999, decodes: true, usage: 1) == 0)
  }

  @Test func stepsLastAsLongAsTheModelSays() throws {
    let engine = SimulatedEngine(EngineConfiguration())
    let client = Recorder()
    try engine.submit(SimulatedEngine.prompt(100), to: client, at: second) { $0.outputTokensMax = 3 }
    engine.advance(to: second)
    let prefill = Nanoseconds(TimingModel.prefillMilliseconds(tokens: 100) * 1e6)
    #expect(engine.nextDeadline == second + prefill)
    engine.advance(to: second + prefill - 1)
    #expect(client.pieces.isEmpty)
    engine.advance(to: second + prefill)
    #expect(client.pieces.count == 1)
    let usage = 7.0 / 16_384
    let decode = Nanoseconds(TimingModel.decodeMilliseconds(usage: usage) * 1e6)
    #expect(engine.nextDeadline == second + prefill + decode)
    engine.drain()
    #expect(client.summary?.usage.prefillTime == prefill)
    #expect(client.summary?.usage.decodeTime == 2 * decode)
    #expect(client.summary?.usage.queueTime == 0)
  }

  @Test func requestsThatArriveInAStepWaitForTheNext() throws {
    let engine = SimulatedEngine(EngineConfiguration())
    let first = Recorder()
    let late = Recorder()
    try engine.submit(SimulatedEngine.prompt(10), to: first) { $0.outputTokensMax = 2 }
    engine.advance(to: 0)
    let end = try #require(engine.nextDeadline)
    try engine.submit(SimulatedEngine.prompt(10, name: 70), to: late, at: end / 2) { $0.outputTokensMax = 1 }
    engine.advance(to: end / 2)
    #expect(engine.load.waiting == 1)
    engine.drain()
    #expect(late.summary?.usage.queueTime == end - end / 2)
  }

  @Test func aLateCallerDoesNotStretchTime() throws {
    let engine = SimulatedEngine(EngineConfiguration())
    let client = Recorder()
    try engine.submit(SimulatedEngine.prompt(4), to: client) { $0.outputTokensMax = 3 }
    engine.advance(to: 0)
    let prefill = try #require(engine.nextDeadline)
    engine.advance(to: prefill + 12 * millisecond)
    #expect(client.pieces.count == 3)
  }
}
