// Finish: the answers the frontend makes itself, and the one end of every request: metrics, log line, spans.

internal import Base
internal import EventLoop
internal import HTTP
internal import OpenAI
internal import Telemetry
internal import Tenants
internal import Transport
internal import Workers

extension InferenceExchange {
  // MARK: Own answers

  /// Answers with an error of the caller's or of ours.
  func refuse(_ error: APIError) {
    answer(error, outcome: error.status < 500 ? .rejected : .unavailable)
  }

  /// The drain's deadline passed: a stream says so in-band, a request without an answer gets 503, the rest is cut.
  func stopping() {
    cancelAttempts(.cancelled, "engine_shutdown")
    switch phase {
    case .reading, .preprocessing, .prefilling, .queued, .dispatched:
      answer(.draining(), outcome: .unavailable)
    case .relaying:
      breakResponse(error: .draining(), outcome: .unavailable)
    case .answered, .ended:
      break
    }
  }

  /// Answers with `error` where nothing was sent yet.
  func answer(_ error: APIError, outcome: RequestOutcome) {
    guard !isAnswered else { return }
    phase = .answered
    cancelSilence()
    self.outcome = outcome
    errorCode = error.code
    status = error.status
    var fields = ByteBuffer(capacity: 512)
    error.appendFields(to: &fields)
    appendIdentityFields(to: &fields)
    var text = ByteBuffer(capacity: 512)
    error.write(into: &text, format: endpoint.isAnthropic ? .anthropic : service.configuration.errorFormat)
    responseBytes = text.count
    exchange.respond(status: error.status, fields: fields.readable, body: .length(text.count))
    exchange.send(text.readable)
    exchange.finish(trailers: UnsafeRawBufferPointer(start: nil, count: 0))
    releaseBody()
  }

  /// The fields by which a caller finds its request again: ids, and what is known of the time spent.
  func appendIdentityFields(to fields: inout ByteBuffer) {
    identity.appendFields(trace, to: &fields)
    if let key = tenancy?.key { key.appendFields(to: &fields, now: loop.now) }
    // Anthropic's name of it, which its SDKs show.
    if endpoint.isAnthropic { identity.xRequestID.withUnsafeBytes { fields.header("request-id", $0) } }
    guard trace != nil else { return }
    fields.append("server-timing: " as StaticString)
    appendTiming("parse", from: times.began, to: times.decoded, first: true, &fields)
    appendTiming("preprocess", from: times.preparing, to: times.preprocessed, first: false, &fields)
    appendTiming("queue", from: times.queued, to: times.released, first: false, &fields)
    if let prefill { appendTiming("prefill", from: prefill.began, to: prefill.ended, first: false, &fields) }
    appendTiming("route", from: decisionBegan, to: times.selected, first: false, &fields)
    appendTiming("ttft", from: times.began, to: times.firstToken, first: false, &fields)
    fields.append("\r\n" as StaticString)
    if tellsTimesLater { fields.append("trailer: server-timing\r\n" as StaticString) }
  }

  /// A stream's first token comes behind its head: its times follow the stream for callers that read trailers.
  private var tellsTimesLater: Bool { isEventStream && readsTrailers && trace != nil }

  /// Whether a `te` field names trailers.
  static func namesTrailers(_ value: UnsafeRawBufferPointer) -> Bool {
    var list = ListReader(value)
    while let option = list.next() {
      if option.equalsIgnoringCase("trailers") { return true }
    }
    return false
  }

  /// Ends the response with the worker's trailers, and with the times of a stream where the caller reads them.
  func finishResponse(trailers: UnsafeRawBufferPointer) {
    guard tellsTimesLater else { return exchange.finish(trailers: trailers) }
    var lines = ByteBuffer(capacity: 128)
    // The worker's own times are replaced here as they are in the head.
    for line in trailers.text.split(separator: "\r\n") where !line.lowercased().hasPrefix("server-timing:") {
      lines.append("\(line)\r\n")
    }
    lines.append("server-timing: " as StaticString)
    appendTiming("total", from: times.began, to: loop.now, first: true, &lines)
    appendTiming("ttft", from: times.began, to: times.firstToken, first: false, &lines)
    lines.append("\r\n" as StaticString)
    exchange.finish(trailers: lines.readable)
  }

  /// One metric of `server-timing` (W3C Server Timing), in milliseconds; nothing when it has not happened.
  private func appendTiming(
    _ name: StaticString, from: Nanoseconds, to: Nanoseconds, first: Bool, _ fields: inout ByteBuffer
  ) {
    guard first || to > 0 else { return }
    if !first { fields.append(", " as StaticString) }
    fields.append(name)
    fields.append(";dur=" as StaticString)
    let end = to > 0 ? to : loop.system.monotonicNanoseconds()
    fields.append(milliseconds: end - min(from, end))
  }

  // MARK: The end

  /// Everything that hangs on the end of a request, once. What is told of it waits for the others that end in
  /// this wake-up (``RequestSteps``).
  func finish(_ end: EndOfStream) {
    if !phase.awaitsAnswer { sentStatus = status }
    phase = .ended
    service.openRequests -= 1
    times.ended = loop.system.monotonicNanoseconds()
    cancelSilence()
    takeStreamSummary()
    settleOutcome(end)
    settleTenant()
    releaseBody()
    service.steps.record(self)
  }

