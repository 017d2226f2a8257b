// Prompts as tokens: what is hashed, that loop and pool agree, and what happens to prompts without tokens.

import Base
import EventLoop
import OpenAI
import Routing
import Telemetry
import TestSupport
import Testing
import Tokenizer
import Workers
import Prompts

@testable import Frontend

struct TokenizedPromptTests {
  private func prepared(
    _ body: String, _ endpoint: Endpoint = .chatCompletions, blockSize: Int = 4, model: ModelTokenizer?
  ) throws -> (chain: [UInt64], estimate: PromptEstimate) {
    var options = RoutingOptions()
    options.blockSize = blockSize
    let preprocessor = Preprocessor(keepsEncoder: true)
    let bytes = Array(body.utf8)
    try bytes.withUnsafeBytes { bytes in
      preprocessor.prepare(
        try Preprocessor.decode(bytes, endpoint), in: bytes, by: PromptRules(options, tokenizer: model))
    }
    return (Array(preprocessor.chain), preprocessor.estimate)
  }

  private func chain(_ ids: [UInt32], blockSize: Int = 4, seed: UInt64 = PromptBlocks.seed) -> [UInt64] {
    var blocks = PromptBlocks()
    ids.withUnsafeBufferPointer { blocks.hash(tokens: $0, blockSize: blockSize, seed: seed) }
    return Array(blocks.chain)
  }

  private static func chat(_ content: String, _ more: String = "") -> String {
    "{\"model\":\"test/model\",\"messages\":[{\"role\":\"user\",\"content\":\"\(content)\"}]\(more)}"
  }

  private static func completion(_ prompt: String, _ more: String = "") -> String {
    "{\"model\":\"test/model\",\"prompt\":\(prompt)\(more)}"
  }

  @Test func aChatIsRenderedAndEncoded() throws {
    let model = try ByteModel.load()
    let (found, estimate) = try prepared(Self.chat("hello\\u0021 \\ud83d\\ude00"), model: model)
    let expected = ByteModel.chat("hello! 😀")
    #expect(found == chain(expected))
    #expect(estimate.tokens == expected.count && estimate.failure == nil)
    #expect(estimate.blockCount == expected.count / 4)
  }

  @Test func theRequestsOwnFieldsReachTheTemplate() throws {
    let model = try ByteModel.load()
    let tool = "{\"type\":\"function\",\"function\":{\"name\":\"f\"}}"
    for (more, expected) in [
      (",\"tools\":[\(tool),\(tool)]", ByteModel.chat("hello", behind: "2")),
      (",\"chat_template_kwargs\":{\"mood\":\"glad\"}", ByteModel.chat("hello", behind: "glad")),
      (",\"add_generation_prompt\":false", ByteModel.chat("hello").dropLast()),
      (
        ",\"add_generation_prompt\":false,\"add_special_tokens\":true",
        [256] + ByteModel.chat("hello").dropLast()
      ),
      (
        ",\"add_generation_prompt\":false,\"continue_final_message\":true",
        ByteModel.chat("hello").dropLast(2)
      ),
      (",\"tools\":null,\"chat_template_kwargs\":null", ByteModel.chat("hello")),
      // Not a chat's field.
      (",\"prompt\":\"x\"", ByteModel.chat("hello")),
    ] as [(String, [UInt32])] {
      let (found, estimate) = try prepared(Self.chat("hello", more), model: model)
      #expect(estimate.tokens == expected.count, "\(more)")
      #expect(found == chain(expected), "\(more)")
    }
  }

