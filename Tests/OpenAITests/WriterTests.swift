// Answers, model lists and errors, as Foundation reads them back.

import Base
import Foundation
import JSON
import Testing

@testable import OpenAI

@Suite struct ErrorTests {
  static let all: [(APIError, Int, String?, String)] = [
    (.invalidJSON(JSONError(.endOfInput, at: 3)), 400, "invalid_json", "invalid_request_error"),
    (.bodyIsNotAnObject, 400, "invalid_type", "invalid_request_error"),
    (.duplicateKey("n"), 400, "invalid_json", "invalid_request_error"),
    (.invalidType("n", expected: "an integer"), 400, "invalid_type", "invalid_request_error"),
    (.invalidValue("n", reason: "it must be at least 1"), 400, "invalid_value", "invalid_request_error"),
    (.missing("model"), 400, "missing_required_parameter", "invalid_request_error"),
    (.malformedRequest(message: "x"), 400, "bad_request", "invalid_request_error"),
    (.malformedRequest(status: 431, message: "x"), 431, nil, "invalid_request_error"),
    (.invalidAPIKey(isMissing: true), 401, "invalid_api_key", "authentication_error"),
    (.notFound(method: "GET", path: "/x"), 404, "not_found", "invalid_request_error"),
    (.methodNotAllowed("PUT", allow: "GET, HEAD"), 405, "method_not_allowed", "invalid_request_error"),
    (.modelNotFound("m"), 404, "model_not_found", "invalid_request_error"),
    (.requestTimeout, 408, "request_timeout", "invalid_request_error"),
    (.bodyTooLarge(limitBytes: 1), 413, "body_too_large", "invalid_request_error"),
    (.unsupportedMediaType, 415, "unsupported_media_type", "invalid_request_error"),
    (.expectationFailed, 417, "expectation_failed", "invalid_request_error"),
    (.rateLimited("requests per minute", retryAfterSeconds: 2), 429, "rate_limited", "rate_limit_error"),
    (.clientClosed, 499, "client_closed_request", "invalid_request_error"),
    (.internalError, 500, "internal_error", "server_error"),
    (.badGateway("it closed the connection"), 502, "bad_gateway", "server_error"),
    (.workerAuth, 502, "worker_auth", "server_error"),
    (.noWorkers(model: "m"), 503, "no_workers", "server_error"),
    (.draining(), 503, "draining", "server_error"),
    (.upstreamTimeout, 504, "upstream_timeout", "server_error"),
    (.overloaded(), 529, "overloaded", "server_error"),
    (.overloaded(status: 503), 503, "overloaded", "server_error"),
  ]

  @Test func everyErrorHasStatusCodeAndEnvelope() throws {
    for (error, status, code, type) in Self.all {
      #expect(error.status == status)
      #expect(error.code == code)
      #expect(error.type == type)
      let body = try object(written { error.write(into: &$0) })
      let envelope = try #require(body["error"] as? NSDictionary)
      #expect(body.count == 1)
      #expect(Set(envelope.allKeys.compactMap { $0 as? String }) == ["message", "type", "param", "code"])
      #expect(envelope["message"] as? String == error.message)
      #expect(envelope["type"] as? String == type)
      #expect(envelope["code"] as? String == code)
      #expect(envelope["param"] as? String == error.param)
      if code == nil { #expect(envelope["code"] is NSNull) }

      let flat = try object(written { error.write(into: &$0, format: .dynamo) })
      #expect(flat["message"] as? String == error.message)
      #expect(flat["code"] as? Int == status)
      #expect(flat["type"] as? String == "\(APIError.reasonPhrase(status))")
      #expect(flat.count == 3)
      #expect("\(APIError.reasonPhrase(status))" != "Unknown")
    }
  }

  @Test func capacityErrorsSayWhenToComeBack() {
    for error in [
      APIError.noWorkers(model: nil), .draining(), .overloaded(),
      .rateLimited("tokens", retryAfterSeconds: 1),
    ] {
      #expect(error.retryAfterSeconds == 1)
    }
    #expect(APIError.methodNotAllowed("PUT", allow: "GET, HEAD").allow == "GET, HEAD")
  }

  @Test func errorsInAStreamEndIt() throws {
    let text = written { APIError.upstreamTimeout.writeEvents(into: &$0) }
    let events = text.components(separatedBy: "\n\n")
    #expect(events.count == 3)
    #expect(events[0].hasPrefix("data: "))
    #expect(try object(String(events[0].dropFirst(6)))["error"] != nil)
    #expect(events[1] == "data: [DONE]")
    #expect(events[2].isEmpty)
  }

  @Test func echoedTextIsEscapedAndShort() throws {
    let error = APIError.modelNotFound(String(repeating: "\"\n", count: 10_000))
    let body = written { error.write(into: &$0) }
    #expect(body.utf8.count < 1_000)
    _ = try object(body)
  }
}

@Suite struct AnswerTests {
  private static let usage = Usage(promptTokens: 8, completionTokens: 2, cachedTokens: 4)

