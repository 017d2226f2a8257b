// One inference request from head to end: body, checks, engine, response, and the one end on which everything hangs.

internal import Base
internal import EventLoop
internal import HTTP
internal import OpenAI
internal import Telemetry
internal import Transport
internal import Workers

/// Handles a request to one of the inference routes.
///
///     receiving -> generating -> finished -> over
///         `-----------------------^            (every state may end at once: over)
final class InferenceExchange: ServerExchangeHandler {
  private enum Phase {
    /// The body comes in. Next: generating, finished.
    case receiving
    /// The engine is at work. Next: finished.
    case generating
    /// The response is complete, not yet with the kernel. Next: over.
    case finished
    case over
  }

  let worker: WorkerLoop
  let endpoint: Endpoint
  let identity: RequestIdentity
  /// The request's body; whole once the engine is asked.
  private(set) var body = ByteBuffer()
  /// What the engine did; filled by the generation.
  var report = GenerationReport()
  private(set) var model = ""
  private(set) var isStream = false
  private(set) var status = 0
  private(set) var bodyBytes = 0
  private(set) var responseBytes = 0
  private(set) var error: APIError?
  /// The stream broke after its head: an in-band error or a cut.
  private(set) var brokeInStream = false
  let began: Nanoseconds
  /// What the caller speaks.
  let protocolVersion: ProtocolVersion

  /// The lines `anthropic-version` and `anthropic-beta`, by which a request of that API says how it is meant.
  let versionFields: [UInt8]

  private let exchange: any ServerExchange
  private let wallBegan: UInt64
  private var phase = Phase.receiving
  private var generation: (any Generation)?
  private var hasAsked = false

  init(
    _ exchange: any ServerExchange, _ head: RequestHead, endpoint: Endpoint, began: Nanoseconds,
    on worker: WorkerLoop
  ) {
    self.exchange = exchange
    self.worker = worker
    self.endpoint = endpoint
    self.began = began
    protocolVersion = ProtocolVersion(head)
    versionFields = endpoint.isAnthropic ? Self.versionFields(head.fields) : []
    let loop = worker.loop
    wallBegan = loop.system.wallNanoseconds() - (loop.now > began ? loop.now - began : 0)
    identity = RequestIdentity(
      head.fields, from: exchange, telemetry: worker.shared.telemetry, random: &loop.random)
    worker.shared.metrics.requests.add()
    worker.shared.metrics.inflight.add(1)
    if identity.baggageMembersDropped > 0 {
      worker.shared.metrics.baggageMembersDropped.add(identity.baggageMembersDropped)
    }
    worker.log(.info, target: LogTarget.worker) { line in
      line.begin(.info, target: LogTarget.worker, message: "request received", at: wall(worker.loop.now))
      line.field(LogKey.endpoint, endpoint.label)
      trace { line.trace($0) }
      line.end()
    }
    if worker.logsSpanEvents {
      worker.log(.info, target: LogTarget.requestSpan) { line in
        trace { line.spanOpened($0, parent: identity.parent?.spanID ?? 0, at: wall(began)) }
      }
    }
    if let error = refusal(of: head) { fail(error) }
  }

  /// What can be said against the request before its body is read.
  private func refusal(of head: RequestHead) -> APIError? {
    if worker.isDraining { return .draining() }
    if let type = head.fields.first(.contentType), !Self.isJSON(type) { return .unsupportedMediaType }
    let limit = worker.shared.configuration.bodyBytesMax
    if case .length(let length) = head.framing, length > limit { return .bodyTooLarge(limitBytes: limit) }
    return nil
  }

  private static func versionFields(_ fields: HeaderFields) -> [UInt8] {
    var lines = ByteBuffer()
    for index in 0..<fields.count {
      let name = fields[index].name
      guard name.equalsIgnoringCase("anthropic-version") || name.equalsIgnoringCase("anthropic-beta") else {
        continue
      }
      lines.header(line: fields.line(index))
    }
    return lines.bytes
  }

  private static func isJSON(_ type: UnsafeRawBufferPointer) -> Bool {
    type.mediaType.equalsIgnoringCase("application/json")
  }

  // MARK: The request

