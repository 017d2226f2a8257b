// A request's way through a worker with the simulated engine: answers, streams, errors, cancellation, identity.

import Base
import Engine
import Foundation
import HTTP
import Telemetry
import Testing
import Workers
import Transport

@testable import WorkerServer

@Suite struct InferenceTests {
  private func json(_ text: String) throws -> [String: Any] {
    try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
  }

  private func errorCode(_ exchange: RecordedExchange) throws -> String {
    let error = try #require(try json(exchange.body)["error"] as? [String: Any])
    return try #require(error["code"] as? String)
  }

  @Test func aChatIsAnsweredWithTextAndUsage() throws {
    let rig = try Rig()
    let exchange = rig.perform(body: rig.chat("\"max_completion_tokens\":12"))
    #expect(exchange.status == 200)
    #expect(exchange.fields.contains("content-type: application/json\r\n"))
    let answer = try json(exchange.body)
    #expect(answer["object"] as? String == "chat.completion")
    let choice = try #require((answer["choices"] as? [[String: Any]])?.first)
    #expect(choice["finish_reason"] as? String == "length")
    let message = try #require(choice["message"] as? [String: Any])
    #expect((message["content"] as? String)?.split(separator: " ").count ?? 0 > 5)
    let usage = try #require(answer["usage"] as? [String: Any])
    #expect(usage["completion_tokens"] as? Int == 12)
    // Four canonical bytes a token: {"role":"user","content":"Hello, how are you today?"}
    #expect(usage["prompt_tokens"] as? Int == 14)
  }

  @Test func aStreamHasRoleTokensFinishUsageAndDone() throws {
    let rig = try Rig()
    let exchange = rig.perform(
      body: rig.chat("\"stream\":true,\"stream_options\":{\"include_usage\":true},\"max_tokens\":5"))
    #expect(exchange.fields.contains("content-type: text/event-stream"))
    #expect(exchange.fields.contains("x-accel-buffering: no"))
    let events = exchange.events
    #expect(events.count == 1 + 5 + 1 + 1 + 1)
    #expect(events.last == "[DONE]")
    #expect(events[0].contains("\"role\":\"assistant\""))
    #expect(events[6].contains("\"finish_reason\":\"length\""))
    let usage = try #require(try json(events[7])["usage"] as? [String: Any])
    #expect(usage["completion_tokens"] as? Int == 5)
  }

  @Test func continuousUsageBeginsWithTheRole() throws {
    let rig = try Rig()
    let options = "{\"include_usage\":true,\"continuous_usage_stats\":true}"
    let events = rig.perform(
      body: rig.chat("\"stream\":true,\"stream_options\":\(options),\"max_tokens\":2")
    ).events
    for (index, tokens) in [0, 1, 2].enumerated() {
      let usage = try #require(try json(events[index])["usage"] as? [String: Any])
      #expect(usage["completion_tokens"] as? Int == tokens && usage["prompt_tokens"] as? Int ?? 0 > 0)
    }
  }

  @Test func streamAndWholeAnswerHaveTheSameText() throws {
    let rig = try Rig()
    let whole = try json(rig.perform(body: rig.chat()).body)
    let message = ((whole["choices"] as? [[String: Any]])?.first?["message"]) as? [String: Any]
    let streamed = try rig.perform(body: rig.chat("\"stream\":true")).events.dropLast().map { event in
      let delta = (try json(event)["choices"] as? [[String: Any]])?.first?["delta"] as? [String: Any]
      return delta?["content"] as? String ?? ""
    }.joined()
    #expect(message?["content"] as? String == streamed)
    #expect(!streamed.isEmpty)
  }

  @Test func severalChoicesAndPromptsAreNumbered() throws {
    let rig = try Rig()
    let body =
      "{\"model\":\"\(rig.model)\",\"prompt\":[\"one prompt\",\"another prompt\"],\"n\":2,\"max_tokens\":4}"
    let answer = try json(rig.perform("POST", "/v1/completions", body: body).body)
    let choices = try #require(answer["choices"] as? [[String: Any]])
    #expect(choices.map { $0["index"] as? Int } == [0, 1, 2, 3])
    #expect(Set(choices.compactMap { $0["text"] as? String }).count == 4)
    let usage = try #require(answer["usage"] as? [String: Any])
    #expect(usage["completion_tokens"] as? Int == 16)
    #expect(usage["prompt_tokens"] as? Int == 3 + 4)
  }

  @Test func theSecondEqualPromptIsCached() throws {
    let rig = try Rig()
    let text = String(repeating: "long enough for a few blocks ", count: 20)
    _ = rig.perform(body: rig.chat("\"max_tokens\":2", text: text))
    let usage =
      try json(rig.perform(body: rig.chat("\"max_tokens\":2", text: text)).body)["usage"] as? [String: Any]
    let details = usage?["prompt_tokens_details"] as? [String: Any]
    let cached = try #require(details?["cached_tokens"] as? Int)
    #expect(cached > 100 && cached % 16 == 0)
  }