  private func payloads(_ text: String) throws -> [String] {
    var events = text.components(separatedBy: "\n\n")
    #expect(events.removeLast().isEmpty)
    return try events.map { event in
      try #require(event.hasPrefix("data: "))
      return String(event.dropFirst(6))
    }
  }

  @Test(arguments: [Endpoint.chatCompletions, .completions])
  func streamsAreReadBackByTheInspector(endpoint: Endpoint) throws {
    let text = written { buffer in
      let writer = CompletionStreamWriter(
        endpoint: endpoint, id: "1", created: 1_763_800_000, model: "Qwen/Qwen3-0.6B", sendsUsage: true)
      writer.writeRole(into: &buffer)
      Array(" a\"b\n".utf8).withUnsafeBytes { writer.writeText($0, into: &buffer) }
      Array("é".utf8).withUnsafeBytes { writer.writeText($0, usage: Self.usage, into: &buffer) }
      writer.writeFinish(.length, into: &buffer)
      writer.writeUsage(Self.usage, into: &buffer)
      CompletionStreamWriter.writeDone(into: &buffer)
    }
    var events = try payloads(text)
    var inspector = ChunkInspector()
    let kinds = events.map { event in withBytes(event) { inspector.inspect($0) } }
    let isChat = endpoint == .chatCompletions
    #expect(kinds == (isChat ? [.other] : []) + [.token, .token, .other, .usageOnly, .done])
    #expect(inspector.usage == Self.usage)
    #expect(inspector.finishReason == .length)
    #expect(events.removeLast() == "[DONE]")
    for event in events {
      let chunk = try object(event)
      #expect(chunk["object"] as? String == (isChat ? "chat.completion.chunk" : "text_completion"))
      #expect(chunk["id"] as? String == (isChat ? "chatcmpl-1" : "cmpl-1"))
      #expect(chunk["created"] as? Int == 1_763_800_000)
      #expect(chunk["model"] as? String == "Qwen/Qwen3-0.6B")
      #expect(chunk["usage"] != nil)
    }
    let token = try object(events[isChat ? 1 : 0])
    let choice = try #require((token["choices"] as? [NSDictionary])?.first)
    let content = isChat ? (choice["delta"] as? NSDictionary)?["content"] : choice["text"]
    #expect(content as? String == " a\"b\n")
    #expect(choice["finish_reason"] is NSNull)
    #expect(token["usage"] is NSNull)
  }

  @Test func usageIsLeftOutWhenNotAskedFor() throws {
    let text = written { buffer in
      let writer = CompletionStreamWriter(
        endpoint: .chatCompletions, id: "1", created: 1, model: "m", sendsUsage: false)
      writer.writeRole(choice: 1, into: &buffer)
      writer.writeFinish(.stop, choice: 1, into: &buffer)
    }
    for event in try payloads(text) {
      let chunk = try object(event)
      #expect(chunk["usage"] == nil)
      #expect((chunk["choices"] as? [NSDictionary])?.first?["index"] as? Int == 1)
    }
  }

