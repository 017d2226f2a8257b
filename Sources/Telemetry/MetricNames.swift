// Every metric family, once: name and help. Names are Dynamo's where it has them (reference/dynamo.md section 4).
// docs/metrics.md lists them, and Scripts/check.sh sees to it that each is listed and has a source.

/// The frontend's families. Labels are named beside each.
extension MetricDescription {
  /// model, endpoint, request_type, status, error_type
  package static let requests = MetricDescription(
    "dynamo_frontend_requests_total", "Finished inference requests.")
  /// model, endpoint, request_type
  package static let requestsStarted = MetricDescription(
    "dynamo_frontend_requests_started_total", "Inference requests that were taken in hand.")
  /// model
  package static let activeRequests = MetricDescription(
    "dynamo_frontend_active_requests", "Inference requests in hand.")
  /// model (deprecated in Dynamo in favour of active_requests)
  package static let inflightRequests = MetricDescription(
    "dynamo_frontend_inflight_requests", "Inference requests in hand, under its older name.")
  /// model
  package static let queuedRequests = MetricDescription(
    "dynamo_frontend_queued_requests", "Inference requests that wait for their first response byte.")
  /// stage (preprocess, route, dispatch), phase; in route are requests that wait for a worker with room
  package static let stageRequests = MetricDescription(
    "dynamo_frontend_stage_requests", "Inference requests by the stage they are in.")
  /// stage
  package static let stageDuration = MetricDescription(
    "dynamo_frontend_stage_duration_seconds", "Time that requests spend in a stage.")
  /// no labels; a gauge in Dynamo
  package static let disconnectedClients = MetricDescription(
    "dynamo_frontend_disconnected_clients", "Clients that left before their answer was complete.")
  /// model
  package static let requestDuration = MetricDescription(
    "dynamo_frontend_request_duration_seconds", "Time from the request's head to the end of its answer.")
  /// model
  package static let inputSequenceTokens = MetricDescription(
    "dynamo_frontend_input_sequence_tokens", "Prompt tokens of a request.")
  /// model
  package static let outputSequenceTokens = MetricDescription(
    "dynamo_frontend_output_sequence_tokens", "Generated tokens of a request.")
  /// model
  package static let cachedTokens = MetricDescription(
    "dynamo_frontend_cached_tokens", "Prompt tokens that the engine found in its cache.")
  /// model
  package static let outputTokens = MetricDescription(
    "dynamo_frontend_output_tokens_total", "Generated tokens.")
  /// model
  package static let timeToFirstToken = MetricDescription(
    "dynamo_frontend_time_to_first_token_seconds", "Time from the request's head to its first token.")
  /// model
  package static let interTokenLatency = MetricDescription(
    "dynamo_frontend_inter_token_latency_seconds", "Time between two tokens of a stream.")
  /// model
  package static let embeddingLatency = MetricDescription(
    "dynamo_frontend_embedding_latency_seconds", "Time from the head of a request for embeddings to its end.")
  /// model, endpoint, request_type
  package static let modelCancellations = MetricDescription(
    "dynamo_frontend_model_cancellation_total", "Requests that their client cancelled.")
  /// model, endpoint
  package static let modelRejections = MetricDescription(
    "dynamo_frontend_model_rejection_total", "Requests refused because no worker had room.")
  /// model, migration_type
  package static let modelMigrations = MetricDescription(
    "dynamo_frontend_model_migration_total",
    "Requests that moved to another worker, before their answer began or as a running stream.")
  /// model
  package static let modelMigrationTooLong = MetricDescription(
    "dynamo_frontend_model_migration_max_seq_len_exceeded_total",
    "Streams that did not move to another worker because they were too long for it.")
  /// model, worker_type, policy_class; present where requests may queue
  package static let routerQueueRequests = MetricDescription(
    "dynamo_frontend_router_queue_pending_requests", "Requests that wait until a worker has room.")
  /// model, worker_type, policy_class; present where requests may queue
  package static let routerQueueTokens = MetricDescription(
    "dynamo_frontend_router_queue_pending_isl_tokens", "Prompt tokens of requests that wait for room.")
  /// model, worker_type, policy_class, reason (queue_full, timeout)
  package static let routerQueueBackpressure = MetricDescription(
    "dynamo_frontend_router_queue_backpressure_total",
    "Requests refused because too many waited, or because they waited for too long.")
  /// worker_id, dp_rank, worker_type
  package static let workerActiveDecodeBlocks = MetricDescription(
    "dynamo_frontend_worker_active_decode_blocks", "Distinct cache blocks of a worker's live requests.")
  /// worker_id, dp_rank, worker_type
  package static let workerActivePrefillTokens = MetricDescription(
    "dynamo_frontend_worker_active_prefill_tokens", "Prompt tokens that a worker has yet to compute.")
  /// worker_id, dp_rank, worker_type
  package static let workerLastTimeToFirstToken = MetricDescription(
    "dynamo_frontend_worker_last_time_to_first_token_seconds", "Time to first token of the latest request.")
  /// worker_id, dp_rank, worker_type
  package static let workerLastInputTokens = MetricDescription(
    "dynamo_frontend_worker_last_input_sequence_tokens", "Prompt tokens of the latest request.")
  /// worker_id, dp_rank, worker_type
  package static let workerLastInterTokenLatency = MetricDescription(
    "dynamo_frontend_worker_last_inter_token_latency_seconds",
    "Mean time between tokens of the latest request.")
  /// model
  package static let modelKVCacheBlockSize = MetricDescription(
    "dynamo_frontend_model_kv_cache_block_size", "Tokens in one cache block of the model's workers.")
  /// model
  package static let blockSizesLeftOut = MetricDescription(
    "dynamo_frontend_block_sizes_left_out",
    "Workers whose blocks have a size in which the model's prompts are not hashed, because it has too many.")
  /// model
  package static let modelTotalKVBlocks = MetricDescription(
    "dynamo_frontend_model_total_kv_blocks", "Cache blocks of the model's workers.")
  /// model
  package static let modelWorkers = MetricDescription(
    "dynamo_frontend_model_workers", "Workers that can take a request for the model.")
}

