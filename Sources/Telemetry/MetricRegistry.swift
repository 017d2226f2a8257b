// All metric families of one service: cells by name and labels, and callbacks that are read at a scrape.

package import Base
internal import Synchronization

/// The type of a metric family, as Prometheus names it.
package enum MetricKind: String, Sendable {
  case counter
  case gauge
  case histogram
}

/// The name and help text of a family. All of them stand in MetricNames.swift.
package struct MetricDescription: Sendable {
  package let name: String
  package let help: String

  package init(_ name: String, _ help: String) {
    self.name = name
    self.help = help
  }
}

/// Values that a callback gives at a scrape.
package struct MetricSamples {
  fileprivate(set) var samples: [(labels: String, value: Double)] = []
  let seriesMax: Int

  /// Adds one series. Each set of labels may be given once; series past the family's bound are left out.
  package mutating func add(_ value: Double, labels: [(String, String)] = []) {
    guard samples.count < seriesMax else { return }
    samples.append((MetricRegistry.render(labels), value))
  }
}

/// Hands out cells and writes them all down for a scrape.
///
/// Ask for a cell once and keep it: a look-up takes a lock and makes strings. The number of series of each
/// family is bounded; past it all share one series whose label values are `_other`, and
/// `dynamo_metrics_series_overflow_total{family}` counts the look-ups that landed there.
package final class MetricRegistry: Sendable {
  /// Series of one family, so that no caller can make labels without end.
  package static let seriesMax = 1_000
  /// Bytes of one label value; longer ones are cut.
  package static let labelBytesMax = 256
  /// The label value of the series that all series past the bound share.
  package static let overflowLabel = "_other"

  fileprivate struct State {
    var families: [String: MetricFamily] = [:]
  }

  private let state = Mutex(State())
  let seriesMax: Int
  private let frontendPrefix: String
  private static let defaultFrontendPrefix = "dynamo_frontend"

  /// - Parameter frontendPrefix: replaces `dynamo_frontend` at the start of names (DYN_METRICS_PREFIX).
  package init(
    frontendPrefix: String = MetricRegistry.defaultFrontendPrefix, seriesMax: Int = MetricRegistry.seriesMax
  ) {
    self.frontendPrefix = frontendPrefix
    self.seriesMax = seriesMax
  }

  /// The counter with these labels; the same labels give the same cell.
  package func counter(_ metric: MetricDescription, labels: [(String, String)] = []) -> Counter {
    let cell = cell(metric, .counter, labels) { .counter(Counter()) }
    guard case .counter(let counter) = cell else { preconditionFailure("\(metric.name) is no counter") }
    return counter
  }

  /// The gauge with these labels; the same labels give the same cell.
  package func gauge(_ metric: MetricDescription, labels: [(String, String)] = []) -> Gauge {
    let cell = cell(metric, .gauge, labels) { .gauge(Gauge()) }
    guard case .gauge(let gauge) = cell else { preconditionFailure("\(metric.name) is no gauge") }
    return gauge
  }

  /// The histogram with these labels; the same labels give the same cell, with the buckets it was made with.
  package func histogram(
    _ metric: MetricDescription, buckets: HistogramBuckets, labels: [(String, String)] = []
  ) -> Histogram {
    let cell = cell(metric, .histogram, labels) { .histogram(Histogram(buckets)) }
    guard case .histogram(let histogram) = cell else { preconditionFailure("\(metric.name) is no histogram") }
    return histogram
  }

  /// Asks `read` for a value at each scrape, on the thread that scrapes and outside the registry's lock.
  package func observe(
    _ metric: MetricDescription, _ kind: MetricKind, labels: [(String, String)] = [],
    _ read: @escaping @Sendable () -> Double
  ) {
    collect(metric, kind) { samples in samples.add(read(), labels: labels) }
  }

  /// Asks `read` for any number of series at each scrape, for labels that come and go with workers.
  package func collect(
    _ metric: MetricDescription, _ kind: MetricKind, _ read: @escaping @Sendable (inout MetricSamples) -> Void
  ) {
    precondition(kind != .histogram, "a histogram has cells")
    state.withLock { $0.family(named(metric), metric.help, kind).callbacks.append(read) }
  }

  /// Appends all families in the Prometheus text format, version 0.0.4, sorted by name.
  ///
  /// Families without a series are left out, as Prometheus' own clients do.
  package func writePrometheus(into out: inout ByteBuffer) { write(.prometheus, into: &out) }

  /// Appends all families in `format`, sorted by name, and then what `more` appends in the same format.
  ///
  /// - Parameter hidden: families that are left out.
  package func write(
    _ format: MetricFormat, into out: inout ByteBuffer, without hidden: [MetricDescription] = [],
    more: (inout ByteBuffer) -> Void = { _ in }
  ) {
    let names = Set(hidden.map { named($0) })
    for family in snapshots where !names.contains(family.name) {
      family.write(format, into: &out, seriesMax: seriesMax)
    }
    more(&out)
    if case .openMetrics = format { out.append("# EOF\n" as StaticString) }
  }

  /// All families, sorted by name.
  var snapshots: [MetricFamilySnapshot] {
    state.withLock { state in state.families.values.map { $0.snapshot() } }.sorted { $0.name < $1.name }
  }

  private func cell(
    _ metric: MetricDescription, _ kind: MetricKind, _ labels: [(String, String)],
    _ make: @Sendable () -> MetricCell
  ) -> MetricCell {
    let text = MetricRegistry.render(labels)
    let name = named(metric)
    return state.withLock { state in
      let family = state.family(name, metric.help, kind)
      if let known = family.cells[text] { return known }
      guard family.cells.count >= seriesMax else { return family.add(text, make()) }
      state.countOverflow(of: name)
      let other = MetricRegistry.render(labels.map { ($0.0, MetricRegistry.overflowLabel) })
      return family.cells[other] ?? family.add(other, make())
    }
  }

  private func named(_ metric: MetricDescription) -> String {
    let prefix = MetricRegistry.defaultFrontendPrefix
    guard frontendPrefix != prefix, metric.name.hasPrefix(prefix + "_") else { return metric.name }
    return frontendPrefix + metric.name.dropFirst(prefix.count)
  }

  /// `a="1",b="2"` with values escaped; empty for no labels.
  static func render(_ labels: [(String, String)]) -> String {
    var text = ""
    for (name, value) in labels {
      assert(MetricRegistry.isName(name), "label names are constants of ours")
      if !text.isEmpty { text += "," }
      text += name
      text += "=\""
      var bytes = 0
      for scalar in value.unicodeScalars {
        bytes += UTF8.width(scalar)
        if bytes > labelBytesMax { break }
        switch scalar {
        case "\\": text += "\\\\"
        case "\"": text += "\\\""
        case "\n": text += "\\n"
        default: text.unicodeScalars.append(scalar)
        }
      }
      text += "\""
    }
    return text
  }

  /// Whether `text` may name a metric or label: letters, digits and `_`, not starting with a digit.
  static func isName(_ text: String) -> Bool {
    guard let first = text.utf8.first, !(UInt8(ascii: "0")...UInt8(ascii: "9")).contains(first) else {
      return false
    }
    return text.utf8.allSatisfy { byte in
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"):
        true
      default: false
      }
    }
  }
}

extension MetricRegistry.State {
  fileprivate mutating func family(_ name: String, _ help: String, _ kind: MetricKind) -> MetricFamily {
    if let known = families[name] {
      precondition(known.kind == kind, "\(name) has one type")
      return known
    }
    assert(MetricRegistry.isName(name), "metric names are constants of ours")
    let family = MetricFamily(name: name, help: help, kind: kind)
    families[name] = family
    return family
  }

  fileprivate mutating func countOverflow(of name: String) {
    let overflow = MetricDescription.seriesOverflow
    let family = family(overflow.name, overflow.help, .counter)
    let text = MetricRegistry.render([("family", name)])
    let cell = family.cells[text] ?? family.add(text, .counter(Counter()))
    if case .counter(let counter) = cell { counter.add() }
  }
}
