// What requests ask of routing: sessions, pins, weights of their own; and what answers tell of it.

import Base
import OpenAI
import Routing
import Testing
import Transport
import Workers

@testable import Frontend

struct RoutingHintTests {
  private func post(_ rig: FrontendRig, _ headers: String = "", _ body: String) -> Int32 {
    let caller = rig.connect()
    rig.send(
      "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n\(headers)content-length: \(body.utf8.count)\r\n\r\n\(body)",
      on: caller)
    return caller
  }

  private func worker(_ rig: FrontendRig) -> Int? {
    let request = rig.upstreamRequest()
    return request.contains("host: worker-1\r\n") ? 1 : request.contains("host: worker-2\r\n") ? 2 : nil
  }

  /// A prompt that shares no block with another's.
  private func chat(_ index: Int, _ more: String = "") -> String {
    "{\"model\":\"\(FrontendRig.model)\",\"messages\":[{\"role\":\"user\",\"content\":\"\(index) "
      + String(repeating: "words ", count: 200) + "\"}]\(more)}"
  }

  // MARK: Output as load

  @Test(arguments: [(true, 0), (false, 0), (true, 48), (false, 48)])
  func blocksThatAStreamFillsCountWhereAskedFor(tracks: Bool, expected: Int) throws {
    var options = RoutingOptions()
    options.tracksOutputBlocks = tracks
    let rig = try FrontendRig(routing: options)
    let hint = expected == 0 ? "" : ",\"nvext\":{\"agent_hints\":{\"osl\":\(expected)}}"
    let caller = post(rig, "", chat(0, ",\"stream\":true" + hint))
    let id = try #require(worker(rig))
    let routing = rig.service.workers.models[0].routing
    func blocks() -> Int { routing.loads.first { $0.worker == UInt64(id) }?.activeBlocks ?? -1 }
    let prompt = blocks()
    #expect(prompt > 0)
    rig.send(
      "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
      on: rig.dialer.last)
    let event = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n"
    func send(_ text: String) {
      rig.send(String(text.utf8.count, radix: 16) + "\r\n\(text)\r\n", on: rig.dialer.last)
    }
    var seen: [Int] = []
    for _ in 0..<48 {
      send(event)
      seen.append(blocks() - prompt)
    }
    if tracks, expected > 0 {
      // Most of the answer is there, so most of what the request holds is soon free.
      let last = prompt + (seen.last ?? 0)
      #expect(seen == seen.sorted(by: >) && last > 0 && last < (prompt + 3) / 2)
    }
    // The prompt's last block has some tokens already; then each sixteen tokens are one more.
    if expected == 0 || !tracks { #expect(seen == seen.sorted() && seen.last == (tracks ? 3 : 0)) }
    if tracks, expected == 0, let first = seen.firstIndex(of: 1), let second = seen.firstIndex(of: 2) {
      #expect(first < 16 && second == first + 16)
    }
    // Several blocks at once are all counted; of an answer that is longer than expected, none.
    send(String(repeating: event, count: 64))
    #expect(blocks() == (!tracks ? prompt : expected == 0 ? prompt + 7 : 0))
    send("data: [DONE]\n\n")
    rig.send("0\r\n\r\n", on: rig.dialer.last)
    #expect(rig.output(caller).status == 200 && blocks() == 0)
  }

  // MARK: Sessions

  @Test func aSoftSessionStaysWithItsWorkerWhateverTheLoad() throws {
    let rig = try FrontendRig()
    _ = post(rig, "x-dynamo-session-id: s\r\n", chat(0))
    let first = try #require(worker(rig))
    for index in 1..<4 {
      _ = post(rig, "x-dynamo-session-id: s\r\n", chat(index))
      #expect(worker(rig) == first)
    }
    // Without one the other worker is the cheaper one.
    _ = post(rig, "", chat(9))
    #expect(worker(rig) != first)
  }

  @Test(arguments: [SessionMode.soft, .hard])
  func aSessionWhoseWorkerIsGone(mode: SessionMode) throws {
    let rig = try FrontendRig { $0.sessions = mode }
    _ = post(rig, "x-dynamo-session-id: s\r\n", chat(0))
    let first = try #require(worker(rig))
    rig.answerAndClose("{}")
    let set = rig.service.workers
    set.models[0].routing.workersChanged(set.workers.filter { $0.id != UInt64(first) })
    let second = post(rig, "x-dynamo-session-id: s\r\n", chat(1))
    if mode == .hard {
      let answer = rig.output(second)
      #expect(answer.status == 503 && answer.contains("session_lost"))
      _ = post(rig, "x-dynamo-session-id: s\r\n", chat(2))
    }
    #expect(worker(rig) == 3 - first)
  }

  @Test func sessionsCanBeOff() throws {
    let rig = try FrontendRig { $0.sessions = .off }
    _ = post(rig, "x-dynamo-session-id: not fit\r\n", chat(0))
    let first = try #require(worker(rig))
    _ = post(rig, "x-dynamo-session-id: not fit\r\n", chat(1))
    #expect(worker(rig) == 3 - first)
  }

  @Test(arguments: [
    "x-dynamo-session-id: a b\r\n", "x-dynamo-session-id: a\r\nx-dynamo-session-id: b\r\n",
    "x-dynamo-request-priority: high\r\n", "x-dynamo-request-priority: 2147483648\r\n",
    "x-dynamo-worker-instance-id: -1\r\n",
  ])
  func unfitHeadersAreNamed(headers: String) throws {
    let rig = try FrontendRig()
    let answer = rig.output(post(rig, headers, chat(0)))
    let name = try #require(headers.split(separator: ":").first)
    #expect(answer.status == 400 && answer.contains("\"param\":\"\(name)\""), "\(answer)")
  }

  // MARK: Pins and weights

  @Test func aRequestCanNameItsWorker() throws {
    let rig = try FrontendRig()
    for id in [2, 1, 1, 2] {
      _ = post(rig, "", chat(id, ",\"nvext\":{\"backend_instance_id\":\(id)}"))
      #expect(worker(rig) == id)
    }
    _ = post(
      rig, "x-dynamo-worker-instance-id: 1\r\n", chat(0, ",\"nvext\":{\"decode_worker_id\":2}"))
    let request = rig.upstreamRequest()
    #expect(request.contains("host: worker-1\r\n") && !request.contains("instance-id"))
    let unknown = rig.output(post(rig, "", chat(0, ",\"nvext\":{\"backend_instance_id\":99}")))
    #expect(unknown.status == 503 && unknown.contains("The worker 99"))
  }

  @Test func directModeNeedsAName() throws {
    var options = RoutingOptions()
    options.mode = .direct
    let rig = try FrontendRig(routing: options)
    let answer = rig.output(post(rig, "", chat(0)))
    #expect(answer.status == 400 && answer.contains("nvext.backend_instance_id"))
    _ = post(rig, "", chat(0, ",\"nvext\":{\"backend_instance_id\":2}"))
    #expect(worker(rig) == 2)
  }

  @Test func ownWeightsChangeTheChoice() throws {
    let rig = try FrontendRig()
    _ = post(rig, "", chat(0))
    let warm = try #require(worker(rig))
    rig.answerAndClose("{}")
    // A small request that runs on makes the worker a little dearer than the other one.
    _ = post(
      rig, "",
      "{\"model\":\"\(FrontendRig.model)\",\"messages\":[{\"role\":\"user\",\"content\":"
        + "\"\(String(repeating: "other ", count: 40))\"}],\"nvext\":{\"backend_instance_id\":\(warm)}}")
    #expect(worker(rig) == warm)
    let plain = post(rig, "", chat(0))
    #expect(worker(rig) == warm)
    rig.answerAndClose("{}")
    #expect(rig.output(plain).status == 200)
    _ = post(rig, "", chat(0, ",\"nvext\":{\"router_config_override\":{\"overlap_score_credit\":0}}"))
    #expect(worker(rig) == 3 - warm)
  }

  // MARK: Answers

  private static let both = ",\"nvext\":{\"extra_fields\":[\"worker_id\",\"timing\",\"engine_data\"]}"

  @Test func wholeAnswersTellOfThemselvesWhenAsked() throws {
    let rig = try FrontendRig()
    let caller = post(rig, "", chat(0, Self.both))
    let id = try #require(worker(rig))
    rig.send(
      "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 16\r\n\r\n{\"choi",
      on: rig.dialer.last)
    #expect(rig.output(caller).isEmpty)
    rig.send("ces\":[]}\n\n", on: rig.dialer.last)
    let answer = rig.output(caller)
    #expect(answer.contains("content-length: \(answer.body.utf8.count)\r\n"))
    #expect(
      answer.body.hasPrefix(
        "{\"choices\":[],\"nvext\":{\"worker_id\":{\"prefill_worker_id\":\(id),\"prefill_dp_rank\":0,"
          + "\"decode_worker_id\":\(id),\"decode_dp_rank\":0},\"timing\":{\"request_received_ms\":"),
      "\(answer)")
    #expect(answer.body.contains("\"kv_hit_rate\":0") && answer.body.hasSuffix("}}}\n\n"))
    #expect(!answer.body.contains("ttft_ms"))
  }

