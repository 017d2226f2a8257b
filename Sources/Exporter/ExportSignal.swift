// The signals of OTLP: their names in variables, paths and log lines.

/// What an exporter sends. All three go the same way: entries of one kind, in messages of one shape.
package enum ExportSignal: Sendable {
  case traces
  case metrics
  case logs

  /// As the variables spell it, in `OTEL_EXPORTER_OTLP_…_ENDPOINT`.
  var infix: String {
    switch self {
    case .traces: "TRACES"
    case .metrics: "METRICS"
    case .logs: "LOGS"
    }
  }

  /// As the metrics' label spells it.
  package var label: String {
    switch self {
    case .traces: "traces"
    case .metrics: "metrics"
    case .logs: "logs"
    }
  }

  /// One entry of a message, in log lines.
  var noun: String {
    switch self {
    case .traces: "span"
    case .metrics: "metric"
    case .logs: "log record"
    }
  }

  /// Name of the exporter's thread: 15 characters at most.
  var threadName: String {
    switch self {
    case .traces: "span-exporter"
    case .metrics: "metric-exporter"
    case .logs: "log-exporter"
    }
  }

  /// Path of the gRPC method.
  var method: String {
    switch self {
    case .traces: "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
    case .metrics: "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"
    case .logs: "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
    }
  }

  /// Path of OTLP/HTTP below the general endpoint.
  var path: String { "v1/\(label)" }

  /// The variable of this signal alone that ends in `suffix`.
  func variable(_ suffix: String) -> String { "OTEL_EXPORTER_OTLP_\(infix)_\(suffix)" }
}
