// Long prompts through the pool: equal to what the loop makes, through every ending, and at the pool's bound.

import Base
import EventLoop
import OpenAI
import Routing
import Telemetry
import TestSupport
import Testing
import Transport
import Workers

@testable import Frontend

private let long = 300 * 1024

struct PreprocessorTests {
  /// Bodies good and bad, with everything that the canonical prompt depends on.
  static let bodies: [String] = [
    FrontendRig.chat(bytes: 100_000),
    FrontendRig.chat(bytes: 63),
    FrontendRig.chat(bytes: 5_000, more: ",\"tools\":[ { \"type\" : \"function\" } ],\"cache_salt\":\"a\""),
    "{ \"model\" : \"test\\/model\" , \"messages\" : [ {\"role\":\"user\", \"content\" : \"a b\"} ] }",
    "{\"model\":\"other\",\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"stream\":true}",
    "{\"model\":\"test/model\",\"messages\":[]}",
    "{\"model\":\"test/model\",\"messages\":[{\"role\":\"user\"}],\"n\":0}",
    "{\"model\":\"test/model\",\"messages\":[{\"role\":\"user\"}]",
    "[]", "", "\u{0}",
  ]

  @Test(arguments: bodies)
  func thePoolMakesWhatTheLoopMakes(body: String) throws {
    let rig = try FrontendRig()
    let job = PreprocessJob(
      ticket: 1, request: nil, endpoint: .chatCompletions, service: rig.service)
    job.body.append(body)
    job.run()
    #expect(job.body.text == body)
    let inline = Preprocessor()
    let bytes = Array(body.utf8)
    bytes.withUnsafeBytes { bytes in
      let expected = Result { () throws(APIError) in try Preprocessor.decode(bytes, .chatCompletions) }
      switch (expected, job.outcome) {
      case (.failure(let mine), .failure(let theirs)): #expect(mine == theirs)
      case (.success(let mine), .success(let decoded)):
        let theirs = decoded.fields
        #expect(
          mine.model == theirs.model && mine.messages == theirs.messages && mine.stream == theirs.stream)
        guard rig.service.workers.modelIndex(of: mine, in: bytes) != nil else {
          #expect(job.preprocessor.rules == nil)
          return
        }
        inline.prepare(mine, in: bytes, by: PromptRules(RoutingOptions()))
        #expect(inline.rules == job.preprocessor.rules)
        #expect(Array(inline.chain) == Array(job.preprocessor.chain))
        #expect(inline.estimate.bytes == job.preprocessor.estimate.bytes)
        #expect(inline.estimate.blockCount == job.preprocessor.estimate.blockCount)
      default: Issue.record("the loop and the pool disagree about \(body.prefix(80))")
      }
    }
  }

  @Test func aPreprocessorThatIsUsedAgainForgetsThePromptBefore() throws {
    let preprocessor = Preprocessor()
    let rules = PromptRules(RoutingOptions())
    for body in [FrontendRig.chat(bytes: 5_000), FrontendRig.chat(bytes: 20)] {
      let bytes = Array(body.utf8)
      try bytes.withUnsafeBytes { bytes in
        let request = try Preprocessor.decode(bytes, .chatCompletions)
        preprocessor.prepare(request, in: bytes, by: rules)
      }
    }
    #expect(preprocessor.estimate.blockCount == preprocessor.chain.count)
    #expect(preprocessor.estimate.bytes < 100)
  }

  @Test func promptsAreHashedInEverySizeOfTheModelsWorkers() throws {
    let rules = PromptRules(RoutingOptions(), blockSizes: BlockSizes(model: 16, workers: [32, 64]))
    let preprocessor = Preprocessor()
    let bytes = Array(FrontendRig.chat(bytes: 5_000).utf8)
    try bytes.withUnsafeBytes { bytes in
      let request = try Preprocessor.decode(bytes, .chatCompletions)
      preprocessor.prepare(request, in: bytes, by: rules)
      #expect(preprocessor.otherChains.map(\.blockSize) == [32, 64])
      for other in preprocessor.otherChains {
        var options = RoutingOptions()
        options.blockSize = other.blockSize
        let single = Preprocessor()
        single.prepare(request, in: bytes, by: PromptRules(options))
        #expect(Array(single.chain) == Array(other.chain) && !other.chain.isEmpty)
      }
      // A model of one size that follows has no chains of the one before.
      #expect(rules != PromptRules(RoutingOptions()))
      preprocessor.prepare(request, in: bytes, by: PromptRules(RoutingOptions()))
      #expect(preprocessor.otherChains.isEmpty)
    }
  }

  @Test func eachFurtherSizeMakesAPromptCostMore() {
    let rules = { (sizes: [Int]) in
      PromptRules(RoutingOptions(), blockSizes: BlockSizes(model: 16, workers: sizes)).cost(ofBytes: 1 << 20)
    }
    #expect(rules([]) == 1 << 19)
    #expect(rules([16]) == rules([]))
    #expect(rules([32]) == 3 << 18)
    #expect(rules([32, 64, 32]) == 1 << 20)
  }

  @Test func modesThatLookAtNoPromptHashNothing() throws {
    var options = RoutingOptions()
    options.mode = .roundRobin
    let rules = PromptRules(options)
    let preprocessor = Preprocessor()
    let bytes = Array(FrontendRig.chat(bytes: 5_000).utf8)
    try bytes.withUnsafeBytes { bytes in
      preprocessor.prepare(try Preprocessor.decode(bytes, .chatCompletions), in: bytes, by: rules)
    }
    #expect(preprocessor.chain.isEmpty)
    #expect(preprocessor.estimate.bytes > 5_000)
    #expect(rules.cost(ofBytes: 1 << 20) == 0)
  }
}

