// Relay: the worker's answer passes to the caller, and the moments that matter are noted on the way.

internal import Base
internal import EventLoop
internal import HTTP
internal import OpenAI
internal import Telemetry
internal import Transport
internal import Workers

extension InferenceExchange {
  /// Most bytes of a unary answer that are kept so that its usage can be read.
  static let unaryBytesMax = 4 * 1024 * 1024

  /// How much of the end is kept of a longer answer that is no text.
  private static let plainTailBytes = 64 * 1024

  // MARK: Head

  func workerResponded(_ attempt: Attempt, _ head: ResponseHead) {
    if !earlierAttempts.isEmpty, !wins(attempt, status: head.status) { return }
    attempt.status = head.status
    tell("worker answered") {
      $0.field(LogKey.status, head.status)
      $0.field(LogKey.workerID, id: attempt.worker.id)
    }
    if case .relaying = phase {
      // The caller has a head: a refusal can only be told in-band.
      guard !continues(head) else { return }
      attempt.cancel(.error, "backend_error")
      migrate(
        from: attempt, because: "backend_error", or: .badGateway("it answered with status \(head.status)"),
        .error)
      return
    }
    if attempt.isDecode, head.status >= 500, redoWhole(attempt, status: head.status) { return }
    status = head.status
    if head.status == 401 || head.status == 403 {
      // Our key, not the caller's, was refused.
      attempt.cancel(.error, "worker_auth")
      answer(.workerAuth, outcome: .error)
    } else {
      composeResponseFields(head, attempt)
    }
  }

  /// Writes the response's end-to-end fields while the worker's head is at hand; they are sent with the first body byte.
  private func composeResponseFields(_ head: ResponseHead, _ attempt: Attempt) {
    responseFields.removeAll()
    _ = responseFields.reserve(768)
    isEventStream = false
    lengthOfAnswer = nil
    if case .length(let length) = head.framing { lengthOfAnswer = length }
    var hasCacheControl = false
    for index in 0..<head.fields.count where !head.fields.isHopByHop(index) {
      let field = head.fields[index]
      switch field.known {
      case .contentLength, .date, .xRequestID, .traceresponse, .serverTiming, .xAccelBuffering,
        .xDynamoWorkerID,
        .requestID:
        continue
      case .contentType where attempt.isTranslated:
        isEventStream = Self.isEventStreamType(field.value)
        if !isEventStream {
          responseFields.append("content-type: application/json\r\n" as StaticString)
          continue
        }
      case .contentType:
        isEventStream = Self.isEventStreamType(field.value)
      case .cacheControl:
        hasCacheControl = true
      case .other where tenancy != nil && Self.isRateLimit(field.name):
        continue
      default:
        break
      }
      responseFields.header(line: head.fields.line(index))
    }
    if isEventStream {
      if !hasCacheControl { responseFields.append("cache-control: no-cache\r\n" as StaticString) }
      responseFields.append("x-accel-buffering: no\r\n" as StaticString)
      relay.withholdsUsage = request?.fields.usageEdit != nil && !passBodyVerbatim
      relay.form = attempt.endpoint.form
      if attempt.isTranslated { relay.translate(id: identity.requestID, model: metrics.model) }
    }
    if hints != nil { prepareExtension(head) }
    if service.configuration.nameWorkerInResponse {
      responseFields.append("x-dynamo-worker-id: " as StaticString)
      responseFields.append(decimal: attempt.worker.id)
      responseFields.append("\r\n" as StaticString)
    }
  }

  /// True for the fields of limits, which are the caller's own and not the worker's for us.
  private static func isRateLimit(_ name: UnsafeRawBufferPointer) -> Bool {
    let prefix = "x-ratelimit-".utf8.count
    return name.count > prefix && name.slice(0..<prefix).equalsIgnoringCase("x-ratelimit-")
  }

  static func isEventStreamType(_ value: UnsafeRawBufferPointer) -> Bool {
    value.mediaType.equalsIgnoringCase("text/event-stream")
  }

  /// Sends the head that was composed, completed with what is known now.
  func commit() {
    phase = .relaying
    // A stream may fall silent again; the timer finds out by itself.
    if !isEventStream { cancelSilence() }
    appendIdentityFields(to: &responseFields)
    let fields = responseFields.readable
    if status == 204 || status == 304 {
      exchange.respond(status: status, fields: fields, body: .none)
    } else if let length = lengthOfAnswer, !isEventStream {
      exchange.respond(status: status, fields: fields, body: .length(length))
    } else {
      exchange.respond(status: status, fields: fields, body: .stream)
    }
    responseFields.release()
    if let hints { sendAnnotations(hints) }
    prepareMigration()
    // No retry from here on.
    if migration == nil { releaseBody() }
  }

