// The trace store's settings, which dynamo-frontend and dynamo-tempo share.

import Base

extension SettingsTable {
  /// Everything that dynamo-tempo can be told.
  package static let tempo = SettingsTable(
    program: "dynamo-tempo",
    summary: "keeps traces in memory and answers Tempo's query API, with a page to look at them",
    subcommands: [
      Subcommand("serve", "Take spans and answer queries; the same as no subcommand."),
      Subcommand("version", "Print the version."),
      Subcommand("help", "Print this text."),
    ],
    definitions: traceStore + logging, foreign: [])

  /// The switch of the store inside dynamo-frontend.
  static let embeddedTraceStore: [SettingDefinition] =
    [
      SettingDefinition(
        "trace-store", "DYN_TRACE_STORE", .boolean, fallback: "false", group: "Trace store",
        "Keep traces in this process, and serve Tempo's query API with a page to look at them.")
    ] + traceStore

  static let traceStore: [SettingDefinition] = [
    SettingDefinition(
      "trace-store-host", "DYN_TRACE_STORE_HOST", .string, fallback: "127.0.0.1", placeholder: "ADDRESS",
      group: "Trace store", "Address that the trace store listens on. Whoever reaches it reads all traces."),
    SettingDefinition(
      "trace-store-allowed-hosts", "DYN_TRACE_STORE_ALLOWED_HOSTS", .list, unset: "local names",
      placeholder: "NAME,NAME", group: "Trace store",
      "Host names that the page and the query API answer to, beside addresses and local names; * is all."),
    SettingDefinition(
      "trace-store-http-port", "DYN_TRACE_STORE_HTTP_PORT", .integer(0...65535), fallback: "3200",
      placeholder: "PORT", group: "Trace store",
      "Port of the page and of Tempo's query API; 0 picks a free one, which the log names."),
    SettingDefinition(
      "trace-store-otlp-grpc-port", "DYN_TRACE_STORE_OTLP_GRPC_PORT", .integer(0...65535), fallback: "4317",
      placeholder: "PORT", group: "Trace store",
      "Port that takes spans by OTLP over gRPC; 0 picks a free one."),
    SettingDefinition(
      "trace-store-otlp-http-port", "DYN_TRACE_STORE_OTLP_HTTP_PORT", .integer(0...65535), fallback: "4318",
      placeholder: "PORT", group: "Trace store",
      "Port that takes spans by OTLP over HTTP; 0 picks a free one."),
    SettingDefinition(
      "trace-store-memory-mb", "DYN_TRACE_STORE_MEMORY_MB", .integer(1...1_048_576), fallback: "64",
      placeholder: "MIB", group: "Trace store",
      "Most memory of kept traces; past it the oldest makes room. One trace takes a quarter at most, and never more than 5 MiB."
    ),
    SettingDefinition(
      "trace-store-max-age", "DYN_TRACE_STORE_MAX_AGE", .duration(unit: second), fallback: "24h",
      group: "Trace store", "How long after its first span a trace is kept."),
    SettingDefinition(
      "trace-store-file", "DYN_TRACE_STORE_FILE", .string, unset: "none", placeholder: "FILE",
      group: "Trace store",
      "File that keeps the traces over a restart; with an older one beside it (FILE.1) it takes up to twice the memory bound."
    ),
  ]
}
