// Whether engines make the tokens that are counted on here: what is asked, when, and what is made of the answers.

import Base
import EventLoop
import Telemetry
import Testing

@testable import Workers

private let samples = [
  PromptSample(name: "one", members: #""messages":[]"#, expected: [1, 2]),
  PromptSample(name: "two", members: #""messages":[1]"#, expected: [3]),
]

struct PromptCheckTests {
  private func rig(edit: (inout WorkerDirectoryConfiguration) -> Void = { _ in }) throws -> ControlRig {
    try ControlRig {
      $0.urls = ["http://127.0.0.1:8000"]
      $0.promptSamples = { _, _ in samples }
      edit(&$0)
    }
  }

  private func come(_ rig: ControlRig, _ engine: EngineKind, isDynamoWorker: Bool = false) {
    rig.end(
      .success(
        ProbeAnswer(
          models: ["m"], blockSize: 16, totalBlocks: 9, isDynamoWorker: isDynamoWorker, engine: engine)))
  }

  @Test func anEngineIsAskedOnceEachTimeItComesUp() throws {
    let rig = try rig()
    come(rig, .vllm)
    #expect(rig.prober.checks.map(\.model) == ["m"])
    #expect(rig.latest.workers[0].prompts == .unchecked)
    rig.prober.checks[0].end(.agrees)
    rig.turn()
    #expect(rig.latest.workers[0].prompts == .agrees)
    rig.advance(40 * second)
    come(rig, .vllm)
    #expect(rig.prober.checks.count == 1)
    rig.advance(40 * second)
    rig.refuse()
    rig.advance(3 * second)
    come(rig, .vllm)
    #expect(rig.prober.checks.count == 2)
    #expect(rig.latest.workers[0].prompts == .unchecked)
  }

  @Test func aDifferenceIsNamed() throws {
    let rig = try rig()
    come(rig, .llamaCpp)
    rig.prober.checks[0].end(.differs(["decomposed characters"]))
    rig.turn()
    #expect(rig.latest.workers[0].prompts == .differs(["decomposed characters"]))
    let lines = rig.lines.lines.filter { $0.contains("differs in: decomposed characters") }
    #expect(lines.count == 1 && lines[0].contains("\"WARN\""))
  }

  @Test(arguments: [EngineKind.sglang, .simulated, .unknown])
  func enginesThatHaveNothingToAskAreNotAsked(_ engine: EngineKind) throws {
    let rig = try rig()
    come(rig, engine)
    #expect(rig.prober.checks.isEmpty)
    #expect(rig.latest.workers[0].engine == engine)
  }

  @Test func nobodyIsAskedWithoutATokenizerOrBehindADynamoWorker() throws {
    let without = try rig { $0.promptSamples = nil }
    come(without, .vllm)
    #expect(without.prober.checks.isEmpty)
    let behind = try rig()
    come(behind, .vllm, isDynamoWorker: true)
    #expect(behind.prober.checks.isEmpty)
    #expect(behind.latest.models[0].engine == .vllm)
  }

  @Test func aClosedDirectoryHearsNothingMore() throws {
    let rig = try rig()
    come(rig, .vllm)
    rig.control.close()
    #expect(rig.prober.checks[0].report == nil)
  }

  // MARK: Over HTTP

  private func agreement(_ engine: String, _ answers: [String: String]) throws -> PromptAgreement {
    var answers = answers
    answers["/v1/models"] = #"{"data":[{"id":"m","owned_by":"\#(engine)"}]}"#
    let worker = try FakeWorker(answers)
    defer { worker.stop() }
    var configuration = WorkerDirectoryConfiguration()
    configuration.urls = ["http://127.0.0.1:\(worker.port)"]
    configuration.promptSamples = { _, _ in samples }
    let directory = try WorkerDirectory(
      configuration: configuration, logger: quietLogger, registry: MetricRegistry())
    let adopter = try Adopter()
    directory.subscribe(adopter.mailbox) { adopter.adopt($1) }
    try directory.start()
    defer { directory.stop() }
    return try adopter.wait { $0.workers.first.map { $0.prompts != .unchecked } ?? false }.workers[0].prompts
  }

  @Test func vLLMAnswersWithTheIDsOfAChat() throws {
    #expect(
      try agreement("vllm", ["/tokenize": #"{"count":2,"tokens":[1,2]}"#]) == .differs(["two"]))
  }

  @Test func llamaCppRendersAndEncodes() throws {
    #expect(
      try agreement(
        "llamacpp", ["/apply-template": #"{"prompt":"x"}"#, "/tokenize": #"{"tokens":[3]}"#])
        == .differs(["one"]))
  }

  @Test(arguments: [["/tokenize": "{"], ["/tokenize": #"{"tokens":["a"]}"#], [:]])
  func otherAnswersAgreeWithNothing(_ answers: [String: String]) throws {
    switch try agreement("vllm", answers) {
    case .unanswered, .differs(["one", "two"]): break
    case let other: Issue.record("\(other)")
    }
  }
}

struct EngineKindTests {
  @Test func enginesAreKnownByWhatTheyCallThemselves() {
    #expect(EngineKind(ownedBy: "vllm", engine: nil) == .vllm)
    #expect(EngineKind(ownedBy: "nvidia", engine: "sglang") == .sglang)
    #expect(EngineKind(ownedBy: "llamacpp", engine: "no such") == .llamaCpp)
    #expect(EngineKind(ownedBy: "somebody", engine: nil) == .unknown)
    #expect(EngineKind(ownedBy: nil, engine: nil) == .unknown)
  }
}
