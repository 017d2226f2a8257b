// The registry as OTLP metrics: what /metrics shows, in the messages of `opentelemetry/proto/metrics/v1/metrics.proto`.

package import Base
internal import Protobuf

extension MetricRegistry {
  /// Appends all families as entries of `ScopeMetrics.metrics` (tag 2, length, Metric) and returns how many there are.
  /// Counters and histograms are cumulative since `started`; both times are nanoseconds since the Unix epoch.
  ///
  /// Names are those of `/metrics`, so that a query is the same whichever way its figures came.
  package func writeOTLP(into out: inout ByteBuffer, started: UInt64, now: UInt64) -> Int {
    var count = 0
    for family in snapshots {
      var samples = MetricSamples(seriesMax: seriesMax)
      for callback in family.callbacks { callback(&samples) }
      var series = family.series.map { MetricSeries(labels: $0.labels, value: MetricSeries.Value($0.cell)) }
      series += samples.samples.map { MetricSeries(labels: $0.labels, value: .number($0.value)) }
      var rest = series[...]
      // Several entries of one name are one metric; each fits the writer's bound on a message.
      while !rest.isEmpty {
        let metric = MetricMessage(family: family, started: started, now: now)
        metric.write(rest.prefix(MetricMessage.seriesMax), into: &out)
        rest = rest.dropFirst(MetricMessage.seriesMax)
        count += 1
      }
    }
    return count
  }
}

/// One series at the time of a reading.
private struct MetricSeries {
  enum Value {
    case number(Double)
    case histogram(Histogram)

    init(_ cell: MetricCell) {
      self =
        switch cell {
        case .counter(let counter): .number(Double(counter.value))
        case .gauge(let gauge): .number(gauge.value)
        case .histogram(let histogram): .histogram(histogram)
        }
    }
  }

  /// As they are rendered for `/metrics`.
  let labels: String
  let value: Value
}

/// Writes one Metric.
private struct MetricMessage {
  /// Series of one entry: with the most buckets and the longest labels they stay below 2 MiB.
  static let seriesMax = 32
  private static let cumulative: UInt64 = 2

  let family: MetricFamilySnapshot
  let started: UInt64
  let now: UInt64

  func write(_ series: ArraySlice<MetricSeries>, into out: inout ByteBuffer) {
    let metric = out.beginMessage(field: 2)
    out.append(field: 1, string: family.name)
    out.append(field: 2, string: family.help)
    out.append(field: 3, string: unit)
    let data =
      switch family.kind {
      case .gauge: out.beginMessage(field: 5)
      case .counter: out.beginMessage(field: 7)
      case .histogram: out.beginMessage(field: 9)
      }
    for one in series {
      let point = out.beginMessage(field: 1)
      switch one.value {
      case .number(let value): number(value, one.labels, into: &out)
      case .histogram(let histogram): self.histogram(histogram, one.labels, into: &out)
      }
      out.endMessage(point)
    }
    if family.kind != .gauge { out.append(field: 2, varint: Self.cumulative) }
    if family.kind == .counter { out.append(field: 3, varint: 1) }
    out.endMessage(data)
    out.endMessage(metric)
  }

  /// By UCUM, as the specification asks; empty where the name tells none.
  private var unit: String {
    for (suffix, unit) in [("_seconds", "s"), ("_bytes", "By"), ("_ms", "ms"), ("_percent", "1")]
    where family.name.hasSuffix(suffix) || family.name.hasSuffix(suffix + "_total") {
      return unit
    }
    return ""
  }

  /// NumberDataPoint.
  private func number(_ value: Double, _ labels: String, into out: inout ByteBuffer) {
    if family.kind == .counter { out.append(field: 2, fixed64: started) }
    out.append(field: 3, fixed64: now)
    out.append(field: 4, fixed64: value.bitPattern)
    attributes(labels, field: 7, into: &out)
  }

  /// HistogramDataPoint. Its bounds are upper ones that belong to their bucket, as Prometheus' are.
  private func histogram(_ histogram: Histogram, _ labels: String, into out: inout ByteBuffer) {
    out.append(field: 2, fixed64: started)
    out.append(field: 3, fixed64: now)
    let counts = (0...histogram.boundCount).map { histogram.bucketCount($0) }
    out.append(field: 4, fixed64: UInt64(counts.reduce(0, +)))
    out.append(field: 5, fixed64: histogram.sum.bitPattern)
    out.append(field: 6, messageOf: counts.count * 8)
    for count in counts { out.append(fixed64: UInt64(count)) }
    out.append(field: 7, messageOf: histogram.boundCount * 8)
    for index in 0..<histogram.boundCount {
      out.append(fixed64: histogram.upperBound(index).bitPattern)
    }
    for index in 0...histogram.boundCount {
      guard let exemplar = histogram.exemplar(index) else { continue }
      let mark = out.beginMessage(field: 8)
      out.append(field: 2, fixed64: exemplar.time)
      out.append(field: 3, fixed64: exemplar.value.bitPattern)
      var id = exemplar.spanID.bigEndian
      withUnsafeBytes(of: &id) { out.append(field: 4, bytes: $0) }
      var trace = (exemplar.traceID.high.bigEndian, exemplar.traceID.low.bigEndian)
      withUnsafeBytes(of: &trace) { out.append(field: 5, bytes: $0) }
      out.endMessage(mark)
    }
    attributes(labels, field: 9, into: &out)
  }

  private func attributes(_ labels: String, field: Int, into out: inout ByteBuffer) {
    for (key, value) in MetricLabels.parse(labels) {
      let mark = out.beginMessage(field: field)
      out.append(field: 1, string: key)
      let text = out.beginMessage(field: 2)
      out.append(field: 1, string: value)
      out.endMessage(text)
      out.endMessage(mark)
    }
  }
}

/// Labels as they are kept: rendered.
enum MetricLabels {
  /// Takes apart what ``MetricRegistry/render(_:)`` made.
  static func parse(_ text: String) -> [(key: String, value: String)] {
    var labels: [(key: String, value: String)] = []
    var rest = text.unicodeScalars[...]
    while let equals = rest.firstIndex(of: "=") {
      let key = String(rest[..<equals])
      rest = rest[equals...].dropFirst(2)
      var value = String.UnicodeScalarView()
      while let scalar = rest.popFirst(), scalar != "\"" {
        guard scalar == "\\", let escaped = rest.popFirst() else {
          value.append(scalar)
          continue
        }
        value.append(escaped == "n" ? "\n" : escaped)
      }
      labels.append((key, String(value)))
      if rest.first == "," { rest.removeFirst() }
    }
    return labels
  }
}
