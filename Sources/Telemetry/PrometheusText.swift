// One metric family and its form in the Prometheus text format 0.0.4.

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

  func write(into out: inout ByteBuffer, seriesMax: Int) {
    var samples = MetricSamples(seriesMax: seriesMax)
    for callback in callbacks { callback(&samples) }
    guard !series.isEmpty || !samples.samples.isEmpty else { return }
    out.append("# HELP " as StaticString)
    out.append(name)
    out.append(UInt8(ascii: " "))
    for scalar in help.unicodeScalars {
      switch scalar {
      case "\\": out.append("\\\\" as StaticString)
      case "\n": out.append("\\n" as StaticString)
      default: out.append(String(scalar))
      }
    }
    out.append("\n# TYPE " as StaticString)
    out.append(name)
    out.append(UInt8(ascii: " "))
    out.append(kind.rawValue)
    out.append(UInt8(ascii: "\n"))
    for (labels, cell) in series {
      switch cell {
      case .counter(let counter): write(labels, Double(counter.value), into: &out)
      case .gauge(let gauge): write(labels, gauge.value, into: &out)
      case .histogram(let histogram): write(labels, histogram, into: &out)
      }
    }
    for (labels, value) in samples.samples { write(labels, value, into: &out) }
  }

  private func write(_ labels: String, _ histogram: Histogram, into out: inout ByteBuffer) {
    // The total is the sum of the buckets that were read, so that _count equals the +Inf bucket always.
    var total = 0
    for index in 0...histogram.boundCount {
      total += histogram.bucketCount(index)
      let bound = "le=\"" + MetricFamilySnapshot.number(histogram.upperBound(index)) + "\""
      write("_bucket", labels.isEmpty ? bound : labels + "," + bound, Double(total), into: &out)
    }
    write("_sum", labels, histogram.sum, into: &out)
    write("_count", labels, Double(total), into: &out)
  }

  private func write(_ labels: String, _ value: Double, into out: inout ByteBuffer) {
    write("", labels, value, into: &out)
  }

  private func write(_ suffix: String, _ labels: String, _ value: Double, into out: inout ByteBuffer) {
    out.append(name)
    out.append(suffix)
    if !labels.isEmpty {
      out.append(UInt8(ascii: "{"))
      out.append(labels)
      out.append(UInt8(ascii: "}"))
    }
    out.append(UInt8(ascii: " "))
    out.append(MetricFamilySnapshot.number(value))
    out.append(UInt8(ascii: "\n"))
  }

  /// `value` as Prometheus reads it: whole numbers without a point, `+Inf`, `-Inf` and `NaN`.
  static func number(_ value: Double) -> String {
    if value.isNaN { return "NaN" }
    if value.isInfinite { return value > 0 ? "+Inf" : "-Inf" }
    if value == value.rounded(), abs(value) < 9_007_199_254_740_992 { return String(Int(value)) }
    return value.description
  }
}
