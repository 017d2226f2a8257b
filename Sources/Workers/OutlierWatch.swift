// When a worker's failures take it out of service, and for how long: arithmetic that is told the time.

package import Base

/// What takes a worker out, and how it comes back.
package struct OutlierRules: Sendable, Equatable {
  /// Requests that fail one after the other; 0 for no such rule.
  package var rowMax = 5
  /// Share of a window's requests that fail, from 0 to 1; nil for no such rule.
  package var faultShare: Double? = 0.5
  /// How far back the share looks.
  package var window: Nanoseconds = 10 * second
  /// Requests in a window from which on its share means something.
  package var requestsMin = 20
  /// The first ejection's length; each further one is twice as long.
  package var ejection: Nanoseconds = 10 * second
  package var ejectionMax: Nanoseconds = 300 * second
  /// From the return on, how long its share of the requests grows; 0 gives it all at once.
  package var slowStart: Nanoseconds = 30 * second
  /// Share of a model's workers, from 0 to 1: while more than it would be out, nobody is ejected.
  package var panicShare = 0.5

  package init() {}

  /// True when passive rules are there.
  var isWatching: Bool { rowMax > 0 || faultShare != nil }
}

/// Why a worker was ejected; the label of the metric.
package enum EjectionCause: String, Sendable, CaseIterable {
  case consecutive
  case faultShare = "error_share"
  case canary
}

/// Keeps one worker's recent history.
struct OutlierWatch {
  /// Looks at the counts in a window.
  static let looksPerWindow: Nanoseconds = 10

  private let rules: OutlierRules
  private var looks: [(time: Nanoseconds, counts: OutlierCounts)] = []
  /// Ejections that followed one another closely, and the end of the last.
  private var ejections = 0
  private var lastLength: Nanoseconds = 0
  private var lastEnd: Nanoseconds = 0

  init(_ rules: OutlierRules) { self.rules = rules }

  /// Looks at the counts; says why the worker is to be ejected, if it is.
  mutating func look(_ counts: OutlierCounts, row: Int, now: Nanoseconds) -> (EjectionCause, String)? {
    if rules.rowMax > 0, row >= rules.rowMax {
      return (.consecutive, "\(row) requests in a row failed")
    }
    guard let share = rules.faultShare else { return nil }
    looks.removeAll { $0.time + rules.window < now }
    // Reports between two looks of the clock must not make the list longer than the window has looks.
    let isDue = looks.last.map { $0.time + rules.window / Self.looksPerWindow <= now } ?? true
    if isDue { looks.append((now, counts)) }
    guard let first = looks.first else { return nil }
    let faults = counts.faults - first.counts.faults
    let all = faults + counts.good - first.counts.good
    guard all >= rules.requestsMin, Double(faults) >= share * Double(all) else { return nil }
    return (.faultShare, "\(faults) of \(all) requests failed")
  }

  /// The worker is ejected. Returns for how long: doubling while ejections follow one another.
  mutating func eject(now: Nanoseconds) -> Nanoseconds {
    // In service for twice as long as it was out, and through its slow start: then it has recovered.
    if now > lastEnd + 2 * lastLength + rules.slowStart { ejections = 0 }
    var length = rules.ejection
    for _ in 0..<min(ejections, 32) where length < rules.ejectionMax { length *= 2 }
    length = min(length, max(rules.ejectionMax, rules.ejection))
    ejections += 1
    lastLength = length
    lastEnd = now + length
    looks.removeAll()
    return length
  }

  /// The worker is back: what failed before counts no more.
  mutating func returned(now: Nanoseconds) {
    lastEnd = now
    looks.removeAll()
  }
}