  @Test func tokenIDsGiveDynamosHashes() throws {
    let ids = "[" + (1...48).map(String.init).joined(separator: ",") + "]"
    for prompt in [ids, "[\(ids)]", ids.replacing(",", with: " , ")] {
      let (found, estimate) = try prepared(
        Self.completion(prompt), .completions, blockSize: 16, model: try ByteModel.load())
      #expect(
        found == [16_863_443_419_780_771_464, 12_466_389_667_045_779_788, 960_926_348_267_535_642])
      #expect(estimate.tokens == 48)
    }
  }

  @Test func aCompletionsTextIsEncodedWithTheFilesSpecialTokens() throws {
    let model = try ByteModel.load()
    for prompt in ["\"a \\\"text\\\" <|end|>\"", "[\"a \\\"text\\\" <|end|>\"]"] {
      let plain = ByteModel.ids("a \"text\" ") + [ByteModel.end]
      let with = try prepared(Self.completion(prompt), .completions, model: model)
      #expect(with.chain == chain([ByteModel.start] + plain))
      let without = try prepared(
        Self.completion(prompt, ",\"add_special_tokens\":false"), .completions, model: model)
      #expect(without.chain == chain(plain) && without.estimate.tokens == plain.count)
    }
  }

  @Test func aSaltChangesTheSeedAsInDynamo() throws {
    let (found, _) = try prepared(
      Self.completion("[1,2,3,4]", ",\"cache_salt\":\"tenant-a\""), .completions,
      model: try ByteModel.load())
    #expect(found == [5_738_685_477_468_498_325])
  }

  static let untokenized: [(String, Endpoint, String)] = [
    (
      "{\"model\":\"test/model\",\"messages\":[{\"role\":\"system\",\"content\":\"a long enough text\"}]}",
      .chatCompletions, "raised"
    ),
    (chat("a long enough text", ",\"chat_template\":\"x\""), .chatCompletions, "own_template"),
    (chat("a long enough text", ",\"chat_template_kwargs\":[]"), .chatCompletions, "input"),
    (chat("a long enough text", ",\"add_generation_prompt\":5"), .chatCompletions, "input"),
    (chat("a long enough text", ",\"continue_final_message\":true"), .chatCompletions, "continuation"),
    (completion("[\"a long enough text\",\"and another\"]"), .completions, "several_prompts"),
    (completion("[[1,2,3,4,5,6],[7]]"), .completions, "several_prompts"),
    (response("a long enough text", ",\"tools\":[{\"type\":\"function\"}]"), .responses, "responses"),
    (response("a long enough text", ",\"previous_response_id\":\"r\""), .responses, "responses"),
    (response("a long enough text", ",\"instructions\":\"be brief\""), .responses, "raised"),
  ]

  private static func response(_ input: String, _ more: String = "") -> String {
    "{\"model\":\"test/model\",\"input\":\"\(input)\"\(more)}"
  }

  @Test func aResponseHasTheTokensOfTheChatThatItBecomes() throws {
    let model = try ByteModel.load()
    let chat = try prepared(Self.chat("hello\\u0021 you"), model: model)
    let items = "[{\"role\":\"user\",\"content\":[{\"type\":\"input_text\",\"text\":\"hello! you\"}]}]"
    for body in [
      Self.response("hello\\u0021 you"), "{\"model\":\"test/model\",\"input\":\(items)}",
    ] {
      let found = try prepared(body, .responses, model: model)
      #expect(found.chain == chat.chain && !found.chain.isEmpty)
      #expect(found.estimate.tokens == chat.estimate.tokens && found.estimate.failure == nil)
    }
    // Fields of other routes count for nothing.
    let other = try prepared(
      Self.response("hello! you", ",\"messages\":[],\"add_generation_prompt\":false"), .responses,
      model: model)
    #expect(other.chain == chat.chain)
  }

  @Test func anotherEnginesResponsesAreHashedByBytes() throws {
    let model = try ByteModel.load()
    let body = Array(Self.response("a long enough text").utf8)
    for engine in [EngineKind.sglang, .llamaCpp] {
      let preprocessor = Preprocessor()
      try body.withUnsafeBytes { bytes in
        preprocessor.prepare(
          try Preprocessor.decode(bytes, .responses), in: bytes,
          by: PromptRules(RoutingOptions(), tokenizer: model, engine: engine))
      }
      #expect(preprocessor.estimate.failure == "responses" && preprocessor.estimate.tokens == nil)
    }
  }

  @Test(arguments: untokenized)
  func aPromptWithoutTokensIsHashedByBytesThatMatchNoTokens(
    body: String, endpoint: Endpoint, reason: String
  ) throws {
    let model = try ByteModel.load()
    let (found, estimate) = try prepared(body, endpoint, model: model)
    #expect(estimate.failure == reason && estimate.tokens == nil)
    let plain = try prepared(body, endpoint, model: nil)
    #expect(found.count == plain.chain.count && !found.isEmpty && estimate.bytes == plain.estimate.bytes)
    #expect(Set(found).isDisjoint(with: plain.chain))
    #expect(try prepared(body, endpoint, model: model).chain == found)
    // The like with a salt is another prompt still.
    let salted = try prepared(
      String(body.dropLast()) + ",\"cache_salt\":\"a\"}", endpoint, model: model)
    #expect(salted.estimate.failure == reason && Set(found).isDisjoint(with: salted.chain))
  }

  @Test func aPreprocessorForgetsTheFailureBefore() throws {
    let model = try ByteModel.load()
    let preprocessor = Preprocessor(keepsEncoder: true)
    let rules = PromptRules(RoutingOptions(), tokenizer: model)
    var failures: [String?] = []
    for (body, endpoint) in [Self.untokenized[0], Self.untokenized[3]].map({ ($0.0, $0.1) })
      + [(Self.chat("hello"), .chatCompletions)]
    {
      let bytes = Array(body.utf8)
      try bytes.withUnsafeBytes { bytes in
        preprocessor.prepare(
          try Preprocessor.decode(bytes, endpoint), in: bytes, by: rules, clock: FakeKernel())
      }
      failures.append(preprocessor.estimate.failure)
    }
    #expect(failures == ["raised", "input", nil])
    #expect(preprocessor.estimate.tokens == ByteModel.chat("hello").count)
  }

  @Test(
    arguments: untokenized.map { ($0.0, $0.1) } + [
      (chat("short"), .chatCompletions), (FrontendRig.chat(bytes: 50_000), .chatCompletions),
      (completion("\"a text\""), .completions), (completion("[1,2,3,4,5,6,7,8]"), .completions),
    ])
  func thePoolMakesWhatTheLoopMakes(body: String, endpoint: Endpoint) throws {
    let model = try ByteModel.load()
    let rig = try FrontendRig { $0.tokenizer = model }
    let inline = try prepared(body, endpoint, blockSize: 16, model: model)
    // Twice: the second job borrows the encoder of the first.
    for _ in 0..<2 {
      let job = PreprocessJob(ticket: 1, request: nil, endpoint: endpoint, service: rig.service)
      job.body.append(body)
      job.run()
      #expect(Array(job.preprocessor.chain) == inline.chain)
      #expect(job.preprocessor.estimate.tokens == inline.estimate.tokens)
      #expect(job.preprocessor.estimate.failure == inline.estimate.failure)
    }
  }

  @Test func aPromptThatTakesLongToEncodeGoesToThePool() throws {
    let rig = try FrontendRig()
    let body = FrontendRig.chat(bytes: 20_000)
    _ = rig.post(body)
    #expect(rig.shared.pool.waitingCount == 0)
    let model = try ByteModel.load()
    let tokens = try FrontendRig { $0.tokenizer = model }
    let caller = tokens.post(body)
    #expect(tokens.shared.pool.waitingCount == 1)
    tokens.runPool()
    #expect(tokens.upstreamRequest().hasSuffix(body))
    tokens.answer("{}")
    #expect(tokens.output(caller).status == 200)
    #expect(tokens.shared.bodyMemoryInUse == 0)
  }

  @Test func modesThatLookAtNoPromptEncodeNothing() throws {
    var options = RoutingOptions()
    options.mode = .roundRobin
    let rules = PromptRules(options, tokenizer: try ByteModel.load())
    #expect(rules.cost(ofBytes: 1 << 20) == 0)
    let preprocessor = Preprocessor()
    let bytes = Array(Self.chat("hello").utf8)
    try bytes.withUnsafeBytes { bytes in
      preprocessor.prepare(try Preprocessor.decode(bytes, .chatCompletions), in: bytes, by: rules)
    }
    #expect(preprocessor.chain.isEmpty && preprocessor.estimate.tokens == nil)
    #expect(preprocessor.estimate.failure == nil)
  }

  @Test func aRequestThatOnlyTheEngineCanRefuseIsPassedOnAndCounted() throws {
    let model = try ByteModel.load()
    let rig = try FrontendRig { $0.tokenizer = model }
    let body = Self.untokenized[0].0
    let caller = rig.post(body)
    #expect(rig.upstreamRequest().hasSuffix(body))
    rig.answer("{}")
    #expect(rig.output(caller).status == 200)
    var page = ByteBuffer()
    rig.shared.registry.writePrometheus(into: &page)
    #expect(page.text.contains("dynamo_frontend_untokenized_prompts_total{reason=\"raised\"} 1\n"))
  }
}

