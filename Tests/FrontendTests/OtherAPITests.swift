// The other APIs of the family on one loop: which worker is asked, by what body, and what the caller gets.

import Base
import EventLoop
import OpenAI
import Routing
import Telemetry
import Testing
import Transport
import Workers

@testable import Frontend

@Suite struct OtherAPITests {
  private func post(_ rig: FrontendRig, _ path: String, _ body: String, _ headers: String = "") -> Int32 {
    let caller = rig.connect()
    rig.send(
      "POST \(path) HTTP/1.1\r\nhost: x\r\n\(headers)content-length: \(body.utf8.count)\r\n\r\n\(body)",
      on: caller)
    return caller
  }

  private let messages = #""messages":[{"role":"user","content":"What is the capital of France?"}]"#

  private var message: String { "{\"model\":\"\(FrontendRig.model)\",\"max_tokens\":9,\(messages)}" }

  private func rig(_ endpoints: [EndpointSet] = [], tokenizer: Bool = false) throws -> FrontendRig {
    let model = tokenizer ? try ByteModel.load() : nil
    let rig = try FrontendRig(traces: true) {
      $0.enablesAnthropic = true
      $0.tokenizer = model
    }
    if !endpoints.isEmpty { rig.service.adopt(rig.snapshot(generation: 2, endpoints: endpoints)) }
    return rig
  }

  private let completion =
    #"{"id":"c","choices":[{"index":0,"message":{"role":"assistant","content":"Paris"},"finish_reason":"stop"}],"#
    + #""usage":{"prompt_tokens":7,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":4}}}"#

  // MARK: Which workers

