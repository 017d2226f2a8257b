// `/v1/router/state` and `/v1/router/explain`: what they show, and that they change nothing.

import Base
import JSON
import Routing
import Testing

@testable import Frontend

struct RouterExchangeTests {
  private func call(
    _ rig: FrontendRig, _ method: String, _ path: String, _ body: String = "", headers: String = ""
  ) -> String {
    let caller = rig.connect()
    rig.send(
      "\(method) \(path) HTTP/1.1\r\nhost: x\r\n\(headers)content-length: \(body.utf8.count)\r\n\r\n\(body)",
      on: caller)
    while rig.runPool() {}
    return rig.output(caller)
  }

  private func explain(_ rig: FrontendRig, _ body: String, headers: String = "") throws -> JSONValue {
    let answer = call(rig, "POST", "/v1/router/explain", body, headers: headers)
    #expect(answer.status == 200, "\(answer)")
    return try Array(answer.body.utf8).withUnsafeBytes { try JSONValue.parse($0) }
  }

  private func state(_ rig: FrontendRig) throws -> JSONValue {
    let answer = call(rig, "GET", "/v1/router/state")
    #expect(answer.status == 200)
    let value = try Array(answer.body.utf8).withUnsafeBytes { try JSONValue.parse($0) }
    return try #require(value["models"]?.array?.first)
  }

  @Test func stateShowsWorkersAndTheirLoad() throws {
    let rig = try FrontendRig()
    _ = rig.post(FrontendRig.chat(bytes: 2_000))
    #expect(!rig.upstreamRequest().isEmpty)
    let model = try state(rig)
    #expect(model["model"]?.string == FrontendRig.model && model["mode"]?.string == "kv")
    #expect(model["queue"]?.isNull == true && model["options"]?["overlap_score_credit"]?.double == 1)
    let workers = try #require(model["workers"]?.array)
    #expect(workers.compactMap { $0["worker_id"]?.integer } == [1, 2])
    #expect(workers.compactMap { $0["active_requests"]?.integer }.sorted() == [0, 1])
    let busy = try #require(workers.first { $0["active_requests"]?.integer == 1 })
    #expect((busy["active_prefill_tokens"]?.integer ?? 0) > 400)
    #expect((busy["cache"]?["predicted_blocks"]?.integer ?? 0) > 20)
    #expect(busy["cache"]?["source"]?.string == "predicted" && busy["refusal"]?.isNull == true)
    #expect(busy["url"]?.string?.hasPrefix("http://") == true)
  }

  @Test func explainIsTheNextDecisionAndBooksNothing() throws {
    let rig = try FrontendRig()
    let body = FrontendRig.chat(bytes: 2_000)
    let cold = try explain(rig, body)
    #expect(cold["decision"]?["outcome"]?.string == "drawn")
    #expect(cold["candidates"]?.array?.compactMap { $0["likelihood"]?.double } == [0.5, 0.5])
    #expect(rig.shared.bodyMemoryInUse == 0)
    let caller = rig.post(body)
    let request = rig.upstreamRequest()
    let worker = request.contains("host: worker-1\r\n") ? 1 : 2
    rig.answer("{\"choices\":[]}")
    #expect(rig.output(caller).status == 200)
    let before = try state(rig)
    for _ in 0..<3 {
      let warm = try explain(rig, body)
      #expect(warm["decision"]?["worker_id"]?.integer == worker)
      #expect(warm["decision"]?["outcome"]?.string == "chosen")
      let first = try #require(warm["candidates"]?.array?.first)
      #expect(first["worker_id"]?.integer == worker && (first["overlap_blocks"]?.integer ?? 0) > 20)
      #expect(warm["prompt"]?["source"]?.string == "bytes")
      #expect(warm["prompt"]?["blocks"]?.integer == first["overlap_blocks"]?.integer)
    }
    #expect(try state(rig) == before)
    _ = rig.post(body)
    #expect(rig.upstreamRequest().contains("host: worker-\(worker)\r\n"))
  }

