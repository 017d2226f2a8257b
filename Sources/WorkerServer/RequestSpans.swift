// The two spans of a worker's request, written at its end.

internal import Base
internal import OpenAI
internal import Telemetry
internal import Workers

/// Writes `handle_payload` and `engine.generate` of one finished request.
struct RequestSpans {
  let exchange: InferenceExchange
  let outcome: RequestOutcome
  /// Why they are written although the trace is not sampled; nil for one that is.
  var kept: StaticString?

  init(exchange: InferenceExchange, outcome: RequestOutcome) {
    self.exchange = exchange
    self.outcome = outcome
  }

  /// `wall` turns a monotonic instant into wall-clock time.
  func writeHandlePayload(
    _ context: SpanContext, to spans: inout SpanWriter, now: Nanoseconds, wall: (Nanoseconds) -> UInt64
  ) {
    let identity = exchange.identity
    let shared = exchange.worker.shared
    identity.traceState.withUnsafeBytes { state in
      spans.begin(
        name: SpanName.handlePayload, context: context, parent: identity.parent?.spanID ?? 0,
        parentIsRemote: identity.parent != nil, kind: .server, start: wall(exchange.began), traceState: state)
    }
    spans.attribute(AttributeName.component, shared.identity.component)
    spans.attribute(AttributeName.endpoint, shared.identity.endpoint)
    spans.attribute(AttributeName.namespace, shared.identity.namespace)
    spans.attribute(AttributeName.instanceID, id: shared.identity.instanceID)
    identity.xRequestID.withUnsafeBytes { spans.attribute(AttributeName.xRequestID, $0) }
    var id = ByteBuffer(capacity: 36)
    id.append(identity.requestID)
    spans.attribute(AttributeName.requestID, id.readable)
    if !exchange.model.isEmpty { spans.attribute(AttributeName.model, exchange.model) }
    writeTokens(to: &spans)
    if exchange.status != 0 { spans.attribute(AttributeName.httpResponseStatusCode, exchange.status) }
    spans.attributes(exchange.endpoint.serverAttributes)
    spans.attribute(AttributeName.networkProtocolVersion, exchange.protocolVersion.number)
    spans.attribute(AttributeName.requestOutcome, outcome.text)
    if let code = exchange.error?.code { spans.attribute(AttributeName.errorType, code) }
    if let kept {
      spans.attribute(AttributeName.samplingKept, kept)
      spans.attribute(AttributeName.samplingPartial, true)
    }
    if let linked = identity.linked { spans.link(to: linked, isRemote: true) }
    if case .cancelled = outcome { spans.event(name: SpanEventName.cancelled, at: wall(now)) }
    end(&spans, at: wall(now))
  }

  func writeGenerate(
    _ context: SpanContext, parent: SpanContext, to spans: inout SpanWriter, now: Nanoseconds,
    wall: (Nanoseconds) -> UInt64
  ) {
    let report = exchange.report
    exchange.identity.traceState.withUnsafeBytes { state in
      spans.begin(
        name: SpanName.engineGenerate, context: context, parent: parent.spanID, kind: .internal,
        start: wall(report.began), traceState: state)
    }
    spans.attribute(AttributeName.model, exchange.model)
    spans.attribute(AttributeName.genAIRequestModel, exchange.model)
    spans.attribute(AttributeName.disaggregationRole, role)
    spans.attribute(AttributeName.genAIOperationName, exchange.endpoint.operation)
    writeTokens(to: &spans)
    if let tokens = report.inputTokens { spans.attribute(AttributeName.genAIInputTokens, tokens) }
    if let tokens = report.outputTokens { spans.attribute(AttributeName.genAIOutputTokens, tokens) }
    if let tokens = report.cachedTokens { spans.attribute(AttributeName.genAICacheReadTokens, tokens) }
    milliseconds(AttributeName.queueMilliseconds, report.queueTime, to: &spans)
    milliseconds(AttributeName.prefillMilliseconds, report.prefillTime, to: &spans)
    milliseconds(AttributeName.decodeMilliseconds, report.decodeTime, to: &spans)
    milliseconds(AttributeName.ttftMilliseconds, report.timeToFirstToken, to: &spans)
    milliseconds(AttributeName.averageITLMilliseconds, report.averageInterTokenLatency, to: &spans)
    if !report.finishReason.isEmpty { spans.attribute(AttributeName.finishReason, report.finishReason) }
    spans.attribute(AttributeName.isCancelled, report.isCancelled)
    if report.errorKind.utf8CodeUnitCount > 0 { spans.attribute(AttributeName.errorKind, report.errorKind) }
    if let first = report.firstToken { spans.event(name: SpanEventName.firstToken, at: wall(first)) }
    let ended = report.ended ?? now
    if report.isCancelled { spans.event(name: SpanEventName.cancelled, at: wall(ended)) }
    end(&spans, at: wall(ended))
  }

  private var role: StaticString {
    switch exchange.worker.shared.configuration.role {
    case .aggregated: "aggregated"
    case .prefill: "prefill"
    case .decode: "decode"
    }
  }

  private func writeTokens(to spans: inout SpanWriter) {
    let report = exchange.report
    if let tokens = report.inputTokens { spans.attribute(AttributeName.inputTokens, tokens) }
    if let tokens = report.outputTokens { spans.attribute(AttributeName.outputTokens, tokens) }
    if let tokens = report.cachedTokens { spans.attribute(AttributeName.cachedTokens, tokens) }
  }

  private func milliseconds(_ key: StaticString, _ time: Nanoseconds?, to spans: inout SpanWriter) {
    if let time { spans.attribute(key, Double(time) / 1e6) }
  }

  /// True when the spans end as errors. A caller's fault or cancel is none; a failure of ours or of the engine is.
  var hasFailed: Bool {
    if let error = exchange.error { return error.status >= 500 }
    switch outcome {
    case .timeout: return true
    case .error: return exchange.status >= 500 || exchange.status < 400
    default: return false
    }
  }

  private func end(_ spans: inout SpanWriter, at time: UInt64) {
    guard hasFailed else {
      spans.end(at: time)
      return
    }
    if let error = exchange.error {
      var message = error.message
      message.withUTF8 { spans.end(at: time, status: .error, message: UnsafeRawBufferPointer($0)) }
    } else if case .timeout = outcome {
      spans.end(at: time, status: .error, message: "the caller took no output in time")
    } else if exchange.status >= 500 {
      spans.end(at: time, status: .error, message: "the engine answered with an error")
    } else {
      spans.end(at: time, status: .error, message: "the response broke")
    }
  }
}

extension Endpoint {
  /// What the server's span of every request to this endpoint says.
  var serverAttributes: EncodedAttributes { Self.servers[Int(rawValue)] }

  private static let servers = allCases.map { encoded($0) }

  private static func encoded(_ endpoint: Endpoint) -> EncodedAttributes {
    EncodedAttributes { span in
      span.attribute(AttributeName.httpRequestMethod, "POST")
      span.attribute(AttributeName.httpRoute, endpoint.path)
      span.attribute(AttributeName.urlPath, endpoint.path)
      span.attribute(AttributeName.urlScheme, "http")
    }
  }
}
