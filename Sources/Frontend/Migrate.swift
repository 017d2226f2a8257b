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
  /// Begins to keep what another worker would need, where this stream may move. The body is then kept too.
  func prepareMigration() {
    guard isEventStream, !passBodyVerbatim, let attempt, !attempt.isTranslated, let request,
      !(hints?.session?.isHard ?? false), request.fields.mayContinue(body.readable)
    else { return }
    let migration = Migration()
    self.migration = migration
    relay.migration = migration
  }

  /// Has another worker go on with a stream that `failed` broke off; false when the caller must be told.
  func migrate(from failed: Attempt, because reason: StaticString) -> Bool {
    guard case .relaying = phase, let migration, let model, let request, !relay.isBlind,
      !migration.isHindered, migration.moves < service.configuration.migration.limit
    else { return false }
    let tokens = relay.usage?.completionTokens ?? relay.tokenCount
    if let most = service.configuration.migration.sequenceMax {
      let promptTokens = prompt.tokens ?? TokenEstimate.quarter(ofBytes: prompt.bytes)
      guard promptTokens + tokens <= most else {
        metrics.sequenceTooLong()
        return false
      }
    }
    let unfit = latest(model).workers.filter { !canContinue($0) }.map(\.id)
    let excluded = allAttempts.map(\.worker.id) + unfit
    guard latest(model).workers.contains(where: { !excluded.contains($0.id) }),
      migration.prepare(request.fields, body.readable, tokens: tokens),
      service.shared.beginRetry(service.configuration.retries)
    else { return false }
    migration.move(
      MigrationNote(reason: reason, fromWorker: failed.worker.id, tokens: tokens), at: loop.now)
    relay.restart()
    metrics.moved(.ongoing)
    guard selectWorker(excluding: excluded, orRefuse: false) else {
      service.shared.endRetry()
      return false
    }
    keepInBudget()
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
  }
}
