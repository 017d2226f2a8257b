// How much work one search may do.

internal import Base

/// Time for one search, told by a clock that is passed in. A search whose time is over ends with what it has found.
final class SearchBudget {
  /// Units between two looks at the clock: a few milliseconds of the dearest work.
  static let unitsPerLook = 1 << 18

  private let clock: () -> Nanoseconds
  private let deadline: Nanoseconds
  private var units = 0
  private(set) var isSpent = false

  /// Begins now.
  init(_ length: Nanoseconds, clock: @escaping () -> Nanoseconds) {
    self.clock = clock
    deadline = clock() + length
  }

  /// Counts work before it is done, in bytes looked at. False when there is no time left for it.
  func spend(_ work: Int) -> Bool {
    guard !isSpent else { return false }
    units += work
    if units >= Self.unitsPerLook {
      units = 0
      isSpent = clock() >= deadline
    }
    return !isSpent
  }
}
