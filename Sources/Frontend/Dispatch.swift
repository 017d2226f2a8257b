// Dispatch: the request goes to the chosen worker; a worker that cannot answer is replaced by another, once.

internal import Base
internal import EventLoop
internal import HTTP
internal import OpenAI
internal import Routing
internal import Telemetry
internal import Transport
internal import Workers

extension InferenceExchange {
  /// Sends the request to `worker`, where it is booked; on a new connection when `fresh`.
  func dispatch(to worker: ReadyWorker, booking: Booking, fresh: Bool) {
    if migration == nil { beginAnswer() }
    let span = trace.map { $0.request.child(using: &service.loop.random) }
    if let attempt { earlierAttempts.append(attempt) }
    let attempt = Attempt(
      number: earlierAttempts.count + 1, worker: worker, booking: booking, span: span, exchange: self)
    self.attempt = attempt
    attempt.migration = migration?.note
    attempt.isDecode = joinsPrefill(attempt)
    if attempt.number > 1 { service.shared.metrics.retries.add() }
    tell("request sent to worker") {
      $0.field(LogKey.attempts, attempt.number)
      $0.field(LogKey.workerID, id: worker.id)
      $0.field(LogKey.url, worker.facts.url)
    }
    attempt.connection = service.pool.send(to: worker.upstream, method: .post, fresh: fresh, handler: attempt)
    {
      compose(attempt, into: &$0)
    }
    let patience = service.configuration.retries.hedgeAfter
    if patience > 0 { attempt.wait(for: patience) }
    if isStreaming, let delay = service.configuration.commentAfter { expectSilence(until: loop.now + delay) }
  }

  /// Nothing of an answer is there yet: what an earlier attempt's head said is not this one's.
  private func beginAnswer() {
    phase = .dispatched
    status = 0
    isEventStream = false
    lengthOfAnswer = nil
    responseFields.removeAll()
    relay = StreamRelay()
    if extendsAnswer || !answer.isEmpty {
      extendsAnswer = false
      answer.removeAll()
      times.firstToken = 0
    }
  }

  private func compose(_ attempt: Attempt, into output: inout ByteBuffer) {
    // A stream that goes on asks for its rest.
    migration?.swapBody(&body, &request)
    defer { migration?.swapBody(&body, &request) }
    composeHead(attempt, into: &output)
    if endpoint.isAnthropic, !attempt.isTranslated {
      output.header("content-length", original.count)
      output.endHead()
      output.append(original.readable)
      return
    }
    if attempt.isDecode { return composeDecode(attempt, into: &output) }
    let edit = passBodyVerbatim ? nil : request?.fields.usageEdit
    let salt = tenancy == nil ? nil : saltEdit(for: attempt.worker)
    output.header("content-length", body.count + (edit?.growth ?? 0) + (salt?.growth ?? 0))
    output.endHead()
    append(edit, salt, to: &output)
  }

  /// Appends the body, edited.
  func append(_ edit: BodyEdit?, _ salt: SaltEdit?, to output: inout ByteBuffer) {
    if let salt {
      salt.write(body.readable, with: edit, into: &output)
    } else if let edit {
      edit.write(body.readable, into: &output)
    } else {
      output.append(body.readable)
    }
  }

  /// Appends the head but for the body's length.
  func composeHead(_ attempt: Attempt, into output: inout ByteBuffer) {
    let upstream = attempt.worker.upstream
    output.append("POST " as StaticString)
    upstream.pathPrefix.withUnsafeBytes { output.append($0) }
    output.append(attempt.endpoint.path)
    output.append(" HTTP/1.1\r\nhost: " as StaticString)
    upstream.authority.withUnsafeBytes { output.append($0) }
    output.append("\r\n" as StaticString)
    output.append(forwardedFields.readable)
    output.append("x-request-id: " as StaticString)
    identity.xRequestID.withUnsafeBytes { output.append($0) }
    if needsOwnName(attempt) { appendSuffix(to: &output) }
    output.append("\r\nrequest-id: " as StaticString)
    output.append(identity.requestID)
    output.append("\r\n" as StaticString)
    if let span = attempt.span {
      service.configuration.tracing.propagators.inject(
        span, isDebug: trace?.isDebug ?? false, traceState: traceState, into: &output)
    }
    if !service.configuration.workerAuthorization.isEmpty {
      output.append(service.configuration.workerAuthorization)
    }
  }

  /// A bare engine keys its requests by `x-request-id` (vLLM): a second one must not meet the first there.
  private func needsOwnName(_ attempt: Attempt) -> Bool {
    guard !attempt.worker.isDynamoWorker else { return false }
    if attempt.number > 1 { return true }
    // Ids that were made here are never equal.
    guard identity.isCallers, let routing = attempt.routing else { return false }
    attempt.claim = identity.xRequestID.withUnsafeBytes { XXH3.hash($0, seed: attempt.worker.id) }
    return !routing.claim(attempt.claim)
  }

  private func appendSuffix(to output: inout ByteBuffer) {
    output.append(UInt8(ascii: "-"))
    let bits = UInt32(truncatingIfNeeded: service.loop.random.next())
    for shift in stride(from: UInt32(28), through: 0, by: -4) {
      output.append(Hex.digit(UInt8(truncatingIfNeeded: bits >> shift) & 0xf))
    }
  }

  // MARK: Failures before the caller saw anything