/// The frontend's families that Dynamo does not have.
extension MetricDescription {
  /// status
  package static let httpRefusals = MetricDescription(
    "dynamo_frontend_http_refusals_total", "Request heads that were refused before they became a request.")
  /// no labels
  package static let openConnections = MetricDescription(
    "dynamo_frontend_open_connections", "Client connections that are open.")
  /// no labels
  package static let acceptedConnections = MetricDescription(
    "dynamo_frontend_accepted_connections_total", "Client connections that were accepted.")
  /// no labels
  package static let bodyMemory = MetricDescription(
    "dynamo_frontend_body_memory_bytes", "Memory that request bodies hold.")
  /// no labels
  package static let bodyMemoryWaits = MetricDescription(
    "dynamo_frontend_body_memory_waits_total", "Requests whose body had to wait for memory.")
  /// no labels
  package static let bodyMemoryRefusals = MetricDescription(
    "dynamo_frontend_body_memory_refusals_total",
    "Requests that were refused because there was no memory for their body.")
  /// no labels
  package static let preprocessWaiting = MetricDescription(
    "dynamo_frontend_preprocess_waiting", "Requests with long prompts that wait to be preprocessed.")
  /// no labels
  package static let preprocessRefusals = MetricDescription(
    "dynamo_frontend_preprocess_refusals_total",
    "Requests with long prompts that were refused because too many waited.")
  /// reason
  package static let untokenizedPrompts = MetricDescription(
    "dynamo_frontend_untokenized_prompts_total",
    "Prompts that were routed by their bytes although there is a tokenizer.")
  /// no labels
  package static let refusedConnections = MetricDescription(
    "dynamo_frontend_refused_connections_total", "Client connections that were closed at once: too many.")
  /// no labels
  package static let acceptErrors = MetricDescription(
    "dynamo_frontend_accept_errors_total", "Client connections that the system could not give.")
  /// no labels
  package static let badProxyHeaders = MetricDescription(
    "dynamo_frontend_bad_proxy_headers_total",
    "Connections of trusted proxies that were closed because they began with no PROXY header of version 2.")
  /// result (success, failure)
  package static let reloads = MetricDescription(
    "dynamo_frontend_reloads_total", "Times that SIGHUP had the configuration read again.")
  /// no labels
  package static let slowBodies = MetricDescription(
    "dynamo_frontend_slow_bodies_total", "Request bodies that came below the least pace and were given up.")
  /// peer (client, worker), outcome
  package static let tlsHandshakes = MetricDescription(
    "dynamo_frontend_tls_handshakes_total", "TLS handshakes that are over, by how they ended.")
  /// peer (client, worker)
  package static let tlsResumptions = MetricDescription(
    "dynamo_frontend_tls_resumed_handshakes_total",
    "TLS handshakes that went well by taking up an earlier session.")
  /// no labels; present with TLS
  package static let tlsCertificateEnd = MetricDescription(
    "dynamo_frontend_tls_certificate_not_after_timestamp_seconds",
    "When the certificate that is served ends, in seconds since the Unix epoch.")
  /// no labels
  package static let requestIDsReplaced = MetricDescription(
    "dynamo_frontend_request_ids_replaced_total", "Callers' x-request-id values that were unusable.")
  /// no labels
  package static let requestRetries = MetricDescription(
    "dynamo_frontend_request_retries_total", "Attempts after the first one.")
  /// no labels
  package static let retriesRefused = MetricDescription(
    "dynamo_frontend_retries_refused_total",
    "Failed requests that were not repeated because too many already were: the retry budget.")
  /// no labels
  package static let workerExclusions = MetricDescription(
    "dynamo_frontend_worker_exclusions_total", "Times that a worker was set aside.")
  /// worker_id
  package static let workerUp = MetricDescription(
    "dynamo_frontend_worker_up", "1 while a worker can take requests.")
  /// worker_id, state (ready, recovering, ejected, draining, unreachable, unprobed)
  package static let workerState = MetricDescription(
    "dynamo_frontend_worker_state", "1 for the state that a worker is in.")
  /// reason (consecutive, error_share, canary)
  package static let workerEjections = MetricDescription(
    "dynamo_frontend_worker_ejections_total", "Times that a worker was taken out because requests failed.")
  /// model
  package static let modelPanic = MetricDescription(
    "dynamo_frontend_model_panic",
    "1 while so many of a model's workers would be out of service that nobody is ejected.")
  /// source
  package static let discoveryUp = MetricDescription(
    "dynamo_frontend_discovery_up", "1 while the discovery's store can be read.")
  /// source
  package static let discoveryFailures = MetricDescription(
    "dynamo_frontend_discovery_failures_total", "Times that the discovery's store was lost.")
  /// source
  package static let discoveryUnusedRecords = MetricDescription(
    "dynamo_frontend_discovery_unused_records", "Registered workers that are not used.")
  /// no labels
  package static let routingLockWait = MetricDescription(
    "dynamo_frontend_routing_lock_wait_seconds", "Time that a decision waited for the routing state.")
  /// no labels
  package static let routingIndexBytes = MetricDescription(
    "dynamo_frontend_routing_index_bytes", "Memory of the prefix index.")
  /// no labels
  package static let routingIndexNodes = MetricDescription(
    "dynamo_frontend_routing_index_nodes", "Runs of blocks in the prefix index.")
  /// family
  package static let seriesOverflow = MetricDescription(
    "dynamo_metrics_series_overflow_total", "Look-ups past a family's bound on series.")
}