  @Test(arguments: [
    ("{", 400, "invalid_json"), ("[]", 400, "invalid_type"),
    (
      "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}", 400, "missing_required_parameter"
    ),
    ("{\"model\":\"other\",\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}", 404, "model_not_found"),
  ]) func badBodiesAreNamed(_ body: String, _ status: Int, _ code: String) throws {
    let rig = try Rig()
    let exchange = rig.perform(body: body)
    #expect(exchange.status == status)
    #expect(try errorCode(exchange) == code)
  }

  @Test func anythingButJSONAndTooLongABodyAreRefusedAtTheHead() throws {
    let rig = try Rig(edit: { $0.bodyBytesMax = 100 })
    let (text, _) = rig.begin("POST", "/v1/chat/completions", [], body: String(repeating: "x", count: 101))
    #expect(text.status == 413 && text.isFinished)
    let other = rig.begin("PUT", "/v1/chat/completions")
    #expect(other.0.status == 405 && other.0.fields.contains("allow: POST"))
  }

  @Test func aPromptOverTheContextIsABadRequest() throws {
    let rig = try Rig(engine: { $0.modelTokensMax = 20 })
    let exchange = rig.perform(body: rig.chat(text: String(repeating: "x", count: 100)))
    #expect(exchange.status == 400)
    #expect(try errorCode(exchange) == "context_length_exceeded")
  }

  @Test func aFullQueueIsOverload() throws {
    let rig = try Rig(engine: {
      $0.waitingMax = 1
      $0.sequencesMax = 1
    })
    let (_, first) = rig.begin(body: rig.chat())
    rig.run(milliseconds: 2)
    let (_, second) = rig.begin(body: rig.chat(text: "second"))
    let (third, _) = rig.begin(body: rig.chat(text: "third"))
    #expect(third.status == 529)
    #expect(third.fields.contains("retry-after: 1"))
    first.ended(.cancelled)
    second.ended(.cancelled)
  }

  @Test func anySplitOfTheBodyGivesTheSameAnswer() throws {
    let rig = try Rig()
    let body = rig.chat("\"max_tokens\":3")
    var bodies: Set<String> = []
    for size in 1...body.utf8.count {
      let (exchange, handler) = rig.begin(body: body, pieceBytes: size)
      rig.run(until: { exchange.isFinished })
      handler.ended(.complete)
      let choices = try json(exchange.body)["choices"] as? [[String: Any]]
      bodies.insert((choices?.first?["message"] as? [String: Any])?["content"] as? String ?? "")
    }
    #expect(bodies.count == 1)
    #expect(rig.worker.bodyBytes == 0)
  }