  /// The worker failed. Before the response began another one may be asked; afterwards the caller must be told.
  func workerFailed(_ attempt: Attempt, _ failure: UpstreamFailure) {
    let verdict = FailureVerdict(failure)
    if !earlierAttempts.isEmpty, leavesRival(attempt, failure, verdict) { return }
    if case .stale = failure, attempt.status == 0, !isAnswered {
      // The worker closed a kept connection as we used it: that says nothing about the worker.
      let booking = attempt.takeBooking()
      let isBudgeted = attempt.takeBudget()
      attempt.end(verdict.outcome, verdict.errorType)
      dispatch(to: attempt.worker, booking: booking, fresh: true)
      if isBudgeted { keepInBudget() }
      return
    }
    attempt.broke = failure.isWorkersFault
    attempt.end(verdict.outcome, verdict.errorType)
    if attempt.isDecode, failure.reachedWorker { prefill?.isSpent = true }
    report(failure, attempt)
    guard case .dispatched = phase else {
      if attempt.status == 0, !failure.reachedWorker { migration?.forgiveMove() }
      migrate(from: attempt, because: verdict.errorType, or: verdict.error, verdict.outcome)
      return
    }
    if verdict.mayRetry, retryElsewhere(repeats: failure.reachedWorker) { return }
    if case .busy = failure {
      refuse(.overloaded(status: service.configuration.overloadStatus))
    } else {
      answer(verdict.error, outcome: verdict.outcome)
    }
  }

  /// Tells of a worker that cannot be reached. One that refused to be connected to is chosen by nobody for a while, and
  /// nothing is predicted of its cache.
  func report(_ failure: UpstreamFailure, _ attempt: Attempt) {
    let worker = attempt.worker
    switch failure {
    case .connect(let cause):
      // Without descriptors or ports of our own no worker can be reached.
      guard !cause.isOurs else { return }
      service.shared.metrics.exclusions.add()
      service.pool.forget(worker.id)
      attempt.routing?.connectFailed(
        worker.id, now: loop.now, refusedUntil: loop.now + Self.exclusionTime)
      service.reports.connectFailed(worker.id)
    case .connectTimeout: service.reports.connectTimedOut(worker.id)
    case .stale, .broken, .malformed, .protocolError, .busy, .silent: break
    }
  }

  /// Asks a worker that was not asked yet; false when there is none that may be chosen, or enough were asked, or too many
  /// requests of all are `repeats`: those that a worker may have worked on already.
  func retryElsewhere(repeats: Bool) -> Bool {
    let tried = allAttempts.map(\.worker.id)
    // A hard session has one worker.
    if let session = hints?.session, session.isHard { return false }
    let rules = service.configuration.retries
    guard Set(tried).count <= rules.workersMax, let model,
      latest(model).workers.contains(where: { !tried.contains($0.id) })
    else { return false }
    guard !repeats || service.shared.beginRetry(rules) else { return false }
    guard selectWorker(excluding: tried, orRefuse: false) else {
      if repeats { service.shared.endRetry() }
      return false
    }
    if repeats { keepInBudget() }
    metrics.moved(.new)
    if movedAt == 0 { movedAt = loop.now }
    return true
  }
}

extension UpstreamFailure {
  /// False where no worker can have begun with the request: to send it elsewhere repeats no work.
  var reachedWorker: Bool {
    switch self {
    case .connect, .connectTimeout, .busy: false
    case .stale, .broken, .malformed, .protocolError, .silent: true
    }
  }

  /// False where the worker is only full, or what failed is on this side.
  var isWorkersFault: Bool {
    switch self {
    case .busy: false
    case .connect(let cause): !cause.isOurs
    case .stale, .connectTimeout, .broken, .malformed, .protocolError, .silent: true
    }
  }
}

extension InferenceExchange {
  /// The attempt that just began gives its place in the retry budget back at its end.
  func keepInBudget() {
    if let attempt, attempt.isCurrent { attempt.isBudgeted = true } else { service.shared.endRetry() }
  }
}

/// What a failure of a worker means for the caller, the spans and the next step, in one place.
struct FailureVerdict {
  let error: APIError
  let outcome: RequestOutcome
  let errorType: StaticString
  /// Whether another worker may be asked while nothing was sent to the caller.
  let mayRetry: Bool

  init(_ failure: UpstreamFailure) {
    switch failure {
    case .connect(let cause):
      error = .badGateway("it cannot be reached (\(cause))")
      outcome = .connectionFailed
      errorType = "cannot_connect"
      mayRetry = true
    case .connectTimeout:
      error = .badGateway("the connection could not be made in time")
      outcome = .connectionFailed
      errorType = "connection_timeout"
      mayRetry = true
    case .stale, .broken:
      error = .badGateway("it closed the connection before its answer was complete")
      outcome = .workerDisconnected
      errorType = "disconnected"
      mayRetry = true
    case .malformed(let cause):
      error = .badGateway("it does not speak HTTP/1.1 as it should: \(cause.message)")
      outcome = .error
      errorType = "invalid_response"
      mayRetry = false
    case .protocolError:
      error = .badGateway("it does not speak HTTP/2 as it should")
      outcome = .error
      errorType = "invalid_response"
      mayRetry = false
    case .busy:
      error = .badGateway("it carries all the requests that it takes at once")
      outcome = .unavailable
      errorType = "overloaded"
      mayRetry = true
    case .silent:
      error = .upstreamTimeout
      outcome = .timeout
      errorType = "response_timeout"
      mayRetry = false
    }
  }
}
