// A model with workers that only prefill: the prompt is read there, and the answer made elsewhere; or all of it there,
// where that does not come about.

import Base
import EventLoop
import OpenAI
import Routing
import Settings
import Telemetry
import TestSupport
import Testing
import Transport
import Workers

@testable import Frontend

struct PrefillTests {
  private static let transfer =
    "{\"do_remote_prefill\":true,\"do_remote_decode\":false,\"remote_block_ids\":[7,8],\"remote_engine_id\":\"e\","
    + "\"remote_host\":\"h\",\"remote_port\":5600}"

  /// What a worker that prefills answers.
  private static let read =
    "{\"id\":\"p\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"x\"},"
    + "\"finish_reason\":\"length\"}],\"usage\":{\"prompt_tokens\":30,\"completion_tokens\":1,\"total_tokens\":31},"
    + "\"kv_transfer_params\":\(transfer)}"

  private static let answer =
    "{\"id\":\"d\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"hello\"},"
    + "\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":30,\"completion_tokens\":5,\"total_tokens\":35,"
    + "\"prompt_tokens_details\":{\"cached_tokens\":29}}}"

  private func rig(
    traces: Bool = false, readers: [UInt64] = [11], routing: RoutingOptions = RoutingOptions(),
    edit: (inout FrontendConfiguration) -> Void = { _ in }
  ) throws -> FrontendRig {
    let rig = try FrontendRig(routing: routing, traces: traces, edit: edit)
    rig.service.adopt(rig.snapshot(generation: 2, engine: .vllm, prefill: readers))
    return rig
  }

  private func isFree(_ rig: FrontendRig) -> Bool {
    rig.turn()
    return rig.service.openRequests == 0 && rig.shared.retriesInProgress == 0
      && rig.shared.bodyMemoryInUse == 0
      && rig.service.workers.pools.flatMap { $0.routing.loads }.allSatisfy {
        $0.activeRequests == 0 && $0.prefillTokens == 0 && $0.activeBlocks == 0
      }
  }

  /// Requests by where their prompt was read.
  private func count(_ rig: FrontendRig, _ route: PrefillRoute) -> Int {
    let name = "dynamo_frontend_prefill_requests_total{route=\"\(route.rawValue)\"} "
    var page = ByteBuffer()
    rig.shared.registry.writePrometheus(into: &page)
    let line = page.text.split(separator: "\n").first { $0.hasPrefix(name) }
    return line.flatMap { Int($0.dropFirst(name.count)) } ?? -1
  }