  @Test func bothSpansTellTheRequest() throws {
    let rig = try Rig()
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    let id = "c0ffee00-0000-4000-8000-000000000001"
    _ = rig.perform(
      "POST", "/v1/chat/completions",
      ["traceparent: \(parent)", "x-request-id: walk-1", "request-id: \(id)"],
      body: rig.chat("\"stream\":true,\"max_tokens\":8"))
    rig.flushSpans()
    let handle = try #require(rig.spans.span("handle_payload"))
    let generate = try #require(rig.spans.span("engine.generate"))
    #expect(handle.kind == 2 && generate.kind == 1)
    #expect(handle.parent == [0xb7, 0xad, 0x6b, 0x71, 0x69, 0x20, 0x33, 0x31])
    #expect(generate.parent == handle.spanID)
    #expect(generate.traceID == handle.traceID && handle.traceID.first == 0x0a)
    #expect(handle.strings["component"] == "backend" && handle.strings["endpoint"] == "generate")
    #expect(handle.strings["namespace"] == "dynamo" && handle.ints["instance_id"] == 4_711)
    #expect(handle.strings["x_request_id"] == "walk-1" && handle.strings["request_id"] == id)
    #expect(handle.strings["model"] == rig.model && handle.strings["request.outcome"] == "success")
    #expect(handle.ints["input_tokens"] == 14 && handle.ints["output_tokens"] == 8)
    #expect(handle.ints["cached_tokens"] == 0)
    #expect(generate.strings["finish_reason"] == "length" && generate.bools["cancelled"] == false)
    let times = ["queue_ms", "prefill_ms", "decode_ms", "ttft_ms", "avg_itl_ms"]
    for key in times { #expect(generate.doubles[key] != nil, "\(key)") }
    #expect((generate.doubles["prefill_ms"] ?? 0) > 16)
    #expect(generate.events == ["first_token"])
    #expect(handle.start <= generate.start && generate.end <= handle.end && handle.status == 0)
    #expect(rig.ledger.made == 2)
    #expect(handle.strings["network.protocol.version"] == "1.1" && handle.links.isEmpty)
  }

  @Test func aCallerWhoIsNotTrustedIsLinked() throws {
    let rig = try Rig(trust: .never)
    _ = rig.perform(
      "POST", "/v1/chat/completions",
      ["traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"], body: rig.chat())
    rig.flushSpans()
    // The caller's word that it is not sampled counts for nothing either.
    let handle = try #require(rig.spans.span("handle_payload"))
    #expect(handle.parent.isEmpty && handle.traceID.first != 0x0a)
    #expect(handle.links == [[0xb7, 0xad, 0x6b, 0x71, 0x69, 0x20, 0x33, 0x31]])
    #expect(rig.spans.span("engine.generate")?.parent == handle.spanID)
  }

  @Test func aCancelReachesTheEngineAndTheSpans() throws {
    let rig = try Rig()
    let (exchange, handler) = rig.begin(
      "POST", "/v1/chat/completions", ["x-request-id: cancel-1"],
      body: rig.chat("\"stream\":true,\"max_tokens\":5000"))
    rig.run(until: { exchange.events.count > 4 })
    handler.ended(.cancelled)
    let before = exchange.body.count
    rig.flushSpans()
    #expect(exchange.body.count == before)
    let generate = try #require(rig.spans.span("engine.generate"))
    #expect(generate.bools["cancelled"] == true && generate.status == 0)
    #expect(generate.events.contains("cancelled"))
    #expect(generate.ints["output_tokens"] == exchange.events.count - 1)
    #expect(generate.strings["finish_reason"] == nil)
    let handle = try #require(rig.spans.span("handle_payload"))
    #expect(handle.strings["request.outcome"] == "cancelled" && handle.status == 0)
    #expect(rig.lines.lines.contains { $0.contains("request cancelled") && $0.contains("cancel-1") })
    #expect(rig.metrics.contains("dynamo_component_cancellation_total{"))
    #expect(
      rig.metrics.split(separator: "\n").contains {
        $0.hasPrefix("dynamo_component_gpu_cache_usage_percent") && $0.hasSuffix(" 0")
      })
  }

  @Test func aCancelBeforeTheFirstTokenHasNoMadeUpFigures() throws {
    let rig = try Rig()
    let (_, handler) = rig.begin(body: rig.chat())
    rig.run(milliseconds: 2)
    handler.ended(.cancelled)
    rig.flushSpans()
    let generate = try #require(rig.spans.span("engine.generate"))
    #expect(generate.doubles["ttft_ms"] == nil && generate.doubles["prefill_ms"] == nil)
    #expect(generate.ints["output_tokens"] == 0)
  }

  @Test func aSlowReaderHoldsTheEngine() throws {
    let rig = try Rig(engine: { $0.speedupRatio = 0 })
    let (exchange, handler) = rig.begin(body: rig.chat("\"stream\":true,\"max_tokens\":50"))
    exchange.outputIsFull = true
    rig.run(milliseconds: 50)
    #expect(exchange.events.count == 2)
    exchange.outputIsFull = false
    handler.drained()
    rig.run(until: { exchange.isFinished })
    #expect(exchange.events.count == 1 + 50 + 1 + 1)
    handler.ended(.complete)
  }

  @Test func withoutTraceContextNothingIsMadeUp() throws {
    let rig = try Rig(traces: false)
    _ = rig.perform(
      "POST", "/v1/chat/completions",
      ["traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"],
      body: rig.chat())
    #expect(rig.spans.spans.isEmpty)
    #expect(!rig.lines.lines.contains { $0.contains("trace_id") })
    #expect(rig.lines.lines.contains { $0.contains("request completed") && $0.contains("request_id") })
  }

  @Test func anUnsampledTraceMakesNoSpanButKeepsItsIds() throws {
    let rig = try Rig()
    _ = rig.perform(
      "POST", "/v1/chat/completions",
      ["traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"],
      body: rig.chat())
    rig.flushSpans()
    #expect(rig.spans.spans.isEmpty)
    #expect(rig.lines.lines.contains { $0.contains("0af7651916cd43dd8448eb211c80319c") })
  }

  @Test func aDeadlineIsAnError() throws {
    let rig = try Rig()
    let (_, handler) = rig.begin(body: rig.chat("\"stream\":true,\"max_tokens\":5000"))
    rig.run(milliseconds: 100)
    handler.ended(.timedOut)
    rig.flushSpans()
    let handle = try #require(rig.spans.span("handle_payload"))
    #expect(handle.strings["request.outcome"] == "timeout" && handle.status == 2)
  }

  @Test func requestsWhileDrainingAreTurnedAway() throws {
    let rig = try Rig()
    rig.worker.drain()
    let (exchange, _) = rig.begin(body: rig.chat())
    #expect(exchange.status == 503)
    #expect(try errorCode(exchange) == "draining")
  }
}
