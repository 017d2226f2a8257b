// Settings of the export of metrics and of log records, which both programs share: OpenTelemetry's variables.

import Base

extension SettingsTable {
  /// Both are off unless asked for. What is not set for one of them is as for all signals.
  static let signals: [SettingDefinition] =
    [
      SettingDefinition(
        nil, "OTEL_METRICS_EXPORTER", .string, fallback: "none", placeholder: "otlp", group: "Metrics export",
        lenient: true, "otlp sends the figures of /metrics to the collector."),
      SettingDefinition(
        nil, "OTEL_METRIC_EXPORT_INTERVAL", milliseconds, fallback: "60000", group: "Metrics export",
        lenient: true, "Time between two readings; the last one is made at the end."),
      SettingDefinition(
        nil, "OTEL_METRIC_EXPORT_TIMEOUT", milliseconds, fallback: "30000", group: "Metrics export",
        lenient: true, "Longest time for one reading, its retries included."),
    ] + collector("METRICS", "Metrics export", "metrics")
    + [
      SettingDefinition(
        nil, "OTEL_LOGS_EXPORTER", .string, fallback: "none", placeholder: "otlp", group: "Log export",
        lenient: true, "otlp sends log lines to the collector as log records."),
      SettingDefinition(
        nil, "OTEL_EXPORT_LOGS_ENABLED", .boolean, fallback: "false", group: "Log export", lenient: true,
        "Dynamo's switch for the same."),
      SettingDefinition(
        nil, "OTEL_BLRP_SCHEDULE_DELAY", milliseconds, fallback: "1000", group: "Log export", lenient: true,
        "Longest time that a log record waits for its batch."),
      SettingDefinition(
        nil, "OTEL_BLRP_EXPORT_TIMEOUT", milliseconds, fallback: "30000", group: "Log export", lenient: true,
        "Longest time for one batch, its retries included."),
      SettingDefinition(
        nil, "OTEL_BLRP_MAX_QUEUE_SIZE", .integer(1...16_777_216), fallback: "65536", group: "Log export",
        lenient: true, "Log records that may wait to be sent; past it they are dropped and counted."),
      SettingDefinition(
        nil, "OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", .integer(1...16_777_216), fallback: "4096",
        group: "Log export", lenient: true, "Most log records in one message."),
    ] + collector("LOGS", "Log export", "log records")

  /// Where one signal goes.
  private static func collector(_ infix: String, _ group: String, _ noun: String) -> [SettingDefinition] {
    [
      SettingDefinition(
        nil, "OTEL_EXPORTER_OTLP_\(infix)_ENDPOINT", .string, unset: "the general one", placeholder: "URL",
        group: group, lenient: true, "Collector for \(noun); used as it stands."),
      SettingDefinition(
        nil, "OTEL_EXPORTER_OTLP_\(infix)_PROTOCOL", .choice(["grpc", "http/protobuf"]),
        unset: "the general one", group: group, lenient: true, "Protocol for \(noun)."),
      SettingDefinition(
        nil, "OTEL_EXPORTER_OTLP_\(infix)_HEADERS", .string, unset: "the general ones",
        placeholder: "K=V,K=V", group: group, secret: true, lenient: true, "Headers sent with \(noun)."),
      SettingDefinition(
        nil, "OTEL_EXPORTER_OTLP_\(infix)_TIMEOUT", milliseconds, unset: "the general one", group: group,
        lenient: true, "Longest time for one call; 0 is no limit."),
      SettingDefinition(
        nil, "OTEL_EXPORTER_OTLP_\(infix)_COMPRESSION", .choice(["none", "gzip"]), unset: "the general one",
        group: group, lenient: true, "Compression of \(noun)."),
    ]
  }

  private static let milliseconds = SettingKind.duration(unit: millisecond)
}
