// Limits by the minute that several loops share without a lock: each is one instant, moved by compare and exchange.

package import Base
internal import Synchronization

/// How much of something is used up, as the instant at which none of it will be: GCRA, the generic cell rate algorithm
/// of ITU-T I.371. Whatever is taken moves the instant on by the time in which it grows back.
package final class RateMeter: Sendable {
  /// On the monotonic clock; in the past when nothing is used up.
  private let emptyAt = Atomic<Int64>(0)

  package init() {}

  fileprivate var instant: Int64 { emptyAt.load(ordering: .relaxed) }

  /// Takes time `cost` and returns the instant after it; nil if that would lie more than `window` ahead of `now`.
  fileprivate func take(_ cost: Int64, within window: Int64, now: Int64) -> Int64? {
    var seen = instant
    while true {
      let next = max(seen, now) + cost
      guard next - now <= window else { return nil }
      let (isDone, present) = emptyAt.weakCompareExchange(
        expected: seen, desired: next, ordering: .relaxed)
      if isDone { return next }
      seen = present
    }
  }

  /// Takes time `cost` however little is left, up to `debt` ahead of `now`; a negative cost gives back.
  fileprivate func charge(_ cost: Int64, debt: Int64, now: Int64) {
    var seen = instant
    while true {
      let next = cost < 0 ? max(0, seen + cost) : min(max(seen, now) + cost, max(seen, now + debt))
      let (isDone, present) = emptyAt.weakCompareExchange(
        expected: seen, desired: next, ordering: .relaxed)
      if isDone { return }
      seen = present
    }
  }
}

/// One limit: so many in a minute, all of them at once if nothing was used for a minute.
package struct RateLimit: Sendable, Equatable {
  /// At least 1.
  package let perMinute: Int

  package init(perMinute: Int) { self.perMinute = max(1, perMinute) }

  private static let minute: Int64 = 60_000_000_000
  /// What is used beyond the limit, because it was not known before, keeps a key waiting for so long at most.
  private static let debtMax = 10 * minute
  /// Three years, which is more than ever grows back.
  private static let costMax = 1e17

  /// The time in which `count` grow back; rounded down, so that a minute's worth always fits into a minute.
  private func cost(_ count: Int) -> Int64 {
    Int64(min(Double(count) * Double(Self.minute) / Double(perMinute), Self.costMax))
  }

  /// Takes `count` if so many are left.
  package func take(_ count: Int, of meter: RateMeter, now: Nanoseconds) -> Bool {
    reserve(count, of: meter, now: now) != nil
  }

  /// Takes `count` if so many are left, and returns when all of them will have grown back; nil when fewer are left.
  package func reserve(_ count: Int, of meter: RateMeter, now: Nanoseconds) -> Nanoseconds? {
    meter.take(cost(count), within: Self.minute, now: Int64(now)).map { Nanoseconds($0) }
  }

  /// Takes `count` although fewer may be left: they are used already.
  package func charge(_ count: Int, to meter: RateMeter, now: Nanoseconds) {
    meter.charge(cost(count), debt: Self.debtMax, now: Int64(now))
  }

  /// Gives back `count` of those that grow back until `end`, as far as they have not: what is taken later may stand on those
  /// that have.
  package func refund(_ count: Int, to meter: RateMeter, reservedUntil end: Nanoseconds, now: Nanoseconds) {
    let back = min(cost(count), Int64(end) - Int64(now))
    if back > 0 { meter.charge(-back, debt: Self.debtMax, now: Int64(now)) }
  }

  /// How many are left.
  package func remaining(in meter: RateMeter, now: Nanoseconds) -> Int {
    let room = Self.minute - max(0, meter.instant - Int64(now))
    return room <= 0 ? 0 : Int(Double(room) * Double(perMinute) / Double(Self.minute))
  }

  /// How long it takes until all of them are there again.
  package func reset(of meter: RateMeter, now: Nanoseconds) -> Nanoseconds {
    Nanoseconds(max(0, meter.instant - Int64(now)))
  }

  /// How long it takes until `count` are there, as many at most as there ever are; 0 when they are now.
  package func wait(for count: Int, of meter: RateMeter, now: Nanoseconds) -> Nanoseconds {
    let wanted = cost(min(count, perMinute))
    return Nanoseconds(max(0, max(meter.instant, Int64(now)) + wanted - Int64(now) - Self.minute))
  }
}
