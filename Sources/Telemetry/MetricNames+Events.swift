// Names of the metrics that tell how well engines' cache events arrive.

extension MetricDescription {
  /// worker_id
  package static let kvEventBatches = MetricDescription(
    "dynamo_frontend_kv_event_batches_total", "Batches of an engine's cache events that were applied.")
  /// worker_id
  package static let kvEvents = MetricDescription(
    "dynamo_frontend_kv_events_total", "Cache events in those batches.")
  /// worker_id
  package static let kvEventGaps = MetricDescription(
    "dynamo_frontend_kv_event_gaps_total", "Times that batches were missing from a feed.")
  /// worker_id
  package static let kvEventMissedBatches = MetricDescription(
    "dynamo_frontend_kv_event_missed_batches_total", "Batches that were missing and no replay brought.")
  /// worker_id
  package static let kvEventReplays = MetricDescription(
    "dynamo_frontend_kv_event_replays_total", "Replays that engines were asked for.")
  /// worker_id
  package static let kvEventResets = MetricDescription(
    "dynamo_frontend_kv_event_resets_total", "Times that what was known of an engine's cache was forgotten.")
  package static let kvEventRests = MetricDescription(
    "dynamo_frontend_kv_event_rests_total",
    "Times that an engine's cache events were left alone for a while, because they began anew too often.")
  /// worker_id
  package static let kvEventDropped = MetricDescription(
    "dynamo_frontend_kv_event_dropped_messages_total", "Messages that were thrown away unapplied.")
  /// worker_id
  package static let kvEventMalformed = MetricDescription(
    "dynamo_frontend_kv_event_malformed_total", "Messages, batches and events that could not be read.")
  /// worker_id, fault
  package static let kvEventFaults = MetricDescription(
    "dynamo_frontend_kv_event_faults_total",
    "Cache events that did not fit what was known, by what was wrong.")
  /// worker_id
  package static let kvEventLag = MetricDescription(
    "dynamo_frontend_kv_event_lag_seconds", "Age of the last batch when it came, by both machines' clocks.")
  /// worker_id
  package static let kvEventBlocks = MetricDescription(
    "dynamo_frontend_kv_event_blocks", "Blocks that an engine has told to hold.")
  /// worker_id, reason
  package static let kvEventSource = MetricDescription(
    "dynamo_frontend_kv_event_source",
    "1 while a worker's cache is known by its events, 0 while it is predicted.")
}