/// The router's families.
extension MetricDescription {
  /// no labels
  package static let routerRequests = MetricDescription(
    "dynamo_component_router_requests_total", "Requests that the KV router placed.")
  /// no labels
  package static let routerRequestsStarted = MetricDescription(
    "dynamo_component_router_requests_started_total", "Requests that came to the KV router.")
  /// no labels
  package static let routerKVHitRate = MetricDescription(
    "dynamo_component_router_kv_hit_rate", "Share of a prompt's blocks expected in the chosen worker's cache."
  )
}

/// A worker's families; labels dynamo_namespace, dynamo_component, dynamo_endpoint.
extension MetricDescription {
  package static let componentRequests = MetricDescription(
    "dynamo_component_requests_total", "Requests that the endpoint took.")
  package static let componentRequestBytes = MetricDescription(
    "dynamo_component_request_bytes_total", "Bytes of request bodies.")
  package static let componentResponseBytes = MetricDescription(
    "dynamo_component_response_bytes_total", "Bytes of response bodies.")
  package static let componentCancellations = MetricDescription(
    "dynamo_component_cancellation_total", "Requests that were cancelled.")
  /// error_type beside the three
  package static let componentErrors = MetricDescription(
    "dynamo_component_errors_total", "Requests that failed.")
  package static let componentRequestDuration = MetricDescription(
    "dynamo_component_request_duration_seconds", "Time from the request's head to the end of its answer.")
  package static let componentInflightRequests = MetricDescription(
    "dynamo_component_inflight_requests", "Requests in hand.")
  package static let componentUptime = MetricDescription(
    "dynamo_component_uptime_seconds", "Time since the worker started.")
  package static let componentTotalBlocks = MetricDescription(
    "dynamo_component_total_blocks", "Cache blocks of the engine.")
  package static let componentCacheUsage = MetricDescription(
    "dynamo_component_gpu_cache_usage_percent", "Share of the engine's cache blocks in use, 0 to 1.")
  package static let componentKVCacheHitRate = MetricDescription(
    "dynamo_component_kv_cache_hit_rate", "Share of prompt tokens found in the engine's cache, 0 to 1.")
  package static let componentCacheEventBatches = MetricDescription(
    "dynamo_component_kv_event_batches_total", "Batches of cache events that were published.")
  package static let componentCacheEvents = MetricDescription(
    "dynamo_component_kv_events_total", "Cache events in them.")
  package static let componentCacheEventReplays = MetricDescription(
    "dynamo_component_kv_event_replays_total", "Requests for a replay of cache events that were answered.")
  package static let componentCacheEventReplaysRefused = MetricDescription(
    "dynamo_component_kv_event_replays_refused_total",
    "Requests for a replay that got its end alone, because earlier replays were not read.")
  package static let componentCacheEventResets = MetricDescription(
    "dynamo_component_kv_event_relay_resets_total",
    "Times that the attached engine's cache events were lost and its cache was told as cleared.")
  package static let componentCacheEventsMissed = MetricDescription(
    "dynamo_component_kv_event_relay_missed_batches_total",
    "Batches that the attached engine published and that could not be had.")
}