  // MARK: Body

  func workerSent(_ attempt: Attempt, _ bytes: UnsafeRawBufferPointer) {
    switch phase {
    case .dispatched where attempt.status == 503 || attempt.status == 529:
      hold(attempt, bytes)
      return
    case .dispatched:
      if attempt.isTranslated, !isEventStream {
        holdForTranslation(attempt, bytes)
        return
      }
      if hints != nil, holdAnswer(bytes) { return }
      // The head that is written now tells of it.
      if !isEventStream { noteFirstBytes() }
      commit()
      // What was held of an answer that has become too long.
      if !answer.isEmpty {
        tellHeldFirst()
        responseBytes += answer.count
        exchange.send(answer.readable)
      }
    case .relaying:
      break
    case .reading, .preprocessing, .prefilling, .queued, .answered, .ended:
      return
    }
    responseBytes += bytes.count
    if isEventStream {
      relayEvents(bytes)
    } else {
      relayWhole(bytes)
    }
    if exchange.outputIsFull { attempt.connection?.pause() }
  }

  private func relayEvents(_ bytes: UnsafeRawBufferPointer) {
    let tokens = relay.relay(bytes, to: exchange)
    lastEvent = loop.now
    if tokens > 0 { noteTokens(tokens) }
    if let migration { boundMigration(migration) }
    if let obstacle = relay.obstacle {
      takeStreamSummary()
      attempt?.cancel(.error, "invalid_response")
      service.shared.metrics.untranslated(obstacle)
      breakResponse(error: .badGateway("\(obstacle.text)"), outcome: .error)
      return
    }
    if relay.holdsDone { sendLastChunk() }
  }

  private func relayWhole(_ bytes: UnsafeRawBufferPointer) {
    noteFirstBytes()
    if bytes.count == lengthOfAnswer {
      // The whole answer in one piece, as most are.
      summarize(bytes)
    } else if !answerIsCut, answer.count + bytes.count <= Self.unaryBytesMax {
      answer.append(bytes)
    } else if case .plain = endpoint.form {
      // What comes before the usage, which is last, is not looked at.
      answer.append(bytes)
      answer.consume(max(0, answer.count - Self.plainTailBytes))
    } else {
      // Numbers must not be read across a hole.
      answerIsCut = true
      answer.release()
    }
    exchange.send(bytes)
  }

  /// The first bytes of an answer that is no stream came.
  ///
  /// - Parameter isHeld: it may still come from another worker, as nothing of it is with the caller: until it is, nothing
  ///   is told of them (``tellHeldFirst()``).
  func noteFirstBytes(isHeld: Bool = false) {
    guard times.firstToken == 0, (200..<300).contains(status) else { return }
    // Of embeddings and scores there is no first token; but their prompt is read.
    guard endpoint.generates else {
      if times.lastToken == 0 { routeFirstToken() }
      times.lastToken = loop.now
      return
    }
    times.firstToken = loop.now
    routeFirstToken()
    if !isHeld { tellHeldFirst() }
  }

  /// The answer whose first bytes were noted goes to the caller.
  func tellHeldFirst() {
    guard times.firstToken > 0, endpoint.generates else { return }
    metrics.firstToken(after: times.firstToken - times.began)
    tellFirst()
  }

  private func tellFirst() {
    tell("first token") {
      $0.field(LogKey.timeToFirstToken, milliseconds: times.firstToken - times.began)
    }
  }

  private func summarize(_ bytes: UnsafeRawBufferPointer) {
    guard let attempt, let summary = AnswerSummary.read(bytes, form: attempt.endpoint.form) else { return }
    usage = summary.usage
    finishReason = summary.finishReason
    rememberResponse(summary.responseID)
  }

  /// Keeps a refusal's body, bounded: past the bound the refusal is passed on as it comes.
  private func hold(_ attempt: Attempt, _ bytes: UnsafeRawBufferPointer) {
    attempt.heldBody.append(bytes)
    guard attempt.heldBody.count > 64 * 1024 else { return }
    // What is to be translated keeps its beginning, of which no message can be made.
    if attempt.isTranslated { return attempt.heldBody.truncate(to: 64 * 1024) }
    commit()
    exchange.send(attempt.heldBody.readable)
    attempt.heldBody.release()
  }

  // MARK: End

