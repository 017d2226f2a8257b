// Tenants on one loop: who is let in, what limits say, and that no tenant's prompt is another's.

import Base
import OpenAI
import Telemetry
import Tenants
import TestSupport
import Testing
import Workers

@testable import Frontend

struct TenancyTests {
  static let secret = "sk-alice-0123456789abcdef"

  static func entry(_ name: String, _ secret: String, _ change: (inout APIKeyEntry) -> Void = { _ in })
    -> APIKeyEntry
  {
    var entry = APIKeyEntry(
      name: name, digest: Array(secret.utf8).withUnsafeBytes { KeyDigest(of: $0) }, tenant: "acme")
    change(&entry)
    return entry
  }

  private func rig(
    traces: Bool = false, _ change: (inout APIKeyEntry) -> Void = { _ in },
    edit: (inout FrontendConfiguration) -> Void = { _ in }
  ) throws -> FrontendRig {
    try FrontendRig(traces: traces) {
      $0.keys = KeyRing([
        Self.entry("alice", Self.secret, change), Self.entry("bob", "sk-bob") { $0.tenant = "bob" },
      ])
      edit(&$0)
    }
  }

  private static let authorization = "authorization: Bearer \(secret)\r\n"

  private func post(
    _ rig: FrontendRig, _ fields: String = authorization, _ body: String = FrontendRig.chat(bytes: 40)
  ) -> Int32 {
    let caller = rig.connect()
    rig.send(
      "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n\(fields)content-length: \(body.utf8.count)\r\n\r\n\(body)",
      on: caller)
    return caller
  }

  private func get(_ rig: FrontendRig, _ path: String, _ fields: String = "") -> String {
    let caller = rig.connect()
    rig.send("GET \(path) HTTP/1.1\r\nhost: x\r\n\(fields)\r\n", on: caller)
    return rig.output(caller)
  }

  /// What the listener of metrics shows.
  private func metrics(_ rig: FrontendRig) -> String {
    var page = ByteBuffer()
    rig.shared.registry.writePrometheus(into: &page)
    return page.text
  }

  /// A usual answer; its usage counts 100 and `output` tokens.
  private static func answer(_ output: Int = 20) -> String {
    "{\"choices\":[{\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":100,\"completion_tokens\":\(output)}}"
  }

  // MARK: Keys

