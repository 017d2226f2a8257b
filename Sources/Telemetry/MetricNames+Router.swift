// The names of what the KV router does and takes.

/// Of the requests that it placed. No labels.
extension MetricDescription {
  package static let routerTimeToFirstToken = MetricDescription(
    "dynamo_component_router_time_to_first_token_seconds",
    "Time from the head of a request that the KV router placed to its first token.")
  package static let routerInterTokenLatency = MetricDescription(
    "dynamo_component_router_inter_token_latency_seconds",
    "Time between two tokens of a stream that the KV router placed.")
  package static let routerInputTokens = MetricDescription(
    "dynamo_component_router_input_sequence_tokens", "Prompt tokens of a request that the KV router placed.")
  package static let routerOutputTokens = MetricDescription(
    "dynamo_component_router_output_sequence_tokens",
    "Generated tokens of a request that the KV router placed.")
}

/// How much of prompts was cached.
extension MetricDescription {
  /// no labels
  package static let routerBestPrefix = MetricDescription(
    "dynamo_component_router_kv_best_eligible_cached_prefix_tokens_total",
    "Prompt tokens that the worker with the longest cached prefix was expected to have, among those that might be chosen."
  )
  /// no labels
  package static let routerSelectedPrefix = MetricDescription(
    "dynamo_component_router_kv_selected_cached_prefix_tokens_total",
    "Prompt tokens that the chosen worker was expected to have in its cache.")
  /// no labels
  package static let routerReusedTokens = MetricDescription(
    "dynamo_component_router_kv_worker_reused_tokens_total",
    "Prompt tokens that workers reported to have found in their cache.")
  /// worker_type
  package static let routerNotBest = MetricDescription(
    "dynamo_component_router_non_max_overlap_selections_total",
    "Requests that went to another worker than the one with the longest cached prefix.")
  /// worker_type
  package static let routerBlocksLost = MetricDescription(
    "dynamo_component_router_overlap_blocks_lost",
    "How many blocks fewer the chosen worker was expected to have than the one with the longest cached prefix."
  )
  /// no labels
  package static let kvTruthDrift = MetricDescription(
    "dynamo_frontend_kv_truth_drift_ratio",
    "Difference between the cached tokens that were expected and those that the engine reported, as a share of the prompt."
  )
}

/// Workers. Labels worker_id, dp_rank, worker_type; the second has none.
extension MetricDescription {
  package static let routerWorkerRegistered = MetricDescription(
    "dynamo_component_router_worker_registered", "1 for each worker that the KV router may choose.")
  package static let routerSourceMismatches = MetricDescription(
    "dynamo_component_router_kv_event_source_mismatch_workers",
    "Ready workers that publish cache events which are not used.")
}

/// What a decision takes. Label router_id.
extension MetricDescription {
  package static let routerOverheadHashing = MetricDescription(
    "dynamo_router_overhead_block_hashing_ms", "Time to cut a prompt into blocks and chain their hashes.")
  package static let routerOverheadMatching = MetricDescription(
    "dynamo_router_overhead_indexer_find_matches_ms", "Time to find what each worker caches of a prompt.")
  package static let routerOverheadScheduling = MetricDescription(
    "dynamo_router_overhead_scheduling_ms",
    "Time to choose a worker beside that, the wait for the routing state included.")
  package static let routerOverheadTotal = MetricDescription(
    "dynamo_router_overhead_total_ms", "Time that routing a request took.")
}
