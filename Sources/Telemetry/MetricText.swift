// One metric family, and its form in Prometheus' text format 0.0.4 and in OpenMetrics 1.0.

internal import Base

/// One series of a family.
enum MetricCell: Sendable {
  case counter(Counter)
  case gauge(Gauge)
  case histogram(Histogram)
}

/// A family while it is registered. Guarded by the registry's lock.
final class MetricFamily {
  let name: String
  let help: String
  let kind: MetricKind
  private(set) var cells: [String: MetricCell] = [:]
  private var order: [(labels: String, cell: MetricCell)] = []
  var callbacks: [@Sendable (inout MetricSamples) -> Void] = []

  init(name: String, help: String, kind: MetricKind) {
    self.name = name
    self.help = help
    self.kind = kind
  }

  func add(_ labels: String, _ cell: MetricCell) -> MetricCell {
    cells[labels] = cell
    order.append((labels, cell))
    return cell
  }

  func snapshot() -> MetricFamilySnapshot {
    MetricFamilySnapshot(name: name, help: help, kind: kind, series: order, callbacks: callbacks)
  }
}

/// What a scrape writes down, outside the lock.
struct MetricFamilySnapshot: Sendable {
  let name: String
  let help: String
  let kind: MetricKind
  let series: [(labels: String, cell: MetricCell)]
  let callbacks: [@Sendable (inout MetricSamples) -> Void]

  func write(_ format: MetricFormat, into out: inout ByteBuffer, seriesMax: Int) {
    var samples = MetricSamples(seriesMax: seriesMax)
    for callback in callbacks { callback(&samples) }
    guard !series.isEmpty || !samples.samples.isEmpty else { return }
    let text = MetricText(format, name)
    text.begin(kind, help, into: &out)
    for (labels, cell) in series {
      switch cell {
      case .counter(let counter): text.sample(labels, Double(counter.value), into: &out)
      case .gauge(let gauge): text.sample(labels, gauge.value, into: &out)
      case .histogram(let histogram): text.histogram(labels, histogram, into: &out)
      }
    }
    for (labels, value) in samples.samples { text.sample(labels, value, into: &out) }
  }
}

/// Writes the lines of one family.
struct MetricText {
  let format: MetricFormat
  let name: String

  init(_ format: MetricFormat, _ name: String) {
    self.format = format
    self.name = name
  }

  private var isOpen: Bool {
    if case .openMetrics = format { return true }
    return false
  }

  /// The lines that describe the family. OpenMetrics names a counter's family without `_total` and tells units.
  func begin(_ kind: MetricKind, _ help: String, into out: inout ByteBuffer) {
    var family = name[...]
    if isOpen, kind == .counter, family.hasSuffix("_total") { family.removeLast("_total".count) }
    out.append("# HELP \(family) ")
    for scalar in help.unicodeScalars {
      switch scalar {
      case "\\": out.append("\\\\" as StaticString)
      case "\n": out.append("\\n" as StaticString)
      case "\"" where isOpen: out.append("\\\"" as StaticString)
      default: out.append(String(scalar))
      }
    }
    out.append("\n# TYPE \(family) \(kind.rawValue)\n")
    guard isOpen else { return }
    for unit in ["seconds", "bytes", "ratio"] where family.hasSuffix("_" + unit) {
      out.append("# UNIT \(family) \(unit)\n")
    }
  }

  func sample(_ labels: String, _ value: Double, into out: inout ByteBuffer) {
    line("", labels, value, into: &out)
    out.append(UInt8(ascii: "\n"))
  }

  func histogram(_ labels: String, _ histogram: Histogram, into out: inout ByteBuffer) {
    // The total is the sum of the buckets that were read, so that _count equals the +Inf bucket always.
    var total = 0
    for index in 0...histogram.boundCount {
      total += histogram.bucketCount(index)
      let bound = "le=\"" + self.bound(histogram.upperBound(index)) + "\""
      line("_bucket", labels.isEmpty ? bound : labels + "," + bound, Double(total), into: &out)
      if isOpen, let exemplar = histogram.exemplar(index) { append(exemplar, to: &out) }
      out.append(UInt8(ascii: "\n"))
    }
    line("_sum", labels, histogram.sum, into: &out)
    out.append(UInt8(ascii: "\n"))
    line("_count", labels, Double(total), into: &out)
    out.append(UInt8(ascii: "\n"))
  }

  private func line(_ suffix: String, _ labels: String, _ value: Double, into out: inout ByteBuffer) {
    out.append(name)
    out.append(suffix)
    if !labels.isEmpty {
      out.append(UInt8(ascii: "{"))
      out.append(labels)
      out.append(UInt8(ascii: "}"))
    }
    out.append(UInt8(ascii: " "))
    out.append(MetricText.number(value))
  }

  /// OpenMetrics 1.0, "Exemplars": the labels, the value and its time in seconds.
  private func append(_ exemplar: Exemplar, to out: inout ByteBuffer) {
    out.append(" # {trace_id=\"" as StaticString)
    out.append(exemplar.traceID)
    out.append("\",span_id=\"" as StaticString)
    out.append(hex: exemplar.spanID)
    out.append("\"} " as StaticString)
    out.append(MetricText.number(exemplar.value))
    out.append(UInt8(ascii: " "))
    let milliseconds = exemplar.time / 1_000_000
    out.append(decimal: milliseconds / 1_000)
    out.append(UInt8(ascii: "."))
    let rest = String(milliseconds % 1_000)
    out.append(String(repeating: "0", count: 3 - rest.count) + rest)
  }

  /// A bucket's bound as a label. Labels are compared as text: OpenMetrics asks for one spelling of each number
  /// ("Canonical Numbers"), with a point where there is no exponent, and an exponent from a million on.
  private func bound(_ value: Double) -> String {
    guard isOpen, value.isFinite, value == value.rounded() else { return MetricText.number(value) }
    if abs(value) < 1_000_000 { return "\(MetricText.number(value)).0" }
    var digits = MetricText.number(value)
    let exponent = digits.count - 1
    while digits.hasSuffix("0") { digits.removeLast() }
    let fraction = digits.dropFirst()
    return
      "\(digits.prefix(1))\(fraction.isEmpty ? "" : ".")\(fraction)e+\(exponent < 10 ? "0" : "")\(exponent)"
  }

  /// `value` as Prometheus reads it: whole numbers without a point, `+Inf`, `-Inf` and `NaN`.
  static func number(_ value: Double) -> String {
    if value.isNaN { return "NaN" }
    if value.isInfinite { return value > 0 ? "+Inf" : "-Inf" }
    if value == value.rounded(), abs(value) < 9_007_199_254_740_992 { return String(Int(value)) }
    return value.description
  }
}