  @Test(arguments: [
    "", "authorization: Bearer wrong\r\n", "authorization: Bearer \r\n", "authorization: Basic \(secret)\r\n",
    "x-api-key: wrong\r\n", "authorization: \(secret)\r\n",
    "authorization: Bearer \(secret)\r\nauthorization: Bearer \(secret)\r\n",
    "authorization: Bearer wrong\r\nx-api-key: \(secret)\r\n",
  ])
  func withoutAKeyNothingGoesToAWorker(_ fields: String) throws {
    let rig = try rig()
    let answer = rig.output(post(rig, fields))
    #expect(answer.status == 401 && answer.contains("\r\nwww-authenticate: Bearer\r\n"), "\(answer)")
    #expect(answer.contains("\"code\":\"invalid_api_key\"") && answer.contains("authentication_error"))
    #expect(rig.dialer.last == 99 && !answer.contains("x-ratelimit"))
    let reason =
      ["", "authorization: Bearer \r\n", "authorization: \(Self.secret)\r\n"].contains(fields)
      || fields.contains("Basic")
    #expect(
      metrics(rig).contains(
        "authentication_failures_total{reason=\"\(reason ? "missing" : "invalid")\"} 1"))
  }

  @Test(arguments: [authorization, "x-api-key: \(secret)\r\n", "Authorization: bearer  \(secret)\r\n"])
  func aKeyLetsInAndStaysHere(_ fields: String) throws {
    let rig = try rig()
    let caller = post(rig, fields + "x-tenant-id: bob\r\n")
    let sent = rig.upstreamRequest()
    #expect(!sent.contains(Self.secret) && !sent.lowercased().contains("authorization"), "\(sent)")
    // The key names nobody else: the caller's wish is passed over, and passed on to nobody.
    #expect(sent.contains("\"cache_salt\":\"acme:\"") && !sent.contains("bob"))
    rig.answer(Self.answer())
    #expect(rig.output(caller).status == 200)
  }

  @Test func theKeyGoesOnWhereThatIsAskedFor() throws {
    let rig = try rig(edit: { $0.forwardsKey = true })
    _ = post(rig)
    #expect(rig.upstreamRequest().contains(Self.authorization))
  }

  @Test func withoutKeysTheCallersGoesOnAndOurOwnReplacesIt() throws {
    let open = try FrontendRig()
    _ = post(open)
    #expect(open.upstreamRequest().contains(Self.authorization))
    let own = try FrontendRig { $0.workerAuthorization = Array("authorization: Bearer ours\r\n".utf8) }
    _ = post(own)
    let sent = own.upstreamRequest()
    #expect(sent.contains("authorization: Bearer ours\r\n") && !sent.contains(Self.secret))
  }

  @Test func whatNeedsAKey() throws {
    let rig = try rig()
    for path in ["/v1/models", "/v1/models/test/model", "/v1/router/state"] {
      #expect(get(rig, path).status == 401)
      #expect(get(rig, path, Self.authorization).status == (path.hasSuffix("state") ? nil : 200))
    }
    for path in ["/health", "/live", "/ready", "/metrics", "/version"] {
      #expect(get(rig, path).status == 200)
    }
    let guarded = try self.rig(edit: { $0.guardsSystemRoutes = true })
    for path in ["/health", "/live", "/ready", "/metrics", "/version"] {
      #expect(get(guarded, path).status == 401)
      #expect(get(guarded, path, Self.authorization).status == 200)
    }
  }

  /// Who else has a key is nobody's business on the callers' port, whatever key it comes with.
  @Test func callersDoNotSeeTheNamesOfTenants() throws {
    let rig = try rig()
    _ = post(rig)
    #expect(metrics(rig).contains("tenant=\"acme\""))
    for fields in ["", Self.authorization, "accept: application/openmetrics-text\r\n"] {
      let page = get(rig, "/metrics", fields)
      #expect(page.status == 200 && !page.contains("acme") && !page.contains("tenant_requests"))
      #expect(
        page.contains("authentication_failures_total") == metrics(rig).contains("authentication_failures"))
    }
  }

  /// Routes that are answered here by work.
  private static let calls = [
    "/tokenize", "/detokenize", "/v1/router/explain", "/v1/messages/count_tokens",
  ]

  private func callRig(_ change: (inout APIKeyEntry) -> Void) throws -> FrontendRig {
    let tokenizer = try ByteModel.load()
    return try rig(traces: false, change) {
      $0.enablesAnthropic = true
      $0.tokenizer = tokenizer
    }
  }

  private static let callBody = anyBody(more: ",\"tokens\":[65]")

  @Test(arguments: calls) func aKeyOfOtherModelsGetsNoWorkOnThese(_ path: String) throws {
    for (models, status) in [(["another"], 404), ([FrontendRig.model], 200)] as [(Set<String>, Int)] {
      let rig = try callRig { $0.models = models }
      let caller = post(rig, to: path, Self.authorization, Self.callBody)
      rig.runPool()
      let answer = rig.output(caller)
      #expect(answer.status == status, "\(answer)")
      #expect(
        answer.contains(path.contains("messages") ? "not_found_error" : "model_not_found") == (status == 404))
    }
  }

  @Test(arguments: calls) func aCallHasOneOfItsKeysPlacesUntilItsWorkIsDone(_ path: String) throws {
    let rig = try callRig { $0.concurrentMax = 1 }
    func call() -> Int32 { post(rig, to: path, Self.authorization, Self.callBody) }
    let first = call()
    let second = rig.output(call())
    #expect(second.status == 429 && second.contains("in progress at once"), "\(second)")
    rig.runPool()
    #expect(rig.output(first).status == 200)
    // A caller that leaves does not take its work out of the pool.
    rig.reset(call())
    #expect(rig.output(call()).status == 429)
    rig.runPool()
    let last = call()
    rig.runPool()
    #expect(rig.output(last).status == 200)
    // What is refused for its body leaves nothing behind.
    for _ in 0..<2 {
      let bad = post(rig, to: path, Self.authorization, "{")
      rig.runPool()
      #expect(rig.output(bad).status == 400)
    }
  }

  @Test func withoutAModelsNameItIsTheFirstThatTheKeyMayAsk() throws {
    for (models, status) in [(["another"], 400), ([FrontendRig.model], 200)] as [(Set<String>, Int)] {
      let rig = try callRig { $0.models = models }
      let caller = post(rig, to: "/tokenize", Self.authorization, "{\"prompt\":\"a\"}")
      rig.runPool()
      #expect(rig.output(caller).status == status)
    }
  }

  @Test func aKeyOfOtherModelsSeesAndAsksNoneOfThese() throws {
    let rig = try rig { $0.models = ["another"] }
    let answer = rig.output(post(rig))
    #expect(answer.status == 404 && answer.contains("model_not_found") && rig.dialer.last == 99)
    #expect(!get(rig, "/v1/models", Self.authorization).contains(FrontendRig.model))
    #expect(get(rig, "/v1/models/\(FrontendRig.model)", Self.authorization).status == 404)
    #expect(get(rig, "/v1/models", "x-api-key: sk-bob\r\n").contains(FrontendRig.model))
  }

  @Test func theRoutersStateShowsTheModelsOfTheKey() throws {
    let rig = try rig { $0.models = ["another"] }
    func state(_ fields: String) -> String {
      let caller = rig.connect()
      rig.send("GET /v1/router/state HTTP/1.1\r\nhost: x\r\n\(fields)\r\n", on: caller)
      rig.runPool()
      return rig.output(caller)
    }
    let restricted = state(Self.authorization)
    #expect(restricted.status == 200)
    #expect(restricted.contains("\"models\":[],\"omitted\":0,\"unused_records\":[]"))
    #expect(!restricted.contains("worker"))
    #expect(state("x-api-key: sk-bob\r\n").contains(FrontendRig.model))
  }

  /// New keys count from the next request on, and what was used stays used.
  @Test func keysAreReplacedWhileRequestsRun() throws {
    let rig = try rig { $0.concurrentMax = 1 }
    let running = post(rig)
    #expect(!rig.upstreamRequest().isEmpty)
    var configuration = rig.service.configuration
    configuration.keys = KeyRing(
      [Self.entry("alice", Self.secret) { $0.concurrentMax = 1 }], after: configuration.keys)
    rig.service.adopt(configuration)
    #expect(rig.output(post(rig, "x-api-key: sk-bob\r\n")).status == 401)
    #expect(rig.output(post(rig)).status == 429)
    rig.answer(Self.answer())
    #expect(rig.output(running).status == 200)
    _ = post(rig)
    #expect(rig.upstreamRequest().contains("cache_salt"))
  }

  // MARK: Limits

  @Test func requestsByTheMinute() throws {
    let rig = try rig { $0.requests = RateLimit(perMinute: 2) }
    for left in [1, 0] {
      let caller = post(rig)
      _ = rig.upstreamRequest()
      rig.answer(Self.answer())
      let answer = rig.output(caller)
      #expect(answer.status == 200, "\(answer)")
      #expect(answer.contains("x-ratelimit-limit-requests: 2\r\nx-ratelimit-remaining-requests: \(left)\r\n"))
    }
    let answer = rig.output(post(rig))
    #expect(answer.status == 429 && answer.contains("\r\nretry-after: 30\r\n"), "\(answer)")
    #expect(answer.contains("x-ratelimit-reset-requests: 1m0s\r\n") && answer.contains("rate_limit_error"))
    #expect(metrics(rig).contains("tenant_limited_total{tenant=\"acme\",limit=\"requests\"} 1"))
    // Another key is another matter.
    _ = post(rig, "x-api-key: sk-bob\r\n")
    #expect(!rig.upstreamRequest().isEmpty)
    rig.pass(30 * second)
    _ = post(rig)
    #expect(rig.upstreamRequest().contains("\"acme:\""))
  }

  @Test func tokensAreTakenByThePromptAndSettledByTheAnswer() throws {
    let rig = try rig { $0.tokens = RateLimit(perMinute: 1_000) }
    // About 500 tokens by its bytes; the engine says 100 and makes 850.
    let caller = post(rig, Self.authorization, FrontendRig.chat(bytes: 1_950))
    _ = rig.upstreamRequest()
    rig.answer(Self.answer(850))
    let head = rig.output(caller)
    #expect(head.contains("x-ratelimit-limit-tokens: 1000\r\nx-ratelimit-remaining-tokens: 5"), "\(head)")
    let refused = rig.output(post(rig, Self.authorization, FrontendRig.chat(bytes: 1_950)))
    #expect(refused.status == 429 && refused.contains("x-ratelimit-remaining-tokens: 50\r\n"), "\(refused)")
    #expect(refused.contains("tokens per minute"))
    let text = metrics(rig)
    #expect(text.contains("tenant_input_tokens_total{tenant=\"acme\"} 100"))
    #expect(text.contains("tenant_output_tokens_total{tenant=\"acme\"} 850"))
    #expect(text.contains("tenant_requests_total{tenant=\"acme\"} 2"))
    rig.pass(30 * second)
    _ = post(rig, Self.authorization, FrontendRig.chat(bytes: 1_950))
    #expect(rig.upstreamRequest().contains("\"acme:\""))
  }

  @Test func aPromptThatNeverFitsIsToldSo() throws {
    let rig = try rig { $0.tokens = RateLimit(perMinute: 100) }
    let answer = rig.output(post(rig, Self.authorization, FrontendRig.chat(bytes: 4_000)))
    #expect(answer.status == 429 && answer.contains("a prompt of about"), "\(answer)")
    #expect(answer.contains("x-ratelimit-remaining-tokens: 100\r\n"))
  }

  @Test func aCallersLeavingFreesItsPlace() throws {
    let rig = try rig { $0.concurrentMax = 1 }
    let caller = post(rig)
    #expect(!rig.upstreamRequest().isEmpty)
    let second = rig.output(post(rig))
    #expect(second.status == 429 && second.contains("in progress at once"))
    rig.reset(caller)
    _ = post(rig)
    #expect(!rig.upstreamRequest().isEmpty)
  }

  /// What is refused for its body gives its place and its tokens back.
  @Test func aRefusedBodyFreesItsPlace() throws {
    let rig = try rig {
      $0.concurrentMax = 1
      $0.tokens = RateLimit(perMinute: 1_000)
    }
    for _ in 0..<3 { #expect(rig.output(post(rig, Self.authorization, "{}")).status == 400) }
    let answer = rig.output(post(rig, Self.authorization, "{"))
    #expect(answer.contains("x-ratelimit-remaining-tokens: 1000\r\n"))
  }

  /// A worker's own limits are not the caller's.
  @Test func theWorkersLimitsStayBehind() throws {
    let rig = try rig { $0.requests = RateLimit(perMinute: 9) }
    let caller = post(rig)
    _ = rig.upstreamRequest()
    rig.send(
      "HTTP/1.1 200 OK\r\nX-RateLimit-Limit-Requests: 77\r\ncontent-length: 2\r\n\r\n{}", on: rig.dialer.last)
    let answer = rig.output(caller)
    #expect(answer.contains("x-ratelimit-limit-requests: 9\r\n") && !answer.contains("77"))
  }

  // MARK: Salts

  @Test(arguments: [
    ("", "\"cache_salt\":\"acme:\""), (",\"cache_salt\":\"mine\"", "\"cache_salt\":\"acme:mine\""),
    (",\"cache_salt\":null", "\"cache_salt\":\"acme:\""),
    (",\"cache_salt\" : [1, 2]", "\"cache_salt\" : \"acme:\""),
    (",\"cache_salt\":\"\"", "\"cache_salt\":\"acme:\""), (",\"cache_\\u0073alt\":\"x\"", ":\"acme:x\""),
    (",\"cache_salt\":\"bob\"", "\"cache_salt\":\"acme:bob\""),
  ])
  func theEngineGetsTheTenantsSalt(_ more: String, _ expected: String) throws {
    for stream in ["", ",\"stream\":true"] {
      for text in [more + stream, stream + more] {
        let rig = try rig()
        _ = post(rig, Self.authorization, FrontendRig.chat(bytes: 20, more: text))
        let sent = rig.upstreamRequest()
        #expect(sent.contains(expected), "\(sent)")
        #expect(sent.contains("\"include_usage\":true") == !stream.isEmpty)
        #expect(sent.contains("content-length: \(sent.body.utf8.count)\r\n"))
        #expect(sent.hasSuffix("}") && sent.split(separator: "cache_").count == 2)
      }
    }
  }

  @Test func anEngineWithoutSaltsGetsNone() throws {
    let rig = try rig()
    let request = FrontendRig.chat(bytes: 4_000)
    let rules = PromptRules(rig.service.workers.models[0].routing.options, engine: .llamaCpp)
    #expect(!rules.takesCacheSalt && !EngineKind.llamaCpp.takesCacheSalt)
    func chain(_ rules: PromptRules, _ tenant: String) throws -> [UInt64] {
      let preprocessor = Preprocessor()
      try Array(request.utf8).withUnsafeBytes { body in
        let parsed = try Preprocessor.decode(body, .chatCompletions)
        preprocessor.prepare(parsed, in: body, by: rules, tenant: Array(tenant.utf8))
      }
      return Array(preprocessor.chain)
    }
    #expect(try chain(rules, "a") == chain(rules, ""))
    let salting = PromptRules(rig.service.workers.models[0].routing.options, engine: .vllm)
    let chains = try ["a", "b", ""].map { try chain(salting, $0) }
    #expect(Set(chains.joined()).count == chains.reduce(0) { $0 + $1.count })
  }

  /// The salt in `nvext` has no effect here, but behind a worker it might.
  @Test(arguments: Endpoint.allCases)
  func aSaltInTheExtensionIsRefused(_ endpoint: Endpoint) throws {
    let rig = try rig(edit: { $0.enablesAnthropic = true })
    let everywhere = EndpointSet(Endpoint.allCases)
    rig.service.adopt(rig.snapshot(generation: 2, endpoints: [everywhere, everywhere]))
    let body = Self.anyBody(more: ",\"nvext\":{\"cache_salt\":\"bob\"}")
    let answer = rig.output(post(rig, to: "\(endpoint.path)", Self.authorization, body))
    #expect(answer.status == 400 && answer.contains("nvext.cache_salt"), "\(answer)")
  }

  /// A worker keeps responses of all tenants, and gives them to whoever names them.
  @Test func aStoredResponseIsNoTenants() throws {
    for (fields, status) in [(Self.authorization, 400 as Int?), ("", nil)] {
      let rig = fields.isEmpty ? try FrontendRig() : try rig()
      let everywhere = EndpointSet(Endpoint.allCases)
      rig.service.adopt(rig.snapshot(generation: 2, endpoints: [everywhere, everywhere]))
      let body = Self.anyBody(more: ",\"previous_response_id\":\"resp_1\"")
      let answer = rig.output(post(rig, to: "/v1/responses", fields, body))
      #expect(answer.status == status, "\(answer)")
      #expect(rig.dialer.last == (status == nil ? 100 : 99))
    }
  }

  @Test func aGatewaysKeyNamesTheTenant() throws {
    let rig = try rig { $0.mayNameTenant = true }
    _ = post(rig, Self.authorization + "x-tenant-id: zeta\r\n")
    let sent = rig.upstreamRequest()
    #expect(sent.contains("\"cache_salt\":\"zeta:\"") && !sent.contains("x-tenant-id"))
    _ = post(rig)
    #expect(rig.upstreamRequest().contains("\"cache_salt\":\"acme:\""))
    for fields in ["x-tenant-id: a:b\r\n", "x-tenant-id: a\r\nx-tenant-id: b\r\n", "x-tenant-id:\r\n"] {
      let answer = rig.output(post(rig, Self.authorization + fields))
      #expect(answer.status == 400 && answer.contains("x-tenant-id"), "\(answer)")
    }
  }

  /// As in Dynamo: where nobody is asked for a key, whoever calls says who it is.
  @Test func withoutKeysTheHeaderNamesTheTenant() throws {
    let rig = try FrontendRig()
    _ = post(rig, "x-tenant-id: zeta\r\n")
    #expect(rig.upstreamRequest().contains("\"cache_salt\":\"zeta:\""))
    _ = post(rig, "")
    #expect(!rig.upstreamRequest().contains("cache_salt"))
  }

  // MARK: The other APIs

  private func post(_ rig: FrontendRig, to path: String, _ fields: String, _ body: String) -> Int32 {
    let caller = rig.connect()
    rig.send(
      "POST \(path) HTTP/1.1\r\nhost: x\r\n\(fields)content-length: \(body.utf8.count)\r\n\r\n\(body)",
      on: caller)
    return caller
  }

  /// A body that every route takes.
  private static func anyBody(more: String) -> String {
    "{\"model\":\"\(FrontendRig.model)\",\"max_tokens\":9,\"input\":\"a\",\"prompt\":\"a\",\"documents\":[],"
      + "\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]\(more)}"
  }

  /// A second key of that name in a body could be the one that an engine reads.
  @Test(arguments: Endpoint.allCases)
  func everyRouteNeedsAKeyAndGetsOneSalt(_ endpoint: Endpoint) throws {
    let rig = try rig {
      $0.concurrentMax = 1
    } edit: {
      $0.enablesAnthropic = true
    }
    let everywhere = EndpointSet(Endpoint.allCases)
    rig.service.adopt(rig.snapshot(generation: 2, endpoints: [everywhere, everywhere]))
    let body = Self.anyBody(more: ",\"cache_salt\":\"bob\"")
    #expect(rig.output(post(rig, to: "\(endpoint.path)", "", body)).status == 401)
    _ = post(rig, to: "\(endpoint.path)", "x-api-key: \(Self.secret)\r\n", body)
    let sent = rig.upstreamRequest()
    #expect(!sent.contains(Self.secret) && !sent.isEmpty)
    // Counting tokens caches nothing.
    if case .countTokens = endpoint { return }
    #expect(sent.contains("\"cache_salt\":\"acme:bob\""), "\(sent)")
    #expect(sent.split(separator: "cache_salt").count == 2, "\(sent)")
    #expect(sent.contains("content-length: \(sent.body.utf8.count)\r\n"))
  }

  // MARK: What is told

  /// Keys may come later than the workers.
  @Test func keysThatComeByAReloadNameTheWorkersWithoutSalts() throws {
    let rig = try FrontendRig()
    rig.service.adopt(rig.snapshot(generation: 2, engine: .llamaCpp))
    #expect(!rig.lines.lines.contains { $0.contains("takes no cache salt") })
    var configuration = rig.service.configuration
    configuration.keys = KeyRing([Self.entry("alice", Self.secret)])
    rig.service.adopt(configuration)
    rig.service.adopt(configuration)
    #expect(rig.lines.lines.count { $0.contains("takes no cache salt") } == 2)
  }

  @Test func spansAndTheLineNameTheTenantAndNeverTheKey() throws {
    let rig = try rig(traces: true)
    let caller = post(rig)
    _ = rig.upstreamRequest()
    rig.answer(Self.answer())
    #expect(rig.output(caller).status == 200)
    rig.pass(second)
    let line = try #require(rig.lines.lines.last { $0.contains("request completed") })
    #expect(line.contains("\"status\":200,\"tenant\":\"acme\",\"trace_id\""), "\(line)")
    #expect(!rig.lines.lines.joined().contains(Self.secret))
    let spans = rig.spans.text
    #expect(spans.contains("tenant") && spans.contains("acme") && !spans.contains(Self.secret))
    #expect(try rig.spans.check(SpanSchema()).faults == [])
  }
}
