// The least pace of request bodies: who sends a byte now and then does not keep a connection by it.

package import Base

/// How fast a request body must come on average, as Apache's mod_reqtimeout asks it.
package struct LeastPace: Sendable, Equatable {
  package var bytesPerSecond: Int
  /// Time that is given before bytes are counted.
  package var grace: Nanoseconds

  package init(bytesPerSecond: Int, grace: Nanoseconds = 20 * second) {
    self.bytesPerSecond = max(1, bytesPerSecond)
    self.grace = grace
  }
}

/// The deadline that the bytes of one body move: each buys the time that it may take. Time in which we did not read does
/// not count.
struct BodyPace {
  /// When the body has come too slowly; `.max` where no pace is asked for.
  private(set) var deadline = Nanoseconds.max
  private var pausedSince: Nanoseconds?

  mutating func begin(at now: Nanoseconds, _ limits: ServerLimits) {
    pausedSince = nil
    deadline = limits.leastPace.map { now + $0.grace } ?? .max
  }

  /// Time bought by what came fast lasts as long as a silence may, at most: who has sent much must not trickle for hours.
  mutating func received(_ count: Int, at now: Nanoseconds, _ limits: ServerLimits) {
    guard deadline < .max, let pace = limits.leastPace else { return }
    let bought = Nanoseconds(count) * second / Nanoseconds(pace.bytesPerSecond)
    deadline = min(deadline + bought, max(deadline, now + max(pace.grace, limits.bodyGapTimeout)))
  }

  /// Reading stops: for want of memory, as a rule.
  mutating func pause(at now: Nanoseconds) {
    if pausedSince == nil { pausedSince = now }
  }

  mutating func resume(at now: Nanoseconds) {
    guard let since = pausedSince else { return }
    pausedSince = nil
    if deadline < .max { deadline += now - since }
  }

  func isOver(at now: Nanoseconds) -> Bool { pausedSince == nil && now >= deadline }
}
