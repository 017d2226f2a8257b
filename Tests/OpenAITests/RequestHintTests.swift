// `nvext`: what is taken, what is let through, what is refused and by which name.

import JSON
import Testing

@testable import OpenAI

struct RequestHintTests {
  private func parse(_ value: String) throws(APIError) -> InferenceRequest {
    let body = Array("{\"model\":\"m\",\"prompt\":\"a\",\"nvext\":\(value)}".utf8)
    let result: Result<InferenceRequest, APIError> = body.withUnsafeBytes { bytes in
      Result { () throws(APIError) in try InferenceRequest.parse(bytes, endpoint: .completions) }
    }
    return try result.get()
  }

  @Test func membersWithAnEffect() throws {
    let request = try parse(
      """
      {"backend_instance_id": 9007199254740993, "agent_hints": {"priority": -5, "strict_priority": 2, "osl": 10,
       "speculative_prefill": true}, "router_config_override": {"overlap_score_credit": 0.5,
       "overlap_score_weight": 2, "router_temperature": 0.1, "assume_kv_reuse": false},
       "annotations": ["request_id", "formatted_prompt"], "extra_fields": ["timing", "routed_experts"]}
      """)
    let hints = try #require(request.extensions?.hints)
    #expect(hints.worker == 9_007_199_254_740_993)
    #expect(hints.priority == -5 && hints.strictPriority == 2 && hints.expectedTokens == 10)
    #expect(hints.overlapCredit == 0.5 && hints.prefillScale == 2)
    #expect(hints.temperature == 0.1 && hints.assumesReuse == false)
    #expect(hints.annotations == .requestID && hints.fields == .timing)
  }

  @Test(arguments: [
    "{}", "{\"annotations\":null,\"agent_hints\":null}", "{\"greed_sampling\":true,\"top_k\":1}",
    "{\"token_data\":[1,2],\"cache_salt\":null,\"guided_json\":{\"a\":[1]},\"metadata_upload\":{}}",
    "{\"prefill_worker_id\":1,\"dp_rank\":0,\"repetition_penalty\":1.1,\"max_thinking_tokens\":5}",
  ])
  func membersWithoutOne(value: String) throws {
    #expect(try parse(value).extensions?.hints == RequestHints())
  }

  @Test func nullIsNone() throws {
    #expect(try parse("null").extensions == nil)
  }

  @Test func bothNamesOfTheWorkerMustAgree() throws {
    #expect(try parse("{\"decode_worker_id\":3,\"backend_instance_id\":3}").extensions?.hints.worker == 3)
    let fault = #expect(throws: APIError.self) {
      try parse("{\"decode_worker_id\":3,\"backend_instance_id\":4}")
    }
    #expect(fault?.param == "nvext.decode_worker_id")
  }

  /// It has no effect here, and is noted for those who keep tenants apart.
  @Test func aSaltIsNoted() throws {
    #expect(try parse("{\"cache_salt\":\"a\"}").extensions?.hints.namesSalt == true)
    #expect(try parse("{\"cache_salt\":null}").extensions?.hints.namesSalt == false)
  }

  @Test(arguments: [
    ("1", "nvext"), ("[]", "nvext"), ("{\"nope\":1}", "nvext.nope"),
    ("{\"backend_instance_id\":\"1\"}", "nvext.backend_instance_id"),
    ("{\"backend_instance_id\":-1}", "nvext.backend_instance_id"),
    ("{\"backend_instance_id\":1.5}", "nvext.backend_instance_id"),
    ("{\"agent_hints\":1}", "nvext.agent_hints"),
    ("{\"agent_hints\":{\"priority\":2147483648}}", "nvext.agent_hints.priority"),
    ("{\"agent_hints\":{\"priority\":1.5}}", "nvext.agent_hints.priority"),
    ("{\"agent_hints\":{\"strict_priority\":-1}}", "nvext.agent_hints.strict_priority"),
    ("{\"agent_hints\":{\"speculative_prefill\":1}}", "nvext.agent_hints.speculative_prefill"),
    ("{\"agent_hints\":{\"mood\":1}}", "nvext.agent_hints.mood"),
    (
      "{\"router_config_override\":{\"router_temperature\":-1}}",
      "nvext.router_config_override.router_temperature"
    ),
    (
      "{\"router_config_override\":{\"router_temperature\":1e999}}",
      "nvext.router_config_override.router_temperature"
    ),
    ("{\"router_config_override\":{\"speed\":1}}", "nvext.router_config_override.speed"),
    ("{\"annotations\":\"a\"}", "nvext.annotations"), ("{\"annotations\":[1]}", "nvext.annotations[0]"),
    ("{\"annotations\":[\"query_instance_id\"]}", "nvext.annotations"),
    ("{\"extra_fields\":{}}", "nvext.extra_fields"), ("{\"cache_salt\":1}", "nvext.cache_salt"),
    ("{\"token_data\":1}", "nvext.token_data"), ("{\"top_k\":1,\"top_k\":1}", "nvext.top_k"),
  ])
  func faultsAreNamed(value: String, param: String) throws {
    let fault = #expect(throws: APIError.self) { try parse(value) }
    #expect(fault?.status == 400 && fault?.param == param, "\(String(describing: fault))")
  }

  @Test func listsAndNamesAreBounded() throws {
    let many = Array(repeating: "\"a\"", count: RequestHints.listMax + 1).joined(separator: ",")
    #expect(throws: APIError.self) { try parse("{\"extra_fields\":[\(many)]}") }
    let fault = #expect(throws: APIError.self) {
      try parse("{\"\(String(repeating: "x", count: 10_000))\":1}")
    }
    #expect((fault?.message.utf8.count ?? 0) < 200)
  }
}
