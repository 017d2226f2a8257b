// Every environment variable that Telemetry and the exporter read. Flags and their twins live in Settings.

/// Names of environment variables for tracing, metrics and logs.
package enum EnvironmentName {
  // Tracing switches.
  package static let otelExportEnabled = "OTEL_EXPORT_ENABLED"
  package static let otelSDKDisabled = "OTEL_SDK_DISABLED"
  package static let propagators = "OTEL_PROPAGATORS"
  package static let otelServiceName = "OTEL_SERVICE_NAME"
  package static let otelResourceAttributes = "OTEL_RESOURCE_ATTRIBUTES"
  package static let otlpTracesEndpoint = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
  package static let otlpEndpoint = "OTEL_EXPORTER_OTLP_ENDPOINT"
  /// Dynamo's older name for the traces endpoint.
  package static let otelExportEndpoint = "OTEL_EXPORT_ENDPOINT"
  package static let otlpTimeout = "OTEL_EXPORTER_OTLP_TIMEOUT"
  package static let otlpTracesTimeout = "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT"
  package static let otlpHeaders = "OTEL_EXPORTER_OTLP_HEADERS"
  package static let otlpTracesHeaders = "OTEL_EXPORTER_OTLP_TRACES_HEADERS"
  package static let otlpProtocol = "OTEL_EXPORTER_OTLP_PROTOCOL"
  package static let otlpTracesProtocol = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"
  package static let batchMaxQueueSize = "OTEL_BSP_MAX_QUEUE_SIZE"
  package static let batchMaxExportBatchSize = "OTEL_BSP_MAX_EXPORT_BATCH_SIZE"
  package static let batchMaxConcurrentExports = "OTEL_BSP_MAX_CONCURRENT_EXPORTS"
  package static let batchScheduleDelay = "OTEL_BSP_SCHEDULE_DELAY"
  package static let batchExportTimeout = "OTEL_BSP_EXPORT_TIMEOUT"
  package static let attributeValueLengthLimit = "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT"
  package static let attributeCountLimit = "OTEL_ATTRIBUTE_COUNT_LIMIT"
  package static let spanAttributeValueLengthLimit = "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT"
  package static let spanAttributeCountLimit = "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT"
  package static let spanEventCountLimit = "OTEL_SPAN_EVENT_COUNT_LIMIT"
  package static let spanLinkCountLimit = "OTEL_SPAN_LINK_COUNT_LIMIT"
  package static let eventAttributeCountLimit = "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT"
  package static let linkAttributeCountLimit = "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT"

  // Logs.
  package static let traceKeep = "DYN_TRACE_KEEP"
  package static let logUseLocalTimeZone = "DYN_LOG_USE_LOCAL_TZ"
  package static let loggingSpanEvents = "DYN_LOGGING_SPAN_EVENTS"
  package static let log = "DYN_LOG"
  package static let loggingJSONL = "DYN_LOGGING_JSONL"
  package static let disableANSI = "DYN_SDK_DISABLE_ANSI_LOGGING"
  package static let loggingConsoleFormat = "DYN_LOGGING_CONSOLE_FORMAT"

  // Request-trace records.
  package static let requestTrace = "DYN_REQUEST_TRACE"
  package static let requestTraceSinks = "DYN_REQUEST_TRACE_SINKS"
  package static let requestTracePath = "DYN_REQUEST_TRACE_FILE_PATH"
  package static let requestTraceFormat = "DYN_REQUEST_TRACE_FILE_FORMAT"
  package static let requestTraceRollBytes = "DYN_REQUEST_TRACE_FILE_ROLL_BYTES"
  package static let requestTraceRollLines = "DYN_REQUEST_TRACE_FILE_ROLL_LINES"
  package static let requestTraceBuffer = "DYN_REQUEST_TRACE_FILE_BUFFER_BYTES"
  package static let requestTraceFlush = "DYN_REQUEST_TRACE_FILE_FLUSH_INTERVAL_MS"
  package static let requestTraceRatio = "DYN_REQUEST_TRACE_SAMPLE_RATIO"
  /// Ours: Dynamo keeps all files.
  package static let requestTraceFiles = "DYN_REQUEST_TRACE_FILE_COUNT"

  // Metrics: each is followed by MIN, MAX or COUNT.
  package static let metricsRequestDuration = "DYN_METRICS_REQUEST_DURATION_"
  package static let metricsInputSequence = "DYN_METRICS_INPUT_SEQUENCE_"
  package static let metricsOutputSequence = "DYN_METRICS_OUTPUT_SEQUENCE_"
  package static let metricsTTFT = "DYN_METRICS_TTFT_"
  package static let metricsEmbeddingLatency = "DYN_METRICS_EMBEDDING_LATENCY_"
  package static let metricsITL = "DYN_METRICS_ITL_"

  /// Dynamo's truth values: `1`, `true`, `on`, `yes` in any case.
  package static func isTrue(_ value: String?) -> Bool {
    guard let value else { return false }
    return ["1", "true", "on", "yes"].contains(value.lowercased())
  }
}
