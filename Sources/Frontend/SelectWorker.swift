// Preprocess and select: the prompt is cut into blocks, and the router says which worker takes the request.

internal import Base
internal import EventLoop
internal import OpenAI
internal import Prompts
internal import Routing
internal import Telemetry
internal import Transport
internal import Workers

extension InferenceExchange {
  /// How long a worker that refused a connect is left out before its probes say otherwise.
  static let exclusionTime: Nanoseconds = second

  /// Chooses a worker and dispatches to it. Where none may be chosen the request is refused, or false is returned when
  /// the caller of this has a better answer. `failed` were tried already.
  @discardableResult
  func selectWorker(excluding failed: [UInt64], orRefuse refuses: Bool = true) -> Bool {
    guard let model else { return false }
    let preprocessor = preprocess()
    // The prompt of a request that comes from the queue, or whose prompt was read elsewhere, is prepared for the second
    // time.
    if times.queued == 0 && prefill == nil || !failed.isEmpty {
      times.preprocessed = loop.system.monotonicNanoseconds()
      if failed.isEmpty {
        recordPreprocess()
        tellPrompt()
        service.tokenizing?.observe(prompt.times)
        if service.recordsTraces { keepPromptHashes(preprocessor) }
        if let reason = prompt.failure { service.shared.metrics.untokenized(reason) }
        guard takePromptTokens() else { return false }
      }
    }
    if prefill == nil, let others = model.prefill, beginPrefill(others, preprocessor) { return true }
    var request = RoutingRequest(
      chain: preprocessor.chain, tokens: prompt.tokens ?? TokenEstimate.quarter(ofBytes: prompt.bytes))
    request.otherChains = preprocessor.otherChains
    request.explains = isRecorded
    let isFirst = failed.isEmpty && prefill?.attempts.isEmpty ?? true
    request.allowed = (isFirst ? model : latest(model)).workers(serving: endpoint)
    for worker in failed { request.excluded.append((worker, .tried)) }
    hints?.apply(to: &request)
    if let prefill { prefill.adapt(&request) }
    let decision = service.decision
    let result: RoutingOutcome
    if failed.isEmpty, hints != nil || model.routing.mayQueue {
      guard let outcome = place(request, model) else { return false }
      result = outcome
    } else {
      result = model.routing.select(
        request, bytes: prompt.bytes, now: loop.now, random: &service.loop.random, into: decision)
    }
    times.selected = loop.system.monotonicNanoseconds()
    recordDecision(decision, model)
    switch result {
    case .chosen:
      guard let worker = model.worker(decision.worker) ?? latest(model).worker(decision.worker) else {
        // The router knows a worker that this loop has not heard of yet.
        model.routing.free(
          decision.booking, served: false, now: loop.now, bytes: 0, promptTokens: nil, cachedTokens: nil)
        return selectWorker(excluding: failed + [decision.worker], orRefuse: refuses)
      }
      metrics.placed(overlap: decision.overlapBlocks, of: prompt.blockCount)
      if case .kv = model.routing.options.mode {
        service.routing?.placed(
          decision, blockSize: model.routing.options.blockSize, hashing: isFirst ? hashingTime : nil,
          scheduling: times.selected - min(max(decisionBegan, times.released), times.selected))
      }
      hints?.wasPlaced(decision, model, now: loop.now, isRetry: !failed.isEmpty)
      tellChoice(decision)
      dispatch(to: worker, booking: decision.booking, fresh: false)
      return true
    case .allBusy:
      if refuses {
        metrics.rejected(endpoint)
        refuse(.overloaded(status: service.configuration.overloadStatus))
      }
    case .noWorkers, .allRefused:
      if refuses { refuse(unavailable(model)) }
    }
    return false
  }

  /// Why no worker may be chosen.
  private func unavailable(_ model: ServedModel) -> APIError {
    if let worker = hints?.worker { return .workerUnavailable(worker) }
    if case .direct = model.routing.options.mode { return .missing("nvext.backend_instance_id") }
    return .noWorkers(model: model.name)
  }

  /// The model in this loop's present snapshot: a request outlives snapshots, and workers join meanwhile.
  func latest(_ model: ServedModel) -> ServedModel {
    service.workers.models.first { $0.routing === model.routing } ?? model
  }