  @Test func onlyWorkersThatServeTheRouteAreAsked() throws {
    let rig = try rig([EndpointSet(.chatCompletions), EndpointSet(.embeddings)])
    for index in 0..<6 {
      _ = post(rig, "/v1/embeddings", "{\"model\":\"\(FrontendRig.model)\",\"input\":\"text \(index)\"}")
      let request = rig.upstreamRequest()
      #expect(request.hasPrefix("POST /v1/embeddings HTTP/1.1\r\n"))
      #expect(request.contains("host: worker-2\r\n"))
      rig.answerAndClose(#"{"data":[],"usage":{"prompt_tokens":3,"total_tokens":3}}"#)
    }
  }

  @Test func aRouteThatNoWorkerServesIsNamed() throws {
    let rig = try rig([EndpointSet(.chatCompletions), EndpointSet(.chatCompletions)])
    let answer = rig.output(post(rig, "/v1/rerank", "{\"model\":\"\(FrontendRig.model)\"}"))
    #expect(answer.status == 404)
    #expect(answer.contains("\"code\":\"endpoint_not_served\""))
    #expect(answer.contains("they serve /v1/chat/completions, /v1/messages."))
    let count = rig.output(post(rig, "/v1/messages/count_tokens", message))
    #expect(count.status == 404)
    #expect(count.contains("\"type\":\"not_found_error\""))
  }

  @Test func anthropicsRoutesAreNotThereUnlessAskedFor() throws {
    let rig = try FrontendRig()
    #expect(rig.output(post(rig, "/v1/messages", message)).contains("\"code\":\"not_found\""))
  }

  // MARK: Messages

  @Test func aMessageIsTranslatedBothWays() throws {
    let rig = try rig()
    let caller = post(rig, "/v1/messages", message, "anthropic-version: 2023-06-01\r\nx-request-id: r-1\r\n")
    let request = rig.upstreamRequest()
    #expect(request.hasPrefix("POST /v1/chat/completions HTTP/1.1\r\n"))
    #expect(request.contains("anthropic-version: 2023-06-01\r\n"))
    #expect(request.body == "{\"model\":\"\(FrontendRig.model)\",\(messages),\"max_tokens\":9}")
    rig.answer(completion)
    let answer = rig.output(caller)
    #expect(answer.status == 200)
    #expect(answer.contains("request-id: r-1\r\n"))
    #expect(answer.body.hasPrefix("{\"id\":\"msg_"))
    #expect(
      answer.body.contains(
        "\"content\":[{\"type\":\"text\",\"text\":\"Paris\"}],\"stop_reason\":\"end_turn\""))
    #expect(answer.contains("content-length: \(answer.body.utf8.count)\r\n"))
    #expect(
      answer.body.contains(
        "\"input_tokens\":3,\"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":4,\"output_tokens\":2"
      ))
  }

  @Test func aWorkerThatSpeaksMessagesGetsThemAsTheyCame() throws {
    let rig = try rig([.all, .all])
    let caller = post(rig, "/v1/messages", message)
    let request = rig.upstreamRequest()
    #expect(request.hasPrefix("POST /v1/messages HTTP/1.1\r\n"))
    #expect(request.body == message)
    let answer = #"{"type":"message","stop_reason":"end_turn","usage":{"input_tokens":3,"output_tokens":2}}"#
    rig.answer(answer)
    #expect(rig.output(caller).body == answer)
  }

  @Test func aRetryMayBeTranslatedWhereTheFirstWasNot() throws {
    let rig = try rig([.all, EndpointSet(.chatCompletions)])
    let caller = post(rig, "/v1/messages", message)
    let first = rig.upstreamRequest()
    rig.send("HTTP/1.1 503 No\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}", on: rig.dialer.last)
    let second = rig.upstreamRequest()
    #expect(
      Set([first, second].map { $0.split(separator: " ")[1] }) == ["/v1/messages", "/v1/chat/completions"])
    let native = second.hasPrefix("POST /v1/messages ")
    rig.answer(native ? "{\"type\":\"message\"}" : completion)
    #expect(rig.output(caller).body.contains("\"type\":\"message\""))
  }

  @Test func theTranslatedPromptFindsTheChatsPrefix() throws {
    let rig = try rig()
    let text = String(repeating: "lorem ipsum ", count: 100)
    let chat =
      "{\"model\":\"\(FrontendRig.model)\",\"messages\":[{\"role\":\"user\",\"content\":\"\(text)\"}]"
    var workers: Set<Substring> = []
    for (path, more) in [
      ("/v1/chat/completions", "}"), ("/v1/messages", ",\"max_tokens\":4}"),
      ("/v1/messages", ",\"max_tokens\":5}"),
    ] {
      _ = post(rig, path, chat + more)
      let request = rig.upstreamRequest()
      workers.insert(request.split(separator: "\r\n").first { $0.hasPrefix("host:") } ?? "")
      rig.answerAndClose(completion)
    }
    #expect(workers.count == 1)
    let lines = rig.lines.lines
    #expect(lines.count { $0.contains("anthropic_messages") } == 2)
  }

  @Test(arguments: [
    (400, #"{"error":{"message":"too long"}}"#, "invalid_request_error", "too long"),
    (404, "<html>", "not_found_error", "The worker answered with status 404."),
    (500, "", "api_error", "The worker answered with status 500."),
  ]) func aWorkersErrorIsTranslated(status: Int, body: String, type: String, text: String) throws {
    let rig = try rig()
    let caller = post(rig, "/v1/messages", message)
    _ = rig.upstreamRequest()
    rig.send(
      "HTTP/1.1 \(status) No\r\ncontent-type: text/html\r\ncontent-length: \(body.utf8.count)\r\n\r\n\(body)",
      on: rig.dialer.last)
    let answer = rig.output(caller)
    #expect(answer.status == status)
    #expect(answer.contains("content-type: application/json\r\n"))
    #expect(!answer.contains("text/html"))
    #expect(answer.body == "{\"type\":\"error\",\"error\":{\"type\":\"\(type)\",\"message\":\"\(text)\"}}")
  }

  @Test func whenAllWorkersAreBusyTheirWordsAreTranslated() throws {
    let rig = try rig()
    let caller = post(rig, "/v1/messages", message)
    for _ in 0..<2 {
      _ = rig.upstreamRequest()
      rig.send(
        "HTTP/1.1 529 No\r\nconnection: close\r\ncontent-length: 18\r\n\r\n{\"message\":\"full\"}",
        on: rig.dialer.last)
    }
    let answer = rig.output(caller)
    #expect(answer.status == 529)
    #expect(answer.body == #"{"type":"error","error":{"type":"overloaded_error","message":"full"}}"#)
  }

  @Test func whatIsNoChatCompletionIsABadGateway() throws {
    let rig = try rig()
    let caller = post(rig, "/v1/messages", message)
    _ = rig.upstreamRequest()
    rig.answer("{\"hello\":1}")
    let answer = rig.output(caller)
    #expect(answer.status == 502)
    #expect(answer.body.contains("\"type\":\"api_error\""))
    rig.pass(second)
    #expect(rig.spans.text.contains("invalid_response"))
  }

  @Test func anAnswerTooLongToTranslateIsABadGateway() throws {
    let rig = try rig()
    let caller = post(rig, "/v1/messages", message)
    _ = rig.upstreamRequest()
    let piece = String(repeating: "x", count: 200_000)
    rig.send(
      "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9000000\r\n\r\n",
      on: rig.dialer.last)
    for _ in 0..<25 where !rig.isClosed(rig.dialer.last) {
      rig.send(piece, on: rig.dialer.last)
    }
    let answer = rig.output(caller)
    #expect(answer.status == 502)
    #expect(answer.body.contains("too long to be translated"))
    #expect(rig.isClosed(rig.dialer.last))
  }

  @Test func aStreamIsTranslatedAndItsDeathIsTold() throws {
    let rig = try rig()
    let caller = post(rig, "/v1/messages", String(message.dropLast()) + ",\"stream\":true}")
    #expect(rig.upstreamRequest().body.contains("\"continuous_usage_stats\":true"))
    rig.send(
      "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
      on: rig.dialer.last)
    let event = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Paris\"}}]}\n\n"
    rig.send(String(event.utf8.count, radix: 16) + "\r\n\(event)\r\n", on: rig.dialer.last)
    let begun = rig.output(caller)
    #expect(begun.contains("content-type: text/event-stream\r\n"))
    #expect(begun.contains("event: message_start\n"))
    #expect(begun.contains("\"delta\":{\"type\":\"text_delta\",\"text\":\"Paris\"}"))
    #expect(!begun.contains("choices"))
    rig.reset(rig.dialer.last)
    let end = rig.output(caller)
    #expect(end.contains("event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"api_error\""))
    #expect(!end.contains("[DONE]"))
    #expect(!end.contains("message_stop"))
  }

  @Test func aLongMessageIsTranslatedInThePool() throws {
    let rig = try rig()
    let text = String(repeating: "lorem ipsum ", count: 40_000)
    let body =
      "{\"model\":\"\(FrontendRig.model)\",\"max_tokens\":1,\"messages\":[{\"role\":\"user\",\"content\":\"\(text)\"}]}"
    let caller = post(rig, "/v1/messages", body)
    #expect(rig.shared.bodyMemoryInUse > 0)
    while rig.runPool() {}
    #expect(rig.upstreamRequest().hasPrefix("POST /v1/chat/completions "))
    rig.answer(completion)
    #expect(rig.output(caller).status == 200)
    #expect(rig.shared.bodyMemoryInUse == 0)
  }

  @Test func bodyMemoryCountsTheTranslationToo() throws {
    let rig = try FrontendRig {
      $0.enablesAnthropic = true
      $0.bodyMemoryMax = 2_500
      $0.bodyMemoryLoan = 0
      $0.bodyBytesMax = 2_400
    }
    let text = String(repeating: "x", count: 2_000)
    let body =
      "{\"model\":\"\(FrontendRig.model)\",\"max_tokens\":1,\"messages\":[{\"role\":\"user\",\"content\":\"\(text)\"}]}"
    let answer = rig.output(post(rig, "/v1/messages", body))
    #expect(answer.status == 529)
    #expect(answer.body.contains("overloaded_error"))
    #expect(rig.shared.bodyMemoryInUse == 0)
  }

  /// It is taken before a byte of the translation is written, for as much as that may be.
  @Test func bodyMemoryIsTakenBeforeTheTranslation() throws {
    let rig = try FrontendRig {
      $0.enablesAnthropic = true
      $0.bodyMemoryMax = 2_500
      $0.bodyMemoryLoan = 0
      $0.bodyBytesMax = 2_400
    }
    let body = String(message.dropLast()) + ",\"unknown\":\"\(String(repeating: "x", count: 2_000))\"}"
    #expect(rig.output(post(rig, "/v1/messages", body)).status == 529)
    #expect(rig.shared.bodyMemoryInUse == 0)
  }

  @Test func theUsageOfLongEmbeddingsIsRead() throws {
    let rig = try rig()
    let caller = post(rig, "/v1/embeddings", "{\"model\":\"\(FrontendRig.model)\",\"input\":\"x\"}")
    _ = rig.upstreamRequest()
    let piece = String(repeating: "0.125,", count: 30_000)
    let end = "1]}],\"usage\":{\"prompt_tokens\":77,\"total_tokens\":77}}"
    let begin = "{\"data\":[{\"embedding\":["
    let length = begin.utf8.count + 30 * piece.utf8.count + end.utf8.count
    rig.send("HTTP/1.1 200 OK\r\ncontent-length: \(length)\r\n\r\n\(begin)", on: rig.dialer.last)
    for _ in 0..<30 {
      rig.send(piece, on: rig.dialer.last)
      _ = rig.output(caller)
    }
    rig.send(end, on: rig.dialer.last)
    _ = rig.output(caller)
    var page = ByteBuffer()
    rig.shared.registry.writePrometheus(into: &page)
    #expect(
      page.text.contains("dynamo_frontend_input_sequence_tokens_sum{model=\"\(FrontendRig.model)\"} 77\n"))
  }

  @Test func tokensAreCountedByTheTokenizer() throws {
    let rig = try rig(tokenizer: true)
    let body = "{\"model\":\"\(FrontendRig.model)\",\(messages)}"
    let caller = post(rig, "/v1/messages/count_tokens", body)
    rig.runPool()
    let answer = rig.output(caller)
    #expect(answer.status == 200)
    let tokenize = post(rig, "/tokenize", body)
    rig.runPool()
    let count = rig.output(tokenize).body.split(separator: ",").first.map {
      $0.dropFirst("{\"count\":".count)
    }
    #expect(answer.body == "{\"input_tokens\":\(count ?? "")}")
    let wrong = post(rig, "/v1/messages/count_tokens", "{\"model\":\"\(FrontendRig.model)\"}")
    rig.runPool()
    #expect(rig.output(wrong).body.contains("\"type\":\"invalid_request_error\""))
  }

  @Test func aCountIsTracedAndLoggedAndTakesMemoryForItsTranslation() throws {
    let rig = try rig(tokenizer: true)
    let body = "{\"model\":\"\(FrontendRig.model)\",\(messages)}"
    let caller = post(rig, "/v1/messages/count_tokens", body, "x-request-id: count-1\r\n")
    #expect(rig.shared.bodyMemoryInUse == body.utf8.count)
    rig.runPool()
    let answer = rig.output(caller)
    #expect(answer.status == 200 && answer.contains("x-request-id: count-1\r\n"))
    #expect(rig.shared.bodyMemoryInUse == 0)
    let left = post(rig, "/v1/messages/count_tokens", body)
    rig.close(left)
    rig.runPool()
    #expect(rig.shared.bodyMemoryInUse == 0)
    rig.pass(second)
    for word in ["http-request", "count_tokens", "/v1/messages/count_tokens", "success", "cancelled"] {
      #expect(rig.spans.text.contains(word), "\(word)")
    }
    #expect(rig.lines.lines.contains { $0.contains("count-1") && $0.contains("\"success\"") })
  }

  @Test func aCountWithoutMemoryForItsTranslationIsRefused() throws {
    let model = try ByteModel.load()
    let body = "{\"model\":\"\(FrontendRig.model)\",\(messages)}"
    let rig = try FrontendRig {
      $0.enablesAnthropic = true
      $0.tokenizer = model
      $0.bodyMemoryMax = body.utf8.count * 3 / 2
      $0.bodyMemoryLoan = 0
    }
    let caller = post(rig, "/v1/messages/count_tokens", body)
    rig.runPool()
    #expect(rig.output(caller).status == rig.service.configuration.overloadStatus)
    #expect(rig.shared.bodyMemoryInUse == 0)
  }

  @Test func aWorkerThatCountsButSpeaksNoMessagesGetsTheBody() throws {
    let rig = try rig([
      EndpointSet([.chatCompletions, .countTokens]), EndpointSet([.chatCompletions, .countTokens]),
    ])
    let caller = post(rig, "/v1/messages/count_tokens", message)
    let request = rig.upstreamRequest()
    #expect(request.hasPrefix("POST /v1/messages/count_tokens HTTP/1.1\r\n"))
    #expect(request.body == message)
    rig.answer("{\"input_tokens\":3}")
    #expect(rig.output(caller).body == "{\"input_tokens\":3}")
  }

  @Test func aRetryMayBeNativeWhereTheFirstWasTranslated() throws {
    let rig = try rig([.all, EndpointSet(.chatCompletions)])
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
    let events =
      "event: ping\ndata: {\"type\":\"ping\"}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"
    var seen = 0
    for index in 0..<16 {
      let caller = post(
        rig, "/v1/messages",
        "{\"model\":\"\(FrontendRig.model)\",\"max_tokens\":9,\"stream\":true,"
          + "\"messages\":[{\"role\":\"user\",\"content\":\"question \(index)\"}]}")
      if rig.upstreamRequest().hasPrefix("POST /v1/chat/completions ") {
        seen += 1
        rig.send(head, on: rig.dialer.last)
        rig.reset(rig.dialer.last)
        #expect(rig.upstreamRequest().hasPrefix("POST /v1/messages "))
      }
      rig.send(head + events, on: rig.dialer.last)
      rig.close(rig.dialer.last)
      #expect(rig.output(caller).contains(events))
    }
    #expect(seen > 0)
  }

  @Test func anEventTooLongToTranslateEndsTheStreamAsAnError() throws {
    let rig = try rig()
    let caller = post(rig, "/v1/messages", String(message.dropLast()) + ",\"stream\":true}")
    _ = rig.upstreamRequest()
    let worker = rig.dialer.last
    rig.send(
      "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
        + "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Paris\"}}]}\n\ndata: ", on: worker)
    let piece = String(repeating: "x", count: 100_000)
    for _ in 0..<12 where !rig.isClosed(worker) { rig.send(piece, on: worker) }
    #expect(rig.isClosed(worker))
    let answer = rig.output(caller)
    #expect(answer.contains("too long to be translated"))
    #expect(answer.split(separator: "event: error\n").count == 2)
    #expect(!answer.contains("message_stop"))
  }

  @Test func aMessageOfTooManyCallsEndsAsAnErrorAndIsCounted() throws {
    let rig = try rig()
    let caller = post(rig, "/v1/messages", String(message.dropLast()) + ",\"stream\":true}")
    _ = rig.upstreamRequest()
    let worker = rig.dialer.last
    let calls = (0...128).map {
      "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":\($0),\"id\":\"x\",\"function\":{\"name\":\"f\"}}]}}]}\n\n"
    }
    rig.send(
      "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
        + calls.joined() + "data: [DONE]\n\n", on: worker)
    #expect(rig.isClosed(worker))
    let answer = rig.output(caller)
    #expect(answer.contains("it called more than 128 tools in one message"))
    #expect(answer.split(separator: "event: error\n").count == 2 && !answer.contains("message_stop"))
    var page = ByteBuffer()
    rig.shared.registry.writePrometheus(into: &page)
    #expect(
      page.text.contains("dynamo_frontend_untranslated_streams_total{reason=\"too_many_tool_calls\"} 1\n"))
  }

  /// Nobody saw the first bytes of the answer that broke.
  @Test func theFirstTokenOfAHeldAnswerIsToldOnce() throws {
    let rig = try rig()
    let caller = post(rig, "/v1/messages", message)
    _ = rig.upstreamRequest()
    rig.send("HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{", on: rig.dialer.last)
    rig.pass(second)
    rig.close(rig.dialer.last)
    #expect(!rig.upstreamRequest().isEmpty)
    rig.pass(second)
    rig.answer(completion)
    #expect(rig.output(caller).status == 200)
    var page = ByteBuffer()
    rig.shared.registry.writePrometheus(into: &page)
    let name = "dynamo_frontend_time_to_first_token_seconds"
    #expect(page.text.contains("\(name)_count{model=\"\(FrontendRig.model)\"} 1\n"))
    #expect(page.text.contains("\(name)_sum{model=\"\(FrontendRig.model)\"} 2\n"))
  }

  /// Hints are read as in a chat; an answer of this API has no place for what they ask to be told.
  @Test func hintsOfAMessageAreRead() throws {
    let rig = try rig()
    func ask(_ hints: String) -> Int32 {
      post(rig, "/v1/messages", String(message.dropLast()) + ",\"nvext\":{\(hints)}}")
    }
    let refused = rig.output(ask("\"what\":1")).body
    #expect(refused.contains("nvext.what") && refused.contains("invalid_request_error"))
    let caller = ask("\"cache_salt\":\"a\",\"extra_fields\":[\"timing\"]")
    let sent = rig.upstreamRequest()
    #expect(sent.contains("\"nvext\":{\"cache_salt\":\"a\""))
    rig.answer(completion)
    let answer = rig.output(caller)
    #expect(answer.status == 200 && !answer.contains("nvext"))
  }

  @Test func wrongMethodsAreToldInTheFormOfTheirPath() throws {
    for (path, isAnthropic) in [
      ("/v1/messages", true), ("/v1/messages/count_tokens/", true), ("/v1/responses", false),
    ] {
      let rig = try rig()
      let caller = rig.connect()
      rig.send("GET \(path) HTTP/1.1\r\nhost: x\r\n\r\n", on: caller)
      let answer = rig.output(caller)
      #expect(answer.status == 405 && answer.contains("\r\nallow: POST, OPTIONS\r\n"))
      #expect(answer.body.hasPrefix("{\"type\":\"error\",\"error\":{") == isAnthropic, "\(answer)")
    }
  }

  /// Its text is kept, and another one is made when other routes are there.
  @Test func theDescriptionFollowsTheConfiguration() throws {
    let rig = try rig()
    func document() -> String {
      let caller = rig.connect()
      rig.send("GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n", on: caller)
      return rig.output(caller).body
    }
    let first = document()
    #expect(first.contains("\"/v1/messages\"") && first == document())
    var configuration = rig.service.configuration
    configuration.enablesAnthropic = false
    rig.service.adopt(configuration)
    #expect(!document().contains("\"/v1/messages\"") && document().contains("\"/v1/rerank\""))
    configuration.enablesAnthropic = true
    rig.service.adopt(configuration)
    #expect(document() == first)
  }

  // MARK: Responses

  /// What the engine counts says nothing of blocks that are not its own, or of a conversation that it adds itself.
  @Test(arguments: [
    (true, ",\"tools\":[{\"type\":\"function\"}]"), (false, ",\"previous_response_id\":\"resp_0\""),
  ])
  func aResponsesCountsAreNotHeldAgainstItsWorker(tokenizer: Bool, more: String) throws {
    let rig = try rig(tokenizer: tokenizer)
    let text = String(repeating: "lorem ipsum ", count: 400)
    for _ in 0..<2 {
      let caller = post(
        rig, "/v1/responses", "{\"model\":\"\(FrontendRig.model)\",\"input\":\"\(text)\"\(more)}")
      #expect(!rig.upstreamRequest().isEmpty)
      rig.answerAndClose(
        #"{"id":"r","status":"completed","usage":{"input_tokens":1000,"output_tokens":1,"#
          + #""input_tokens_details":{"cached_tokens":900}}}"#)
      #expect(rig.output(caller).status == 200)
    }
    var page = ByteBuffer()
    rig.shared.registry.writePrometheus(into: &page)
    #expect(page.text.contains("\ndynamo_component_router_kv_worker_reused_tokens_total 1800\n"))
    #expect(page.text.contains("\ndynamo_frontend_kv_truth_drift_ratio_count 0\n"))
  }

  @Test(arguments: [false, true]) func aResponseIsFollowedToItsWorker(streamed: Bool) throws {
    let rig = try rig()
    var owners: [String: String] = [:]
    func ask(_ index: Int, _ more: String) -> String {
      let stream = streamed ? ",\"stream\":true" : ""
      _ = post(
        rig, "/v1/responses",
        "{\"model\":\"\(FrontendRig.model)\",\"input\":\"question \(index)\"\(stream)\(more)}")
      let request = rig.upstreamRequest()
      #expect(request.hasPrefix("POST /v1/responses HTTP/1.1\r\n"))
      return request.contains("host: worker-1\r\n") ? "1" : "2"
    }
    func answer(_ id: String) {
      let response =
        "{\"id\":\"\(id)\",\"status\":\"completed\",\"usage\":{\"input_tokens\":3,\"output_tokens\":1}}"
      if streamed {
        rig.send(
          "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\nevent: response.completed\n"
            + "data: {\"type\":\"response.completed\",\"response\":\(response)}\n\n", on: rig.dialer.last)
        rig.close(rig.dialer.last)
      } else {
        rig.answerAndClose(response)
      }
    }
    for index in 0..<8 {
      owners["resp_\(index)"] = ask(index, "")
      answer("resp_\(index)")
    }
    #expect(Set(owners.values).count == 2)
    for (id, owner) in owners {
      #expect(ask(100, ",\"previous_response_id\":\"\(id)\"") == owner)
      answer("later_\(id)")
    }
  }

  @Test func aBrokenResponseEndsWithItsErrorEvent() throws {
    let rig = try rig()
    let caller = post(
      rig, "/v1/responses", "{\"model\":\"\(FrontendRig.model)\",\"input\":\"x\",\"stream\":true}")
    _ = rig.upstreamRequest()
    rig.send(
      "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
        + "data: {\"type\":\"response.output_text.delta\",\"sequence_number\":4,\"delta\":\"a\"}\n\n",
      on: rig.dialer.last)
    rig.close(rig.dialer.last)
    let answer = rig.output(caller)
    #expect(
      answer.contains(
        "event: error\ndata: {\"type\":\"error\",\"sequence_number\":5,\"code\":\"bad_gateway\""))
  }
}
