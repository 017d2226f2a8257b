// One rank of a worker's cache events: its subscription, and its rests.

internal import Base
internal import EventLoop
internal import KVEvents

/// Subscribes to one publisher, and leaves it alone for a while when it begins anew too often. Loop-confined.
///
///     open ──begins anew too often──▶ resting ──time──▶ open
final class RankFeed {
  private let subscription: CacheEventSubscription
  private let context: ZeroMQContext
  private let turns: FeedTurns
  private var subscriber: CacheEventSubscriber?
  private var damper = RestartDamper()
  /// Something has come since it was subscribed to, or since it last began anew.
  private var hasLearnt = false
  /// While it rests, until when.
  private var restsUntil: Nanoseconds?
  /// Of subscribers before this one.
  private var earlier = CacheFeedCounters()
  /// Times that it was left alone.
  private(set) var rests: UInt64 = 0
  /// A socket failed, or cannot be waited for: nothing comes any more.
  private(set) var error: (any Error)?

  /// Subscribes at once; fails when the address cannot be used.
  init(
    _ subscription: CacheEventSubscription, context: ZeroMQContext, turns: FeedTurns
  ) throws(ZeroMQError) {
    self.subscription = subscription
    self.context = context
    self.turns = turns
    try subscribe()
  }

  private func subscribe() throws(ZeroMQError) {
    let subscriber = try CacheEventSubscriber(subscription, context: context)
    self.subscriber = subscriber
    hasLearnt = false
    do throws(SystemError) {
      for descriptor in subscriber.descriptors { try turns.watch(descriptor) }
    } catch {
      self.error = error
    }
  }

  /// Counts since the beginning.
  var counters: CacheFeedCounters {
    var counters = earlier
    if let subscriber { counters.add(subscriber.counters) }
    return counters
  }

  /// When the next turn is due though nothing came; nil for never.
  var deadline: Nanoseconds? { restsUntil ?? subscriber?.deadline }

  var isResting: Bool { restsUntil != nil }

  /// Ends a rest that is over; true when it did.
  func resume(now: Nanoseconds) -> Bool {
    guard let restsUntil, restsUntil <= now else { return false }
    self.restsUntil = nil
    do throws(ZeroMQError) {
      try subscribe()
    } catch {
      self.error = error
    }
    return true
  }

  /// Takes what has come, up to where a rest begins.
  func turn(now: CacheFeedTime, perform: (CacheFeedAction) -> Void) {
    guard let subscriber, !isResting else { return }
    subscriber.readable(now: now) { action in
      if isResting { return }
      if case .apply = action { hasLearnt = true }
      perform(action)
    }
    error = error ?? subscriber.lastError
    guard isResting else { return }
    turns.forget(subscriber.descriptors)
    earlier.add(subscriber.counters)
    self.subscriber = nil
  }

  /// What was learnt is forgotten; returns the rest that this makes it take, if any. To be called from within
  /// ``turn(now:perform:)``. Where nothing was learnt yet, as from one that is first heard in the middle, nothing began anew.
  func restarted(now: Nanoseconds, random: inout Xoshiro256) -> Nanoseconds? {
    guard hasLearnt else { return nil }
    hasLearnt = false
    guard let rest = damper.restarted(now: now, random: &random) else { return nil }
    restsUntil = now + rest
    rests += 1
    return rest
  }
}

extension CacheFeedCounters {
  /// Adds another subscriber's; the lag is the longest.
  mutating func add(_ other: CacheFeedCounters) {
    messages += other.messages
    batches += other.batches
    events += other.events
    gaps += other.gaps
    addMissed(other.missedBatches)
    replays += other.replays
    replayedBatches += other.replayedBatches
    resets += other.resets
    restarts += other.restarts
    overflows += other.overflows
    replayTimeouts += other.replayTimeouts
    malformedMessages += other.malformedMessages
    malformedBatches += other.malformedBatches
    malformedEvents += other.malformedEvents
    skippedEvents += other.skippedEvents
    unknownEvents += other.unknownEvents
    dropped += other.dropped
    duplicates += other.duplicates
    lagSeconds = max(lagSeconds, other.lagSeconds)
  }
}
