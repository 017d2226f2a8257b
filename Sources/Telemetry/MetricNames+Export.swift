// Names of the metrics about the export of metrics and of log records; spans have families of their own.

extension MetricDescription {
  /// signal (metrics, logs); present where one of them is exported, as the next three
  package static let otlpMade = MetricDescription(
    "dynamo_otlp_records_made_total", "Metrics and log records that were made for export.")
  /// signal
  package static let otlpSent = MetricDescription(
    "dynamo_otlp_records_sent_total", "Metrics and log records that the receiver took.")
  /// signal, reason
  package static let otlpDropped = MetricDescription(
    "dynamo_otlp_records_dropped_total", "Metrics and log records that were lost, by reason.")
  /// no labels; present where log records are exported
  package static let logRecordsLost = MetricDescription(
    "dynamo_log_records_lost_total", "Log lines that found no room on their way to become records.")
  /// signal, status
  package static let otlpRequests = MetricDescription(
    "dynamo_otlp_export_requests_total",
    "Export calls of metrics and log records, by their gRPC or HTTP status.")
}
