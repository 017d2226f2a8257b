// Every name that a span can carry: spans, events, attributes and resource attributes. Names are API. SpanSchema.json
// says which span carries which attribute, of what type and when; Scripts/check.sh holds the two against each other.

/// Names of spans (DESIGN section 5; Dynamo's where it has them).
@usableFromInline
package enum SpanName {
  @inlinable package static var httpRequest: StaticString { "http-request" }
  @inlinable package static var preprocess: StaticString { "preprocess" }
  @inlinable package static var preprocessTemplate: StaticString { "preprocess.template" }
  @inlinable package static var preprocessTokenize: StaticString { "preprocess.tokenize" }
  @inlinable package static var selectWorker: StaticString { "kv_router.select_worker" }
  @inlinable package static var schedule: StaticString { "kv_router.schedule" }
  @inlinable package static var kvRouteRequest: StaticString { "kv_router.route_request" }
  @inlinable package static var routeRequest: StaticString { "router.route_request" }
  @inlinable package static var handlePayload: StaticString { "handle_payload" }
  @inlinable package static var engineGenerate: StaticString { "engine.generate" }
}

/// Names of span events.
@usableFromInline
package enum SpanEventName {
  @inlinable package static var firstToken: StaticString { "first_token" }
  @inlinable package static var retry: StaticString { "retry" }
  @inlinable package static var cancelled: StaticString { "cancelled" }
}

/// Names of resource attributes (OpenTelemetry resource conventions).
package enum ResourceAttributeName {
  package static let serviceName = "service.name"
  package static let serviceVersion = "service.version"
  package static let serviceInstanceID = "service.instance.id"
  package static let sdkName = "telemetry.sdk.name"
  package static let sdkLanguage = "telemetry.sdk.language"
  package static let sdkVersion = "telemetry.sdk.version"
}