  @Test(arguments: [
    ("{}", "{\"nvext\":{\"worker_id\""), ("[]", "[]"), ("{\"nvext\":1}", "{\"nvext\":1}"), ("x", "x"),
    (" { } ", " { \"nvext\":{\"worker_id\""),
    ("{\"a\":{\"nvext\":1}}", "{\"a\":{\"nvext\":1},\"nvext\":{\"worker_id\""),
  ])
  func onlyObjectsAreExtended(body: String, start: String) throws {
    let rig = try FrontendRig()
    let caller = post(rig, "", chat(0, Self.both))
    _ = worker(rig)
    rig.answer(body)
    #expect(rig.output(caller).body.hasPrefix(start))
  }

  @Test func answersThatAreNotExtendedThoughAskedForSaySo() throws {
    let rig = try FrontendRig()
    let encoded = post(rig, "", chat(0, Self.both))
    _ = worker(rig)
    rig.send(
      "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\n??",
      on: rig.dialer.last)
    let answer = rig.output(encoded)
    #expect(answer.contains("x-dynamo-nvext-omitted: encoded\r\n") && answer.body == "??")
    let plain = post(rig, "", chat(1, ""))
    _ = worker(rig)
    rig.answer("{}")
    #expect(!rig.output(plain).contains("x-dynamo-nvext-omitted"))
  }