/// Families about telemetry itself, in every process.
extension MetricDescription {
  package static let spansMade = MetricDescription(
    "dynamo_trace_spans_made_total", "Spans finished for export.")
  package static let spansSent = MetricDescription(
    "dynamo_trace_spans_sent_total", "Spans that the receiver took.")
  /// reason
  package static let spansDropped = MetricDescription(
    "dynamo_trace_spans_dropped_total", "Spans that were lost, by reason.")
  package static let spansPending = MetricDescription(
    "dynamo_trace_spans_pending", "Spans on their way to the receiver.")
  package static let exportQueueSpans = MetricDescription(
    "dynamo_trace_export_queue_spans", "Spans that wait in the exporter's queue.")
  package static let exportQueueBytes = MetricDescription(
    "dynamo_trace_export_queue_bytes", "Bytes that wait in the exporter's queue.")
  package static let exportConnected = MetricDescription(
    "dynamo_trace_export_connected", "1 while a connection to the receiver is open.")
  /// status
  package static let exportRequests = MetricDescription(
    "dynamo_trace_export_requests_total", "Export calls, by their gRPC or HTTP status.")
  package static let exportResends = MetricDescription(
    "dynamo_trace_spans_resent_total", "Spans that were sent again after a failure.")
  /// present where there is a spool, as those up to spoolErrors
  package static let spansRecovered = MetricDescription(
    "dynamo_trace_spans_recovered_total", "Spans that an earlier process had left in the spool.")
  package static let spansSpooled = MetricDescription(
    "dynamo_trace_spans_spooled", "Spans that lie in the spool.")
  package static let spoolBytes = MetricDescription(
    "dynamo_trace_spool_bytes", "Bytes of files in the spool.")
  package static let spoolFilesSkipped = MetricDescription(
    "dynamo_trace_spool_files_skipped_total", "Files of the spool that were torn, damaged or foreign.")
  package static let spoolErrors = MetricDescription(
    "dynamo_trace_spool_errors_total", "Messages that could not be written to the spool, or read from it.")
  package static let logLinesDropped = MetricDescription(
    "dynamo_log_lines_dropped_total", "Log lines that found no room or could not be written.")
  package static let processStartTime = MetricDescription(
    "process_start_time_seconds", "Start of the process in seconds since the Unix epoch.")
  package static let processCPU = MetricDescription(
    "process_cpu_seconds_total", "User and system CPU time of the process.")
  package static let processResidentMemory = MetricDescription(
    "process_resident_memory_bytes", "Resident memory of the process.")
  package static let processOpenFDs = MetricDescription(
    "process_open_fds", "Open file descriptors of the process.")
  /// service, version
  package static let buildInfo = MetricDescription(
    "dynamo_build_info", "Always 1; what runs stands in the labels.")
}

extension MetricRegistry {
  /// Shows the books of `ledger` on `/metrics`, those of a spool only where there is one.
  package func register(_ ledger: SpanLedger, hasSpool: Bool = false) {
    observe(.spansMade, .counter) { Double(ledger.made) }
    observe(.spansSent, .counter) { Double(ledger.sent) }
    observe(.spansPending, .gauge) { Double(ledger.pending) }
    collect(.spansDropped, .counter) { samples in
      for reason in SpanDropReason.allCases where hasSpool || !reason.concernsSpool {
        samples.add(Double(ledger.dropped(reason)), labels: [("reason", reason.label)])
      }
    }
    guard hasSpool else { return }
    observe(.spansRecovered, .counter) { Double(ledger.recovered) }
    observe(.spansSpooled, .gauge) { Double(ledger.spooled) }
  }
}
