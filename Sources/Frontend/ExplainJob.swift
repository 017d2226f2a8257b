// `POST /v1/router/explain`: what would become of a request, which is neither booked nor sent.

internal import Base
internal import EventLoop
internal import JSON
internal import OpenAI
internal import Prompts
internal import Routing
internal import Workers

/// Prepares the prompt and asks the router, all of it in the pool: no loop is held by a long prompt or a large fleet.
final class ExplainJob: AnswerJob {
  private let headers: RoutingHints?
  private let workers: WorkerSet
  private let system: any SystemCalls
  private let tokenizer: ModelTokenizer?
  private let preprocessor = Preprocessor()
  private let tenant: [UInt8]

  /// - Parameter tenant: whose request it would be; empty where there are no tenants.
  init(hints: RoutingHints?, tenant: [UInt8], service: FrontendLoop) {
    self.tenant = tenant
    headers = hints
    workers = service.workers
    system = service.loop.system
    tokenizer = service.configuration.tokenizer
  }

  override func run() {
    do throws(APIError) {
      let bytes = body.readable
      let request = try InferenceRequest.parse(bytes, endpoint: Self.endpoint(of: bytes))
      try check(request.modelName(in: bytes))
      guard let index = workers.modelIndex(of: request, in: bytes) else {
        throw workers.models.isEmpty
          ? .noWorkers(model: nil) : .modelNotFound(request.modelName(in: bytes))
      }
      let model = workers.models[index]
      let hints = request.extensions.map { RoutingHints.adding($0.hints, to: headers) } ?? headers
      let rules = model.promptRules(tokenizer)
      preprocessor.prepare(request, in: bytes, by: rules, tenant: tenant, clock: system)
      explain(model, hints)
    } catch {
      failure = error
    }
  }

  /// A body with messages is a chat's, any other a completion's.
  private static func endpoint(of body: UnsafeRawBufferPointer) throws(APIError) -> Endpoint {
    var endpoint = Endpoint.completions
    do throws(JSONError) {
      var scanner = JSONScanner(body)
      guard try scanner.objectOrSkip() else { return endpoint }
      while let key = try scanner.nextKey() {
        if key.equals("messages", in: body) { endpoint = .chatCompletions }
        try scanner.skipValue()
      }
    } catch {
      throw .invalidJSON(error)
    }
    return endpoint
  }

  private func explain(_ model: ServedModel, _ hints: RoutingHints?) {
    let prompt = preprocessor.estimate
    var request = RoutingRequest(
      chain: preprocessor.chain, tokens: prompt.tokens ?? TokenEstimate.quarter(ofBytes: prompt.bytes))
    request.otherChains = preprocessor.otherChains
    hints?.apply(to: &request)
    let preview = model.routing.preview(request, now: system.monotonicNanoseconds())
    let explanation = Explanation(
      model: model, prompt: prompt, preview: preview, named: request.named,
      hasSession: request.session != nil)
    answer.append(explanation.json)
  }
}

/// A preview in words.
private struct Explanation {
  let model: ServedModel
  let prompt: PromptEstimate
  let preview: PlacementPreview
  let named: UInt64?
  let hasSession: Bool

  private var options: RoutingOptions { model.routing.options }

  private var eligible: Int { preview.candidates.count { $0.facts.refusal == .none } }

  var json: JSONValue {
    let shown = preview.candidates.prefix(RouterViewLimits.workersMax)
    return .members([
      ("model", .string(model.name)),
      ("mode", .string(options.mode.name)),
      ("prompt", promptJSON),
      ("session", sessionJSON),
      ("decision", decisionJSON),
      ("candidates", .array(shown.map(candidateJSON))),
      ("omitted", .integer(preview.candidates.count - shown.count)),
    ])
  }

  private var promptJSON: JSONValue {
    let isHashed = options.mode == .kv
    return .members([
      (
        "tokens",
        .integer(prompt.tokens ?? model.routing.estimatedTokens(bytes: prompt.bytes))
      ),
      ("source", isHashed ? .string(prompt.tokens == nil ? "bytes" : "tokens") : .null),
      ("untokenized", .word(prompt.failure ?? "")),
      ("blocks", .integer(prompt.blockCount)),
      ("block_size", .integer(options.blockSize)),
    ])
  }

  private var sessionJSON: JSONValue {
    guard hasSession else { return .null }
    return .members([
      ("worker_id", preview.sessionWorker.map { .worker($0) } ?? .null),
      ("lost", .bool(preview.sessionIsLost)),
    ])
  }

  private var decisionJSON: JSONValue {
    let (outcome, reason) = verdict
    let winner = outcome == "chosen" ? preview.winner : nil
    return .members([
      ("outcome", .string(outcome)),
      ("worker_id", winner.map { .worker($0) } ?? .null),
      ("reason", .string(reason)),
    ])
  }

  private var verdict: (outcome: String, reason: String) {
    if preview.sessionIsLost { return ("session_lost", "the worker of the session is gone or refused") }
    guard eligible > 0 else {
      if preview.candidates.isEmpty { return ("no_workers", "no worker is known") }
      let isBusy = preview.candidates.contains { [.busyBlocks, .busyPrefill].contains($0.facts.refusal) }
      return isBusy ? ("busy", "every worker that would do is busy") : ("refused", "every worker is refused")
    }
    if preview.wouldWait { return ("queued", "every worker that may be chosen is full") }
    guard preview.winner != nil else {
      return ("drawn", "several workers are possible; likelihood says how much")
    }
    if preview.sessionWorker != nil { return ("chosen", "it is the session's worker") }
    if named != nil { return ("chosen", "the request names it") }
    if eligible == 1 { return ("chosen", "it is the only one") }
    switch options.mode {
    case .kv, .direct: return ("chosen", "its cost is the lowest")
    case .leastLoaded, .powerOfTwo, .random: return ("chosen", "it has the fewest requests in flight")
    case .roundRobin: return ("chosen", "it is its turn")
    }
  }

  private func candidateJSON(_ candidate: PlacementPreview.Candidate) -> JSONValue {
    let facts = candidate.facts
    let isRefused = facts.refusal != .none
    return .members([
      ("worker_id", .worker(facts.worker)),
      ("url", model.worker(facts.worker).map { .string($0.facts.url) } ?? .null),
      ("likelihood", .double(candidate.likelihood)),
      ("cost", isRefused ? .null : .double(facts.cost)),
      ("above_lowest", isRefused ? .null : .double(facts.cost - preview.candidates[0].facts.cost)),
      ("hot_prefix_cost", .double(facts.spread)),
      ("overlap_blocks", .integer(facts.overlapBlocks)),
      ("host_blocks", .integer(facts.hostBlocks)),
      ("disk_blocks", .integer(facts.diskBlocks)),
      ("cache_source", .string(facts.cacheSource.label)),
      ("active_blocks", .integer(facts.activeBlocks)),
      ("active_prefill_tokens", .integer(facts.prefillTokens)),
      ("refusal", .word(facts.refusal.label)),
    ])
  }
}
