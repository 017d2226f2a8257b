// Prefill: where a model has workers that only prefill, one of them reads the prompt before another worker generates.
//
//   beginPrefill ──▶ sendPrefill ──answer──▶ prefillSucceeded ──▶ selectWorker, for the decode
//       │ not worth it, not possible │ failed
//       └───────────────▶ selectWorker, for all of it ◀────────── prefillFailed

internal import Base
internal import EventLoop
internal import HTTP
internal import OpenAI
internal import Routing
internal import Telemetry
internal import Transport
internal import Workers

extension InferenceExchange {
  /// Has one of `others` read the prompt, if that is possible and worth it; false when the request goes whole to one
  /// worker, now.
  func beginPrefill(_ others: ServedModel, _ preprocessor: Preprocessor) -> Bool {
    let phase = PrefillPhase(began: loop.now)
    prefill = phase
    if let route = reasonToStayWhole(preprocessor) {
      goWhole(phase, route)
      return false
    }
    guard choosePrefill(among: others, preprocessor) else {
      goWhole(phase, .noWorker)
      return false
    }
    return true
  }

  private func goWhole(_ phase: PrefillPhase, _ route: PrefillRoute) {
    phase.settle(route, at: loop.now)
    service.shared.prefills.count(route)
    tell("prompt is read where it is answered") { $0.field(LogKey.route, route.label) }
  }

  private func reasonToStayWhole(_ preprocessor: Preprocessor) -> PrefillRoute? {
    guard let request, let model, !passBodyVerbatim, hints?.worker == nil else { return .indivisible }
    switch endpoint {
    case .chatCompletions, .completions: break
    // They go as chats where no worker takes them as they are.
    case .messages where !model.speaksMessages: break
    default: return .indivisible
    }
    guard request.fields.isDivisible(body.readable) else { return .indivisible }
    if let short = service.configuration.shortPrompts, isShort(short, model, preprocessor) {
      return .shortPrompt
    }
    return nil
  }

  /// Whether so little of the prompt is missing where it would be answered that it is best read there.
  private func isShort(_ short: ShortPrompts, _ model: ServedModel, _ preprocessor: Preprocessor) -> Bool {
    var request = RoutingRequest(
      chain: preprocessor.chain, tokens: prompt.tokens ?? TokenEstimate.quarter(ofBytes: prompt.bytes))
    request.otherChains = preprocessor.otherChains
    request.allowed = model.workers(serving: endpoint)
    hints?.apply(to: &request)
    let best = model.routing.preview(request, now: loop.now).candidates.first?.facts
    // Blocks are the model's, and the request's tokens are in their unit.
    let cached = (best?.overlapBlocks ?? 0) * model.routing.options.blockSize
    return short.includes(tokens: request.tokens, cached: cached)
  }

  /// Chooses a worker by what it has cached of the prompt and has to read, and sends it there; false when none may be
  /// chosen. Those that could not be reached are left out.
  private func choosePrefill(among others: ServedModel, _ preprocessor: Preprocessor) -> Bool {
    guard let prefill else { return false }
    var request = RoutingRequest(
      chain: preprocessor.chain, tokens: prompt.tokens ?? TokenEstimate.quarter(ofBytes: prompt.bytes))
    request.otherChains = preprocessor.otherChains
    request.explains = isRecorded
    request.allowed = others.workers(serving: endpoint)
    request.weights = hints?.weights
    for attempt in prefill.attempts { request.excluded.append((attempt.worker.id, .tried)) }
    let decision = service.decision
    let outcome = others.routing.select(
      request, bytes: prompt.bytes, now: loop.now, random: &service.loop.random, into: decision)
    times.selected = loop.system.monotonicNanoseconds()
    recordDecision(decision, others)
    guard case .chosen = outcome else { return false }
    guard let worker = others.worker(decision.worker) else {
      // The router knows a worker that this loop has not heard of yet: there are others that can do it.
      others.routing.free(
        decision.booking, served: false, now: loop.now, bytes: 0, promptTokens: nil, cachedTokens: nil)
      return false
    }
    tellChoice(decision)
    sendPrefill(to: worker, of: others, booking: decision.booking, fresh: false)
    return true
  }