  /// Too long by its length, which is known at the head, or by what has come of it.
  @Test(arguments: [true, false])
  func veryLongAnswersPassWithAWordAboutIt(hasLength: Bool) throws {
    let rig = try FrontendRig()
    let caller = post(rig, "", chat(1, Self.both))
    _ = worker(rig)
    let size = InferenceExchange.unaryBytesMax + 200_000
    let framing = hasLength ? "content-length: \(size)" : "transfer-encoding: chunked"
    rig.send("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\(framing)\r\n\r\n", on: rig.dialer.last)
    var got = ""
    let piece = String(repeating: "a", count: 100_000)
    var sent = 0
    while sent < size {
      let count = min(piece.utf8.count, size - sent)
      let part = String(piece.prefix(count))
      rig.send(
        hasLength ? part : String(count, radix: 16) + "\r\n" + part + "\r\n", on: rig.dialer.last)
      sent += count
      got += rig.output(caller)
    }
    if !hasLength { rig.send("0\r\n\r\n", on: rig.dialer.last) }
    got += rig.output(caller)
    #expect(got.contains("x-dynamo-nvext-omitted: too_large\r\n"))
    #expect(got.count { $0 == "a" } >= size)
    #expect(!got.contains("\"nvext\""))
  }

  @Test func errorsPassAsTheyCome() throws {
    let rig = try FrontendRig()
    let caller = post(rig, "", chat(0, Self.both))
    _ = worker(rig)
    rig.send(
      "HTTP/1.1 400 Bad\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}", on: rig.dialer.last
    )
    #expect(rig.output(caller).body == "{}")
  }

  @Test func aHeldAnswerThatBreaksIsTriedElsewhere() throws {
    let rig = try FrontendRig()
    let caller = post(rig, "", chat(0, Self.both))
    let first = try #require(worker(rig))
    rig.send(
      "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 20\r\n\r\n{\"a\"",
      on: rig.dialer.last)
    rig.close(rig.dialer.last)
    #expect(worker(rig) == 3 - first)
    rig.answer("{}")
    let answer = rig.output(caller)
    #expect(answer.status == 200 && answer.body.hasPrefix("{\"nvext\":"))
  }

  @Test func streamsTellBeforeTheFirstChunkAndBeforeTheEnd() throws {
    let rig = try FrontendRig()
    let more =
      ",\"stream\":true,\"nvext\":{\"extra_fields\":[\"worker_id\",\"timing\"],"
      + "\"annotations\":[\"request_id\",\"worker_instance_id\",\"token_ids\"]}"
    let caller = post(
      rig, "request-id: 11111111-2222-4333-8444-555555555555\r\n", chat(0, more))
    let id = try #require(worker(rig))
    let events = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\ndata: [DONE]\n\n"
    rig.send(
      "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: \(events.utf8.count)\r\n\r\n\(events)",
      on: rig.dialer.last)
    let body = rig.output(caller)
    let parts = body.components(separatedBy: "\n\n")
    #expect(
      parts[0].hasSuffix("event: request_id\n: \"11111111-2222-4333-8444-555555555555\""), "\(body)")
    #expect(parts[1].hasSuffix("event: worker_instance_id\n: \"\(id)\""))
    #expect(parts[2].contains("\"content\":\"a\""))
    #expect(parts[3].contains("\"object\":\"chat.completion.chunk\"") && parts[3].contains("\"choices\":[]"))
    #expect(parts[3].contains("\"nvext\":{\"worker_id\":{\"prefill_worker_id\":\(id)"))
    #expect(parts[3].contains("\"ttft_ms\":"))
    #expect(parts[4].contains("data: [DONE]"))
    #expect(body.components(separatedBy: "[DONE]").count == 2)
  }
}

extension String {
  fileprivate func components(separatedBy mark: String) -> [String] {
    var parts = [""]
    var rest = self[...]
    while let first = rest.first {
      if rest.hasPrefix(mark) {
        parts.append("")
        rest = rest.dropFirst(mark.count)
      } else {
        parts[parts.count - 1].append(first)
        rest = rest.dropFirst()
      }
    }
    return parts
  }
}
