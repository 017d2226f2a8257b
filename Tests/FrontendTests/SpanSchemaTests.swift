// Every span that the frontend makes is as the schema says, whatever becomes of the request.

import Base
import OpenAI
import Routing
import Telemetry
import TestSupport
import Testing
import Workers

@testable import Frontend

@Suite struct SpanSchemaTests {
  /// Lets waiting spans go out, and gives what the schema has against them.
  private func faults(_ rig: FrontendRig, atLeast count: Int) throws -> [String] {
    rig.pass(second)
    let (faults, spanCount) = try rig.spans.check(SpanSchema())
    #expect(spanCount >= count, "\(spanCount) spans were made")
    return Array(Set(faults)).sorted()
  }

  private let answer =
    #"{"choices":[{"index":0,"message":{"content":"a"},"finish_reason":"stop"}],"usage":{"prompt_tokens":7,"#
    + #""completion_tokens":4,"prompt_tokens_details":{"cached_tokens":3}}}"#

  @Test(arguments: [false, true]) func answeredRequests(merges: Bool) throws {
    let rig = try FrontendRig(traces: true) { $0.tracing.mergesRoot = merges }
    let caller = rig.post(FrontendRig.chat(bytes: 300, more: #","max_tokens":5"#))
    _ = rig.upstreamRequest()
    rig.answer(answer)
    #expect(rig.output(caller).status == 200)
    #expect(try faults(rig, atLeast: merges ? 4 : 5) == [])
  }

  @Test func streams() throws {
    let rig = try FrontendRig(traces: true)
    let caller = rig.post(FrontendRig.chat(bytes: 300, more: #","stream":true"#))
    _ = rig.upstreamRequest()
    rig.send(
      "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n", on: rig.dialer.last)
    for index in 0..<4 {
      rig.pass(10 * millisecond)
      let finish = index == 3 ? "\"stop\"" : "null"
      rig.send(
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"},\"finish_reason\":\(finish)}]}\n\n",
        on: rig.dialer.last)
    }
    rig.send("data: [DONE]\n\n", on: rig.dialer.last)
    rig.close(rig.dialer.last)
    #expect(rig.output(caller).status == 200)
    #expect(try faults(rig, atLeast: 5) == [])
  }

  @Test func failuresCancelsAndRetries() throws {
    let rig = try FrontendRig(traces: true)
    for (index, more) in ["", #","stream":true"#].enumerated() {
      // A worker that breaks twice, a caller that leaves, a worker that refuses.
      _ = rig.post(FrontendRig.chat(bytes: 200, more: more))
      _ = rig.upstreamRequest()
      rig.reset(rig.dialer.last)
      _ = rig.upstreamRequest()
      rig.reset(rig.dialer.last)
      let leaver = rig.post(FrontendRig.chat(bytes: 200, more: more))
      _ = rig.upstreamRequest()
      rig.reset(leaver)
      _ = rig.post(FrontendRig.chat(bytes: 200, more: more))
      _ = rig.upstreamRequest()
      rig.send("HTTP/1.1 400 No\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}", on: rig.dialer.last)
      #expect(index < 2)
    }
    #expect(try faults(rig, atLeast: 12) == [])
  }

  @Test func refusalsStrangersAndKeptRequests() throws {
    let rig = try FrontendRig(traces: true) {
      $0.tracing.tracesSystemRoutes = true
      $0.tracing.trust = .never
    }
    for request in [
      "GET /nowhere HTTP/1.1\r\nhost: x\r\n\r\n",
      "BREW /pot HTTP/1.0\r\nhost: x\r\nx-request-id: a b\r\n\r\n",
      "GET /health HTTP/1.1\r\nhost: x\r\n\r\n", "GET /v1/chat/completions HTTP/1.1\r\nhost: x\r\n\r\n",
      "GET /v1/models/x HTTP/1.1\r\nhost: x\r\n\r\n",
      "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: text/plain\r\ncontent-length: 1\r\n\r\nx",
      "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n"
        + "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\nx",
    ] {
      #expect(
        rig.output(
          {
            let caller = rig.connect(); rig.send(request, on: caller); return caller
          }()
        ).status != nil)
    }
    #expect(try faults(rig, atLeast: 14) == [])
    let kept = try FrontendRig(traces: true) {
      $0.tracing.sampler = .alwaysOff
      $0.tracing.keep.errors = true
    }
    _ = kept.post(FrontendRig.chat(bytes: 200))
    _ = kept.upstreamRequest()
    kept.send("HTTP/1.1 500 No\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}", on: kept.dialer.last)
    #expect(try faults(kept, atLeast: 5) == [])
  }

  @Test func whatIsNotInTheSchemaIsFound() throws {
    var writer = SpanWriter()
    writer.begin(
      name: "preprocess", context: SpanContext(traceID: TraceID(high: 1, low: 1), spanID: 1, flags: 1),
      kind: .server,
      start: 1)
    writer.end(at: 2)
    writer.begin(
      name: "preprocess", context: SpanContext(traceID: TraceID(high: 1, low: 1), spanID: 2, flags: 1),
      kind: .internal,
      start: 1)
    writer.attribute("isl_tokens", 1.5)
    writer.attribute("made_up", 1)
    writer.event(name: "surprise", at: 1)
    writer.end(at: 2)
    let found = try SpanSchema().check(writer.bytes)
    #expect(found.spanCount == 2)
    #expect(
      found.faults == [
        "preprocess of kind SERVER is in no schema", "preprocess: isl_tokens is double, not int",
        "preprocess: attribute made_up is not listed",
        "preprocess: num_blocks is always there, and is missing",
        "preprocess: event surprise is not listed",
      ])
  }
}
