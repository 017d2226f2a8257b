// Metrics of tenants, whose labels are the tenants of the key file, at most a thousand; and of overload.

extension MetricDescription {
  /// tenant
  package static let tenantRequests = MetricDescription(
    "dynamo_frontend_tenant_requests_total", "Inference requests that came with a key of the tenant.")
  /// tenant, limit (requests, tokens, concurrency)
  package static let tenantLimited = MetricDescription(
    "dynamo_frontend_tenant_limited_total",
    "Requests answered with 429 because a limit of their key was reached.")
  /// tenant
  package static let tenantInputTokens = MetricDescription(
    "dynamo_frontend_tenant_input_tokens_total", "Prompt tokens of the tenant's requests that a worker had.")
  /// tenant
  package static let tenantOutputTokens = MetricDescription(
    "dynamo_frontend_tenant_output_tokens_total", "Tokens that the tenant's requests were answered with.")
  /// What names tenants, and is for whoever runs the server.
  package static let ofTenants = [tenantRequests, tenantLimited, tenantInputTokens, tenantOutputTokens]
  /// reason (missing, invalid)
  package static let authenticationFailures = MetricDescription(
    "dynamo_frontend_authentication_failures_total", "Requests answered with 401.")
}

/// Metrics of what could not be put into another form.
extension MetricDescription {
  /// reason (event_too_long, too_many_tool_calls)
  package static let untranslatedStreams = MetricDescription(
    "dynamo_frontend_untranslated_streams_total",
    "Streams that ended in an error because they could not be told as events of Anthropic's API.")
  /// no labels
  package static let heldAnswerBytes = MetricDescription(
    "dynamo_frontend_gzip_held_bytes", "Memory that answers hold until they are whole, to be compressed.")
  /// no labels
  package static let gzipRefusals = MetricDescription(
    "dynamo_frontend_gzip_refusals_total",
    "Answers that went out uncompressed because others held all memory that there is for it.")
}

/// Metrics of overload.
extension MetricDescription {
  /// reason (requests, memory)
  package static let shedRequests = MetricDescription(
    "dynamo_frontend_shed_requests_total",
    "Requests that were refused because the process is near its bounds.")
  /// no labels
  package static let overloadLevel = MetricDescription(
    "dynamo_frontend_overload_level",
    "By its memory: 0 when all is well, 1 while new requests are refused, 2 while new connections are too.")
  /// model; present where requests may queue
  package static let routerQueueNewestFirst = MetricDescription(
    "dynamo_frontend_router_queue_newest_first_total",
    "Waiting requests that went before older ones, because those had waited for too long.")
}