  /// The prompt's blocks by its model's rules: as they came from the pool, else made here.
  func preprocess() -> Preprocessor {
    if let preprocessor, preprocessor.rules == promptRules { return preprocessor }
    if let request, let rules = promptRules {
      service.preprocessor.prepare(
        request.fields, in: body.readable, by: rules, tenant: tenancy?.name ?? [], clock: loop.system)
      prompt = service.preprocessor.estimate
    }
    return service.preprocessor
  }

  /// How long the prompt's blocks took: all of its preparation but the tokens.
  private var hashingTime: Nanoseconds {
    prompt.hashing ?? times.preprocessed - min(max(times.preparing, prompt.times.encoded), times.preprocessed)
  }

  /// The first token came: the prompt's prefill is no longer load.
  func routeFirstToken() {
    guard let attempt, let model else { return }
    model.routing.firstToken(attempt.booking, now: loop.now)
  }

  /// `count` more tokens of the answer came: where output counts as load the router hears of each block that they fill.
  func routeOutput(_ count: Int) {
    guard let attempt, let model, model.routing.options.tracksOutputBlocks else { return }
    let blockSize = model.blockSizes.known(attempt.worker.facts.blockSize)
    let promptTokens = prompt.tokens ?? TokenEstimate.quarter(ofBytes: prompt.bytes)
    // The prompt's last block is filled first.
    let tokens = promptTokens % blockSize + relay.tokenCount
    guard tokens / blockSize > (tokens - count) / blockSize else { return }
    model.routing.outputGrew(attempt.booking, tokens: relay.tokenCount)
  }

  /// An attempt ended: nothing of it is load any more, and what the engine said of its cache is learnt.
  func release(_ attempt: Attempt) {
    guard let model else { return }
    if attempt.claim != 0 { model.routing.unclaim(attempt.claim) }
    let served = attempt.status >= 200 && attempt.status < 300
    let told = isPromptKnown ? usage : nil
    // What came from where the prompt was read, engines count as cached.
    let isOwnCache = !attempt.isDecode
    let error = model.routing.free(
      attempt.booking, served: served, now: loop.now, bytes: prompt.bytes,
      promptTokens: told?.promptTokens, cachedTokens: isOwnCache ? told?.cachedTokens : nil,
      request: servedRequest)
    service.routing?.reported(cachedTokens: served && isOwnCache ? usage?.cachedTokens : nil, error: error)
  }

  /// Whether the engine's counts speak of the blocks that were routed by: not where the engine adds a conversation of its
  /// own, or tokens could not be made of the prompt, so that its blocks are not the engine's.
  var isPromptKnown: Bool {
    endpoint.generates && prompt.failure == nil && request?.fields.previousResponse == nil
  }

  // MARK: The decision explained

  /// Writes the span of what was done to the prompt before a worker could be chosen.
  private func recordPreprocess() {
    guard let trace, let rules = promptRules, isRecorded else { return }
    // Room for this span, its children and the decision's, which wait for the request's end.
    spans.reserve(rules.tokenizer == nil ? 1_024 : 1_536)
    let context = trace.request.child(using: &service.loop.random)
    traceState.withUnsafeBytes { state in
      spans.begin(
        name: SpanName.preprocess, context: context,
        parent: trace.request.spanID, kind: .internal, start: times.wallTime(times.preparing),
        traceState: state)
    }
    spans.attribute(AttributeName.blockCount, prompt.blockCount)
    if rules.hashes { spans.attribute(AttributeName.promptSource, prompt.tokens == nil ? "bytes" : "tokens") }
    if let tokens = prompt.tokens { spans.attribute(AttributeName.islTokens, tokens) }
    spans.end(at: times.wallTime(times.preprocessed))
    let steps = prompt.times
    recordStep(SpanName.preprocessTemplate, of: context, from: steps.began, to: steps.rendered)
    let began = steps.rendered > 0 ? steps.rendered : steps.began
    recordStep(SpanName.preprocessTokenize, of: context, from: began, to: steps.encoded)
  }

