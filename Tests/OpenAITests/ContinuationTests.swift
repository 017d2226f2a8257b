// Requests and chunks of streams that go on at another worker.

import Base
import Testing

@testable import OpenAI

struct ContinuationTests {
  private func parse(_ body: String, _ endpoint: Endpoint) throws -> InferenceRequest {
    try Array(body.utf8).withUnsafeBytes { try InferenceRequest.parse($0, endpoint: endpoint) }
  }

  private func continued(
    _ body: String, _ text: String, tokens: Int, _ endpoint: Endpoint = .chatCompletions
  ) throws -> String? {
    let request = try parse(body, endpoint)
    var output = ByteBuffer()
    let isWritten = Array(body.utf8).withUnsafeBytes { body in
      Array(text.utf8).withUnsafeBytes {
        request.writeContinuation(of: body, text: $0, tokens: tokens, into: &output)
      }
    }
    return isWritten ? output.text : nil
  }

  private func chat(_ more: String) -> String {
    "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"stream\":true\(more)}"
  }

  @Test(arguments: [
    ("", true), (",\"n\":1", true), (",\"n\":2", false), (",\"logprobs\":true", false),
    (",\"logprobs\":false", true), (",\"top_logprobs\":null", true), (",\"echo\":true", false),
    (",\"tools\":[{}]", true), (",\"tool_choice\":\"auto\"", true), (",\"tool_choice\":\"required\"", false),
    (",\"response_format\":{\"type\":\"text\"}", true),
    (",\"response_format\":{\"type\":\"json_object\"}", false), (",\"guided_regex\":\"a\"", false),
    (",\"continue_final_message\":true", false), (",\"add_generation_prompt\":false", true),
    (",\"regex\":\"a\"", false), (",\"ebnf\":\"a\"", false), (",\"json_schema\":{}", false),
    (",\"structural_tag\":{}", false), (",\"grammar\":\"a\"", false), (",\"grammar\":null", true),
    (",\"n_predict\":9", false), (",\"nvext\":{\"guided_json\":{}}", false),
    (",\"nvext\":{\"guided_json\":null,\"annotations\":[]}", true),
    (",\"use_beam_search\":true", false), (",\"best_of\":1", true), (",\"best_of\":2", false),
  ])
  func whichMayContinue(_ more: String, _ expected: Bool) throws {
    let body = chat(more)
    let request = try parse(body, .chatCompletions)
    #expect(Array(body.utf8).withUnsafeBytes { request.mayContinue($0) } == expected)
  }

  @Test func onlyStreamsOfOneTextDo() throws {
    for (body, expected) in [
      ("{\"model\":\"m\",\"prompt\":\"a\",\"stream\":true,\"max_tokens\":9}", true),
      // Its engine's own limit would begin anew.
      ("{\"model\":\"m\",\"prompt\":\"a\",\"stream\":true}", false),
      ("{\"model\":\"m\",\"prompt\":\"a\",\"stream\":true,\"max_tokens\":null}", false),
      ("{\"model\":\"m\",\"prompt\":\"a\"}", false),
      ("{\"model\":\"m\",\"prompt\":[1,2],\"stream\":true}", false),
      ("{\"model\":\"m\",\"prompt\":[\"a\",\"b\"],\"stream\":true}", false),
    ] {
      let request = try parse(body, .completions)
      #expect(Array(body.utf8).withUnsafeBytes { request.mayContinue($0) } == expected, "\(body)")
    }
  }