struct ModelTokenizerTests {
  @Test func whatIsNotSupportedIsNamed() {
    func refusal(_ load: () throws -> ModelTokenizer) -> String {
      do {
        _ = try load()
        return "loaded"
      } catch ModelTokenizerError.refused(let reason) {
        return reason
      } catch {
        return "\(error)"
      }
    }
    let strange = ByteModel.file.replacing("\"normalizer\":null", with: "\"normalizer\":{\"type\":\"Odd\"}")
    #expect(refusal { try ByteModel.load(file: strange) }.contains("tokenizer.json: normalizer 'Odd'"))
    #expect(refusal { try ByteModel.load(file: "{") }.hasPrefix("tokenizer.json: not valid JSON"))
    #expect(refusal { try ByteModel.load(config: "[]") }.hasPrefix("tokenizer_config.json: "))
    #expect(refusal { try ByteModel.load(template: "\n{% odd %}") }.hasPrefix("the chat template, line 2: "))
  }

  @Test func aFolderThatIsMissingIsAnotherError() {
    #expect(throws: ModelTokenizerError.noFolder("/nowhere/at/all")) {
      try ModelTokenizer(folder: "/nowhere/at/all", seed: 1)
    }
    #expect(throws: ModelTokenizerError.refused("tokenizer.json is missing")) {
      try ModelTokenizer(folder: "/", seed: 1)
    }
  }

  @Test func aModelWithoutATemplateEncodesCompletionsOnly() throws {
    let model = try ByteModel.load(template: nil)
    #expect(model.summary == "258 ids, no chat template")
    let encoder = model.takeEncoder()
    for (body, reason) in [
      ("{\"messages\":[]}", "no_template"), ("{\"prompt\":\"ab\"}", nil), ("{}", "input"),
      ("{\"prompt\":{}}", "input"),
    ] as [(String, String?)] {
      var found: String?
      let bytes = Array(body.utf8)
      try bytes.withUnsafeBytes { bytes in
        let fields = try PromptFields.read(bytes)
        do throws(PromptFailure) {
          try encoder.encode(fields, in: bytes, clock: nil)
        } catch {
          found = error.reason
        }
      }
      #expect(found == reason)
      if reason == nil { #expect(encoder.ids.array == [256, 97, 98]) }
    }
  }

  @Test func idleEncodersAreLentAgainAndAreFew() throws {
    let model = try ByteModel.load()
    let first = model.takeEncoder()
    model.putBack(first)
    let second = model.takeEncoder()
    #expect(first === second)
    let many = (0..<20).map { _ in model.takeEncoder() }
    for encoder in many { model.putBack(encoder) }
    let again = (0..<20).map { _ in ObjectIdentifier(model.takeEncoder()) }
    #expect(Set(again).intersection(many.map { ObjectIdentifier($0) }).count == 4)
  }
}
