// The text: deterministic, continuable, readable, and ended for the right reason.

import Base
import Testing

@testable import Engine

@Suite struct TextTests {
  private func generate(
    _ prompt: [UInt8], seed: UInt64 = 42, _ edit: (inout EngineRequest) -> Void = { _ in }
  ) throws -> Recorder {
    var configuration = EngineConfiguration()
    configuration.speedupRatio = 0
    configuration.seed = seed
    let client = Recorder()
    let engine = SimulatedEngine(configuration)
    try engine.submit(prompt, to: client, edit)
    engine.drain()
    return client
  }

  /// The tokens of a text that has no stop strings, by replaying the stream.
  private func tokens(_ prompt: [UInt8], count: Int, endsByItself: Bool = false) -> [UInt32] {
    let hash = prompt.withUnsafeBytes { XXH3.hash($0, seed: 42) }
    var stream = TokenStream(seed: 42, promptHash: hash, variation: 0, endsByItself: endsByItself)
    return (0..<count).map { _ in stream.next() }
  }

  @Test func theSameSeedAndPromptGiveTheSameText() throws {
    let prompt = SimulatedEngine.prompt(10)
    let text = try generate(prompt).text
    #expect(try generate(prompt).text == text)
    #expect(try generate(prompt, seed: 43).text != text)
    #expect(try generate(SimulatedEngine.prompt(11)).text != text)
    #expect(try generate(prompt) { $0.variation = 1 }.text != text)
  }

  @Test(arguments: 1...39) func aContinuationGoesOnWithTheSameText(after cut: Int) throws {
    let prompt = SimulatedEngine.prompt(10)
    let whole = try generate(prompt) { $0.outputTokensMax = 40 }
    let rest = try generate(prompt) {
      $0.outputTokensMax = 40
      $0.resumedTokens = tokens(prompt, count: cut)
    }
    #expect(whole.pieces.prefix(cut).joined() + rest.text == whole.text)
    #expect(rest.summary?.usage.promptTokens == 10 + cut)
    #expect(rest.summary?.reason == .length)
  }

  @Test func aContinuationEndsWhereTheTextWouldHave() throws {
    let prompt = SimulatedEngine.prompt(10)
    let whole = try generate(prompt)
    let rest = try generate(prompt) { $0.resumedTokens = tokens(prompt, count: 9, endsByItself: true) }
    #expect(whole.pieces.prefix(9).joined() + rest.text == whole.text)
    #expect(rest.summary?.reason == .stop)
  }

  @Test func aLimitIsReachedExactly() throws {
    for limit in [1, 2, 30, 200] {
      let client = try generate(SimulatedEngine.prompt(5)) { $0.outputTokensMax = limit }
      #expect(client.pieces.count == limit)
      #expect(client.summary?.usage.outputTokens == limit)
      #expect(client.summary?.reason == .length)
    }
  }

  @Test func withoutALimitTheTextEndsByItselfInASentence() throws {
    for name in 60..<110 {
      let client = try generate(SimulatedEngine.prompt(5, name: UInt8(name)))
      #expect((16...64).contains(client.pieces.count))
      #expect(client.summary?.reason == .stop)
      let text = client.text
      #expect(text.hasSuffix("."), "\(text)")
      #expect(!text.contains("..") && !text.contains("  ") && !text.hasPrefix(" "), "\(text)")
      #expect(text.first?.isUppercase == true, "\(text)")
    }
  }

  @Test func aStopStringEndsTheTextBeforeIt() throws {
    let prompt = SimulatedEngine.prompt(10)
    let whole = try generate(prompt) { $0.outputTokensMax = 60 }
    let sentence = try #require(whole.text.firstIndex(of: "."))
    let stopped = try generate(prompt) {
      $0.outputTokensMax = 60
      $0.stops = ["nowhere", "."]
    }
    #expect(stopped.text == whole.text[..<sentence])
    #expect(stopped.summary?.reason == .stop)
    let tokens = try #require(stopped.summary).usage.outputTokens
    #expect(whole.pieces.prefix(tokens).joined().hasSuffix("."))
  }

  @Test func aStopStringAcrossTokensIsHeldBackAndFound() throws {
    let prompt = SimulatedEngine.prompt(10)
    let whole = try generate(prompt) { $0.outputTokensMax = 20 }
    let middle = whole.pieces[7].dropFirst(2) + whole.pieces[8] + whole.pieces[9].prefix(2)
    let stopped = try generate(prompt) {
      $0.outputTokensMax = 20
      $0.stops = [String(middle)]
    }
    #expect(stopped.text == whole.pieces.prefix(7).joined() + whole.pieces[7].prefix(2))
    #expect(stopped.summary?.usage.outputTokens == 10)
    #expect(stopped.pieces.count == 10)
  }

  @Test func textHeldBackForAStopStringIsReleasedAtTheEnd() throws {
    let prompt = SimulatedEngine.prompt(10)
    let whole = try generate(prompt) { $0.outputTokensMax = 6 }
    let held = try generate(prompt) {
      $0.outputTokensMax = 6
      $0.stops = [whole.pieces.suffix(2).joined() + " never"]
    }
    #expect(held.text == whole.text)
    #expect(held.pieces[4].isEmpty)
  }
}
