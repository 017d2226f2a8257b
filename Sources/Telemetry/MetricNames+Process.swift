// Names of the metrics that tell what the frontend itself is busy with: templates, tokens, its loops.

extension MetricDescription {
  /// no labels; present with a tokenizer, as those up to tokenizerCacheMisses
  package static let templateSeconds = MetricDescription(
    "dynamo_frontend_template_seconds", "Time to render a prompt's chat template.")
  package static let tokenizeSeconds = MetricDescription(
    "dynamo_frontend_tokenize_seconds", "Time to make tokens of a prompt.")
  /// operation (tokenize)
  package static let tokenizerLatency = MetricDescription(
    "dynamo_frontend_tokenizer_latency_ms", "Time to make tokens of a prompt, in milliseconds.")
  package static let tokenizerCacheHits = MetricDescription(
    "dynamo_frontend_tokenizer_cache_hits_total", "Chunks of prompts whose tokens were known.")
  package static let tokenizerCacheMisses = MetricDescription(
    "dynamo_frontend_tokenizer_cache_misses_total", "Chunks of prompts whose tokens had to be made.")
  package static let eventLoopDelay = MetricDescription(
    "dynamo_frontend_event_loop_delay_seconds", "How late an event loop came to a timer.")
  package static let eventLoopStalls = MetricDescription(
    "dynamo_frontend_event_loop_stall_total", "Times that an event loop was late by more than 5 ms.")
}

/// What workers tell of themselves, by model.
extension MetricDescription {
  /// model
  package static let modelReady = MetricDescription(
    "dynamo_frontend_model_ready", "1 while some worker can take a request for the model.")
  /// model; present where a worker's record tells, as the next two
  package static let modelContextLength = MetricDescription(
    "dynamo_frontend_model_context_length", "Most tokens of a prompt and its answer.")
  /// model
  package static let modelSequencesMax = MetricDescription(
    "dynamo_frontend_model_max_num_seqs", "Requests that one worker of the model runs at a time.")
  /// model
  package static let modelBatchedTokensMax = MetricDescription(
    "dynamo_frontend_model_max_num_batched_tokens", "Most tokens of one step of a worker's engine.")
  /// model, migration_type, outcome (success, failure, cancelled)
  package static let modelMigrationDuration = MetricDescription(
    "dynamo_frontend_model_migration_duration_seconds",
    "Time from a worker's failure to the first token of another, or to the request's end.")
}
