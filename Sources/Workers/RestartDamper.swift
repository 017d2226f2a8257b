// How long a feed is left alone that begins anew again and again.

internal import Base

/// Counts how often a feed begins anew. An engine that is restarted does so once; one whose feed does it all the time
/// would have its cache forgotten and learnt in a loop, under the lock of all requests.
struct RestartDamper {
  /// Times that are taken as they come.
  static let freeRestarts = 3
  /// The first rest, which doubles with each further time, and the longest.
  static let restMin = second
  static let restMax = 60 * second
  /// After this long without a further time all before is forgotten.
  static let calm = 120 * second

  private var restarts = 0
  private var calmAt: Nanoseconds = 0

  /// The feed has begun anew. Returns how long it is to be left alone; nil for not at all. Between a half and the whole
  /// of the time is drawn, so that feeds which broke together do not come back together.
  mutating func restarted(now: Nanoseconds, random: inout Xoshiro256) -> Nanoseconds? {
    if now >= calmAt { restarts = 0 }
    restarts += 1
    guard restarts > Self.freeRestarts else {
      calmAt = now + Self.calm
      return nil
    }
    let doublings = min(restarts - Self.freeRestarts - 1, 16)
    let longest = min(Self.restMin << Nanoseconds(doublings), Self.restMax)
    let rest = longest / 2 + random.next() % (longest / 2 + 1)
    calmAt = now + rest + Self.calm
    return rest
  }
}
