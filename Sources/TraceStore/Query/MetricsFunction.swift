// What a TraceQL metrics query computes over time, and over which intervals.
// Source: Tempo 3.0, "TraceQL metrics".

internal import Base

/// The last stage of a metrics query.
struct MetricsFunction: Sendable {
  enum Kind: Sendable {
    /// Matching spans a second, or their number.
    case rate, count
    /// Of a number's values.
    case aggregate(Aggregate, SpanField)
    /// How many of a number's values lie in each power of two.
    case histogram(SpanField)
    /// The values below which given shares lie.
    case quantiles(SpanField, [Double])
    /// How often each value of each attribute occurs on the selected spans, and on the others.
    case compare(Comparison)
  }

  /// The arguments of `compare()`.
  struct Comparison: Sendable {
    /// Which spans are selected; nil for all.
    let selection: FieldExpression?
    /// Values shown of each attribute, those that occur most.
    let valuesMax: Int
    /// Wall-clock nanoseconds in which a selected span begins; nil for any.
    let window: Range<UInt64>?
  }

  /// What is done with the series, in order.
  enum Stage: Sendable, Equatable {
    /// Of each interval the largest numbers alone, or the smallest.
    case top(Int), bottom(Int)
    /// The numbers for which the comparison holds.
    case filter(TraceStore.Comparison, Double)
  }

  /// Its name, which a series without any other label carries.
  let name: String
  let kind: Kind
  /// What spans are told apart by; each combination of values is a series.
  let groups: [SpanField]
  var stages: [Stage] = []

  /// Whether values are counted by their power of two.
  var countsBuckets: Bool {
    switch kind {
    case .histogram, .quantiles: true
    case .rate, .count, .aggregate, .compare: false
    }
  }
}

/// The points in time that a metrics query answers for. An interval has the time of its end, which belongs to it.
struct MetricsIntervals: Sendable, Equatable {
  /// Most intervals of a query; Grafana asks for a few hundred.
  static let countMax = 1_000

  /// Wall-clock nanoseconds. The first interval begins behind `start`, or at it where there is only one.
  let start: UInt64
  let step: UInt64
  let count: Int

  /// One interval from `start` to `end`, both of which belong to it.
  init(from start: UInt64, to end: UInt64) {
    self.init(start: start, step: end - start, count: 1)
  }

  /// As Tempo cuts a range: the intervals end at multiples of `step`, from the last one up to `start` to the first one
  /// from `end` on. Nil when there are more than ``countMax``.
  init?(from start: UInt64, to end: UInt64, step: UInt64) {
    guard step > 0, start <= end else { return nil }
    if end - start == step {
      self.init(from: start, to: end)
      return
    }
    let first = start - start % step
    let last = end % step == 0 ? end : end - end % step + step
    let start = first > step ? first - step : first
    let count = (last - start) / step
    guard (1...UInt64(Self.countMax)).contains(count) else { return nil }
    self.init(start: start, step: step, count: Int(count))
  }

  private init(start: UInt64, step: UInt64, count: Int) {
    self.start = start
    self.step = step
    self.count = count
  }

  /// How long an interval is where nobody says: about 240 of them, in whole seconds.
  static func defaultStep(from start: UInt64, to end: UInt64) -> UInt64 {
    let whole = (end - min(start, end)) / 240 / second
    return max(whole >= 5 ? whole / 5 * 5 : whole, 1) * second
  }

  var end: UInt64 { start + step * UInt64(count) }

  /// Whether it is a single one.
  private var isInstant: Bool { count == 1 }

  /// The interval of a point in time; nil outside of all.
  func index(of time: UInt64) -> Int? {
    guard time <= end, time > start || (isInstant && time == start) else { return nil }
    return time == start ? 0 : Int((time - start - 1) / step)
  }

  /// Milliseconds since 1970 of an interval's end.
  func milliseconds(_ index: Int) -> UInt64 { (start + step * UInt64(index + 1)) / millisecond }
}