  @Test func aChatGoesOnBehindItsAnswer() throws {
    #expect(
      try continued(
        chat(",\"max_tokens\":10,\"max_completion_tokens\":9,\"min_tokens\":5"), "b\"\n", tokens: 3)
        == "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"a\"},"
        + "{\"role\":\"assistant\",\"content\":\"b\\\"\\n\"}],\"stream\":true,\"max_tokens\":7,"
        + "\"max_completion_tokens\":6,\"min_tokens\":2,\"continue_final_message\":true,"
        + "\"add_generation_prompt\":false}")
  }

  @Test(arguments: [(Int.min, 0), (2, 0), (3, 0), (4, 1), (Int.max, Int.max - 3)])
  func whatMustBeGeneratedAtLeastIsLowered(_ least: Int, _ left: Int) throws {
    #expect(
      try continued(chat(",\"min_tokens\":\(least)"), "b", tokens: 3)?.contains("\"min_tokens\":\(left),")
        == true)
  }

  @Test func keysThatAreThereAreNotDoubled() throws {
    let text = try continued(
      chat(",\"continue_final_message\":false,\"add_generation_prompt\":true"), "b", tokens: 1)
    #expect(text?.hasSuffix("\"continue_final_message\":true,\"add_generation_prompt\":false}") == true)
  }

  @Test func whatSaidNothingBeginsAnew() throws {
    let body = chat(",\"max_tokens\":10")
    #expect(try continued(body, "", tokens: 0) == body)
  }

  @Test func aCompletionGoesOnBehindItsPrompt() throws {
    #expect(
      try continued(
        "{\"prompt\":\"a\\\"\",\"model\":\"m\",\"stream\":true,\"max_tokens\":4}", " b\\", tokens: 1,
        .completions)
        == "{\"prompt\":\"a\\\" b\\\\\",\"model\":\"m\",\"stream\":true,\"max_tokens\":3}")
  }

  @Test func withoutTokensLeftNothingGoesOn() throws {
    #expect(try continued(chat(",\"max_tokens\":3"), "b", tokens: 3) == nil)
  }

  @Test func aWorkerTakesTheBegunAnswerOff() throws {
    let body = chat("")
    let whole = try #require(try continued(body, "b c", tokens: 2))
    let bytes = Array(whole.utf8)
    bytes.withUnsafeBytes { bytes in
      guard let chat = ContinuedChat(bytes) else {
        Issue.record("nothing is continued")
        return
      }
      #expect(String(decoding: chat.text, as: UTF8.self) == "b c")
      #expect(chat.body.text.contains("\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]"))
    }
    for other in [body, chat(",\"continue_final_message\":true"), "[]", "{"] {
      #expect(Array(other.utf8).withUnsafeBytes { ContinuedChat($0) == nil })
    }
  }

  // MARK: Chunks

  private func rewritten(_ data: String, carried: Int = 3, keepsRole: Bool = false) -> String? {
    Array(data.utf8).withUnsafeBytes { bytes in
      guard let chunk = StreamChunk(bytes) else { return nil }
      var output = ByteBuffer()
      chunk.write(
        bytes, id: Array("\"x\"".utf8), created: Array("7".utf8), carried: carried, keepsRole: keepsRole,
        into: &output)
      return output.text
    }
  }

  @Test func aChunkBecomesAnothersChunk() {
    #expect(
      rewritten(#"{"id":"y","created":9,"choices":[{"delta":{"content":"a"},"finish_reason":null}]}"#)
        == #"{"id":"x","created":7,"choices":[{"delta":{"content":"a"},"finish_reason":null}]}"#)
    // In any order, and with the role in any place.
    #expect(
      rewritten(#"{"choices":[{"delta":{"role":"assistant", "content":"a"}}],"created":9,"id":"y"}"#)
        == #"{"choices":[{"delta":{ "content":"a"}}],"created":7,"id":"x"}"#)
    #expect(
      rewritten(#"{"choices":[{"delta":{"content":"a", "role":"assistant"}}]}"#)
        == #"{"choices":[{"delta":{"content":"a"}}]}"#)
    #expect(
      rewritten(#"{"choices":[{"delta":{"role":"assistant"}}]}"#, keepsRole: true)
        == #"{"choices":[{"delta":{"role":"assistant"}}]}"#)
    #expect(rewritten(#"{"choices":[{"delta":{"role":"assistant"}}]}"#) == #"{"choices":[{"delta":{}}]}"#)
  }

  @Test func usageCountsTheWholeAnswer() {
    let text = rewritten(
      #"{"id":"y","choices":[],"usage":{"prompt_tokens":10,"completion_tokens":4,"total_tokens":14}}"#)
    #expect(text?.contains(#""prompt_tokens":7,"completion_tokens":7,"total_tokens":14"#) == true)
    #expect(rewritten(#"{"choices":[],"usage":null}"#) == #"{"choices":[],"usage":null}"#)
  }

  @Test(arguments: [
    (#"{"choices":[{"delta":{"content":"a"}}]}"#, false, false),
    (#"{"choices":[{"delta":{"content":"a","tool_calls":[],"reasoning_content":null}}]}"#, false, false),
    (#"{"choices":[{"delta":{"tool_calls":[{"index":0}]}}]}"#, true, false),
    (#"{"choices":[{"delta":{"reasoning_content":"a"}}]}"#, true, false),
    (#"{"choices":[{"delta":{"content":"a"},"logprobs":{"content":[]}}]}"#, true, false),
    (#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#, false, true),
    (#"{"error":{"message":"a"}}"#, false, true),
  ])
  func whatEndsOrHindersAContinuation(_ data: String, _ more: Bool, _ last: Bool) {
    Array(data.utf8).withUnsafeBytes { bytes in
      let chunk = StreamChunk(bytes)
      #expect(chunk?.hasMoreThanText == more && chunk?.isLast == last)
    }
  }

  @Test func whatIsNoChunk() {
    for data in ["", "[DONE]", "[]", "{\"a\"", "{} x"] {
      #expect(Array(data.utf8).withUnsafeBytes { StreamChunk($0) == nil }, "\(data)")
    }
  }
}
