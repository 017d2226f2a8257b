// The spans that end with the request: root, http-request and its attempts.

internal import Base
internal import EventLoop
internal import OpenAI
internal import Telemetry
internal import Workers

extension InferenceExchange {
  /// Writes them behind the ones that ended before and hands all to this loop's batch, so that they stay together.
  func recordSpans(_ trace: RequestTrace) {
    let end = times.wallTime(loop.now)
    trace.traceState.withUnsafeBytes { state in
      writeRoot(trace, &spans, end, state)
      writeRequest(trace, &spans, end, state)
      for attempt in attempts { writeAttempt(attempt, trace, &spans, end, state) }
    }
    service.publish(&spans)
  }

  private func writeRoot(
    _ trace: RequestTrace, _ spans: inout SpanWriter, _ end: UInt64, _ state: UnsafeRawBufferPointer
  ) {
    spans.begin(
      name: endpoint.spanName, context: trace.root, parent: trace.remoteParent,
      parentIsRemote: trace.remoteParent != 0, kind: .server, start: times.wallTime(times.began),
      traceState: state)
    writeIdentity(&spans)
    if let linked = trace.linked { spans.link(to: linked, isRemote: true) }
    spans.attribute(AttributeName.httpRequestMethod, "POST")
    spans.attribute(AttributeName.httpRoute, endpoint.path)
    spans.attribute(AttributeName.urlPath, endpoint.path)
    spans.attribute(AttributeName.urlScheme, "http")
    spans.attribute(AttributeName.networkProtocolVersion, "1.1")
    if status > 0 { spans.attribute(AttributeName.httpResponseStatusCode, status) }
    writeStatus(&spans, end)
  }

  private func writeRequest(
    _ trace: RequestTrace, _ spans: inout SpanWriter, _ end: UInt64, _ state: UnsafeRawBufferPointer
  ) {
    spans.begin(
      name: SpanName.httpRequest, context: trace.request, parent: trace.root.spanID, parentIsRemote: false,
      kind: .internal, start: times.wall, traceState: state)
    writeIdentity(&spans)
    if identity.wasReplaced { spans.attribute(AttributeName.xRequestIDReplaced, true) }
    spans.attribute(AttributeName.method, "POST")
    spans.attribute(AttributeName.uri, endpoint.path)
    spans.attribute(AttributeName.version, "HTTP/1.1")
    writeCounts(&spans)
    if let outcome { spans.attribute(AttributeName.requestOutcome, outcome.text) }
    if times.firstToken > 0 {
      spans.event(name: SpanEventName.firstToken, at: times.wallTime(times.firstToken))
    }
    if attempts.count > 1 { spans.event(name: SpanEventName.retry, at: times.wallTime(attempts[1].began)) }
    if case .cancelled = outcome { spans.event(name: SpanEventName.cancelled, at: end) }
    writeStatus(&spans, end)
  }

  private func writeIdentity(_ spans: inout SpanWriter) {
    identity.xRequestID.withUnsafeBytes { spans.attribute(AttributeName.xRequestID, $0) }
    service.withText(identity.requestID) { spans.attribute(AttributeName.requestID, $0) }
    if model != nil { spans.attribute(AttributeName.model, metrics.model) }
  }