/// Names of span attributes.
@usableFromInline
package enum AttributeName {
  // Dynamo: the request.
  @inlinable package static var xRequestID: StaticString { "x_request_id" }
  @inlinable package static var xRequestIDReplaced: StaticString { "x_request_id.replaced" }
  @inlinable package static var requestID: StaticString { "request_id" }
  @inlinable package static var model: StaticString { "model" }
  @inlinable package static var tenant: StaticString { "tenant" }
  @inlinable package static var method: StaticString { "method" }
  @inlinable package static var uri: StaticString { "uri" }
  @inlinable package static var version: StaticString { "version" }
  @inlinable package static var inputTokens: StaticString { "input_tokens" }
  @inlinable package static var outputTokens: StaticString { "output_tokens" }
  @inlinable package static var cachedTokens: StaticString { "cached_tokens" }
  @inlinable package static var tokensSource: StaticString { "tokens.source" }
  @inlinable package static var ttftMilliseconds: StaticString { "ttft_ms" }
  @inlinable package static var averageITLMilliseconds: StaticString { "avg_itl_ms" }
  @inlinable package static var maximumITLMilliseconds: StaticString { "max_itl_ms" }
  @inlinable package static var prefillRoute: StaticString { "prefill.route" }
  @inlinable package static var prefillWorkerID: StaticString { "prefill_worker_id" }
  @inlinable package static var decodeWorkerID: StaticString { "decode_worker_id" }
  @inlinable package static var requestOutcome: StaticString { "request.outcome" }
  @inlinable package static var requestAttempt: StaticString { "request.attempt" }
  @inlinable package static var cancellationSignal: StaticString { "cancellation.signal" }
  @inlinable package static var samplingPartial: StaticString { "sampling.partial" }
  @inlinable package static var samplingKept: StaticString { "sampling.kept" }

  // Dynamo: routing, and the decision explained.
  @inlinable package static var workerID: StaticString { "worker_id" }
  @inlinable package static var dpRank: StaticString { "dp_rank" }
  @inlinable package static var overlapBlocks: StaticString { "overlap_blocks" }
  @inlinable package static var phase: StaticString { "phase" }
  @inlinable package static var isRetry: StaticString { "request.is_retry" }
  @inlinable package static var isHedge: StaticString { "request.is_hedge" }
  @inlinable package static var migrationIsRetry: StaticString { "migration.is_retry" }
  @inlinable package static var migrationReason: StaticString { "migration.reason" }
  @inlinable package static var migrationFromWorkerID: StaticString { "migration.from_worker_id" }
  @inlinable package static var migrationTokensCompleted: StaticString { "migration.tokens_completed" }
  @inlinable package static var routerMode: StaticString { "router.mode" }
  @inlinable package static var islTokens: StaticString { "isl_tokens" }
  @inlinable package static var blockSize: StaticString { "block_size" }
  @inlinable package static var promptSource: StaticString { "prompt.source" }
  @inlinable package static var blockCount: StaticString { "num_blocks" }
  @inlinable package static var decisionCost: StaticString { "router.cost" }
  @inlinable package static var decisionMargin: StaticString { "router.margin" }
  @inlinable package static var queuedMilliseconds: StaticString { "router.queued_ms" }
  @inlinable package static var hotPrefixShare: StaticString { "router.hot_prefix_cost" }
  @inlinable package static var evictedBlocks: StaticString { "router.evicted_blocks" }
  @inlinable package static var cacheSource: StaticString { "router.cache_source" }
  @inlinable package static var candidateWorkers: StaticString { "router.candidates.worker_id" }
  @inlinable package static var candidateOverlapBlocks: StaticString { "router.candidates.overlap_blocks" }
  @inlinable package static var candidateDecodeBlocks: StaticString {
    "router.candidates.active_decode_blocks"
  }
  @inlinable package static var candidatePrefillTokens: StaticString {
    "router.candidates.active_prefill_tokens"
  }
  @inlinable package static var candidateCosts: StaticString { "router.candidates.cost" }
  @inlinable package static var candidateRefusals: StaticString { "router.candidates.refused" }

  // Dynamo: the worker.
  @inlinable package static var component: StaticString { "component" }
  @inlinable package static var endpoint: StaticString { "endpoint" }
  @inlinable package static var namespace: StaticString { "namespace" }
  @inlinable package static var instanceID: StaticString { "instance_id" }
  @inlinable package static var disaggregationRole: StaticString { "disagg_role" }
  @inlinable package static var finishReason: StaticString { "finish_reason" }
  @inlinable package static var isCancelled: StaticString { "cancelled" }
  @inlinable package static var errorKind: StaticString { "error_kind" }
  @inlinable package static var queueMilliseconds: StaticString { "queue_ms" }
  @inlinable package static var prefillMilliseconds: StaticString { "prefill_ms" }
  @inlinable package static var decodeMilliseconds: StaticString { "decode_ms" }

  // OpenTelemetry: HTTP, client, server, error (stable conventions).
  @inlinable package static var httpRequestMethod: StaticString { "http.request.method" }
  @inlinable package static var httpRequestMethodOriginal: StaticString { "http.request.method_original" }
  @inlinable package static var httpRoute: StaticString { "http.route" }
  @inlinable package static var httpResponseStatusCode: StaticString { "http.response.status_code" }
  @inlinable package static var urlPath: StaticString { "url.path" }
  @inlinable package static var urlScheme: StaticString { "url.scheme" }
  @inlinable package static var urlFull: StaticString { "url.full" }
  @inlinable package static var clientAddress: StaticString { "client.address" }
  @inlinable package static var serverAddress: StaticString { "server.address" }
  @inlinable package static var serverPort: StaticString { "server.port" }
  @inlinable package static var networkProtocolVersion: StaticString { "network.protocol.version" }
  @inlinable package static var errorType: StaticString { "error.type" }

  // OpenTelemetry: generative AI (in development).
  @inlinable package static var genAIOperationName: StaticString { "gen_ai.operation.name" }
  @inlinable package static var genAIProviderName: StaticString { "gen_ai.provider.name" }
  @inlinable package static var genAIRequestModel: StaticString { "gen_ai.request.model" }
  @inlinable package static var genAIRequestStream: StaticString { "gen_ai.request.stream" }
  @inlinable package static var genAIRequestMaxTokens: StaticString { "gen_ai.request.max_tokens" }
  @inlinable package static var genAIFinishReasons: StaticString { "gen_ai.response.finish_reasons" }
  @inlinable package static var genAITimeToFirstChunk: StaticString {
    "gen_ai.response.time_to_first_chunk"
  }
  @inlinable package static var genAIInputTokens: StaticString { "gen_ai.usage.input_tokens" }
  @inlinable package static var genAIOutputTokens: StaticString { "gen_ai.usage.output_tokens" }
  @inlinable package static var genAICacheReadTokens: StaticString {
    "gen_ai.usage.cache_read.input_tokens"
  }
}

/// The values of `request.outcome` (Dynamo's eight).
package enum RequestOutcome: UInt8, Sendable {
  case success
  case cancelled
  case rejected
  case timeout
  case unavailable
  case workerDisconnected
  case connectionFailed
  case error

  /// The value as it appears on spans, in logs and in metrics.
  package var text: StaticString {
    switch self {
    case .success: "success"
    case .cancelled: "cancelled"
    case .rejected: "rejected"
    case .timeout: "timeout"
    case .unavailable: "unavailable"
    case .workerDisconnected: "worker_disconnected"
    case .connectionFailed: "connection_failed"
    case .error: "error"
    }
  }
}
