// Tracing and logging settings that both programs share: Dynamo's switches and OpenTelemetry's variables.

import Base

extension SettingsTable {
  /// Where spans go and which are kept. OpenTelemetry's variables are lenient, as its specification asks.
  static let tracing: [SettingDefinition] = [
    SettingDefinition(
      nil, "OTEL_EXPORT_ENABLED", .boolean, fallback: "false", group: "Tracing", lenient: true,
      "Send spans to the collector."),
    SettingDefinition(
      nil, "OTEL_SERVICE_NAME", .string, unset: "the program's name", placeholder: "NAME", group: "Tracing",
      "service.name of the spans."),
    SettingDefinition(
      nil, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", .string, unset: "http://localhost:4317", placeholder: "URL",
      group: "Tracing", "Collector for spans; used as it stands."),
    SettingDefinition(
      nil, "OTEL_EXPORTER_OTLP_ENDPOINT", .string, unset: "none", placeholder: "URL", group: "Tracing",
      olderEnvironment: ["OTEL_EXPORT_ENDPOINT"],
      "Collector for all signals, when the one for spans is not set."),
    SettingDefinition(
      nil, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", .choice(["grpc", "http/protobuf"]), unset: "the general one",
      group: "Tracing", lenient: true, "Protocol for spans."),
    SettingDefinition(
      nil, "OTEL_EXPORTER_OTLP_PROTOCOL", .choice(["grpc", "http/protobuf"]), fallback: "grpc",
      group: "Tracing",
      lenient: true, "Protocol to the collector."),
    SettingDefinition(
      nil, "OTEL_EXPORTER_OTLP_TRACES_HEADERS", .string, unset: "the general ones", placeholder: "K=V,K=V",
      group: "Tracing", secret: true, lenient: true, "Headers sent with spans."),
    SettingDefinition(
      nil, "OTEL_EXPORTER_OTLP_HEADERS", .string, unset: "none", placeholder: "K=V,K=V", group: "Tracing",
      secret: true, lenient: true, "Headers sent to the collector."),
    SettingDefinition(
      nil, "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", milliseconds, unset: "the general one", group: "Tracing",
      lenient: true, "Longest time for one batch of spans, its retries included; 0 is no limit."),
    SettingDefinition(
      nil, "OTEL_EXPORTER_OTLP_TIMEOUT", milliseconds, fallback: "10000", group: "Tracing", lenient: true,
      "Longest time for one call; 0 is no limit."),
    SettingDefinition(
      nil, "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", .choice(["none", "gzip"]), unset: "the general one",
      group: "Tracing", lenient: true, "Compression of spans."),
    SettingDefinition(
      nil, "OTEL_EXPORTER_OTLP_COMPRESSION", .choice(["none", "gzip"]), fallback: "none", group: "Tracing",
      lenient: true, "Compression of what is sent to the collector."),
    SettingDefinition(
      nil, "OTEL_EXPORTER_OTLP_INSECURE", .boolean, fallback: "false", group: "Tracing", lenient: true,
      "An endpoint without a scheme means plain text; for spans alone: OTEL_EXPORTER_OTLP_TRACES_INSECURE."),
    SettingDefinition(
      nil, "OTEL_EXPORTER_OTLP_CERTIFICATE", .string, unset: "the machine's", placeholder: "FILE",
      group: "Tracing",
      lenient: true,
      "Authorities that the collector's certificate is held against, in PEM; likewise with _TRACES_."),
    SettingDefinition(
      nil, "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", .string, unset: "none", placeholder: "FILE",
      group: "Tracing", lenient: true, "Certificate shown to the collector, in PEM; likewise with _TRACES_."),
    SettingDefinition(
      nil, "OTEL_EXPORTER_OTLP_CLIENT_KEY", .string, unset: "none", placeholder: "FILE",
      group: "Tracing", lenient: true, "Its private key, in PEM; likewise with _TRACES_."),
    SettingDefinition(
      nil, "OTEL_RESOURCE_ATTRIBUTES", .string, unset: "none", placeholder: "K=V,K=V", group: "Tracing",
      lenient: true, "More attributes of the resource, percent-encoded."),
    SettingDefinition(
      nil, "OTEL_BSP_SCHEDULE_DELAY", milliseconds, fallback: "1000", group: "Tracing", lenient: true,
      "Longest time that a finished span waits for its batch."),
    SettingDefinition(
      nil, "OTEL_BSP_EXPORT_TIMEOUT", milliseconds, fallback: "30000", group: "Tracing", lenient: true,
      "Longest time for one batch, its retries included."),
    SettingDefinition(
      nil, "OTEL_BSP_MAX_QUEUE_SIZE", .integer(1...16_777_216), fallback: "65536", group: "Tracing",
      lenient: true, "Spans that may wait to be sent; past it spans are dropped and counted."),
    SettingDefinition(
      nil, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", .integer(1...16_777_216), fallback: "4096", group: "Tracing",
      lenient: true, "Most spans in one message."),
    SettingDefinition(
      nil, "DYN_TRACE_QUEUE_MB", .integer(1...4096), fallback: "16", group: "Tracing",
      "Most memory of spans that wait to be sent, in MiB."),
    SettingDefinition(
      nil, "DYN_TRACE_EXPORT_CONCURRENCY", .integer(1...16), fallback: "1", group: "Tracing",
      "Batches that are sent at the same time, each on a connection of its own."),
    SettingDefinition(
      nil, "OTEL_BSP_MAX_CONCURRENT_EXPORTS", .integer(1...16), unset: "DYN_TRACE_EXPORT_CONCURRENCY",
      group: "Tracing", lenient: true, "The same, as some SDKs call it, where that is not set."),
    SettingDefinition(
      nil, "DYN_TRACE_SPOOL_DIR", .string, unset: "none", placeholder: "DIR", group: "Tracing",
      "Folder for spans that cannot be delivered; they are sent after the outage or by the next process."),
    SettingDefinition(
      nil, "DYN_TRACE_SPOOL_MB", .integer(1...1_048_576), fallback: "256", group: "Tracing",
      "Most disk that one service's folder of undelivered spans takes, in MiB; past it the oldest go."),
    SettingDefinition(
      nil, "OTEL_SDK_DISABLED", .boolean, fallback: "false", group: "Tracing", lenient: true,
      "Make no spans; headers are still passed on."),
    SettingDefinition(
      nil, "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", limit, unset: "the general one", group: "Tracing",
      lenient: true, "Most characters of a string value on spans."),
    SettingDefinition(
      nil, "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", limit, unset: "4096 bytes", group: "Tracing", lenient: true,
      "Most characters of a string value; longer ones are cut."),
    SettingDefinition(
      nil, "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", limit, unset: "the general one", group: "Tracing",
      lenient: true,
      "Most attributes of a span."),
    SettingDefinition(
      nil, "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", limit, unset: "the general one", group: "Tracing",
      lenient: true,
      "Most attributes of a span's event."),
    SettingDefinition(
      nil, "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", limit, unset: "the general one", group: "Tracing",
      lenient: true,
      "Most attributes of a span's link."),
    SettingDefinition(
      nil, "OTEL_ATTRIBUTE_COUNT_LIMIT", limit, fallback: "128", group: "Tracing", lenient: true,
      "Most attributes of a span, event or link; the rest are left out and counted on it."),
    SettingDefinition(
      nil, "OTEL_SPAN_EVENT_COUNT_LIMIT", limit, fallback: "128", group: "Tracing", lenient: true,
      "Most events of a span."),
    SettingDefinition(
      nil, "OTEL_SPAN_LINK_COUNT_LIMIT", limit, fallback: "128", group: "Tracing", lenient: true,
      "Most links of a span."),
    SettingDefinition(
      nil, "OTEL_PROPAGATORS", .string, fallback: "tracecontext,baggage", placeholder: "NAME,NAME",
      group: "Tracing",
      lenient: true, "Formats of trace headers: tracecontext, baggage, b3, b3multi; or none."),
    SettingDefinition(
      nil, "OTEL_TRACES_SAMPLER",
      .choice([
        "always_on", "always_off", "traceidratio", "parentbased_always_on", "parentbased_always_off",
        "parentbased_traceidratio",
      ]), unset: "parentbased_always_on", placeholder: "NAME", group: "Tracing", lenient: true,
      live: true,
      "Which traces are kept: always_on, always_off, traceidratio, or parentbased_ and one of these."),
    SettingDefinition(
      nil, "OTEL_TRACES_SAMPLER_ARG", .number(0...1), unset: "1.0", group: "Tracing", lenient: true,
      live: true, "Share of traces that a ratio sampler keeps."),
    SettingDefinition(
      nil, "OTEL_TRACES_SAMPLE_RATIO", .number(0...1), unset: "none", group: "Tracing", lenient: true,
      live: true, "Short for a parent-based ratio sampler."),
    SettingDefinition(
      nil, "DYN_TRACE_KEEP", .string, unset: "none", placeholder: "errors,retries,slow=SECONDS",
      group: "Tracing",
      "Requests whose spans are kept although the sampler said no: failed, retried, longer than that."),
    SettingDefinition(
      nil, "DYN_TRACE_SHAPE", .choice(["split", "dynamo"]), fallback: "split", group: "Tracing",
      "dynamo merges the server span and http-request into one root named http-request."
    ),
    SettingDefinition(
      nil, "DYN_TRACE_TRUST", .choice(["always", "trusted-peers", "never"]), fallback: "always",
      group: "Tracing",
      live: true,
      "Whose trace context becomes the parent of this program's spans; from others it becomes a link."),
    SettingDefinition(
      nil, "DYN_TRACE_TRUSTED_PEERS", .list, unset: "none", placeholder: "CIDR,CIDR", group: "Tracing",
      live: true, "Addresses and networks that DYN_TRACE_TRUST=trusted-peers trusts."),
    SettingDefinition(
      nil, "DYN_TRACE_SYSTEM_ROUTES", .boolean, fallback: "false", group: "Tracing",
      "Trace health, metrics and model requests too."),
  ]