  func received(body bytes: UnsafeRawBufferPointer) {
    bodyBytes += bytes.count
    guard case .receiving = phase else { return }
    let configuration = worker.shared.configuration
    if body.count + bytes.count > configuration.bodyBytesMax {
      fail(.bodyTooLarge(limitBytes: configuration.bodyBytesMax))
    } else if worker.bodyBytes + bytes.count > configuration.bodyMemoryMax {
      fail(.overloaded())
    } else {
      body.append(bytes)
      worker.bodyBytes += bytes.count
    }
  }

  func receivedEnd() {
    guard case .receiving = phase else { return }
    let parsed: InferenceRequest
    do throws(APIError) {
      parsed = try InferenceRequest.parse(body.readable, endpoint: endpoint)
      model = parsed.modelName(in: body.readable)
      isStream = parsed.stream
      try worker.shared.models.check(model)
      guard let backend = worker.backend else { throw .noWorkers(model: model) }
      phase = .generating
      hasAsked = true
      report.began = worker.loop.now
      generation = try backend.generate(for: self, parsed)
    } catch {
      fail(error)
    }
  }

  func drained() { generation?.outputDrained() }

  // MARK: The response

  /// True while the caller reads too slowly.
  var outputIsFull: Bool { exchange.outputIsFull }

  /// True once the response's head was sent.
  var hasBegun: Bool { status != 0 }

  /// Sends the head; `fields` as in ``ServerExchange/respond(status:fields:body:)``, without `x-request-id`.
  func respond(status: Int, fields: UnsafeRawBufferPointer, body: ResponseBody) {
    guard self.status == 0, !isOver else { return }
    self.status = status
    var lines = ByteBuffer(capacity: 256)
    lines.append(fields)
    identity.xRequestID.withUnsafeBytes { lines.header("x-request-id", $0) }
    exchange.respond(status: status, fields: lines.readable, body: body)
  }

  func send(_ bytes: UnsafeRawBufferPointer) {
    guard !isOver, !bytes.isEmpty else { return }
    responseBytes += bytes.count
    exchange.send(bytes)
  }

  /// The response is complete.
  func finish() {
    guard case .generating = phase else { return }
    phase = .finished
    releaseBody()
    exchange.finish(trailers: UnsafeRawBufferPointer(start: nil, count: 0))
  }

  /// The request failed: an error answer, or an error inside the stream when it has begun.
  func fail(_ error: APIError) {
    if isOver { return }
    self.error = error
    let nextEvent = generation?.nextEvent ?? 0
    generation = nil
    releaseBody()
    var text = ByteBuffer(capacity: 256)
    if hasBegun {
      brokeInStream = true
      guard isStream else {
        phase = .finished
        exchange.abort(.failed(.truncated))
        return
      }
      error.writeEvents(into: &text, form: endpoint.form, sequence: nextEvent)
      send(text.readable)
    } else {
      error.write(into: &text, format: endpoint.isAnthropic ? .anthropic : .openAI)
      var fields = ByteBuffer(capacity: 96)
      fields.header("content-type", "application/json" as StaticString)
      if let seconds = error.retryAfterSeconds { fields.header("retry-after", seconds) }
      respond(status: error.status, fields: fields.readable, body: .length(text.count))
      send(text.readable)
    }
    phase = .finished
    exchange.finish(trailers: UnsafeRawBufferPointer(start: nil, count: 0))
  }

  /// Cuts the response: its end cannot be told otherwise.
  func abort(_ error: APIError) {
    if isOver { return }
    self.error = error
    brokeInStream = true
    generation = nil
    releaseBody()
    phase = .finished
    exchange.abort(.failed(.truncated))
  }

  /// The request body is not needed any more.
  func releaseBody() {
    worker.bodyBytes -= body.count
    body.release()
  }

  private var isOver: Bool {
    switch phase {
    case .finished, .over: true
    case .receiving, .generating: false
    }
  }

  // MARK: The end