  private func writeCounts(_ spans: inout SpanWriter) {
    if let request {
      spans.attribute(AttributeName.genAIOperationName, endpoint.operationName)
      if model != nil { spans.attribute(AttributeName.genAIRequestModel, metrics.model) }
      spans.attribute(AttributeName.genAIRequestStream, request.stream)
      if let limit = request.maxTokens { spans.attribute(AttributeName.genAIRequestMaxTokens, limit) }
    }
    if let usage {
      spans.attribute(AttributeName.inputTokens, usage.promptTokens)
      spans.attribute(AttributeName.genAIInputTokens, usage.promptTokens)
      if let cached = usage.cachedTokens {
        spans.attribute(AttributeName.cachedTokens, cached)
        spans.attribute(AttributeName.genAICacheReadTokens, cached)
      }
    }
    if let count = outputTokens {
      spans.attribute(AttributeName.outputTokens, count)
      spans.attribute(AttributeName.genAIOutputTokens, count)
      spans.attribute(AttributeName.tokensSource, usage == nil ? "chunks" : "usage")
    }
    if times.firstToken > 0 {
      let wait = times.firstToken - times.began
      spans.attribute(AttributeName.ttftMilliseconds, Double(wait) / 1e6)
      if isStreaming { spans.attribute(AttributeName.genAITimeToFirstChunk, Double(wait) / 1e9) }
    }
    if let average = averageInterTokenLatency {
      spans.attribute(AttributeName.averageITLMilliseconds, Double(average) / 1e6)
      spans.attribute(AttributeName.maximumITLMilliseconds, Double(longestGap) / 1e6)
    }
    if let reason = finishReason.name { spans.attribute(AttributeName.finishReason, reason) }
    if let attempt, attempt.status > 0 {
      spans.attribute(AttributeName.prefillWorkerID, id: attempt.worker.id)
      spans.attribute(AttributeName.decodeWorkerID, id: attempt.worker.id)
    }
  }

  /// Ends a span of ours: an error when we failed, none when the caller left or was wrong.
  private func writeStatus(_ spans: inout SpanWriter, _ end: UInt64) {
    switch outcome {
    case .success, .cancelled, .rejected, nil:
      spans.end(at: end)
    case .timeout, .unavailable, .workerDisconnected, .connectionFailed, .error:
      if let errorCode { spans.attribute(AttributeName.errorType, errorCode) }
      spans.end(at: end, status: .error, message: (outcome ?? .error).text)
    }
  }

  private func writeAttempt(
    _ attempt: Attempt, _ trace: RequestTrace, _ spans: inout SpanWriter, _ end: UInt64,
    _ state: UnsafeRawBufferPointer
  ) {
    guard let context = attempt.span else { return }
    spans.begin(
      name: service.routeSpanName, context: context, parent: trace.request.spanID, parentIsRemote: false,
      kind: .client, start: times.wallTime(attempt.began), traceState: state)
    service.withText(identity.requestID) { spans.attribute(AttributeName.requestID, $0) }
    spans.attribute(AttributeName.workerID, id: attempt.worker.id)
    spans.attribute(AttributeName.dpRank, 0)
    spans.attribute(AttributeName.phase, "Aggregated")
    spans.attribute(AttributeName.requestAttempt, attempt.number)
    spans.attribute(AttributeName.serverAddress, attempt.worker.url)
    if attempt.status > 0 { spans.attribute(AttributeName.httpResponseStatusCode, attempt.status) }
    if attempt.number > 1 {
      spans.attribute(AttributeName.isRetry, true)
      if let earlier = attempts[attempt.number - 2].span { spans.link(to: earlier) }
    }
    let outcome = attempt.outcome ?? .error
    spans.attribute(AttributeName.requestOutcome, outcome.text)
    if case .cancelled = outcome { spans.attribute(AttributeName.cancellationSignal, "stream_drop") }
    if let type = attempt.errorType { spans.attribute(AttributeName.errorType, type) }
    let ended = attempt.ended > 0 ? times.wallTime(attempt.ended) : end
    switch outcome {
    case .success, .cancelled: spans.end(at: ended)
    default: spans.end(at: ended, status: .error, message: attempt.errorType ?? outcome.text)
    }
  }
}

extension Endpoint {
  /// Name of the root span: method and route.
  var spanName: StaticString {
    switch self {
    case .chatCompletions: "POST /v1/chat/completions"
    case .completions: "POST /v1/completions"
    }
  }

  /// `gen_ai.operation.name`.
  var operationName: StaticString {
    switch self {
    case .chatCompletions: "chat"
    case .completions: "text_completion"
    }
  }
}
