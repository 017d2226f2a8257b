// Streams of the engines: every chunk is what it is, whether it was read in full or by its surroundings.

import Base
import Foundation
import Testing

@testable import OpenAI

private let vLLM: [(String, ChunkKind)] = {
  func chunk(_ choice: String, _ rest: String = "") -> String {
    #"{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1763800000,"model":"m","choices":["#
      + choice + "]" + rest + "}"
  }
  func text(_ text: String) -> String {
    #"{"index":0,"delta":{"content":""# + text + #""},"logprobs":null,"finish_reason":null,"token_ids":null}"#
  }
  return [
    (
      chunk(#"{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}"#),
      .other
    ),
    (chunk(text("The")), .token), (chunk(text(" capital")), .token), (chunk(text("\\n\\\"")), .token),
    (chunk(text("\\\\")), .token),
    (chunk(text(" of a quite long piece of text, longer than a vector")), .token),
    (chunk(text("")), .other), (chunk(text("é😀")), .token),
    (
      chunk(
        #"{"index":0,"delta":{"content":"."},"logprobs":null,"finish_reason":"stop","stop_reason":null}"#),
      .token
    ),
    (chunk(#"{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}"#), .other),
    (
      chunk(
        "",
        #","usage":{"prompt_tokens":9,"total_tokens":16,"completion_tokens":7,"prompt_tokens_details":null}"#),
      .usageOnly
    ),
    ("[DONE]", .done),
  ]
}()

private let llamaCpp: [(String, ChunkKind)] = {
  func chunk(_ delta: String, created: Int, finish: String = "null", rest: String = "") -> String {
    #"{"choices":[{"finish_reason":"# + finish + #","index":0,"delta":"# + delta
      + #"}],"created":\#(created),"#
      + #""id":"chatcmpl-x","model":"m","system_fingerprint":"b1","object":"chat.completion.chunk""# + rest
      + "}"
  }
  return [
    (chunk(#"{"role":"assistant","content":null}"#, created: 1), .other),
    (chunk(#"{"content":"Par"}"#, created: 1), .token), (chunk(#"{"content":"is"}"#, created: 1), .token),
    (chunk(#"{"content":"."}"#, created: 2), .token),
    (
      chunk("{}", created: 2, finish: "\"length\"", rest: #","timings":{"cache_n":12,"prompt_ms":1.5}"#),
      .other
    ),
    (
      #"{"choices":[],"created":2,"id":"chatcmpl-x","model":"m","object":"chat.completion.chunk","usage":{"completion_tokens":3,"prompt_tokens":20,"total_tokens":23,"prompt_tokens_details":{"cached_tokens":12}},"timings":{"cache_n":12}}"#,
      .usageOnly
    ),
    ("[DONE]", .done),
  ]
}()

/// The finish reason comes with a last token and the bytes around the text keep their length.
private let tailChanges: [(String, ChunkKind)] = [
  (
    #"{"choices":[{"delta":{"content":"a"},"finish_reason":null  ,"matched_stop":null}],"usage":null}"#,
    .token
  ),
  (
    #"{"choices":[{"delta":{"content":"b"},"finish_reason":"stop","matched_stop":null}],"usage":null}"#,
    .token
  ),
]

/// One of `corpus`, every second time with a byte changed for one of `marks`, left out or put in.
private func mutation(of corpus: [[UInt8]], _ marks: [UInt8], using random: inout Xoshiro256) -> [UInt8] {
  var bytes = corpus[Int(random.next() % UInt64(corpus.count))]
  guard random.next() % 2 == 0 else { return bytes }
  let index = Int(random.next() % UInt64(bytes.count))
  switch random.next() % 3 {
  case 0: bytes[index] = marks[Int(random.next() % UInt64(marks.count))]
  case 1: bytes.remove(at: index)
  default: bytes.insert(bytes[Int(random.next() % UInt64(bytes.count))], at: index)
  }
  return bytes
}

private func inspected(_ payloads: [String]) -> ([ChunkKind], Usage?, CompletionFinish) {
  var inspector = ChunkInspector()
  let kinds = payloads.map { text in withBytes(text) { inspector.inspect($0) } }
  return (kinds, inspector.usage, inspector.finishReason)
}

@Suite struct ChunkTests {
  @Test func vLLMStreamsAreUnderstood() {
    let (kinds, usage, finish) = inspected(vLLM.map(\.0))
    #expect(kinds == vLLM.map(\.1))
    #expect(usage == Usage(promptTokens: 9, completionTokens: 7))
    #expect(finish == .stop)
  }

  @Test func llamaCppStreamsAreUnderstood() {
    let (kinds, usage, finish) = inspected(llamaCpp.map(\.0))
    #expect(kinds == llamaCpp.map(\.1))
    #expect(usage == Usage(promptTokens: 20, completionTokens: 3, cachedTokens: 12))
    #expect(finish == .length)
  }

  @Test func aFinishReasonBesideATokenIsSeen() {
    let (kinds, _, finish) = inspected(tailChanges.map(\.0))
    #expect(kinds == [.token, .token])
    #expect(finish == .stop)
  }

  @Test func continuousUsageIsFollowed() {
    func chunk(_ text: String, _ tokens: Int) -> String {
      #"{"choices":[{"delta":{"content":"\#(text)"},"finish_reason":null}],"usage":{"prompt_tokens":4,"completion_tokens":\#(tokens)}}"#
    }
    var inspector = ChunkInspector()
    for tokens in 1...20 {
      #expect(withBytes(chunk("word", tokens)) { inspector.inspect($0) } == .token)
      #expect(inspector.usage == Usage(promptTokens: 4, completionTokens: tokens))
    }
  }

  @Test(arguments: [
    (#"{"error":{"message":"x","code":500}}"#, ChunkKind.error), (#"{"error":"x"}"#, .error),
    (#"{"object":"error","message":"x"}"#, .error), (#"{"error":null,"choices":[]}"#, .other),
    (#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{"}}]}}]}"#, .token),
    (#"{"choices":[{"delta":{"tool_calls":[]}}]}"#, .other),
    (#"{"choices":[{"delta":{"tool_calls":null}}]}"#, .other),
    (#"{"choices":[{"delta":{"function_call":{"name":"f"}}}]}"#, .token),
    (#"{"choices":[{"delta":{"reasoning_content":"hm"}}]}"#, .token),
    (#"{"choices":[{"delta":{"content":null,"reasoning":"hm"}}]}"#, .token),
    (#"{"choices":[{"delta":{"content":"","reasoning_content":null}}]}"#, .other),
    (#"{"choices":[{"index":0,"delta":{"content":""}},{"index":1,"delta":{"content":"x"}}]}"#, .token),
    (#"{"choices":[{"text":"x"}]}"#, .token), (#"{"choices":[{"text":""}]}"#, .other),
    (#"{"choices":[{"delta":{"content":{"text":"x"}}}]}"#, .other),
    (#"{"choices":[],"usage":null}"#, .other), (#"{"choices":[],"usage":{}}"#, .other),
    (#"{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":0}}"#, .usageOnly),
    (#"{"usage":{"prompt_tokens":1,"completion_tokens":0}}"#, .other),
    (#"{"choices":[{"delta":{}}],"usage":{"prompt_tokens":1,"completion_tokens":0}}"#, .other),
    ("", .other), ("[DONE", .other), ("{", .other), ("3", .other), ("null", .other), ("hello", .other),
    (#"{"choices":{}}"#, .other), (#"{"choices":[3,null]}"#, .other), (#"{"choices":[{"delta":3}]}"#, .other),
  ])
  func singleChunksAreClassified(text: String, kind: ChunkKind) {
    #expect(inspected([text]).0 == [kind])
  }

  @Test func resettingForgetsTheStream() {
    var inspector = ChunkInspector()
    for (text, _) in vLLM { _ = withBytes(text) { inspector.inspect($0) } }
    inspector.reset()
    #expect(inspector.usage == nil)
    #expect(inspector.finishReason == .none)
    #expect(withBytes(vLLM[1].0) { inspector.inspect($0) } == .token)
  }

  @Test func longSurroundingsAreReadInFullEachTime() {
    let padding = String(repeating: "x", count: 2_000)
    let chunk = #"{"id":"\#(padding)","choices":[{"delta":{"content":"a"}}]}"#
    #expect(inspected([chunk, chunk, chunk]).0 == [.token, .token, .token])
  }

  @Test func aTokenEventIsFoundOnceItIsWholeAndAtAnyPlace() {
    let tokens = vLLM.filter { $0.1 == .token }.map { $0.0 }
    var inspector = ChunkInspector()
    _ = withBytes(tokens[0]) { inspector.inspect($0) }
    let before = ": x\n\n"
    let event = "data: \(tokens[1])\n\n"
    let whole = before + event + "data: [DONE]\n\n"
    let end = before.utf8.count + event.utf8.count
    for length in 0...whole.utf8.count {
      withBytes(String(whole.prefix(length))) { bytes in
        #expect(inspector.tokenEventEnd(bytes, from: before.utf8.count) == (length >= end ? end : nil))
      }
    }
  }

  @Test func onlyWholeTokenEventsLikeTheLastAreFoundAtOnce() {
    var random = Xoshiro256(seed: 11)
    let corpus = (vLLM + llamaCpp + tailChanges).map { Array("data: \($0.0)\n\ndata: x\n\n".utf8) }
    let marks = Array("\"\\{}[],:\r\nax0".utf8)
    var inspector = ChunkInspector()
    var found = 0
    for _ in 0..<40_000 {
      let bytes = mutation(of: corpus, marks, using: &random)
      bytes.withUnsafeBytes { input in
        let end = inspector.tokenEventEnd(input, from: 0)
        // The event by its lines: up to the first empty one.
        let empty = (1..<input.count).first { input[$0] == UInt8(ascii: "\n") && input[$0 - 1] == input[$0] }
        let event = empty.map { Array(input[..<($0 - 1)]) } ?? []
        if let end {
          found += 1
          #expect(end == event.count + 2)
        }
        // Anything else is no event of one data line.
        let isLine = !event.contains(UInt8(ascii: "\r")) && !event.contains(UInt8(ascii: "\n"))
        guard isLine, event.starts(with: Array("data: ".utf8)) else {
          #expect(end == nil)
          return
        }
        event.dropFirst(6).withUnsafeBytes { data in
          let kind = inspector.inspect(data)
          #expect(end == nil || kind == .token)
        }
      }
    }
    #expect(found > 1_000)
  }

  /// Reading by surroundings must never tell another story than reading in full.
  @Test func mutatedStreamsAreReadAsIfEachChunkWereTheFirst() {
    var random = Xoshiro256(seed: 7)
    let corpus = (vLLM + llamaCpp + tailChanges).map { Array($0.0.utf8) }
    let marks = Array("\"\\{}[],:ax0".utf8)
    var inspector = ChunkInspector()
    var usage: Usage?
    var finish = CompletionFinish.none
    for _ in 0..<40_000 {
      let bytes = mutation(of: corpus, marks, using: &random)
      bytes.withUnsafeBytes { data in
        let kind = inspector.inspect(data)
        var fresh = ChunkInspector()
        let expected = fresh.inspect(data)
        usage = fresh.usage ?? usage
        if fresh.finishReason != .none { finish = fresh.finishReason }
        // A text with a bad escape is no JSON; inside known surroundings it still counts as a token.
        let isJSON = (try? JSONSerialization.jsonObject(with: Data(data))) != nil
        if isJSON || expected == .done { #expect(kind == expected, "\(data.text)") }
        #expect(inspector.usage == usage)
        #expect(inspector.finishReason == finish)
      }
    }
  }
}

@Suite struct AnswerSummaryTests {
  @Test func usageIsFoundWhereverItIs() {
    let usage =
      #""usage":{"prompt_tokens":5,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":3,"x":[]}}"#
    let choices =
      #""choices":[{"message":{"content":"\"usage\":{}"},"finish_reason":"tool_calls"},{"finish_reason":"stop"}]"#
    for text in [
      "{\(usage),\(choices)}", "{\(choices),\(usage)}", " { \"id\" : 1 , \(choices) , \(usage) } ",
    ] {
      let summary = withBytes(text) { AnswerSummary.parse($0) }
      #expect(summary?.usage == Usage(promptTokens: 5, completionTokens: 2, cachedTokens: 3))
      #expect(summary?.finishReason == .toolCalls)
      #expect(summary?.choices == 2)
      #expect(summary?.isError == false)
      #expect(withBytes(text) { Usage.parseUnary($0) } == summary?.usage)
      #expect(withBytes(text) { AnswerSummary.glance($0) } == summary)
    }
  }

  @Test(arguments: [
    (#"{"nvext":1}"#, true), (#"{"a":{"nvext":1}}"#, false), (#"{"a":"\"nvext\": 1"}"#, false),
    (#"{"a":["nvext"],"nvext" : {}}"#, true), (#"["nvext"]"#, false), (#"[{"nvext":1}]"#, false),
    (#"{"a":{"nvext":1},"#, true), ("", false), (#"{"NVEXT":1}"#, false),
  ])
  func anAnswersOwnExtensionIsItsTopLevelMember(text: String, isThere: Bool) {
    #expect(withBytes(text) { AnswerSummary.hasExtension($0) } == isThere)
    // The search for the key takes steps of a vector's width.
    for spaces in 0..<70 {
      let padded = String(repeating: " ", count: spaces) + text
      #expect(withBytes(padded) { AnswerSummary.hasExtension($0) } == isThere)
    }
  }

  @Test(arguments: [
    #"{"choices":[{"message":{"content":"say \"usage\": and \"usage"},"finish_reason":"stop"}],"usage":USAGE}"#,
    #"{"usage" : USAGE,"choices":[{"message":{"role":"usage"},"finish_reason" :"stop"}],"kind":"usage"}"#,
    #"{"choices":[{"a\"usage":{},"finish_reason":"stop"}],"usage":USAGE}"#,
  ])
  func aGlanceSeesWhatAReadingSees(text: String) {
    let usage = #"{"prompt_tokens":7,"completion_tokens":9}"#
    let text = text.split(separator: "USAGE", omittingEmptySubsequences: false).joined(separator: usage)
    let glance = withBytes(text) { AnswerSummary.glance($0) }
    #expect(glance?.usage == Usage(promptTokens: 7, completionTokens: 9))
    #expect(glance?.finishReason == .stop)
    let summary = withBytes(text) { AnswerSummary.parse($0) }
    #expect(glance?.usage == summary?.usage && glance?.finishReason == summary?.finishReason)
    // Cut anywhere, it tells what it has or nothing, and reads no further.
    for end in 0..<text.utf8.count {
      let part = Array(text.utf8.prefix(end))
      let cut = part.withUnsafeBytes { AnswerSummary.glance($0) }
      #expect(cut?.usage == nil || cut?.usage == summary?.usage)
    }
  }

  @Test func aGlanceFindsTheKeyAtEveryPlace() {
    for length in 0..<48 {
      let filler = String(repeating: "\"u", count: length / 2) + String(repeating: "x", count: length % 2)
      let content = filler.split(separator: "\"", omittingEmptySubsequences: false).joined(separator: "\\\"")
      let text = "{\"id\":\"\(content)\",\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":\(length)}}"
      #expect(withBytes(text) { AnswerSummary.glance($0) }?.usage?.completionTokens == length)
      #expect(
        withBytes(text + String(repeating: " ", count: length)) { AnswerSummary.glance($0) }?.usage != nil)
    }
  }

  @Test func aGlanceFindsNothingWhereThereIsNothing() {
    for text in ["", "{}", "[]", "<html>", #""usage""#, #"{"usage":3}"#, #"{"usage""#, #"{"usage":"#] {
      let glance = withBytes(text) { AnswerSummary.glance($0) }
      #expect(glance?.usage == nil)
    }
  }

  @Test func countsAreNotMadeUp() {
    for usage in [
      "null", "{}", "3", #"{"prompt_tokens":5}"#, #"{"prompt_tokens":-1,"completion_tokens":2}"#,
      #"{"prompt_tokens":"5","completion_tokens":2}"#, #"{"prompt_tokens":1.5,"completion_tokens":2}"#,
    ] {
      #expect(withBytes("{\"usage\":\(usage)}") { Usage.parseUnary($0) } == nil, "\(usage)")
    }
    let missing = #"{"usage":{"prompt_tokens":1,"completion_tokens":2,"prompt_tokens_details":null}}"#
    #expect(withBytes(missing) { Usage.parseUnary($0) } == Usage(promptTokens: 1, completionTokens: 2))
  }

  @Test func errorsAndOtherBytesAreTold() {
    #expect(withBytes(#"{"error":{"message":"x"}}"#) { AnswerSummary.parse($0) }?.isError == true)
    #expect(withBytes("<html>") { AnswerSummary.parse($0) } == nil)
    #expect(withBytes("[]") { AnswerSummary.parse($0) } == nil)
    #expect(withBytes("{}x") { AnswerSummary.parse($0) } == nil)
  }
}