  @Test func explainTakesTheRequestsOwnWishes() throws {
    let rig = try FrontendRig()
    let named = try explain(
      rig, FrontendRig.chat(bytes: 200, more: ",\"nvext\":{\"backend_instance_id\":2}"))
    #expect(named["decision"]?["worker_id"]?.integer == 2)
    let candidates = try #require(named["candidates"]?.array)
    #expect(candidates.last?["refusal"]?.string == "not_named")
    #expect(candidates.last?["cost"]?.isNull == true)
    let byHeader = try explain(
      rig, FrontendRig.chat(bytes: 200), headers: "x-dynamo-worker-instance-id: 1\r\n")
    #expect(byHeader["decision"]?["worker_id"]?.integer == 1)
    let nobody = try explain(
      rig, FrontendRig.chat(bytes: 200), headers: "x-dynamo-worker-instance-id: 99\r\n")
    #expect(nobody["decision"]?["outcome"]?.string == "refused")
    let session = try explain(rig, FrontendRig.chat(bytes: 200), headers: "x-dynamo-session-id: a\r\n")
    #expect(session["session"]?["worker_id"]?.isNull == true && session["session"]?["lost"]?.bool == false)
  }

  @Test func completionsAreExplainedToo() throws {
    let rig = try FrontendRig()
    let text = String(repeating: "words of a prompt ", count: 40)
    let found = try explain(rig, "{\"model\":\"\(FrontendRig.model)\",\"prompt\":\"\(text)\"}")
    #expect(found["prompt"]?["blocks"]?.integer == text.utf8.count / 64)
  }

  @Test(arguments: [
    ("{", 400, "invalid_json"),
    ("[]", 400, "invalid_type"),
    ("{\"model\":\"test/model\"}", 400, "missing_required_parameter"),
    ("{\"model\":\"nobody\",\"prompt\":\"a\"}", 404, "model_not_found"),
    ("{\"model\":\"test/model\",\"prompt\":\"a\",\"nvext\":{\"what\":1}}", 400, "nvext.what"),
  ])
  func faults(body: String, status: Int, words: String) throws {
    let rig = try FrontendRig()
    let found = call(rig, "POST", "/v1/router/explain", body)
    #expect(found.status == status && found.contains(words), "\(found)")
    #expect(rig.shared.bodyMemoryInUse == 0)
  }

  @Test func bodiesAndThePoolAreBounded() throws {
    let small = try FrontendRig { $0.bodyBytesMax = 10 }
    #expect(call(small, "POST", "/v1/router/explain", FrontendRig.chat(bytes: 10)).status == 413)
    let full = try FrontendRig { $0.preprocess.waitingMax = 0 }
    #expect(call(full, "POST", "/v1/router/explain", FrontendRig.chat(bytes: 10)).status == 529)
    #expect(call(full, "GET", "/v1/router/state").status == 529)
    #expect(small.shared.bodyMemoryInUse == 0 && full.shared.bodyMemoryInUse == 0)
  }

  @Test func wrongHeadersAndMethodsAreNamed() throws {
    let rig = try FrontendRig()
    let found = call(
      rig, "POST", "/v1/router/explain", FrontendRig.chat(bytes: 10), headers: "x-dynamo-session-id: a b\r\n")
    #expect(found.status == 400 && found.contains("x-dynamo-session-id"))
    #expect(call(rig, "GET", "/v1/router/explain").contains("allow: POST, OPTIONS\r\n"))
    #expect(call(rig, "POST", "/v1/router/state").contains("allow: GET, HEAD, OPTIONS\r\n"))
  }

  @Test func bothAreHiddenWhereTheOperatorSaysSo() throws {
    let rig = try FrontendRig { $0.hidesRouter = true }
    #expect(call(rig, "GET", "/v1/router/state").status == 404)
    #expect(call(rig, "POST", "/v1/router/explain", FrontendRig.chat(bytes: 10)).status == 404)
    #expect(call(rig, "GET", "/health").status == 200)
  }
}