struct RouterMetricsTests {
  /// What follows a series' name on the page of metrics.
  private func value(_ rig: FrontendRig, _ series: String) -> String? {
    var page = ByteBuffer()
    rig.shared.registry.writePrometheus(into: &page)
    let line = page.text.split(separator: "\n").first { $0.hasPrefix(series + " ") }
    return line.map { String($0.dropFirst(series.count + 1)) }
  }

  @Test(arguments: [4_000, long])
  func whatTheRouterExpectedAndWhatTheEngineReportedAreCounted(bytes: Int) throws {
    let rig = try FrontendRig()
    let body = FrontendRig.chat(bytes: bytes)
    for _ in 0..<2 {
      let caller = rig.post(body)
      while rig.runPool() {}
      #expect(!rig.upstreamRequest().isEmpty)
      rig.answer(
        "{\"usage\":{\"prompt_tokens\":1000,\"completion_tokens\":5,\"prompt_tokens_details\":{\"cached_tokens\":100}}}"
      )
      #expect(rig.output(caller).status == 200)
    }
    let router = "dynamo_component_router_"
    #expect(value(rig, router + "kv_worker_reused_tokens_total") == "200")
    // The second request alone has a prefix anywhere, and goes there.
    let expected = try #require(
      value(rig, router + "kv_selected_cached_prefix_tokens_total").flatMap { Int($0) })
    #expect(expected > 900 && expected % 16 == 0)
    #expect(value(rig, router + "kv_best_eligible_cached_prefix_tokens_total") == String(expected))
    #expect(value(rig, router + "non_max_overlap_selections_total{worker_type=\"decode\"}") == "0")
    for family in ["input_sequence_tokens", "output_sequence_tokens"] {
      #expect(value(rig, router + family + "_count") == "2")
    }
    #expect(value(rig, "dynamo_frontend_input_sequence_tokens_sum{model=\"test/model\"}") == "2000")
    for step in ["block_hashing", "indexer_find_matches", "scheduling", "total"] {
      #expect(value(rig, "dynamo_router_overhead_\(step)_ms_count{router_id=\"0\"}") == "2", "\(step)")
    }
    #expect(value(rig, "dynamo_frontend_kv_truth_drift_ratio_count") == "2")
  }

  @Test func modesThatLookAtNoPromptHaveNone() throws {
    var routing = RoutingOptions()
    routing.mode = .roundRobin
    let rig = try FrontendRig(routing: routing)
    _ = rig.post(FrontendRig.chat(bytes: 4_000))
    #expect(!rig.upstreamRequest().isEmpty)
    rig.answer("{\"usage\":{\"prompt_tokens\":1000,\"completion_tokens\":5}}")
    #expect(value(rig, "dynamo_frontend_input_sequence_tokens_sum{model=\"test/model\"}") == "1000")
    var page = ByteBuffer()
    rig.shared.registry.writePrometheus(into: &page)
    #expect(!page.text.contains("dynamo_router_overhead"))
    #expect(!page.text.contains("dynamo_component_router_input"))
  }
}

struct PreprocessPoolTests {
  @Test(arguments: [10, long])
  func aFaultyBodyCountsAsTheModelsThatItNames(bytes: Int) throws {
    let rig = try FrontendRig()
    for (body, status) in [
      (FrontendRig.chat(bytes: bytes, more: ",\"n\":0"), 400), ("{\"model\":\"stranger\"}", 400), ("{", 400),
    ] {
      let caller = rig.post(body)
      rig.runPool()
      #expect(rig.output(caller).status == status)
    }
    rig.turn()
    var page = ByteBuffer()
    rig.shared.registry.writePrometheus(into: &page)
    let counts = page.text.split(separator: "\n").filter {
      $0.hasPrefix("dynamo_frontend_requests_total{") && $0.contains("error_type=\"validation\"")
    }
    #expect(counts.contains { $0.contains("model=\"test/model\"") && $0.hasSuffix(" 1") })
    #expect(counts.contains { $0.contains("model=\"unknown_model\"") && $0.hasSuffix(" 2") })
  }

