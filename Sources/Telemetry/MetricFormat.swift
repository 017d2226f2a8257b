// The text formats of /metrics, and how a scraper chooses between them.

/// A text format of `/metrics`.
package enum MetricFormat: Sendable {
  /// Prometheus' text format 0.0.4.
  case prometheus
  /// OpenMetrics 1.0: the same figures with units, and with exemplars on histograms.
  case openMetrics

  /// Chooses by a scraper's `Accept` (RFC 9110 section 12.5.1): OpenMetrics where it is listed, in a version that is
  /// spoken, and wanted at least as much as plain text.
  package init(accept: String) {
    var openMetrics = 0.0
    var plain = 0.0
    for member in accept.split(separator: ",") {
      let parts = member.split(separator: ";").map { MetricFormat.trimmed($0).lowercased() }
      guard let type = parts.first else { continue }
      let parameters = parts.dropFirst().map { MetricFormat.parameter($0) }
      let quality = parameters.first { $0.name == "q" }.map { Double($0.value) ?? 0 } ?? 1
      let version = parameters.first { $0.name == "version" }?.value ?? "1.0.0"
      switch type {
      case "application/openmetrics-text":
        if version == "1.0.0" || version == "0.0.1" { openMetrics = max(openMetrics, quality) }
      case "text/plain": plain = max(plain, quality)
      default: break
      }
    }
    self = openMetrics > 0 && openMetrics >= plain ? .openMetrics : .prometheus
  }

  /// As `content-type` names it.
  package var contentType: StaticString {
    switch self {
    case .prometheus: "text/plain; version=0.0.4; charset=utf-8"
    case .openMetrics: "application/openmetrics-text; version=1.0.0; charset=utf-8"
    }
  }

  private static func parameter(_ text: String) -> (name: String, value: String) {
    guard let equals = text.firstIndex(of: "=") else { return (text, "") }
    let value = trimmed(text[text.index(after: equals)...])
    let isQuoted = value.count > 1 && value.hasPrefix("\"") && value.hasSuffix("\"")
    return (trimmed(text[..<equals]), isQuoted ? String(value.dropFirst().dropLast()) : value)
  }

  private static func trimmed(_ text: Substring) -> String {
    var rest = text
    while let last = rest.last, last == " " || last == "\t" { rest.removeLast() }
    while let first = rest.first, first == " " || first == "\t" { rest.removeFirst() }
    return String(rest)
  }
}
