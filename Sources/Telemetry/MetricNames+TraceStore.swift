// Names of the metrics that tell what the trace store holds and lets go.

extension MetricDescription {
  /// no labels
  package static let traceStoreTraces = MetricDescription(
    "dynamo_trace_store_traces", "Traces that the trace store holds.")
  /// no labels
  package static let traceStoreSpans = MetricDescription(
    "dynamo_trace_store_spans", "Spans that the trace store holds.")
  /// no labels
  package static let traceStoreBytes = MetricDescription(
    "dynamo_trace_store_bytes", "Memory of the traces that the trace store holds, about.")
  /// no labels
  package static let traceStoreSpansStored = MetricDescription(
    "dynamo_trace_store_spans_stored_total", "Spans that the trace store took in.")
  /// no labels
  package static let traceStoreSpansRefused = MetricDescription(
    "dynamo_trace_store_spans_refused_total", "Spans that were refused because their trace was full.")
  /// no labels
  package static let traceStoreMessagesRefused = MetricDescription(
    "dynamo_trace_store_messages_refused_total", "Messages that were no OTLP, or held a bad id.")
  /// protocol
  package static let traceStoreMessages = MetricDescription(
    "dynamo_trace_store_messages_total", "Messages of spans that came, by the way they came.")
  /// reason
  package static let traceStoreEvicted = MetricDescription(
    "dynamo_trace_store_evicted_traces_total", "Traces that were let go for their age, or to make room.")
  /// no labels
  package static let traceStoreQueries = MetricDescription(
    "dynamo_trace_store_queries_total", "Requests to the query API.")
  /// no labels
  package static let traceStoreQueriesCut = MetricDescription(
    "dynamo_trace_store_queries_cut_total", "Searches that a bound of time or bytes ended early.")
  /// no labels
  package static let traceStoreQueriesRefused = MetricDescription(
    "dynamo_trace_store_queries_refused_total", "Searches that were refused: too many were under way.")
  /// no labels
  package static let traceStoreHostsRefused = MetricDescription(
    "dynamo_trace_store_hosts_refused_total",
    "Requests to the query API by a host name that is neither local nor listed.")
  /// no labels
  package static let traceStoreConnectionsCut = MetricDescription(
    "dynamo_trace_store_connections_cut_total",
    "Connections of the OTLP/gRPC port that were cut for the memory that their messages took.")
  /// no labels
  package static let traceStoreFileFailures = MetricDescription(
    "dynamo_trace_store_file_failures_total",
    "Messages that could not be written to the trace store's file; they are in memory only.")
}