  @Test func promptAndAnswerAreMadeByTwoWorkers() throws {
    let rig = try rig(traces: true)
    let caller = rig.post(FrontendRig.chat(bytes: 100, more: ",\"max_tokens\":9,\"min_tokens\":3"))
    let first = rig.upstreamRequest()
    #expect(first.contains("host: prefill-11\r\n"))
    #expect(
      first.contains(",\"max_tokens\":1,\"min_tokens\":0,\"kv_transfer_params\":{\"do_remote_decode\":true,"))
    #expect(rig.service.workers.models[0].prefill?.routing.loads.first?.activeRequests == 1)
    #expect(rig.service.workers.models[0].routing.loads.allSatisfy { $0.activeRequests == 0 })
    rig.answerAndClose(Self.read)
    #expect(rig.output(caller).isEmpty)
    let second = rig.upstreamRequest()
    #expect(second.contains("host: worker-"))
    #expect(second.contains("\"max_tokens\":9,\"min_tokens\":3,\"kv_transfer_params\":\(Self.transfer)}"))
    // The blocks come: nothing of the prompt is to be computed there.
    #expect(rig.service.workers.models[0].routing.loads.allSatisfy { $0.prefillTokens == 0 })
    #expect(rig.service.workers.models[0].routing.loads.contains { $0.activeBlocks > 0 })
    rig.answerAndClose(Self.answer)
    let output = rig.output(caller)
    #expect(output.status == 200)
    #expect(output.contains("server-timing: ") && output.contains(", prefill;dur="))
    #expect(output.contains("\"completion_tokens\":5"))
    #expect(count(rig, .remote) == 1)
    rig.close(caller)
    #expect(isFree(rig))
    rig.pass(oneSecond)
    #expect(rig.spans.text.contains("Prefill") && rig.spans.text.contains("Decode"))
    #expect(!rig.spans.text.contains("Aggregated"))
    let (faults, spanCount) = try rig.spans.check(SpanSchema())
    #expect(faults.isEmpty)
    #expect(spanCount == 7)
  }

  @Test func aStreamsPromptIsReadWithoutAStream() throws {
    let rig = try rig()
    let caller = rig.post(
      FrontendRig.chat(bytes: 100, more: ",\"stream\":true,\"stream_options\":{\"include_usage\":true}"))
    let first = rig.upstreamRequest()
    #expect(
      first.contains("\"stream\":false,\"stream_options\":null,\"max_tokens\":1,\"kv_transfer_params\""))
    rig.answerAndClose(Self.read)
    let second = rig.upstreamRequest()
    #expect(
      second.contains("\"stream\":true,\"stream_options\":{\"include_usage\":true},\"kv_transfer_params\""))
    let begun = rig.kernel.time
    rig.pass(3 * oneSecond)
    rig.send(
      "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
        + "data: {\"id\":\"a\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"},\"finish_reason\":null}]}\n\n"
        + "data: {\"id\":\"a\",\"choices\":[],\"usage\":{\"prompt_tokens\":30,\"completion_tokens\":1}}\n\n"
        + "data: [DONE]\n\n", on: rig.dialer.last)
    rig.close(rig.dialer.last)
    #expect(rig.kernel.time > begun)
    let output = rig.output(caller)
    #expect(output.contains("\"content\":\"hi\"") && output.contains("\"completion_tokens\":1"))
    #expect(!output.contains("kv_transfer_params"))
    #expect(isFree(rig))
  }

  /// The edit that asks for usage, and a place before the body's last white space.
  @Test func editsAndParametersMeetInTheBody() throws {
    let rig = try rig()
    _ = rig.post(FrontendRig.chat(bytes: 100, more: ",\"stream\":true") + " \n")
    #expect(!rig.upstreamRequest().contains("stream_options"))
    rig.answerAndClose(Self.read)
    #expect(
      rig.upstreamRequest().hasSuffix(
        "\"stream\":true,\"stream_options\":{\"include_usage\":true},\"kv_transfer_params\":\(Self.transfer)} \n"
      ))
  }

  enum Failure: CaseIterable {
    case dies, status500, status503, status400, noParameters, noJSON, tooLong
  }

  @Test(arguments: Failure.allCases)
  func withoutAPrefillAllIsDoneByOneWorker(_ failure: Failure) throws {
    let rig = try rig(traces: true)
    let caller = rig.post(FrontendRig.chat(bytes: 100))
    _ = rig.upstreamRequest()
    let worker = rig.dialer.last
    switch failure {
    case .dies: rig.reset(worker)
    case .status500, .status503, .status400:
      let status = failure == .status500 ? 500 : failure == .status503 ? 503 : 400
      rig.send("HTTP/1.1 \(status) No\r\ncontent-length: 2\r\n\r\n{}", on: worker)
    case .noParameters: rig.answer(Self.answer)
    case .noJSON: rig.answer("{\"kv_transfer_params\":{")
    case .tooLong:
      rig.send(
        "HTTP/1.1 200 OK\r\ncontent-length: 2000000\r\n\r\n" + String(repeating: "x", count: 1_100_000),
        on: worker)
    }
    #expect(rig.dialer.last == worker + 1)
    let whole = rig.upstreamRequest()
    #expect(whole.contains("host: worker-") && !whole.contains("kv_transfer_params"))
    #expect(rig.service.workers.models[0].routing.loads.contains { $0.prefillTokens > 0 })
    rig.answerAndClose(Self.answer)
    #expect(rig.output(caller).status == 200)
    #expect(count(rig, .failed) == 1 && count(rig, .remote) == 0)
    #expect(rig.lines.lines.contains { $0.contains("could not be read by a prefill worker") })
    rig.close(caller)
    #expect(isFree(rig))
    rig.pass(oneSecond)
    let spans = rig.spans.text
    #expect(spans.contains("Prefill") && spans.contains("Aggregated") && !spans.contains("Decode"))
    #expect(try rig.spans.check(SpanSchema()).faults.isEmpty)
  }

  @Test func aWorkerThatIsNotThereIsReplacedByAnother() throws {
    let rig = try rig(readers: [11, 12])
    let caller = rig.post(FrontendRig.chat(bytes: 100))
    rig.kernel.connectErrors[rig.dialer.last] = 111
    rig.kernel.queue([(rig.dialer.last, .writable)])
    rig.turn()
    #expect(rig.upstreamRequest().contains("host: prefill-"))
    #expect(rig.reports.failed.count == 1)
    rig.answerAndClose(Self.read)
    #expect(rig.upstreamRequest().contains(Self.transfer))
    rig.answerAndClose(Self.answer)
    #expect(rig.output(caller).status == 200)
    #expect(isFree(rig))
  }

  @Test func aSilentWorkerIsNotWaitedForLongerThanAnyOther() throws {
    let rig = try rig { $0.client.silenceTimeout = 2 * oneSecond }
    let caller = rig.post(FrontendRig.chat(bytes: 100))
    _ = rig.upstreamRequest()
    let worker = rig.dialer.last
    rig.pass(3 * oneSecond)
    #expect(rig.isClosed(worker) && rig.dialer.last == worker + 1)
    _ = rig.upstreamRequest()
    rig.answerAndClose(Self.answer)
    #expect(rig.output(caller).status == 200)
    #expect(count(rig, .failed) == 1)
    #expect(isFree(rig))
  }

  @Test func aCallerThatLeavesEndsThePrefill() throws {
    let rig = try rig(traces: true)
    let caller = rig.post(FrontendRig.chat(bytes: 100))
    _ = rig.upstreamRequest()
    let worker = rig.dialer.last
    rig.reset(caller)
    #expect(rig.isClosed(worker))
    #expect(rig.dialer.last == worker)
    #expect(count(rig, .abandoned) == 1)
    #expect(isFree(rig))
    rig.pass(oneSecond)
    #expect(rig.spans.text.contains("stream_drop"))
    #expect(try rig.spans.check(SpanSchema()).faults.isEmpty)
  }

  @Test func aDrainEndsThePrefill() throws {
    let rig = try rig()
    let caller = rig.post(FrontendRig.chat(bytes: 100))
    _ = rig.upstreamRequest()
    rig.server.cutAll()
    rig.turn()
    #expect(rig.isClosed(rig.dialer.last))
    #expect(rig.service.openRequests == 0)
    _ = caller
  }

  @Test func shortPromptsAreReadWhereTheyAreAnswered() throws {
    let rig = try rig { $0.shortPrompts = ShortPrompts() }
    // Nothing of it is known: that is all of the prompt.
    let first = rig.post(FrontendRig.chat(bytes: 4_000))
    #expect(rig.upstreamRequest().contains("host: prefill-11"))
    rig.answerAndClose(Self.read)
    _ = rig.upstreamRequest()
    rig.answerAndClose(Self.answer)
    #expect(rig.output(first).status == 200)
    // Now it is cached.
    let again = rig.post(FrontendRig.chat(bytes: 4_000))
    #expect(rig.upstreamRequest().contains("host: worker-"))
    rig.answerAndClose(Self.answer)
    #expect(rig.output(again).status == 200)
    #expect(count(rig, .remote) == 1 && count(rig, .shortPrompt) == 1)
  }

  @Test func shortIsLessThanBothBounds() {
    var short = ShortPrompts()
    short.tokensMax = 100
    short.shareMax = 0.5
    #expect(short.includes(tokens: 1_000, cached: 901))
    #expect(!short.includes(tokens: 1_000, cached: 900))
    #expect(short.includes(tokens: 100, cached: 51))
    #expect(!short.includes(tokens: 100, cached: 50))
    #expect(short.includes(tokens: 10, cached: 20))
  }

  @Test(arguments: [
    ("", nil), ("{\"policy\":\"isl_bounding\",\"eff_isl_threshold\":9}", nil), ("[]", "no JSON object"),
    ("{\"policy\":\"prefill_load\"}", "isl_bounding"), ("{\"eff_isl_threshold\":-1}", "count of tokens"),
    ("{\"eff_isl_ratio_threshold\":1.5}", "from 0 to 1"), ("{\"tokens\":1}", "no member 'tokens'"),
  ])
  func whatShortIsIsReadFromTheSettings(text: String, fault: String?) throws {
    let settings = try SettingsParser.parse(
      .frontend,
      arguments: ["--router-conditional-disagg"]
        + (text.isEmpty ? [] : ["--router-conditional-disagg-config", text]),
      environment: [:])
    let faults = ShortPrompts.faults(settings)
    #expect(faults.count == (fault == nil ? 0 : 1))
    if let fault { #expect(faults.first?.contains(fault) == true) }
    #expect(ShortPrompts(settings)?.tokensMax == (fault != nil ? nil : text.isEmpty ? 2_048 : 9))
    let plain = try SettingsParser.parse(.frontend, arguments: [], environment: [:])
    #expect(ShortPrompts(plain) == nil)
  }

  @Test(arguments: [
    ",\"n\":2", ",\"kv_transfer_params\":null", ",\"prompt_logprobs\":1", ",\"bootstrap_room\":1",
    ",\"use_beam_search\":true", ",\"nvext\":{\"backend_instance_id\":1}",
  ])
  func whatIsIndivisibleStaysWhole(more: String) throws {
    let rig = try rig()
    let caller = rig.post(FrontendRig.chat(bytes: 100, more: more))
    let request = rig.upstreamRequest()
    #expect(request.contains("host: worker-") && request.contains(more))
    rig.answerAndClose(Self.answer)
    #expect(rig.output(caller).status == 200)
    #expect(count(rig, .indivisible) == 1)
  }

  @Test func withoutAFitWorkerAllIsDoneByOne() throws {
    let rig = try rig(traces: true)
    rig.service.workers.models[0].prefill?.routing.workersChanged([])
    let caller = rig.post(FrontendRig.chat(bytes: 100))
    #expect(rig.upstreamRequest().contains("host: worker-"))
    rig.answerAndClose(Self.answer)
    #expect(rig.output(caller).status == 200)
    #expect(count(rig, .noWorker) == 1)
    rig.close(caller)
    rig.pass(oneSecond)
    #expect(rig.spans.text.contains("no_worker"))
    #expect(try rig.spans.check(SpanSchema()).faults.isEmpty)
  }

  /// What was read goes on to another worker only where nobody can have fetched it.
  @Test(arguments: [true, false]) func aFailedDecodeGoesElsewhere(wasReached: Bool) throws {
    let rig = try rig()
    let caller = rig.post(FrontendRig.chat(bytes: 100))
    _ = rig.upstreamRequest()
    rig.answerAndClose(Self.read)
    if wasReached {
      #expect(rig.upstreamRequest().contains(Self.transfer))
      rig.reset(rig.dialer.last)
    } else {
      rig.kernel.connectErrors[rig.dialer.last] = 111
      rig.kernel.queue([(rig.dialer.last, .writable)])
      rig.turn()
    }
    let other = rig.upstreamRequest()
    #expect(other.contains("host: worker-"))
    #expect(other.contains(Self.transfer) == !wasReached)
    rig.answerAndClose(Self.answer)
    #expect(rig.output(caller).status == 200)
    #expect(isFree(rig))
  }

  /// An engine that cannot fetch the blocks may answer with an error (vLLM's `kv_load_failure_policy`).
  @Test func aDecodeThatCannotFetchIsDoneWholeElsewhere() throws {
    let rig = try rig()
    let caller = rig.post(FrontendRig.chat(bytes: 100))
    _ = rig.upstreamRequest()
    rig.answerAndClose(Self.read)
    for (isDecode, expected) in [(true, ""), (false, "500")] {
      let request = rig.upstreamRequest()
      #expect(request.contains(Self.transfer) == isDecode)
      rig.send("HTTP/1.1 500 No\r\ncontent-length: 2\r\n\r\n{}", on: rig.dialer.last)
      // What is no transfer's fault is told.
      #expect(rig.output(caller).status == Int(expected))
    }
    #expect(isFree(rig))
  }

  @Test func promptsGoWhereTheyAreCached() throws {
    let rig = try rig(readers: [11, 12, 13])
    var first: String?
    for _ in 0..<4 {
      let caller = rig.post(FrontendRig.chat(bytes: 2_000))
      let host = rig.upstreamRequest().split(separator: "\r\n").first { $0.hasPrefix("host: ") }.map(
        String.init)
      #expect(host == first ?? host)
      first = host
      rig.answerAndClose(Self.read)
      _ = rig.upstreamRequest()
      rig.answerAndClose(Self.answer)
      #expect(rig.output(caller).status == 200)
    }
  }
}

private let oneSecond: Nanoseconds = 1_000_000_000