  func workerFinished(_ attempt: Attempt, trailers: UnsafeRawBufferPointer) {
    switch phase {
    case .dispatched where attempt.status == 503 || attempt.status == 529:
      attempt.end(.unavailable, "worker_unavailable")
      if retryElsewhere(repeats: true) { return }
      outcome = .unavailable
      errorCode = "worker_unavailable"
      if attempt.isTranslated {
        swap(&answer, &attempt.heldBody)
        translateAnswer(attempt)
        return
      }
      commit()
      if !attempt.heldBody.isEmpty { exchange.send(attempt.heldBody.readable) }
    case .dispatched where attempt.isTranslated && !isEventStream:
      if (200..<300).contains(status) { summarize(answer.readable) }
      translateAnswer(attempt)
      return
    case .dispatched where extendsAnswer && !answer.isEmpty:
      summarize(answer.readable)
      endAttempt(attempt)
      extendAnswer()
      tellHeldFirst()
      responseBytes = answer.count
      commit()
      exchange.send(answer.readable)
    case .dispatched:
      // An answer without a body.
      endAttempt(attempt)
      commit()
    case .relaying:
      if isEventStream {
        // An event that never became whole is passed on where it is the last, not where another worker goes on.
        if migration == nil { relay.flush(to: exchange) }
        takeStreamSummary()
        guard relay.isBlind || relay.sawDone || relay.sawError || relay.hasFinished else {
          attempt.broke = true
          attempt.end(.workerDisconnected, "stream_incomplete")
          let verdict = FailureVerdict(.broken)
          migrate(from: attempt, because: "stream_incomplete", or: verdict.error, verdict.outcome)
          return
        }
        if migration != nil { relay.flush(to: exchange) }
        relay.end(to: exchange)
        rememberResponse(relay.responseID)
      } else if !answer.isEmpty {
        summarize(answer.readable)
      }
      endAttempt(attempt)
    case .reading, .preprocessing, .prefilling, .queued, .answered, .ended:
      return
    }
    phase = .answered
    finishResponse(trailers: trailers)
  }

  /// The attempt's answer is complete: how it ended follows from its status and from what the stream said.
  func endAttempt(_ attempt: Attempt) {
    switch attempt.status {
    case 200..<300 where !relay.sawError:
      attempt.end(.success)
      outcome = .success
    case 200..<300, 500...:
      attempt.end(.error, "backend_error")
      outcome = .error
      errorCode = "backend_error"
    default:
      attempt.end(.rejected, "invalid_argument")
      outcome = .rejected
      errorCode = "invalid_argument"
    }
  }

  /// The worker broke after the response had begun. A stream says so in-band; anything else can only be cut.
  func breakResponse(error: APIError, outcome: RequestOutcome) {
    guard case .relaying = phase else { return }
    self.outcome = outcome
    errorCode = error.code
    phase = .answered
    guard isEventStream else {
      exchange.abort(.failed(.truncated))
      return
    }
    var events = ByteBuffer(capacity: 256)
    error.writeEvents(into: &events, form: endpoint.form, sequence: (relay.sequence ?? -1) + 1)
    exchange.send(events.readable)
    finishResponse(trailers: UnsafeRawBufferPointer(start: nil, count: 0))
  }

  // MARK: Time

  private func noteTokens(_ count: Int) {
    let now = loop.now
    if times.firstToken == 0 {
      times.firstToken = now
      metrics.firstToken(after: now - times.began)
      tellFirst()
      routeFirstToken()
      if count > 1 { metrics.tokens(after: 0, count: count - 1) }
    } else {
      // Tokens of one read came together: the first waited, the others did not.
      let gap = now - times.lastToken
      longestGap = max(longestGap, gap)
      metrics.tokens(after: gap, count: 1)
      if count > 1 { metrics.tokens(after: 0, count: count - 1) }
    }
    times.lastToken = now
    if let migration, migration.isContinuing { noteResumption(migration) }
    routeOutput(count)
  }

  /// Looks at `deadline` whether the stream fell silent.
  func expectSilence(until deadline: Nanoseconds) {
    let timer = silence ?? Timer()
    silence = timer
    loop.arm(timer, at: deadline, self)
  }

  func cancelSilence() {
    if let silence { loop.cancel(silence) }
  }

  /// A stream fell silent: proxies between here and the caller must not take it for dead.
  func timerFired(_ timer: Timer) {
    if case .queued = phase { return roomWasNotFound() }
    guard let delay = service.configuration.commentAfter else { return }
    switch phase {
    case .dispatched where (200..<300).contains(status) && isEventStream:
      commit()
    case .relaying where isEventStream && !relay.isBlind && lastEvent + delay <= loop.now:
      break
    case .dispatched, .relaying:
      expectSilence(until: max(lastEvent, loop.now) + delay)
      return
    case .reading, .preprocessing, .prefilling, .queued, .answered, .ended:
      return
    }
    let comment: StaticString = ": waiting\n\n"
    exchange.send(UnsafeRawBufferPointer(start: comment.utf8Start, count: comment.utf8CodeUnitCount))
    lastEvent = loop.now
    expectSilence(until: loop.now + delay)
  }
}