  /// Tells of a request that ended.
  func record() {
    recordMetrics()
    if let trace, isRecorded { recordSpans(trace) }
    recordLine()
    if service.logsSpanEvents { recordClosing() }
    if service.recordsTraces { recordRequestTrace() }
    // Attempts point back at the request: the circle ends here.
    attempt = nil
    earlierAttempts = []
    prefill = nil
    migration = nil
    relay.migration = nil
  }

  /// What a stream told of itself: usage and why it ended.
  func takeStreamSummary() {
    guard isEventStream else { return }
    usage = relay.usage ?? usage
    if case .none = finishReason { finishReason = relay.finishReason }
  }

  /// How the request ended, from how the exchange did and from what happened on the way.
  private func settleOutcome(_ end: EndOfStream) {
    switch end {
    case .complete:
      if outcome == nil { outcome = .success }
    case .cancelled:
      cancelAttempts(.cancelled, "cancelled")
      outcome = .cancelled
      errorCode = "client_closed_request"
      status = 499
    case .timedOut:
      cancelAttempts(.cancelled, "client_stalled")
      outcome = .timeout
      errorCode = errorCode ?? "client_stalled"
      if status == 0 { status = 408 }
    case .failed(.shutdown):
      cancelAttempts(.cancelled, "engine_shutdown")
      outcome = .unavailable
      errorCode = "shutdown"
      if status == 0 { status = 503 }
    case .failed:
      cancelAttempts(.error, "cancelled")
      if outcome == nil || isSuccess { outcome = .error }
      errorCode = errorCode ?? "broken"
      if status == 0 { status = 400 }
    }
  }

  private var isSuccess: Bool {
    if case .success = outcome { return true }
    return false
  }

  /// Tokens that the caller was sent: as the engine reports them, else as chunks were counted; nil before any.
  var outputTokens: Int? {
    guard endpoint.generates else { return nil }
    if let usage { return usage.completionTokens }
    return relay.tokenCount > 0 ? relay.tokenCount : nil
  }

  private func recordMetrics() {
    let errorType = metricErrorType
    metrics.finished(endpoint, stream: isStreaming, errorType: errorType)
    if errorType == "cancelled" { service.shared.metrics.disconnected.add(1) }
    metrics.measured(
      duration: times.ended - times.began, input: usage?.promptTokens, output: outputTokens,
      cached: usage?.cachedTokens)
    if case .embeddings = endpoint, status == 200 { metrics.embedded(in: times.ended - times.began) }
    metrics.staged(
      times, decisionBegan: decisionBegan, ended: times.ended, isRetried: !earlierAttempts.isEmpty)
    if movedAt > 0 {
      let end = times.firstToken > 0 ? times.firstToken : loop.now
      metrics.migrated(in: end - min(movedAt, end), .new, outcome: outcome ?? .error)
    }
    if let migration, migration.isContinuing, let broken = migration.resume() {
      metrics.migrated(in: times.ended - min(broken, times.ended), .ongoing, outcome: outcome ?? .error)
    }
    if model != nil { metrics.left() }
  }

  /// Dynamo's classes of `error_type` (reference/dynamo.md section 4.2).
  private var metricErrorType: String {
    switch outcome {
    case .success, nil: ""
    case .cancelled: "cancelled"
    case .timeout: "response_timeout"
    case .unavailable, .connectionFailed, .workerDisconnected: status == 529 ? "overload" : "unavailable"
    case .rejected: status == 404 ? "not_found" : "validation"
    case .error: "internal"
    }
  }

  private func recordLine() {
    identity.xRequestID.withUnsafeBytes { xRequestID in
      var record = AccessRecord(
        trace: LogTrace(
          context: trace?.request, spanName: SpanName.httpRequest, requestID: identity.requestID,
          xRequestID: xRequestID))
      let path = endpoint.path
      record.method = UnsafeRawBufferPointer(start: Self.post.utf8Start, count: Self.post.utf8CodeUnitCount)
      record.uri = UnsafeRawBufferPointer(start: path.utf8Start, count: path.utf8CodeUnitCount)
      record.endpoint = endpoint.label
      record.requestType = isStreaming ? "stream" : "unary"
      record.status = status
      record.outcome = outcome ?? .error
      record.attempts = attemptCount
      record.workerID = attempt?.worker.id
      record.elapsed = times.ended - times.began
      if times.firstToken > 0 { record.timeToFirstToken = times.firstToken - times.began }
      record.averageInterTokenLatency = averageInterTokenLatency
      record.inputTokens = usage?.promptTokens
      record.outputTokens = outputTokens
      record.cachedTokens = usage?.cachedTokens
      guard let tenancy else {
        service.log(record, model: metrics.model, at: times.wallTime(times.ended))
        return
      }
      tenancy.name.withUnsafeBytes { name in
        record.tenant = name
        service.log(record, model: metrics.model, at: times.wallTime(times.ended))
      }
    }
  }

  private static let post: StaticString = "POST"

  /// Mean time between tokens; nil with fewer than two.
  var averageInterTokenLatency: Nanoseconds? {
    guard relay.tokenCount > 1, times.lastToken > times.firstToken else { return nil }
    return (times.lastToken - times.firstToken) / Nanoseconds(relay.tokenCount - 1)
  }
}
