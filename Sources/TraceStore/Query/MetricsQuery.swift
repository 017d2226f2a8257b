// A metrics query over the store: spans are sorted into series and intervals as they are met.

internal import Base
internal import Glibc

/// Labels and numbers of one series.
struct MetricsSeries {
  /// Its labels as JSON, without brackets: what tells it from others.
  let labels: [UInt8]
  /// The same as Prometheus has them.
  let names: [(name: String, value: String)]
  /// Rows of numbers: one, or one for each power of two, by its exponent.
  fileprivate(set) var rows: [Int: Row] = [:]

  struct Row {
    /// By interval: number of spans, or an aggregate of their values, which is NaN where there was none.
    fileprivate(set) var values: [Double]
    /// By interval: values in the aggregate; empty where nobody asks.
    fileprivate(set) var counts: [UInt32] = []
  }
}

/// A metrics query under way, or over.
final class MetricsQuery: StoreQuery {
  /// Most series before powers of two and quantiles tell them apart further; spans of others are left out.
  static let seriesMax = 100
  /// Most numbers in all rows, and to be computed of them: 1 MiB, and some 50 bytes for each in the answer.
  static let cellsMax = 1 << 17
  /// Longest text of a label; others are cut, so that they may fall together.
  static let labelBytesMax = 1_024

  let query: TraceQLQuery
  let function: MetricsFunction
  let intervals: MetricsIntervals
  /// Whether one number for each series is asked for, without a time.
  let isInstant: Bool
  let budget: SearchBudget?
  /// What the bytes of the answer are charged to, together with those of other queries; nil is no bound.
  let room: AnswerRoom?
  private var compared: ComparedSpans?
  private var answer: MetricsAnswer?
  private(set) var series: [MetricsSeries] = []
  private var places: [[UInt8]: Int] = [:]
  private var cells = 0
  private(set) var inspectedTraces = 0
  private(set) var inspectedBytes = 0
  private(set) var inspectedSpans = 0
  var isCut = false
  /// Which bound ended it; empty for time.
  private(set) var cause = ""

  /// Nil for a query that is no metrics query.
  init?(
    _ query: TraceQLQuery, _ intervals: MetricsIntervals, isInstant: Bool, budget: SearchBudget?,
    room: AnswerRoom? = nil
  ) {
    guard let function = query.metrics else { return nil }
    self.room = room
    if case .compare(let comparison) = function.kind {
      compared = ComparedSpans(comparison, intervals: intervals.count)
    }
    self.query = query
    self.function = function
    self.intervals = intervals
    self.isInstant = isInstant
    self.budget = budget
  }

  var range: ClosedRange<UInt64>? { intervals.start...intervals.end }

  func look(at trace: StoredTrace) -> Bool {
    inspectedTraces += 1
    inspectedBytes += trace.bytes
    let view = TraceView(trace, budget: budget)
    let matched = query.matches(in: view)
    // Of a trace that was not looked at to its end nothing is known.
    guard budget?.isOver != true else { return true }
    for index in matched { observe(index, in: view) }
    return true
  }

  private func observe(_ index: Int, in view: TraceView) {
    guard let interval = intervals.index(of: view.spans[index].start) else { return }
    inspectedSpans += 1
    if let compared { return compared.observe(index, in: view, interval, takeCells) }
    var value = 1.0
    var exponent = 0
    switch function.kind {
    case .rate, .count, .compare: break
    case .aggregate(_, let field):
      guard let number = MetricsNumber(of: field, index, in: view) else { return }
      value = number.value
    case .histogram(let field), .quantiles(let field, _):
      guard let found = MetricsNumber(of: field, index, in: view)?.exponent else { return }
      exponent = found
    }
    guard let place = place(of: index, in: view), makeRow(exponent, place) else { return }
    series[place].rows[exponent]?.take(value, interval, function.kind)
  }

  /// The series of a span; nil when there is no room for another.
  private func place(of index: Int, in view: TraceView) -> Int? {
    let labels = MetricsLabels(of: function.groups, index, in: view)
    // Past the bound of time a span shows none of its values.
    guard budget?.isOver != true else { return nil }
    if let known = places[labels.json] { return known }
    guard series.count < Self.seriesMax else {
      isCut = true
      cause = "more than \(Self.seriesMax) series"
      return nil
    }
    // Quantiles are computed as the answer is written.
    if case .quantiles(_, let quantiles) = function.kind {
      guard takeCells(quantiles.count * intervals.count) else { return nil }
    }
    series.append(MetricsSeries(labels: labels.json, names: labels.names))
    places[labels.json] = series.count - 1
    return series.count - 1
  }

