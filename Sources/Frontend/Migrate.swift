// Migrate: the worker of a running stream broke off, and another goes on with it.

internal import Base
internal import EventLoop
internal import HTTP
internal import OpenAI
internal import Routing
internal import Telemetry
internal import Transport
internal import Workers

extension InferenceExchange {
  /// Begins to keep what another worker would need, where this stream may move. The body is then kept too. One so long
  /// that it was read in the pool does not move: to read it again here, once for each stream of a worker that died,
  /// would hold the loop's other streams.
  func prepareMigration() {
    let limit = max(service.configuration.migration.limit, attempt?.worker.facts.migrationLimit ?? 0)
    guard limit > 0, isEventStream, !passBodyVerbatim, let attempt, !attempt.isTranslated, let request,
      body.count <= service.configuration.preprocess.inlineBytesMax,
      !(hints?.session?.isHard ?? false), request.fields.mayContinue(body.readable)
    else { return }
    let migration = Migration(limit: limit)
    self.migration = migration
    relay.migration = migration
  }

  /// Has another worker go on with a stream that `failed` broke off, perhaps in a later wake-up; where none can, the caller
  /// is told of `error`.
  func migrate(
    from failed: Attempt, because reason: StaticString, or error: APIError, _ outcome: RequestOutcome
  ) {
    if migration != nil, case .relaying = phase {
      let mayMove = service.migrationTurns.take(service.configuration.migration.perWakeUp) { [weak self] in
        // Its caller may have left meanwhile, or the drain ended it.
        guard let self, case .relaying = phase, attempt === failed else { return }
        migrate(from: failed, because: reason, or: error, outcome)
      }
      guard mayMove else { return }
    }
    if !moves(from: failed, because: reason) { breakResponse(error: error, outcome: outcome) }
  }

  private func moves(from failed: Attempt, because reason: StaticString) -> Bool {
    guard case .relaying = phase, let migration, let model, let request, !relay.isBlind,
      !migration.isHindered, migration.countedMoves < migration.limit
    else { return false }
    let tokens = relay.usage?.completionTokens ?? relay.tokenCount
    let unfit = latest(model).workers.filter { !canContinue($0) }.map(\.id)
    let excluded = allAttempts.map(\.worker.id) + unfit
    guard latest(model).workers.contains(where: { !excluded.contains($0.id) }) else { return false }
    if let most = service.configuration.migration.sequenceMax {
      let promptTokens = prompt.tokens ?? TokenEstimate.quarter(ofBytes: prompt.bytes)
      guard promptTokens + tokens <= most else {
        metrics.sequenceTooLong()
        return false
      }
    }
    guard migration.prepare(request.fields, body.readable, tokens: tokens), countKept(migration),
      service.shared.beginRetry(service.configuration.retries)
    else { return false }
    // The attempt takes the note along as it begins.
    let earlier = (migration.note, migration.brokenAt)
    migration.move(
      MigrationNote(reason: reason, fromWorker: failed.worker.id, tokens: tokens), at: loop.now)
    relay.restart()
    guard selectWorker(excluding: excluded, orRefuse: false) else {
      migration.undoMove(earlier)
      service.shared.endRetry()
      return false
    }
    metrics.moved(.ongoing)
    keepInBudget()
    return true
  }

  /// Lets go of what a move would need, as soon as the stream can move no more or there is no memory for it.
  func boundMigration(_ migration: Migration) {
    if !migration.isHindered, relay.isBlind || !countKept(migration) { migration.hinder() }
    guard migration.isHindered else { return }
    if !migration.isContinuing {
      relay.migration = nil
      self.migration = nil
    }
    if !body.isEmpty { releaseBody() }
  }

  /// Makes what is kept beside the body count as body memory; false where there is none left, or requests wait for it.
  private func countKept(_ migration: Migration) -> Bool {
    let missing = body.count + migration.keptBytes - bodyMemory
    guard missing > 0 else { return true }
    let count = max(missing, Migration.memoryStep)
    guard service.bodyWaiters.isEmpty, service.shared.reserveBodyMemory(count) else { return false }
    bodyMemory += count
    return true
  }

  /// Whether a worker takes an answer that was begun; every one takes a request of which nothing was generated, and text
  /// that is completed.
  private func canContinue(_ worker: ReadyWorker) -> Bool {
    guard case .chatCompletions = endpoint, let migration, !migration.text.isEmpty else { return true }
    switch worker.facts.engine {
    case .vllm, .simulated: return true
    case .sglang, .llamaCpp, .unknown: return false
    }
  }

  /// The worker that goes on answered with a head, which the caller has already. False where its stream is not to be had.
  func continues(_ head: ResponseHead) -> Bool {
    (200..<300).contains(head.status)
      && head.fields.first(.contentType).map(Self.isEventStreamType) ?? false
  }

  /// A token came: if it is the first since the stream moved, it goes on now.
  func noteResumption(_ migration: Migration) {
    guard let broken = migration.resume() else { return }
    metrics.migrated(in: loop.now - min(broken, loop.now), .ongoing, outcome: .success)
    routeFirstToken()
    // What was to be repeated is: the rest is a stream as any other, for minutes perhaps.
    if attempt?.takeBudget() == true { service.shared.endRetry() }
    if migration.countedMoves >= migration.limit { migration.hinder() }
  }
}
