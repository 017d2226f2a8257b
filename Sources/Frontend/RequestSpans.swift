// The spans that end with the request: root, http-request and its attempts.

internal import Base
internal import EventLoop
internal import HTTP
internal import OpenAI
internal import Telemetry
internal import Workers

extension InferenceExchange {
  /// Writes them behind the ones that ended before into this loop's batch, so that they stay together; nothing of a
  /// request that is neither sampled nor worth keeping.
  func recordSpans(_ trace: RequestTrace) {
    let kept = trace.root.isSampled ? nil : reasonToKeep
    guard trace.root.isSampled || kept != nil else {
      spans.release()
      return
    }
    metrics.exemplify(trace.request, times, longestGap: longestGap, ended: times.ended)
    let end = times.wallTime(times.ended)
    let merges = service.configuration.tracing.mergesRoot
    service.publishSpans { batch in
      batch.append(spans)
      traceState.withUnsafeBytes { state in
        let ids = writeRoot(trace, &batch, end, state, kept, isRequest: merges)
        if !merges { writeRequest(trace, ids, &batch, end, state, kept) }
        for attempt in prefill?.attempts ?? [] { writeAttempt(attempt, trace, ids, &batch, end, state) }
        for attempt in earlierAttempts { writeAttempt(attempt, trace, ids, &batch, end, state) }
        if let attempt { writeAttempt(attempt, trace, ids, &batch, end, state) }
      }
    }
    spans.release()
  }

  /// Where the ids of the request lie in the batch: they are the same on several spans.
  private struct IdentityRuns {
    /// `request_id`.
    let own: SpanWriter.AttributeRun
    /// All of them, and the model.
    let all: SpanWriter.AttributeRun
  }

  /// Why spans are kept that the sampler did not ask for; nil when they are not.
  private var reasonToKeep: StaticString? {
    service.configuration.tracing.keep.reason(
      failed: hasFailed, retried: !earlierAttempts.isEmpty || prefill?.hasFailed ?? false,
      lasted: times.ended - times.began)
  }

  /// The server span; the whole of `http-request` too where they are one (`isRequest`).
  private func writeRoot(
    _ trace: RequestTrace, _ spans: inout SpanWriter, _ end: UInt64, _ state: UnsafeRawBufferPointer,
    _ kept: StaticString?, isRequest: Bool
  ) -> IdentityRuns {
    spans.begin(
      name: isRequest ? SpanName.httpRequest : endpoint.spanName, context: trace.root,
      parent: trace.remoteParent,
      parentIsRemote: trace.remoteParent != 0, kind: .server, start: times.wallTime(times.began),
      traceState: state)
    let start = spans.runStart
    service.withText(identity.requestID) { spans.attribute(AttributeName.requestID, $0) }
    let own = spans.run(since: start)
    identity.xRequestID.withUnsafeBytes { spans.attribute(AttributeName.xRequestID, $0) }
    if model != nil { spans.attributes(metrics.nameAttribute) }
    if let tenancy { tenancy.name.withUnsafeBytes { spans.attribute(AttributeName.tenant, $0) } }
    let ids = IdentityRuns(own: own, all: spans.run(since: start))
    if let linked = trace.linked { spans.link(to: linked, isRemote: true) }
    spans.attributes(endpoint.rootAttributes(protocolVersion, isSecure: service.isSecure))
    if let clientAddress { spans.attribute(AttributeName.clientAddress, clientAddress) }
    if sentStatus > 0 { spans.attribute(AttributeName.httpResponseStatusCode, sentStatus) }
    if isRequest { writeRequestFields(&spans, end) }
    writeEnd(&spans, end, kept)
    return ids
  }

  private func writeRequest(
    _ trace: RequestTrace, _ ids: IdentityRuns, _ spans: inout SpanWriter, _ end: UInt64,
    _ state: UnsafeRawBufferPointer, _ kept: StaticString?
  ) {
    spans.begin(
      name: SpanName.httpRequest, context: trace.request, parent: trace.root.spanID, parentIsRemote: false,
      kind: .internal, start: times.wall, traceState: state)
    spans.attributes(repeating: ids.all)
    // Without an attempt no span below says it.
    if attempt == nil, sentStatus > 0 { spans.attribute(AttributeName.httpResponseStatusCode, sentStatus) }
    writeRequestFields(&spans, end)
    writeEnd(&spans, end, kept)
  }

  /// What `http-request` says beside the ids.
  private func writeRequestFields(_ spans: inout SpanWriter, _ end: UInt64) {
    if identity.wasReplaced { spans.attribute(AttributeName.xRequestIDReplaced, true) }
    spans.attributes(endpoint.requestAttributes(protocolVersion))
    writeCounts(&spans)
    if let outcome { spans.attribute(AttributeName.requestOutcome, outcome.text) }
    if times.firstToken > 0 {
      spans.event(name: SpanEventName.firstToken, at: times.wallTime(times.firstToken))
    }
    if !earlierAttempts.isEmpty {
      spans.event(name: SpanEventName.retry, at: times.wallTime(allAttempts[1].began))
    }
    if case .cancelled = outcome { spans.event(name: SpanEventName.cancelled, at: end) }
  }