  func ended(_ end: EndOfStream) {
    if case .over = phase { return }
    if case .generating = phase { generation?.cancel() }
    generation = nil
    phase = .over
    releaseBody()
    let now = worker.loop.now
    let outcome = outcome(end)
    let metrics = worker.shared.metrics
    metrics.inflight.add(-1)
    metrics.duration.observe(Double(now - began) / 1e9)
    metrics.requestBytes.add(bodyBytes)
    metrics.responseBytes.add(responseBytes)
    if case .cancelled = outcome { metrics.cancellations.add() }
    if let error { metrics.countError(errorType(error)) }
    writeSpans(outcome, at: now)
    writeLine(outcome, at: now)
    if worker.logsSpanEvents {
      // The engine is part of this service: busy is the time that it had the request.
      let busy = hasAsked ? (report.ended ?? now) - min(report.began, report.ended ?? now) : 0
      worker.log(.info, target: LogTarget.requestSpan) { line in
        trace {
          line.spanClosed(
            $0, parent: identity.parent?.spanID ?? 0, busy: busy, duration: now - began, at: wall(now))
        }
      }
    }
  }

  private func errorType(_ error: APIError) -> WorkerMetrics.ErrorType {
    if brokeInStream { return .responseStream }
    if error.code == "invalid_json" { return .deserialization }
    return error.status < 500 ? .invalidMessage : .generate
  }

  private func outcome(_ end: EndOfStream) -> RequestOutcome {
    if let error {
      switch error.status {
      case 529, 503: return .rejected
      case 504: return .timeout
      default: return .error
      }
    }
    switch end {
    case .complete: return status >= 400 ? .error : .success
    case .cancelled: return .cancelled
    case .timedOut: return .timeout
    case .failed: return .error
    }
  }

  /// The wall-clock time of the monotonic instant `time`.
  private func wall(_ time: Nanoseconds) -> UInt64 { wallBegan + (time > began ? time - began : 0) }

  func trace(_ body: (LogTrace) -> Void) {
    identity.xRequestID.withUnsafeBytes { id in
      body(
        LogTrace(
          context: identity.handlePayload, spanName: SpanName.handlePayload, requestID: identity.requestID,
          xRequestID: id))
    }
  }

  private func writeLine(_ outcome: RequestOutcome, at now: Nanoseconds) {
    if case .cancelled = outcome {
      worker.log(.info, target: LogTarget.worker) { line in
        line.begin(.info, target: LogTarget.worker, message: "request cancelled", at: wall(now))
        line.field(LogKey.elapsed, milliseconds: now - began)
        line.field(LogKey.endpoint, endpoint.label)
        if let tokens = report.outputTokens { line.field(LogKey.outputTokens, tokens) }
        trace { line.trace($0) }
        line.end()
      }
      return
    }
    let level: LogLevel = (error?.status ?? status) >= 500 ? .error : .info
    worker.log(level, target: LogTarget.worker) { line in
      trace { trace in
        var record = AccessRecord(trace: trace)
        record.endpoint = endpoint.label
        record.requestType = isStream ? "stream" : "unary"
        record.status = status
        record.outcome = outcome
        record.elapsed = now - began
        record.timeToFirstToken = report.timeToFirstToken
        record.averageInterTokenLatency = report.averageInterTokenLatency
        record.inputTokens = report.inputTokens
        record.outputTokens = report.outputTokens
        record.cachedTokens = report.cachedTokens
        var name = model
        name.withUTF8 {
          record.model = UnsafeRawBufferPointer($0)
          line.access(record, level: level, target: LogTarget.worker, at: wall(now))
        }
      }
    }
  }

  private func writeSpans(_ outcome: RequestOutcome, at now: Nanoseconds) {
    guard let context = identity.handlePayload, worker.recordsSpans else { return }
    var spanWriter = RequestSpans(exchange: self, outcome: outcome)
    if !context.isSampled {
      spanWriter.kept = worker.shared.telemetry.keep.reason(
        failed: spanWriter.hasFailed, retried: false, lasted: now - began)
      guard spanWriter.kept != nil else { return }
    }
    worker.writeSpans { spans in
      if hasAsked, let generate = identity.generate {
        spanWriter.writeGenerate(generate, parent: context, to: &spans, now: now, wall: wall)
      }
      spanWriter.writeHandlePayload(context, to: &spans, now: now, wall: wall)
    }
  }
}
