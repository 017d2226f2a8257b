// Environment variables that look like a known one with a slip of the finger. They would pass silently: a variable that
// is no setting of ours may be meant for another program of the same fleet.

/// Finds misspelt names in an environment.
enum MisspeltVariables {
  /// Names of other programs that are looked at and of those that are told: an environment may hold anything.
  static let lookedAtMax = 64
  static let toldMax = 8
  /// More edits than these make it another name.
  private static let editsMax = 2

  /// One sentence for each name that begins like ours, is known to none of the programs, and is one or two edits from a
  /// name that this one knows.
  static func warnings(in environment: [String: String], of table: SettingsTable) -> [String] {
    let known = knownNames
    let unknown = environment.keys.filter { name in
      (name.hasPrefix("DYN_") || name.hasPrefix("OTEL_")) && environment[name] != "" && !known.contains(name)
    }
    guard !unknown.isEmpty else { return [] }
    let names = names(of: table) + specified
    var warnings: [String] = []
    var left = 0
    for name in unknown.sorted().prefix(lookedAtMax) {
      // Most names are out by their length alone.
      let near = names.filter { abs($0.utf8.count - name.utf8.count) <= editsMax }
      guard let meant = nearestName(to: name, among: near, editsMax: editsMax) else { continue }
      if warnings.count < toldMax {
        warnings.append("environment variable \(name) is not known (did you mean \(meant)?)")
      } else {
        left += 1
      }
    }
    if left > 0 { warnings.append("\(left) more environment variables are not known") }
    return warnings
  }

  private static func names(of table: SettingsTable) -> [String] {
    table.definitions.flatMap { [$0.environment] + $0.olderEnvironment }
      + table.foreign.compactMap(\.environment) + [SettingsParser.configurationVariable]
  }

  private static var knownNames: Set<String> {
    Set([SettingsTable.frontend, .worker, .tempo].flatMap(names) + specified)
  }

  /// Names that rooms read by themselves, and OpenTelemetry's that are not acted on.
  private static let specified: [String] = {
    var names = [
      "OTEL_TRACES_EXPORTER", "OTEL_LOG_LEVEL", "OTEL_CONFIG_FILE", "OTEL_SEMCONV_STABILITY_OPT_IN",
      "OTEL_METRIC_EXPORT_INTERVAL", "OTEL_METRIC_EXPORT_TIMEOUT", "OTEL_METRICS_EXEMPLAR_FILTER",
      "OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT", "OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT",
      "OTEL_BSP_MAX_CONCURRENT_EXPORTS", "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
      "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
    ]
    for infix in ["", "TRACES_", "METRICS_", "LOGS_"] {
      for suffix in [
        "ENDPOINT", "PROTOCOL", "HEADERS", "TIMEOUT", "COMPRESSION", "INSECURE", "CERTIFICATE",
        "CLIENT_CERTIFICATE", "CLIENT_KEY",
      ] { names.append("OTEL_EXPORTER_OTLP_\(infix)\(suffix)") }
    }
    for family in [
      "REQUEST_DURATION", "INPUT_SEQUENCE", "OUTPUT_SEQUENCE", "TTFT", "ITL", "EMBEDDING_LATENCY",
    ] {
      for end in ["MIN", "MAX", "COUNT"] { names.append("DYN_METRICS_\(family)_\(end)") }
    }
    return names
  }()
}
