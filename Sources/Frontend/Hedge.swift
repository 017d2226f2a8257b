// Hedge: a worker is slow to begin with its answer, and another one is asked too. The first head wins.

internal import Base
internal import EventLoop
internal import HTTP
internal import OpenAI
internal import Telemetry
internal import Transport
internal import Workers

extension InferenceExchange {
  /// `first` has not answered for as long as is waited for before another worker is asked. That repeats work: it needs a
  /// place in the retry budget, as a repetition after a failure does. A session stays where it is, and so does a decode:
  /// the prompt's blocks can be fetched once.
  func hedge(_ first: Attempt) {
    guard first.isCurrent, attempt === first, first.status == 0, case .dispatched = phase,
      rival(of: first) == nil, hints?.session == nil, !first.isDecode
    else { return }
    let rules = service.configuration.retries
    let tried = allAttempts.map(\.worker.id)
    guard Set(tried).count <= rules.workersMax, let model,
      latest(model).workers.contains(where: { !tried.contains($0.id) }), service.shared.beginRetry(rules)
    else { return }
    guard selectWorker(excluding: tried, orRefuse: false) else {
      service.shared.endRetry()
      return
    }
    service.shared.metrics.hedges.add()
    keepInBudget()
  }

  /// Another attempt that may still answer this request.
  private func rival(of attempt: Attempt) -> Attempt? {
    allAttempts.first { $0 !== attempt && $0.isCurrent }
  }

  /// The head of an attempt that may have a rival: true when the answer is this one's. A worker that refuses or fails
  /// leaves the request to the other.
  func wins(_ attempt: Attempt, status: Int) -> Bool {
    guard case .dispatched = phase, let rival = rival(of: attempt) else { return true }
    if status >= 500 || status == 401 || status == 403 {
      attempt.status = status
      attempt.cancel(status == 503 || status == 529 ? .unavailable : .error, "hedge_failed")
      goOn(with: rival)
      return false
    }
    rival.cancel(.cancelled, "hedge_lost")
    goOn(with: attempt)
    if attempt.number > rival.number { service.shared.metrics.hedgesWon.add() }
    return true
  }

  /// An attempt failed: true when its rival goes on alone, as if the other had never been.
  func leavesRival(_ attempt: Attempt, _ failure: UpstreamFailure, _ verdict: FailureVerdict) -> Bool {
    guard case .dispatched = phase, let rival = rival(of: attempt) else { return false }
    if case .stale = failure {} else { attempt.broke = failure.isWorkersFault }
    attempt.end(verdict.outcome, verdict.errorType)
    report(failure, attempt)
    goOn(with: rival)
    return true
  }

  /// The request was given up: nobody works on it any more.
  func cancelAttempts(_ outcome: RequestOutcome, _ errorType: StaticString) {
    for earlier in earlierAttempts { earlier.cancel(outcome, errorType) }
    attempt?.cancel(outcome, errorType)
  }

  private func goOn(with next: Attempt) {
    guard let attempt, attempt !== next else { return }
    earlierAttempts.removeAll { $0 === next }
    earlierAttempts.append(attempt)
    self.attempt = next
  }
}
