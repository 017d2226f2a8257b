// A metrics query's answer in the making: lines of numbers, what their stages leave of them, and their JSON, by turns.

internal import Base

/// One series as it is shown.
struct MetricsLine {
  /// Its labels as JSON, without brackets.
  let labels: [UInt8]
  /// The same as Prometheus has them; tells it from the others.
  let prom: String
  /// The number of an interval; NaN where there is none.
  var value: (Int) -> Double
  /// It is shown without any number too: it says why others are missing.
  var isNote = false
}

/// Makes the answer ready a piece at a time, so that spans come in meanwhile. Its bytes are charged as they come.
final class MetricsAnswer {
  /// Numbers that are computed and written in one turn: about a millisecond's work.
  static let numbersPerTurn = 4_096

  private let intervals: MetricsIntervals
  private let isInstant: Bool
  private let stages: [MetricsFunction.Stage]
  private let room: AnswerRoom?
  /// Series for which there was no room are missing.
  private(set) var isCut = false
  private var lines: [MetricsLine]
  /// By line: its numbers, where stages need those of all lines together.
  private var numbers: [[Double]] = []
  /// The stages that are over, and of the present one the intervals.
  private var stage = 0
  private var interval = 0
  private var isStaged = false
  private var next = 0
  private var written: [FrozenBytes] = []
  private var writtenBytes = 0

  init(
    _ lines: [MetricsLine], _ stages: [MetricsFunction.Stage], _ intervals: MetricsIntervals, isInstant: Bool,
    room: AnswerRoom?
  ) {
    self.lines = lines.sorted { $0.prom < $1.prom }
    self.stages = stages
    self.intervals = intervals
    self.isInstant = isInstant
    self.room = room
    isStaged = stages.isEmpty
  }

  deinit { room?.giveBack(writtenBytes) }

  private var linesPerTurn: Int { max(1, Self.numbersPerTurn / intervals.count) }

  /// One turn. True when the answer is ready.
  func step() -> Bool {
    if !isStaged {
      if numbers.count < lines.count {
        for line in lines[numbers.count...].prefix(linesPerTurn) {
          numbers.append((0..<intervals.count).map(line.value))
        }
      } else if stage < stages.count {
        apply(stages[stage])
      } else {
        takeNumbers()
      }
      return false
    }
    for line in lines[next...].prefix(linesPerTurn) { write(line) }
    next = min(next + linesPerTurn, lines.count)
    return next == lines.count
  }

  // MARK: Stages

  /// Applies the present stage to as many intervals as one turn has.
  private func apply(_ present: MetricsFunction.Stage) {
    let end = min(interval + max(1, Self.numbersPerTurn / max(1, lines.count)), intervals.count)
    for interval in interval..<end {
      switch present {
      case .filter(let comparison, let bound):
        for line in numbers.indices where !comparison.holds(numbers[line][interval], bound) {
          numbers[line][interval] = .nan
        }
      case .top(let count): keep(count, interval, isFirst: >)
      case .bottom(let count): keep(count, interval, isFirst: <)
      }
    }
    interval = end
    guard interval == intervals.count else { return }
    interval = 0
    stage += 1
  }

  /// Keeps the `count` first numbers of an interval; of equal ones those whose labels come first.
  private func keep(_ count: Int, _ interval: Int, isFirst: (Double, Double) -> Bool) {
    guard lines.count > count else { return }
    let present = numbers.indices.filter { !numbers[$0][interval].isNaN }
    guard present.count > count else { return }
    let sorted = present.sorted { left, right in
      let (a, b) = (numbers[left][interval], numbers[right][interval])
      return a == b ? left < right : isFirst(a, b)
    }
    for line in sorted.dropFirst(count) { numbers[line][interval] = .nan }
  }

  /// The stages are over: what has numbers left, or says something else, is shown.
  private func takeNumbers() {
    isStaged = true
    var left: [MetricsLine] = []
    for (line, numbers) in zip(lines, numbers) where line.isNote || numbers.contains(where: { !$0.isNaN }) {
      var line = line
      line.value = { numbers[$0] }
      left.append(line)
    }
    lines = left
    numbers = []
  }

  // MARK: JSON

  private func write(_ line: MetricsLine) {
    // One number for each series: that of a note is none.
    if isInstant, line.value(0).isNaN { return }
    var out = ByteBuffer()
    if !written.isEmpty { out.append(UInt8(ascii: ",")) }
    out.append(series: line, intervals, isInstant: isInstant)
    guard writtenBytes + out.count <= SearchRequest.answerBytesMax, room?.take(out.count) ?? true else {
      isCut = true
      return
    }
    writtenBytes += out.count
    written.append(FrozenBytes(out))
  }

  /// Appends the series, without the list's brackets.
  func write(into out: inout ByteBuffer) {
    for line in written { line.withUnsafeBytes { out.append($0) } }
  }
}

extension Comparison {
  fileprivate func holds(_ left: Double, _ right: Double) -> Bool {
    switch self {
    case .equal: left == right
    case .notEqual: left != right
    case .less: left < right
    case .lessOrEqual: left <= right
    case .greater: left > right
    case .greaterOrEqual: left >= right
    }
  }
}
