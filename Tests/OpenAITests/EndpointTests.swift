// The routes beside chats and completions: their names, their bodies, what their answers and events tell.

import Base
import JSON
import Testing

@testable import OpenAI

@Suite struct EndpointTests {
  private func endpoint(_ path: String) -> Endpoint? { withBytes(path) { Endpoint(path: $0) } }

  @Test func pathsAndTheirOtherNames() {
    for endpoint in Endpoint.allCases { #expect(self.endpoint("\(endpoint.path)") == endpoint) }
    #expect(endpoint("/rerank") == .rerank)
    #expect(endpoint("/v2/rerank") == .rerank)
    #expect(endpoint("/score") == .score)
    for path in ["", "/", "/v1/embedding", "/v1/embeddings/", "/v1/responses/resp_1", "/v3/rerank"] {
      #expect(endpoint(path) == nil)
    }
  }

  @Test func setsByLabelsAndByDocuments() {
    #expect(EndpointSet(labels: ["embeddings", "nonsense", "rerank"]).endpoints == [.embeddings, .rerank])
    let document =
      #"{"openapi":"3.1.0","paths":{"/v1/chat/completions":{"post":{}},"/v1/messages":{},"/rerank":{},"/health":{"get":[1]}}}"#
    #expect(withBytes(document) { EndpointSet(openAPI: $0) }?.endpoints == [.chatCompletions, .messages])
    for text in ["", "[]", "{", #"{"paths":7}"#, #"{"paths":{"/health":{}}}"#, String(document.dropLast())] {
      #expect(withBytes(text) { EndpointSet(openAPI: $0) } == nil, "\(text)")
    }
    var buffer = ByteBuffer()
    buffer.append(EndpointSet([.embeddings, .score]))
    #expect(buffer.text == #"["embeddings","score"]"#)
  }

  // MARK: Bodies

  @Test(arguments: [
    (#"{"model":"m","input":"x"}"#, Endpoint.embeddings), (#"{"model":"m","input":["a","b"]}"#, .embeddings),
    (#"{"model":"m","input":[[1,2],[3]],"messages":[{"role":"user"}]}"#, .embeddings),
    (#"{"model":"m","messages":[{"role":"user","content":"x"}]}"#, .embeddings),
    (#"{"model":"m","input":"x","n":0,"prompt":[]}"#, .embeddings),
    (#"{"model":"m","input":[{"role":"user","content":"x"}],"stream":true}"#, .responses),
    (#"{"model":"m"}"#, .responses), (#"{"model":"m","query":"q","documents":["a"]}"#, .rerank),
    (#"{"model":"m","text_1":"a","text_2":"b"}"#, .score),
  ]) func whatIsValidPasses(text: String, endpoint: Endpoint) {
    #expect(refusal(text, endpoint) == nil)
  }

  @Test(arguments: [
    (#"{"input":"x"}"#, Endpoint.embeddings, "model"), (#"{"model":"m"}"#, .embeddings, "input"),
    (#"{"model":"m","input":[]}"#, .embeddings, "input"),
    (#"{"model":"m","input":{}}"#, .embeddings, "input"),
    (#"{"model":"m","input":["a",1]}"#, .embeddings, "input"),
    (#"{"model":"m","input":[-1]}"#, .embeddings, "input"),
    (#"{"model":"m","input":7}"#, .responses, "input"),
    (#"{"model":"m","max_output_tokens":0}"#, .responses, "max_output_tokens"),
    (#"{"model":"m","stream":"yes"}"#, .responses, "stream"), (#"{"documents":[]}"#, .rerank, "model"),
    (#"{"model":"m","model":"n"}"#, .score, "model"),
  ]) func whatIsWrongIsNamed(text: String, endpoint: Endpoint, param: String) throws {
    let error = try #require(refusal(text, endpoint))
    #expect(error.status == 400)
    #expect(error.param == param)
  }

  @Test func theCanonicalPromptOfAResponseBeginsWithItsInstructions() throws {
    func canonical(_ text: String) throws -> String {
      try withBytes(text) { body in
        let request = try InferenceRequest.parse(body, endpoint: .responses)
        if let slice = request.canonicalSlice(of: body) { return slice.text }
        var buffer = ByteBuffer()
        request.canonical(of: body, into: &buffer)
        return buffer.text
      }
    }
    #expect(try canonical(#"{"model":"m","input":"hello"}"#) == "hello")
    #expect(try canonical(#"{"input":"hello","instructions":"Be brief. ","model":"m"}"#) == "Be brief. hello")
    #expect(
      try canonical(#"{"model":"m","tools":[ 1 ],"input":[ {"role": "user"} ]}"#) == #"[1]{"role":"user"}"#)
  }

  @Test func whatAResponseAsksForIsRead() throws {
    try withBytes(
      #"{"model":"m","input":"x","stream":true,"max_output_tokens":9,"previous_response_id":"resp_7"}"#
    ) {
      body in
      let request = try InferenceRequest.parse(body, endpoint: .responses)
      #expect(request.stream)
      #expect(request.maxTokens == 9)
      #expect(request.usageEdit == nil)
      #expect(request.previousResponse.map { body.slice($0).text } == "resp_7")
    }
  }

  // MARK: Answers

  private func summary(_ text: String, _ form: AnswerForm) -> AnswerSummary? {
    withBytes(text) { AnswerSummary.read($0, form: form) }
  }

  @Test func answersTellTheirUsage() {
    let embedding = summary(#"{"data":[{"usage":1}],"usage":{"prompt_tokens":5,"total_tokens":5}}"#, .plain)
    #expect(embedding?.usage?.promptTokens == 5)
    let response = summary(
      #"{"id":"resp_1","status":"incomplete","incomplete_details":{"reason":"content_filter"},"usage":{"input_tokens":5,"output_tokens":3,"input_tokens_details":{"cached_tokens":4}},"error":null}"#,
      .responses)
    #expect(response?.usage == Usage(promptTokens: 5, completionTokens: 3, cachedTokens: 4))
    #expect(response?.finishReason == .contentFilter)
    #expect(response?.responseID == Array("resp_1".utf8))
    #expect(response?.isError == false)
    let message = summary(
      #"{"stop_reason":"tool_use","usage":{"input_tokens":5,"cache_read_input_tokens":4,"cache_creation_input_tokens":2,"output_tokens":3}}"#,
      .messages)
    #expect(message?.usage == Usage(promptTokens: 11, completionTokens: 3, cachedTokens: 4))
    #expect(message?.finishReason == .toolCalls)
    for form in [AnswerForm.plain, .responses, .messages] { #expect(summary("[1]", form) == nil) }
  }

  /// Of a long answer there may be only the end.
  @Test func vectorsAreNotRead() {
    let end = #"0.1,0.2]}],"usage":{"prompt_tokens":5,"total_tokens":5}}"#
    #expect(summary(end, .plain)?.usage?.promptTokens == 5)
  }

  @Test func onlyInputTokensLeaveOutTheCache() {
    let beside = #""cache_read_input_tokens":4,"cache_creation_input_tokens":2,"#
    for form in [AnswerForm.chat, .messages] {
      let all = summary("{\"usage\":{\(beside)\"prompt_tokens\":9,\"completion_tokens\":3}}", form)
      #expect(all?.usage == Usage(promptTokens: 9, completionTokens: 3, cachedTokens: 4))
      let rest = summary("{\"usage\":{\(beside)\"input_tokens\":3,\"output_tokens\":3}}", form)
      #expect(rest?.usage == Usage(promptTokens: 9, completionTokens: 3, cachedTokens: 4))
    }
  }

  @Test(arguments: ["2305843009213693950", "9223372036854775807", "4294967297"])
  func countsThatCannotBeAreNone(count: String) {
    let twice = "\"cache_read_input_tokens\":\(count),\"cache_creation_input_tokens\":\(count),"
    let many = Array(repeating: twice, count: 8).joined()
    let usage = summary("{\"usage\":{\(many)\"input_tokens\":1,\"output_tokens\":1}}", .messages)?.usage
    #expect(usage == Usage(promptTokens: 1, completionTokens: 1))
    #expect(summary("{\"usage\":{\"prompt_tokens\":\(count),\"completion_tokens\":1}}", .chat)?.usage == nil)
  }

  @Test(arguments: [
    ("completed", CompletionFinish.stop), ("incomplete", .length), ("failed", .error), ("cancelled", .abort),
    ("in_progress", .none),
  ]) func statesOfAResponse(state: String, finish: CompletionFinish) {
    #expect(summary("{\"status\":\"\(state)\"}", .responses)?.finishReason == finish)
  }

  // MARK: Events

  private func kinds(_ events: [String], _ form: AnswerForm) -> ([ChunkKind], Usage?, CompletionFinish) {
    var inspector = ChunkInspector()
    inspector.form = form
    let kinds = events.map { event in withBytes(event) { inspector.inspect($0) } }
    return (kinds, inspector.usage, inspector.finishReason)
  }

  @Test func eventsOfAResponse() {
    let (kinds, usage, finish) = kinds(
      [
        #"{"type":"response.created","sequence_number":0,"response":{"id":"r","status":"in_progress","usage":null}}"#,
        #"{"type":"response.output_text.delta","sequence_number":1,"delta":"a"}"#,
        #"{"delta":"b","sequence_number":2,"type":"response.function_call_arguments.delta"}"#,
        #"{"type":"response.output_text.delta","delta":""}"#,
        #"{"type":"response.output_text.done","text":"a"}"#,
        #"{"type":"response.completed","response":{"id":"r","status":"completed","usage":{"input_tokens":2,"output_tokens":1}}}"#,
      ], .responses)
    #expect(kinds == [.other, .token, .token, .other, .other, .done])
    #expect(usage == Usage(promptTokens: 2, completionTokens: 1))
    #expect(finish == .stop)
  }

  @Test func errorsAmongEvents() {
    let failed = #"{"type":"response.failed","response":{"status":"failed","error":{"code":"x"}}}"#
    #expect(kinds([failed], .responses).0 == [.error])
    #expect(kinds([#"{"type":"error","message":"x"}"#], .responses).0 == [.error])
    #expect(kinds([#"{"type":"error","error":{"type":"api_error"}}"#], .messages).0 == [.error])
    for form in [AnswerForm.responses, .messages] {
      #expect(
        kinds(["", "7", "{", #"{"type":7}"#, "{}"], form).0 == [.other, .other, .other, .other, .other])
    }
  }

  @Test func eventsOfAMessage() {
    let (kinds, usage, finish) = kinds(
      [
        #"{"type":"message_start","message":{"usage":{"input_tokens":2,"cache_read_input_tokens":8,"output_tokens":1}}}"#,
        #"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
        #"{"type":"ping"}"#,
        #"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a"}}"#,
        #"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"b \" c"}}"#,
        #"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{"}}"#,
        #"{"type":"message_delta","delta":{"stop_reason":"max_tokens"},"usage":{"output_tokens":3}}"#,
        #"{"type":"message_stop"}"#,
      ], .messages)
    #expect(kinds == [.other, .other, .other, .token, .token, .token, .other, .done])
    #expect(usage == Usage(promptTokens: 10, completionTokens: 3, cachedTokens: 8))
    #expect(finish == .length)
  }

  // MARK: Errors

  @Test func errorsInEachForm() {
    func written(_ write: (inout ByteBuffer) -> Void) -> String {
      var buffer = ByteBuffer()
      write(&buffer)
      return buffer.text
    }
    let error = APIError.upstreamTimeout
    #expect(
      written { error.write(into: &$0, format: .anthropic) }
        == #"{"type":"error","error":{"type":"timeout_error","message":"The worker did not answer in time."}}"#
    )
    #expect(
      written { error.writeEvents(into: &$0, form: .responses, sequence: 4) }
        == "event: error\ndata: {\"type\":\"error\",\"sequence_number\":4,\"code\":\"upstream_timeout\","
        + "\"message\":\"The worker did not answer in time.\",\"param\":null}\n\n")
    #expect(
      written { error.writeEvents(into: &$0, form: .messages) }.hasPrefix(
        "event: error\ndata: {\"type\":\"error\""))
    #expect(written { error.writeEvents(into: &$0) }.hasSuffix("data: [DONE]\n\n"))
  }
}
