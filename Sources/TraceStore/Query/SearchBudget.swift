// How much work one query may do: in all, in one go, and on one trace.

internal import Base

/// Time for one query, told by a clock that is passed in. A query whose time is over ends with what it has found.
///
/// Between ``beginSlice(_:)`` and ``endSlice()`` time counts; what passes while others have their turn does not.
final class SearchBudget {
  /// Units between two looks at the clock: a few milliseconds of the dearest work.
  static let unitsPerLook = 1 << 18
  /// How long one trace may be looked at: nothing else is done meanwhile.
  static let traceTimeMax = 100 * millisecond

  private let clock: () -> Nanoseconds
  private var left: Nanoseconds
  private var units = 0
  /// The clock as it was seen last.
  private var now: Nanoseconds = 0
  private var sliceBegan: Nanoseconds = 0
  private var sliceEnds = Nanoseconds.max
  private var traceEnds = Nanoseconds.max
  /// The time is over for good.
  private(set) var isSpent = false
  /// The time of one trace is over: it is given up, and the next one may be looked at.
  private(set) var isTraceSpent = false

  /// A budget of `length` nanoseconds of work.
  init(_ length: Nanoseconds, clock: @escaping () -> Nanoseconds) {
    left = length
    self.clock = clock
  }

  /// True when what is being looked at cannot be looked at to its end.
  var isOver: Bool { isSpent || isTraceSpent }

  /// True when somebody else is to have a turn.
  var isSliceOver: Bool { now >= sliceEnds }

  /// Goes on, for `length` nanoseconds in one go.
  func beginSlice(_ length: Nanoseconds) {
    now = clock()
    sliceBegan = now
    sliceEnds = length > .max - now ? .max : now + length
  }

  /// Lets others have their turn.
  func endSlice() {
    now = clock()
    let took = now > sliceBegan ? now - sliceBegan : 0
    left -= min(left, took)
    if left == 0 { isSpent = true }
  }

  /// Begins with a trace of `bytes` bytes. False when there is no time left for it.
  func beginTrace(_ bytes: Int) -> Bool {
    isTraceSpent = false
    traceEnds = .max
    guard spend(bytes) else { return false }
    traceEnds = now > .max - Self.traceTimeMax ? .max : now + Self.traceTimeMax
    return true
  }

  /// Counts work before it is done, in bytes looked at. False when there is no time left for it.
  func spend(_ work: Int) -> Bool {
    guard !isOver else { return false }
    units += work
    if units >= Self.unitsPerLook {
      units = 0
      now = clock()
      isSpent = now >= sliceBegan && now - sliceBegan >= left
      isTraceSpent = now >= traceEnds
    }
    return !isOver
  }
}