  @Test func aShortPromptIsDispatchedWithoutThePool() throws {
    let rig = try FrontendRig()
    _ = rig.post(FrontendRig.chat(bytes: 1_000))
    #expect(rig.shared.pool.waitingCount == 0)
    #expect(rig.upstreamRequest().body.hasPrefix("{\"model\""))
  }

  @Test func aLongPromptIsDispatchedWhenItIsBackFromThePool() throws {
    let rig = try FrontendRig()
    let body = FrontendRig.chat(bytes: long)
    let caller = rig.post(body)
    #expect(rig.shared.pool.waitingCount == 1)
    #expect(rig.dialer.last == 99)
    rig.runPool()
    #expect(rig.upstreamRequest().hasSuffix("\r\n\r\n" + body))
    rig.answer("{}")
    #expect(rig.output(caller).status == 200)
    #expect(rig.shared.bodyMemoryInUse == 0)
  }

  @Test func theFaultsOfALongBodyAreAnsweredAsThoseOfAShortOne() throws {
    let broken = FrontendRig.chat(bytes: long).dropLast()
    let unknown = FrontendRig.chat(bytes: long).replacing(FrontendRig.model, with: "nobody")
    for (body, status, code) in [(String(broken), 400, "invalid_json"), (unknown, 404, "model_not_found")] {
      let rig = try FrontendRig()
      let caller = rig.post(body)
      #expect(rig.output(caller).isEmpty)
      rig.runPool()
      let pooled = rig.output(caller)
      #expect(pooled.status == status && pooled.contains(code))
      #expect(rig.shared.bodyMemoryInUse == 0)
      let inline = try FrontendRig { $0.preprocess.inlineBytesMax = .max }
      #expect(inline.output(inline.post(body)).body == pooled.body)
    }
  }

  @Test func aPromptThatWouldHoldTheLoopGoesToThePoolWhateverItsSize() throws {
    let rig = try FrontendRig { $0.preprocess.loopHoldMax = 0 }
    let body = FrontendRig.chat(bytes: 1_000)
    _ = rig.post(body)
    #expect(rig.shared.pool.waitingCount == 1)
    rig.runPool()
    #expect(rig.shared.pool.waitingCount == 0)
    #expect(rig.upstreamRequest().hasSuffix(body))
    // What is wrong with a body, or a model that nobody serves, takes no time to find out.
    let caller = rig.post("{}")
    #expect(rig.output(caller).status == 400)
  }

  @Test func aCallerThatLeavesMeanwhileIsForgotten() throws {
    for leave in [FrontendRig.close, FrontendRig.reset] {
      let rig = try FrontendRig()
      let caller = rig.post(FrontendRig.chat(bytes: long))
      #expect(rig.shared.bodyMemoryInUse > 0)
      leave(rig)(caller)
      #expect(rig.isClosed(caller))
      #expect(rig.shared.loads.openRequests == 0)
      // The bytes are still in the pool, and count until they are back.
      #expect(rig.shared.bodyMemoryInUse > 0)
      rig.runPool()
      #expect(rig.shared.bodyMemoryInUse == 0)
      #expect(rig.dialer.last == 99)
      #expect(rig.lines.lines.filter { $0.contains("cancelled") }.count == 1)
    }
  }

  @Test func anAbandonedJobDoesNothing() throws {
    let rig = try FrontendRig()
    let job = PreprocessJob(ticket: 1, request: nil, endpoint: .chatCompletions, service: rig.service)
    job.body.append(FrontendRig.chat(bytes: long))
    job.abandon()
    job.run()
    #expect(job.outcome == nil && job.preprocessor.rules == nil)
    // Leaving abandons the job; coming home first does not.
    let caller = rig.post(FrontendRig.chat(bytes: long))
    rig.close(caller)
    #expect(rig.runPool())
    _ = rig.post(FrontendRig.chat(bytes: long))
    rig.runPool()
    #expect(rig.upstreamRequest().contains("POST /v1/chat/completions"))
  }