  /// Sends the prompt to `worker`, where it is booked; on a new connection when `fresh`.
  func sendPrefill(to worker: ReadyWorker, of others: ServedModel, booking: Booking, fresh: Bool) {
    guard let prefill else { return }
    // To leave the phase ends what was begun in it.
    if case .prefilling = phase {} else { phase = .prefilling }
    let attempt = PrefillAttempt(
      number: prefill.attempts.count + 1, worker: worker, of: others, booking: booking,
      span: trace.map { $0.request.child(using: &service.loop.random) }, exchange: self)
    prefill.attempts.append(attempt)
    tell("prompt sent to worker") {
      $0.field(LogKey.attempts, attempt.number)
      $0.field(LogKey.workerID, id: worker.id)
      $0.field(LogKey.url, worker.facts.url)
    }
    attempt.connection = service.pool.send(to: worker.upstream, method: .post, fresh: fresh, handler: attempt)
    {
      composePrefill(attempt, into: &$0)
    }
  }

  private func composePrefill(_ attempt: PrefillAttempt, into output: inout ByteBuffer) {
    var part = ByteBuffer(capacity: body.count + 256)
    if tenancy != nil, let salt = saltEdit(for: attempt.worker) {
      var salted = ByteBuffer(capacity: body.count + salt.growth)
      append(nil, salt, to: &salted)
      InferenceRequest.writePrefill(of: salted.readable, into: &part)
    } else {
      InferenceRequest.writePrefill(of: body.readable, into: &part)
    }
    composeHead(attempt, into: &output)
    output.header("content-length", part.count)
    output.endHead()
    output.append(part.readable)
  }

  /// The body of the part that generates: the caller's, with where its prompt's blocks are.
  func composeDecode(_ attempt: Attempt, into output: inout ByteBuffer) {
    guard let prefill, let request else { return }
    var edited = ByteBuffer(capacity: body.count + 256)
    append(request.fields.usageEdit, tenancy == nil ? nil : saltEdit(for: attempt.worker), to: &edited)
    var part = ByteBuffer(capacity: edited.count + prefill.transfer.count + 32)
    request.fields.writeDecode(
      edited.readable, bodyBytes: body.count, transfer: prefill.transfer.readable, into: &part)
    output.header("content-length", part.count)
    output.endHead()
    output.append(part.readable)
  }

  /// Whether an attempt takes over what a worker read. One that goes on with a stream does not: the blocks were fetched.
  func joinsPrefill(_ attempt: Attempt) -> Bool {
    guard let prefill, prefill.hasTransfer, migration == nil else { return false }
    return !endpoint.isAnthropic || attempt.isTranslated
  }

  // MARK: What came of it

  func prefillSucceeded(_ attempt: PrefillAttempt) {
    guard case .prefilling = phase else { return }
    service.shared.prefills.count(.remote)
    selectWorker(excluding: [])
  }

  /// The prompt was not read. Where the worker was never reached another one is asked, once; else a worker that generates
  /// reads it too.
  func prefillFailed(_ attempt: PrefillAttempt, wasReached: Bool = true) {
    guard case .prefilling = phase, let prefill else { return }
    let tried = Set(prefill.attempts.map(\.worker.id)).count
    if !wasReached, tried <= service.configuration.retries.workersMax,
      choosePrefill(among: attempt.others(), preprocess())
    {
      return
    }
    goWhole(prefill, .failed)
    if service.shared.prefills.maySpeak(at: loop.now) {
      warn("a prompt could not be read by a prefill worker, and is read where it is answered") {
        $0.field(LogKey.errorType, attempt.errorType ?? "error")
        $0.field(LogKey.workerID, id: attempt.worker.id)
      }
    }
    selectWorker(excluding: [])
  }

  /// The worker that was to generate failed, perhaps because the blocks could not be fetched: another one does all of it,
  /// if there is one. A refusal for want of room is no failure.
  func redoWhole(_ attempt: Attempt, status: Int) -> Bool {
    guard case .dispatched = phase, let prefill, let model, status != 501, status != 503, status != 529
    else { return false }
    let tried = allAttempts.map(\.worker.id)
    guard latest(model).workers.contains(where: { !tried.contains($0.id) }) else { return false }
    prefill.isSpent = true
    attempt.cancel(.error, "backend_error")
    if !retryElsewhere(repeats: true) {
      answer(.badGateway("it answered with status \(status)"), outcome: .error)
    }
    return true
  }

  /// The request prefills no more, whatever it does instead: a worker that still reads sees its connection close.
  func leavePrefill() {
    guard let prefill, prefill.route == nil else { return }
    prefill.settle(.abandoned, at: loop.now)
    service.shared.prefills.count(.abandoned)
    prefill.attempts.last?.cancel(.cancelled, "cancelled")
  }
}
