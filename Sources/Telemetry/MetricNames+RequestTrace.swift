// Names of the metrics about request-trace records.

extension MetricDescription {
  /// decision (sampled, not_sampled); present where requests are sampled for records
  package static let requestTraceSampling = MetricDescription(
    "dynamo_frontend_request_trace_sampling_records_total",
    "Requests that were up for a request-trace record, by what the sampling ratio said.")
  package static let requestTraceRecords = MetricDescription(
    "dynamo_frontend_request_trace_records_total", "Request-trace records that were made.")
  package static let requestTraceDropped = MetricDescription(
    "dynamo_frontend_request_trace_dropped_total",
    "Request-trace records that found no room in the queue or could not be written.")
  package static let requestTraceFilesRemoved = MetricDescription(
    "dynamo_frontend_request_trace_files_removed_total",
    "Files of request-trace records that were removed to make room.")
}