  static let logging: [SettingDefinition] = [
    SettingDefinition(
      nil, "DYN_LOG", .string, fallback: "info", placeholder: "LEVEL,TARGET=LEVEL", group: "Logging",
      live: true, "What is logged: a level, and levels of single targets."),
    SettingDefinition(
      nil, "DYN_LOGGING_JSONL", .boolean, fallback: "false", group: "Logging", lenient: true,
      "Log one JSON object a line."),
    SettingDefinition(
      nil, "DYN_LOGGING_CONSOLE_FORMAT", .choice(["readable", "jsonl"]), unset: "as DYN_LOGGING_JSONL says",
      group: "Logging", lenient: true, "Form of log lines; beats DYN_LOGGING_JSONL."),
    SettingDefinition(
      nil, "DYN_LOGGING_SPAN_EVENTS", .boolean, fallback: "false", group: "Logging", lenient: true,
      "Log a line when http-request and handle_payload open (SPAN_FIRST_ENTRY) and close (SPAN_CLOSED)."),
    SettingDefinition(
      nil, "DYN_LOG_USE_LOCAL_TZ", .boolean, fallback: "false", group: "Logging", lenient: true,
      "Local time with offset instead of UTC."),
    SettingDefinition(
      nil, "DYN_SDK_DISABLE_ANSI_LOGGING", .boolean, fallback: "false", group: "Logging", lenient: true,
      "No colours in readable lines, which otherwise have them on a terminal; so does NO_COLOR."),
  ]

  private static let limit = SettingKind.integer(0...2_147_483_647)
  private static let milliseconds = SettingKind.duration(unit: millisecond)
}