  private func makeRow(_ exponent: Int, _ place: Int) -> Bool {
    if series[place].rows[exponent] != nil { return true }
    guard takeCells(intervals.count) else { return false }
    var row = MetricsSeries.Row(values: Array(repeating: 0, count: intervals.count))
    if case .aggregate(let aggregate, _) = function.kind {
      row = MetricsSeries.Row(values: Array(repeating: .nan, count: intervals.count))
      if aggregate == .avg { row.counts = Array(repeating: 0, count: intervals.count) }
    }
    series[place].rows[exponent] = row
    return true
  }

  private func takeCells(_ count: Int) -> Bool {
    guard cells + count <= Self.cellsMax else {
      isCut = true
      cause = "more than \(Self.cellsMax) numbers"
      return false
    }
    cells += count
    return true
  }

  func prepare() -> Bool {
    if let answer {
      guard answer.step() else { return false }
      if answer.isCut {
        isCut = true
        cause = "the answer is too large beside those that are under way"
      }
      return true
    }
    let made = MetricsAnswer(
      compared?.lines() ?? series.flatMap { $0.lines(self) }, function.stages, intervals,
      isInstant: isInstant, room: room)
    compared = nil
    answer = made
    return false
  }

  /// Writes the answer, and keeps nothing of it: its reader may be slow.
  func write(into out: inout ByteBuffer) {
    while !prepare() {}
    out.append(self, answer)
    answer = nil
  }
}

extension MetricsSeries.Row {
  fileprivate mutating func take(_ value: Double, _ interval: Int, _ kind: MetricsFunction.Kind) {
    guard case .aggregate(let aggregate, _) = kind else {
      values[interval] += 1
      return
    }
    let known = values[interval]
    switch aggregate {
    case _ where known.isNaN: values[interval] = value
    case .sum, .avg: values[interval] = known + value
    case .min: values[interval] = min(known, value)
    case .max: values[interval] = max(known, value)
    }
    if !counts.isEmpty { counts[interval] += 1 }
  }
}

/// A number on a span; lengths of time in seconds.
private struct MetricsNumber {
  let value: Double
  /// The power of two that it is rounded up to, of nanoseconds where it is a length; nil for what has none.
  let exponent: Int?

  init?(of field: SpanField, _ index: Int, in view: TraceView) {
    var found: SpanValue?
    _ = view.holds(field, index) { value in
      guard value.number != nil else { return false }
      found = value
      return true
    }
    switch found {
    case .duration(let length):
      value = Double(length) / 1e9
      exponent = Self.exponent(Double(length), from: 2)
    case .int(let number):
      value = Double(number)
      exponent = Self.exponent(value, from: 2)
    case .double(let number):
      guard number.isFinite else { return nil }
      value = number
      // Tempo has no buckets for these; times in milliseconds are such numbers here.
      exponent = Self.exponent(number, from: .leastNormalMagnitude)
    default: return nil
    }
  }

  /// As Tempo, whose smallest value is 2.
  private static func exponent(_ value: Double, from least: Double) -> Int? {
    value >= least ? Int(log2(value).rounded(.up)) : nil
  }
}

/// The labels that a span gives its series. What it does not have, or has a list of, is none.
private struct MetricsLabels {
  let json: [UInt8]
  let names: [(name: String, value: String)]

  init(of groups: [SpanField], _ index: Int, in view: TraceView) {
    var out = ByteBuffer()
    var names: [(name: String, value: String)] = []
    for field in groups {
      let name = field.labelName
      _ = view.holds(field, index) { value in
        guard let text = out.append(label: name, value, bytesMax: MetricsQuery.labelBytesMax) else {
          return false
        }
        names.append((name, text))
        return true
      }
    }
    json = out.bytes
    self.names = names
  }
}

extension SpanField {
  /// As it stands in a query, with its scope.
  var labelName: String {
    switch self {
    case .attribute(let scope, let name): "\(scope.rawValue).\(String(decoding: name, as: UTF8.self))"
    case .parent(.any, let name): "parent.\(String(decoding: name, as: UTF8.self))"
    case .parent(let scope, let name):
      "parent.\(scope.rawValue).\(String(decoding: name, as: UTF8.self))"
    case .intrinsic(let intrinsic): intrinsic.rawValue
    }
  }
}
