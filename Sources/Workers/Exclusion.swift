// How long a worker is left alone after a connect to it failed.

internal import Base

/// One worker's exclusion: 1 s, doubling to 30 s with each failure, until a probe after it succeeds. Told the time.
struct Exclusion: Sendable, Equatable {
  static let shortest = second
  static let longest = 30 * second

  /// When the present or last exclusion ends.
  private(set) var until: Nanoseconds = 0
  private var next = Exclusion.shortest

  /// A connect failed. False while excluded already: requests that were on their way then tell nothing new.
  mutating func failed(at now: Nanoseconds) -> Bool {
    guard !isActive(at: now) else { return false }
    until = now + next
    next = min(next * 2, Exclusion.longest)
    return true
  }

  /// A probe succeeded.
  mutating func answered(at now: Nanoseconds) {
    if !isActive(at: now) { next = Exclusion.shortest }
  }

  func isActive(at now: Nanoseconds) -> Bool { now < until }
}