  private func writeCounts(_ spans: inout SpanWriter) {
    if let request {
      if model != nil { spans.attributes(metrics.requestModelAttribute) }
      spans.attribute(AttributeName.genAIRequestStream, request.fields.stream)
      if let limit = request.fields.maxTokens { spans.attribute(AttributeName.genAIRequestMaxTokens, limit) }
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
    if let reason = finishReason.attributes { spans.attributes(reason) }
    if let attempt, attempt.status > 0 { writeServers(attempt, &spans) }
    if let prefill { prefill.write(&spans) }
  }

  /// Who read the prompt and who generated.
  private func writeServers(_ attempt: Attempt, _ spans: inout SpanWriter) {
    guard attempt.isDecode else { return spans.attributes(attempt.worker.servedAttributes) }
    spans.attribute(AttributeName.prefillWorkerID, id: prefillReader(attempt))
    spans.attribute(AttributeName.decodeWorkerID, id: attempt.worker.id)
  }

  /// True when the request failed by our or a worker's fault; not when the caller left or was wrong.
  private var hasFailed: Bool {
    switch outcome {
    case .success, .cancelled, .rejected, nil: false
    case .timeout, .unavailable, .workerDisconnected, .connectionFailed, .error: true
    }
  }

  /// Ends a span of ours.
  private func writeEnd(_ spans: inout SpanWriter, _ end: UInt64, _ kept: StaticString?) {
    if let kept {
      spans.attribute(AttributeName.samplingKept, kept)
      spans.attribute(AttributeName.samplingPartial, true)
    }
    guard hasFailed else {
      spans.end(at: end)
      return
    }
    if let errorCode { spans.attribute(AttributeName.errorType, errorCode) }
    spans.end(at: end, status: .error, message: (outcome ?? .error).text)
  }

  private func writeAttempt(
    _ attempt: Attempt, _ trace: RequestTrace, _ ids: IdentityRuns, _ spans: inout SpanWriter, _ end: UInt64,
    _ state: UnsafeRawBufferPointer
  ) {
    guard let context = attempt.span else { return }
    spans.begin(
      name: service.routeSpanName, context: context, parent: trace.request.spanID, parentIsRemote: false,
      kind: .client, start: times.wallTime(attempt.began), traceState: state)
    spans.attributes(repeating: ids.own)
    spans.attributes(attempt.attributes)
    service.withURL(of: attempt.worker, attempt.endpoint) { spans.attribute(AttributeName.urlFull, $0) }
    spans.attribute(AttributeName.requestAttempt, attempt.number)
    if attempt.status > 0 { spans.attribute(AttributeName.httpResponseStatusCode, attempt.status) }
    if attempt.number > 1 {
      spans.attribute(AttributeName.isRetry, true)
      let others = attempt is PrefillAttempt ? prefill?.attempts ?? [] : allAttempts
      let earlier = others.first { $0.number == attempt.number - 1 }
      if let context = earlier?.span { spans.link(to: context) }
      // Both were asked at once for a while.
      if let earlier, earlier.ended == 0 || earlier.ended > attempt.began {
        spans.attribute(AttributeName.isHedge, true)
      }
    }
    if let migration = attempt.migration {
      spans.attribute(AttributeName.migrationIsRetry, true)
      spans.attribute(AttributeName.migrationReason, migration.reason)
      spans.attribute(AttributeName.migrationFromWorkerID, id: migration.fromWorker)
      spans.attribute(AttributeName.migrationTokensCompleted, migration.tokens)
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
    case .embeddings: "POST /v1/embeddings"
    case .responses: "POST /v1/responses"
    case .messages: "POST /v1/messages"
    case .countTokens: "POST /v1/messages/count_tokens"
    case .rerank: "POST /v1/rerank"
    case .score: "POST /v1/score"
    }
  }

  /// What the root span of every request to this endpoint says.
  func rootAttributes(_ version: ProtocolVersion, isSecure: Bool) -> EncodedAttributes {
    Self.roots[(Int(rawValue) * 2 + (isSecure ? 1 : 0)) * ProtocolVersion.allCases.count + version.rawValue]
  }

  /// What `http-request` says of every request to this endpoint.
  func requestAttributes(_ version: ProtocolVersion) -> EncodedAttributes {
    Self.requests[Int(rawValue) * ProtocolVersion.allCases.count + version.rawValue]
  }

  private static let roots = allCases.flatMap { endpoint in
    ["http", "https"].flatMap { scheme in
      ProtocolVersion.allCases.map { version in
        EncodedAttributes { span in
          span.attribute(AttributeName.httpRequestMethod, "POST")
          span.attribute(AttributeName.httpRoute, endpoint.path)
          span.attribute(AttributeName.urlPath, endpoint.path)
          span.attribute(AttributeName.urlScheme, String(scheme))
          span.attribute(AttributeName.networkProtocolVersion, version.number)
        }
      }
    }
  }

  private static let requests = allCases.flatMap { endpoint in
    ProtocolVersion.allCases.map { version in
      EncodedAttributes { span in
        span.attribute(AttributeName.method, "POST")
        span.attribute(AttributeName.uri, endpoint.path)
        span.attribute(AttributeName.version, version.text)
        span.attribute(AttributeName.genAIOperationName, endpoint.operation)
        span.attribute(AttributeName.genAIProviderName, "dynamo")
      }
    }
  }
}

extension CompletionFinish {
  /// The reason by Dynamo's name and by OpenTelemetry's, which is a list; nil when there is none.
  var attributes: EncodedAttributes? {
    let index = Int(rawValue)
    return index < Self.encoded.count ? Self.encoded[index] : nil
  }

  private static let encoded: [EncodedAttributes?] = (0...UInt8.max).map { CompletionFinish(rawValue: $0) }
    .prefix { $0 != nil }.map { reason in
      guard let name = reason?.name else { return nil }
      return EncodedAttributes { span in
        span.attribute(AttributeName.finishReason, name)
        span.attribute(AttributeName.genAIFinishReasons, ["\(name)"])
      }
    }
}
