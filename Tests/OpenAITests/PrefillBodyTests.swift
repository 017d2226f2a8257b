// The bodies of a request in two parts, and the answer between them.

import Base
import Testing

@testable import OpenAI

struct PrefillBodyTests {
  private func parse(_ body: String, _ endpoint: Endpoint = .chatCompletions) throws -> InferenceRequest {
    try Array(body.utf8).withUnsafeBytes { bytes throws(APIError) in
      try InferenceRequest.parse(bytes, endpoint: endpoint)
    }
  }

  private func prefill(_ body: String) -> String {
    var out = ByteBuffer()
    Array(body.utf8).withUnsafeBytes { InferenceRequest.writePrefill(of: $0, into: &out) }
    return out.readable.text
  }

  private let asked =
    "\"kv_transfer_params\":{\"do_remote_decode\":true,\"do_remote_prefill\":false,\"remote_engine_id\":null,"
    + "\"remote_block_ids\":null,\"remote_host\":null,\"remote_port\":null}"

  @Test func limitsAndStreamAreReplacedAndTheRestStays() {
    #expect(
      prefill(
        "{ \"model\" : \"m\", \"stream\":true,\"max_completion_tokens\": 90 ,\"messages\":[], \"x\":[1, 2] } "
      )
        == "{ \"model\" : \"m\", \"stream\":false,\"max_completion_tokens\": 1 ,\"messages\":[], \"x\":[1, 2] "
        + ",\"max_tokens\":1,\(asked)} ")
    #expect(
      prefill("{\"max_tokens\":5,\"min_tokens\":4,\"stream_options\":{\"include_usage\":true}}")
        == "{\"max_tokens\":1,\"min_tokens\":0,\"stream_options\":null,\(asked)}")
    // Names are compared as they are read.
    #expect(prefill("{\"max_\\u0074okens\":5}") == "{\"max_\\u0074okens\":1,\(asked)}")
  }

  @Test(arguments: [
    ("", true), (",\"best_of\":1", true), (",\"best_of\":2", false), (",\"echo\":false", true),
    (",\"echo\":true", false), (",\"n\":2", false), (",\"kv_transfer_params\":{}", false),
    (",\"bootstrap_host\":\"h\"", false), (",\"prompt_logprobs\":null", true),
    (",\"prompt_logprobs\":0", false),
  ])
  func divisible(more: String, isDivisible: Bool) throws {
    let body = "{\"model\":\"m\",\"prompt\":\"p\"\(more)}"
    let request = try parse(body, .completions)
    #expect(Array(body.utf8).withUnsafeBytes { request.isDivisible($0) } == isDivisible)
  }

  @Test(arguments: ["[\"a\",\"b\"]", "[[1],[2]]"]) func severalPromptsAreNot(prompt: String) throws {
    let body = "{\"model\":\"m\",\"prompt\":\(prompt)}"
    let request = try parse(body, .completions)
    #expect(!Array(body.utf8).withUnsafeBytes { request.isDivisible($0) })
  }

  @Test func decodeGetsTheParametersBeforeTheClosingBrace() throws {
    let body = "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"}\"}],\"stream\":true}\n "
    let request = try parse(body)
    var edited = ByteBuffer()
    var out = ByteBuffer()
    Array(body.utf8).withUnsafeBytes { request.usageEdit?.write($0, into: &edited) }
    Array("{\"a\":1}".utf8).withUnsafeBytes {
      request.writeDecode(edited.readable, bodyBytes: body.utf8.count, transfer: $0, into: &out)
    }
    #expect(
      out.readable.text.hasSuffix(
        "\"stream\":true,\"stream_options\":{\"include_usage\":true},\"kv_transfer_params\":{\"a\":1}}\n "))
  }

  @Test func answersSayWhereTheBlocksAre() {
    let text =
      "{\"id\":1,\"kv_transfer_params\":{\"remote_block_ids\":[1]},\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":1}}"
    let bytes = Array(text.utf8)
    bytes.withUnsafeBytes { whole in
      let answer = PrefillAnswer(whole)
      #expect(answer.map { whole.slice($0.transfer).text } == "{\"remote_block_ids\":[1]}")
      #expect(answer?.usage?.promptTokens == 3)
      // No part of it is taken for the whole.
      for end in 0..<whole.count { #expect(PrefillAnswer(whole.slice(0..<end)) == nil) }
    }
    for other in ["[]", "{}", "{\"kv_transfer_params\":null}", "{\"kv_transfer_params\":[1]}", "x"] {
      #expect(Array(other.utf8).withUnsafeBytes { PrefillAnswer($0) } == nil)
    }
  }

  @Test func enginesReadWhatTheyAreAsked() {
    func wish(_ parameters: String) -> TransferWish? {
      Array("{\"model\":\"m\",\"kv_transfer_params\":\(parameters)}".utf8).withUnsafeBytes {
        TransferWish($0)
      }
    }
    #expect(wish("{\"do_remote_decode\":true,\"remote_block_ids\":null}")?.isForOthers == true)
    let received = wish("{\"do_remote_prefill\":true,\"remote_engine_id\":\"e\",\"remote_block_ids\":[4,5]}")
    #expect(received?.blocks == [4, 5] && received?.engine == "e" && received?.isForOthers == false)
    #expect(wish("{}") == nil && wish("null") == nil && wish("{\"do_remote_prefill\":false}") == nil)
  }
}