  /// Writes the span of one step of the preprocessing, if it ran.
  private func recordStep(
    _ name: StaticString, of parent: SpanContext, from start: Nanoseconds, to end: Nanoseconds
  ) {
    guard end > 0 else { return }
    traceState.withUnsafeBytes { state in
      spans.begin(
        name: name, context: parent.child(using: &service.loop.random), parent: parent.spanID,
        kind: .internal,
        start: times.wallTime(start), traceState: state)
    }
    spans.end(at: times.wallTime(end))
  }

  /// Writes the decision's span, which ends now, into the request's slice.
  func recordDecision(_ decision: RoutingDecision, _ model: ServedModel) {
    guard let trace, isRecorded else { return }
    let context = trace.request.child(using: &service.loop.random)
    beginDecision(context, trace, model)
    spans.attribute(AttributeName.islTokens, prompt.tokens ?? decision.estimatedTokens)
    spans.attribute(AttributeName.blockCount, prompt.blockCount)
    if decision.worker != 0 {
      spans.attribute(AttributeName.workerID, id: decision.worker)
      spans.attribute(AttributeName.overlapBlocks, decision.overlapBlocks)
      spans.attribute(AttributeName.decisionCost, decision.cost)
      if let margin = decision.margin { spans.attribute(AttributeName.decisionMargin, margin) }
      if decision.spreadShare > 0 { spans.attribute(AttributeName.hotPrefixShare, decision.spreadShare) }
      if decision.evictedBlocks > 0 { spans.attribute(AttributeName.evictedBlocks, decision.evictedBlocks) }
      switch decision.cacheSource {
      case .predicted: spans.attribute(AttributeName.cacheSource, "predicted")
      case .events: spans.attribute(AttributeName.cacheSource, "events")
      }
    }
    writeCandidates(decision)
    endDecision(context, at: times.selected)
  }

  /// Writes the span of a decision that was never made, because the request left the queue without a worker.
  func recordWait(_ model: ServedModel) {
    guard let trace, isRecorded else { return }
    let context = trace.request.child(using: &service.loop.random)
    beginDecision(context, trace, model)
    spans.attribute(AttributeName.blockCount, prompt.blockCount)
    endDecision(context, at: times.released)
  }

  private func beginDecision(_ context: SpanContext, _ trace: RequestTrace, _ model: ServedModel) {
    traceState.withUnsafeBytes { state in
      spans.begin(
        name: SpanName.selectWorker, context: context, parent: trace.request.spanID, kind: .internal,
        start: times.wallTime(decisionBegan), traceState: state)
    }
    service.withText(identity.requestID) { spans.attribute(AttributeName.requestID, $0) }
    spans.attributes(model.routing.spanAttributes)
    if let prefill { spans.attribute(AttributeName.phase, prefill.part.rawValue) }
  }

  /// When the choice of a worker began that is made now, or was made last.
  var decisionBegan: Nanoseconds { max(times.preprocessed, prefill?.ended ?? 0) }

  /// Ends the decision's span, and writes the one of the time in the queue under it.
  private func endDecision(_ context: SpanContext, at end: Nanoseconds) {
    // A retry's decision began after that.
    guard times.queued >= times.preprocessed, times.released > 0 else {
      return spans.end(at: times.wallTime(end))
    }
    spans.attribute(
      AttributeName.queuedMilliseconds, Double(times.released - min(times.queued, times.released)) / 1e6)
    spans.end(at: times.wallTime(end))
    recordStep(SpanName.schedule, of: context, from: times.queued, to: times.released)
  }

  /// The candidates as parallel arrays, so that a query can pick one column.
  private func writeCandidates(_ decision: RoutingDecision) {
    let count = decision.candidates.count
    spans.attribute(AttributeName.candidateWorkers, count: count) {
      Int(truncatingIfNeeded: decision.candidates[$0].worker)
    }
    spans.attribute(AttributeName.candidateOverlapBlocks, count: count) {
      decision.candidates[$0].overlapBlocks
    }
    spans.attribute(AttributeName.candidateDecodeBlocks, count: count) {
      decision.candidates[$0].activeBlocks
    }
    spans.attribute(AttributeName.candidatePrefillTokens, count: count) {
      decision.candidates[$0].prefillTokens
    }
    spans.attribute(AttributeName.candidateCosts, count: count, fractions: { decision.candidates[$0].cost })
    if decision.listsRefusal {
      spans.attribute(AttributeName.candidateRefusals, decision.candidates.map(\.refusal.label))
    }
  }
}