  @Test(arguments: [Endpoint.chatCompletions, .completions])
  func wholeAnswersHaveTheirShape(endpoint: Endpoint) throws {
    let answer = CompletionAnswer(
      endpoint: endpoint, id: "7", created: 5, model: "m\"",
      choices: [
        .init(text: Array("Paris\n".utf8), finishReason: .stop), .init(text: [0xff], finishReason: .length),
      ],
      usage: Self.usage)
    let text = written { answer.write(into: &$0) }
    let body = try object(text)
    let isChat = endpoint == .chatCompletions
    #expect(body["object"] as? String == (isChat ? "chat.completion" : "text_completion"))
    #expect(body["model"] as? String == "m\"")
    let choices = try #require(body["choices"] as? [NSDictionary])
    #expect(choices.map { $0["index"] as? Int } == [0, 1])
    #expect(choices.map { $0["finish_reason"] as? String } == ["stop", "length"])
    let first = isChat ? (choices[0]["message"] as? NSDictionary)?["content"] : choices[0]["text"]
    #expect(first as? String == "Paris\n")
    if isChat { #expect((choices[0]["message"] as? NSDictionary)?["role"] as? String == "assistant") }
    let usage = try #require(body["usage"] as? NSDictionary)
    #expect(usage["total_tokens"] as? Int == 10)
    #expect((usage["prompt_tokens_details"] as? NSDictionary)?["cached_tokens"] as? Int == 4)
    #expect(withBytes(text) { AnswerSummary.parse($0) }?.usage == Self.usage)
  }

  @Test func modelListsAreReadBack() throws {
    let models = [
      ListedModel(id: "a/b", created: 3, contextTokens: 4_096), ListedModel(id: "c\"", created: 4),
    ]
    let text = written { $0.append(models) }
    let data = try #require(try object(text)["data"] as? [NSDictionary])
    #expect(data.map { $0["object"] as? String } == ["model", "model"])
    #expect(data.map { $0["owned_by"] as? String } == ["nvidia", "nvidia"])
    let parsed = try withBytes(text) { ListedModel.list(from: try JSONValue.parse($0)) }
    #expect(parsed == models)
    #expect(ListedModel.list(from: .object([])) == nil)
    #expect(try object(written { $0.append([ListedModel]()) })["object"] as? String == "list")
  }
}

@Suite struct SimulationRequestTests {
  @Test func samplingFieldsAreRead() throws {
    let text = #"""
      {"model":"m","messages":[{"content":[{"type":"text","text":"a\u00e9"},{"type":"image_url","image_url":{"url":"x"}}],
      "role":"user"},{"role":"assistant","content":null,"tool_calls":[ 1 ]},{"role":"user","content":"b\n"}],
      "tools":[ {"a": 1} ],"temperature":0,"top_p":0.5,"seed":-3,"stop":["x","","yé"],"n":2,"max_tokens":9,"min_tokens":2,
      "ignore_eos":true,"stream":true,"stream_options":{"include_usage":true,"continuous_usage_stats":true},"cache_salt":"s"}
      """#
    let request = try withBytes(text) { try SimulationRequest.parse($0, endpoint: .chatCompletions) }
    #expect(request.temperature == 0)
    #expect(request.topP == 0.5)
    #expect(request.seed == -3)
    #expect(request.stop == ["x", "yé"])
    #expect(request.choices == 2)
    #expect(request.maxTokens == 9)
    #expect(request.minTokens == 2)
    #expect(request.ignoresEndOfText)
    #expect(request.stream && request.includeUsage && request.continuousUsage)
    #expect(request.cacheSalt == "s")
    let expected = """
      <|im_start|>tools
      [{"a":1}]<|im_end|>
      <|im_start|>user
      aé{"type":"image_url","image_url":{"url":"x"}}<|im_end|>
      <|im_start|>assistant
      [1]<|im_end|>
      <|im_start|>user
      b
      <|im_end|>
      <|im_start|>assistant

      """
    #expect(request.prompts == [.text(Array(expected.utf8))])
  }

  @Test func completionPromptsAreRead() throws {
    func prompts(_ prompt: String) throws -> [SimulationRequest.Prompt] {
      try withBytes(#"{"model":"m","prompt":"# + prompt + "}") {
        try SimulationRequest.parse($0, endpoint: .completions).prompts
      }
    }
    #expect(try prompts(#""a\n""#) == [.text(Array("a\n".utf8))])
    #expect(try prompts(#"["a", "b"]"#) == [.text([0x61]), .text([0x62])])
    #expect(try prompts("[1, 2]") == [.tokens([1, 2])])
    #expect(try prompts("[[1], [2, 4294967295]]") == [.tokens([1]), .tokens([2, .max])])
  }

  @Test(arguments: [
    (#""temperature":"hot""#, "invalid_type", "temperature"),
    (#""temperature":-1"#, "invalid_value", "temperature"),
    (#""temperature":1e400"#, "invalid_value", "temperature"), (#""top_p":2"#, "invalid_value", "top_p"),
    (#""seed":1.5"#, "invalid_type", "seed"), (#""seed":"a""#, "invalid_type", "seed"),
    (#""stop":3"#, "invalid_type", "stop"), (#""stop":[3]"#, "invalid_type", "stop"),
    (#""min_tokens":-1"#, "invalid_value", "min_tokens"), (#""n":0"#, "invalid_value", "n"),
  ])
  func badSamplingFieldsAreRefused(member: String, code: String, param: String) {
    let text = #"{"model":"m","prompt":"x","# + member + "}"
    let error = withBytes(text) { body in
      do throws(APIError) {
        _ = try SimulationRequest.parse(body, endpoint: .completions)
        return nil as APIError?
      } catch {
        return error
      }
    }
    #expect(error?.code == code)
    #expect(error?.param == param)
  }
}