  @Test func aCallerThatLeavesWhileThePoolWorksIsForgotten() throws {
    let rig = try FrontendRig()
    let caller = rig.post(FrontendRig.chat(bytes: long))
    rig.shared.pool.runNext()
    rig.kernel.input[caller, default: []].append([])
    rig.kernel.queue([(caller, .peerClosed)])
    rig.turn()
    #expect(rig.shared.bodyMemoryInUse == 0)
    #expect(rig.dialer.last == 99)
  }

  @Test func theDrainWaitsForThePool() throws {
    let rig = try FrontendRig()
    let caller = rig.post(FrontendRig.chat(bytes: long))
    rig.shared.beginDraining()
    rig.shared.beginRefusing()
    rig.server.drain()
    #expect(rig.shared.loads.openRequests == 1)
    rig.runPool()
    _ = rig.upstreamRequest()
    rig.answer("{}")
    #expect(rig.output(caller).status == 200)
    #expect(rig.isClosed(caller))
    #expect(rig.shared.loads.openRequests == 0)
  }

  @Test func theDrainsDeadlineAnswersAndThePoolsResultIsDropped() throws {
    let rig = try FrontendRig()
    let caller = rig.post(FrontendRig.chat(bytes: long))
    rig.server.drain()
    rig.server.announceCut()
    rig.turn()
    #expect(rig.output(caller).status == 503)
    rig.server.cutAll()
    rig.runPool()
    #expect(rig.dialer.last == 99)
    #expect(rig.shared.bodyMemoryInUse == 0)
    #expect(rig.output(caller).isEmpty)
  }

  @Test func aFullPoolRefusesWithRetryAfter() throws {
    let rig = try FrontendRig { $0.preprocess.waitingMax = 1 }
    let first = rig.post(FrontendRig.chat(bytes: long))
    let taken = rig.shared.bodyMemoryInUse
    let second = rig.post(FrontendRig.chat(bytes: long))
    let answer = rig.output(second)
    #expect(answer.status == 529 && answer.contains("retry-after: 1\r\n") && answer.contains("overloaded"))
    #expect(rig.shared.pool.refusedCount == 1)
    #expect(rig.shared.bodyMemoryInUse == taken)
    // The connection lives on.
    rig.send(FrontendRig.head(bodyBytes: 2) + "{}", on: second)
    #expect(rig.output(second).status == 400)
    rig.runPool()
    #expect(rig.upstreamRequest().contains("POST /v1/chat/completions"))
    rig.answer("{}")
    #expect(rig.output(first).status == 200)
  }

  @Test func rulesThatChangeMeanwhileSendItThroughThePoolAgain() throws {
    let rig = try FrontendRig()
    let body = FrontendRig.chat(bytes: long)
    _ = rig.post(body)
    rig.adopt(generation: 2, blockSize: 32)
    rig.runPool()
    #expect(rig.shared.pool.waitingCount == 1)
    rig.runPool()
    #expect(rig.shared.pool.waitingCount == 0)
    #expect(rig.upstreamRequest().hasSuffix(body))
  }

  @Test func aModelThatAppearsMeanwhileIsServed() throws {
    let rig = try FrontendRig()
    rig.adopt(generation: 2, blockSize: 0)
    let body = FrontendRig.chat(bytes: long)
    _ = rig.post(body)
    rig.adopt(generation: 3)
    rig.runPool()
    rig.runPool()
    #expect(rig.upstreamRequest().hasSuffix(body))
  }

  @Test func aSnapshotThatIsStillOnItsWayIsLookedAt() throws {
    let rig = try FrontendRig()
    rig.adopt(generation: 2, blockSize: 0)
    let body = FrontendRig.chat(bytes: 100)
    // Older than what the loop has: nothing is known of the model.
    rig.reports.current = rig.snapshot(generation: 1)
    #expect(rig.output(rig.post(body)).status == 503)
    // Another loop has it and has said that this frontend is ready.
    rig.reports.current = rig.snapshot(generation: 3)
    _ = rig.post(body)
    #expect(rig.upstreamRequest().hasSuffix(body))
  }

  @Test func aRetryUsesWhatThePoolMade() throws {
    let rig = try FrontendRig()
    let body = FrontendRig.chat(bytes: long)
    let caller = rig.post(body)
    rig.runPool()
    rig.kernel.connectErrors[rig.dialer.last] = 111
    _ = rig.upstreamRequest()
    #expect(rig.dialer.last == 101)
    #expect(rig.shared.pool.waitingCount == 0)
    #expect(rig.upstreamRequest().hasSuffix(body))
    rig.answer("{}")
    #expect(rig.output(caller).status == 200)
  }

  @Test func aFleetOfLoopsSharesAFewThreads() {
    #expect([1, 4, 5, 8, 64].map(PreprocessLimits.threads(besideLoops:)) == [1, 1, 1, 2, 16])
  }
}
