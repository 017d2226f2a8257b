// When a busy loop rests between wake-ups, so that one wake-up finds several descriptors ready.

internal import Base

/// Interrupt coalescing for a loop: while events come so close that a pause of ``interval`` gathers two or more, wake-ups
/// keep that distance, and up to twice that while fewer than ``plenty`` come in it. A wake-up costs the kernel about what
/// relaying a token does, a descriptor that is read once for several tokens costs one read and one write for all of
/// them, and the code of each step stays in the cache for all that take it. An event waits at most twice ``interval``
/// for its turn; a loop with less to do wakes at once for every event.
struct WakeupPacer {
  /// Events that a wake-up serves about as cheaply as more of them.
  static let plenty: UInt64 = 8

  /// Least time from one wake-up to the next while events are dense, in nanoseconds; 0 never pauses.
  var interval: Nanoseconds = 0
  private var lastWakeup: Nanoseconds
  /// Time from one event to the next, smoothed over the last few wake-ups.
  private var spacing = Nanoseconds.max / 8

  init(now: Nanoseconds) { lastWakeup = now }

  /// Notes a wake-up that found `events` descriptors ready.
  mutating func woke(at now: Nanoseconds, events: Int) {
    guard interval > 0 else { return }
    // A long silence counts as a few intervals: the next burst is then known as one after a few wake-ups.
    let gap = min(now &- lastWakeup, 4 * interval)
    let sample = events > 1 ? gap / UInt64(events) : gap
    spacing = (min(spacing, 4 * interval) * 3 + sample) / 4
    lastWakeup = now
  }

  /// True while a pause would gather two events or more.
  var isDense: Bool { spacing < interval / 2 }

  /// How long to rest at `now`, before the next wait.
  func pause(at now: Nanoseconds) -> Nanoseconds {
    let elapsed = now &- lastWakeup
    let distance = min(max(interval, Self.plenty * spacing), 2 * interval)
    return elapsed < distance ? distance - elapsed : 0
  }
}
