// `compare()`: how often each value of each attribute occurs on selected spans and on the others.
// Source: Tempo 3.0, "TraceQL metrics functions"; the series' labels are those that Grafana's Traces Drilldown reads.

internal import Base
internal import Telemetry

/// Counts values by attribute, side and interval.
final class ComparedSpans {
  /// Attributes that are counted; those that come later are not.
  static let attributesMax = 256
  /// Values that are counted for each that is shown. Those that come later are in the totals alone.
  static let countedPerShown = 4

  /// One side of one attribute.
  private struct Side {
    var totals: [Double] = []
    var places: [[UInt8]: Int] = [:]
    /// By place: labels as JSON, the value as Prometheus has it, and the counts.
    var values: [(labels: [UInt8], text: String, counts: [Double])] = []
    /// There were more values than are shown.
    var hasMore = false
  }

  private let comparison: MetricsFunction.Comparison
  private let intervals: Int
  private var baseline: [String: Side] = [:]
  private var selection: [String: Side] = [:]

  init(_ comparison: MetricsFunction.Comparison, intervals: Int) {
    self.comparison = comparison
    self.intervals = intervals
  }

  /// Counts what the span at `index` has. `takeCells` says whether there is room for so many numbers more.
  func observe(_ index: Int, in view: TraceView, _ interval: Int, _ takeCells: (Int) -> Bool) {
    let span = view.spans[index]
    guard view.spend(2 * span.message.count + span.origin.resource.count) else { return }
    let isSelected =
      comparison.window?.contains(span.start) ?? true
      && comparison.selection?.holds(on: index, in: view) ?? true
    func add(_ name: String, _ value: SpanValue) {
      if isSelected {
        count(name, value, interval, &selection, takeCells)
      } else {
        count(name, value, interval, &baseline, takeCells)
      }
    }
    for intrinsic in [Intrinsic.name, .kind, .status, .statusMessage, .rootName, .rootServiceName] {
      _ = view.holds(.intrinsic(intrinsic), index) { value in
        add(intrinsic.rawValue, value)
        return true
      }
    }
    AttributeReader.forEach(in: span.message, field: 9) { add("span.\($0.text)", SpanValue($1)) }
    AttributeReader.forEach(in: span.origin.resource, field: 1) {
      add("resource.\($0.text)", SpanValue($1))
    }
  }

  private func count(
    _ name: String, _ value: SpanValue, _ interval: Int, _ sides: inout [String: Side],
    _ takeCells: (Int) -> Bool
  ) {
    switch value {
    case .none, .array, .duration: return
    default: break
    }
    let name = name.utf8.count <= MetricsQuery.labelBytesMax ? name : String(name.prefix(256))
    if sides[name] == nil {
      guard sides.count < Self.attributesMax, takeCells(intervals) else { return }
      sides[name] = Side(totals: Array(repeating: 0, count: intervals))
    }
    var json = ByteBuffer()
    guard let text = json.append(label: name, value, bytesMax: MetricsQuery.labelBytesMax) else { return }
    sides[name]?.totals[interval] += 1
    let labels = json.bytes
    if let place = sides[name]?.places[labels] {
      sides[name]?.values[place].counts[interval] += 1
      return
    }
    let counted = sides[name]?.values.count ?? 0
    if counted >= comparison.valuesMax { sides[name]?.hasMore = true }
    guard counted < comparison.valuesMax * Self.countedPerShown, takeCells(intervals) else { return }
    var counts = [Double](repeating: 0, count: intervals)
    counts[interval] = 1
    sides[name]?.places[labels] = counted
    sides[name]?.values.append((labels, text, counts))
  }

  // MARK: Lines

  /// The values that occur most, the totals, and a note on each attribute of which values are missing.
  func lines() -> [MetricsLine] {
    var lines: [MetricsLine] = []
    for (type, sides) in [("baseline", baseline), ("selection", selection)] {
      for (name, side) in sides {
        let totals = side.values.map { $0.counts.reduce(0, +) }
        let first = side.values.indices.sorted { left, right in
          totals[left] == totals[right]
            ? side.values[left].text < side.values[right].text : totals[left] > totals[right]
        }
        for place in first.prefix(comparison.valuesMax) {
          let value = side.values[place]
          lines.append(
            Self.line(("__meta_type", type), value.labels, (name, value.text)) { value.counts[$0] })
        }
        lines.append(
          Self.line(("__meta_type", "\(type)_total"), Self.none(name), (name, "<nil>")) { side.totals[$0] })
      }
    }
    for name in Set(baseline.keys).union(selection.keys)
    where baseline[name]?.hasMore == true || selection[name]?.hasMore == true {
      var note = Self.line(("__meta_error", "__too_many_values__"), Self.none(name), (name, "<nil>")) { _ in
        .nan
      }
      note.isNote = true
      lines.append(note)
    }
    return lines
  }

  private static func none(_ name: String) -> [UInt8] {
    var json = ByteBuffer()
    _ = json.append(label: name, text: "nil")
    return json.bytes
  }

  private static func line(
    _ meta: (name: String, value: String), _ labels: [UInt8], _ own: (name: String, value: String),
    _ value: @escaping (Int) -> Double
  ) -> MetricsLine {
    var json = ByteBuffer()
    _ = json.append(label: meta.name, text: meta.value)
    json.append(UInt8(ascii: ","))
    json.append(labels)
    return MetricsLine(labels: json.bytes, prom: [meta, own].prometheus, value: value)
  }
}

extension ByteBuffer {
  fileprivate mutating func append(label name: String, text: String) -> String? {
    var text = text
    return text.withUTF8 { append(label: name, .string(UnsafeRawBufferPointer($0))) }
  }
}
