// What a cache feed is told, what it answers, and what it counts.

package import Base

/// The time, as the caller's clocks tell it.
package struct CacheFeedTime: Sendable, Equatable {
  /// The monotonic clock, for deadlines.
  package var monotonic: Nanoseconds
  /// Seconds since 1970, to compare with the engine's timestamps.
  package var wallSeconds: Double

  /// A point in time.
  package init(monotonic: Nanoseconds, wallSeconds: Double) {
    self.monotonic = monotonic
    self.wallSeconds = wallSeconds
  }
}

/// Why a mirror of an engine's cache is no longer true.
package enum CacheFeedReset: String, Sendable, Equatable, CaseIterable {
  /// Sequences went back: the engine has been started anew.
  case restarted
  /// Messages are missing, and the engine offers no replay.
  case gap
  /// The replay lacks messages: the engine no longer has them.
  case replayIncomplete = "replay_incomplete"
  /// The replay did not come in time.
  case replayTimedOut = "replay_timed_out"
  /// More messages came during a replay than may be held.
  case overflow
  /// A message could not be read, so its removals are unknown. A replay would bring the same bytes.
  case undecodable

  /// True when the engine may hold blocks that will not be told again.
  var leavesHoles: Bool {
    switch self {
    case .gap, .replayIncomplete, .replayTimedOut, .overflow, .undecodable: true
    case .restarted: false
    }
  }
}

/// What the owner of a ``CacheFeed`` has to do, in this order.
package enum CacheFeedAction: Sendable, Equatable {
  /// Bring the mirror up to date. Keeping the batch copies nothing until the next one is read.
  case apply(CacheEventBatch)
  /// Forget all that is known of this engine's cache; what follows builds it up again.
  case forgetAll(CacheFeedReset)
  /// Ask the engine for all messages from a sequence on, over a channel that brings no answers to an earlier request.
  case requestReplay(from: UInt64)
}

/// Counts of one feed since it began.
package struct CacheFeedCounters: Sendable, Equatable {
  /// Messages heard live, of any kind.
  package var messages: UInt64 = 0
  /// Batches applied, live or replayed, and the events in them.
  package var batches: UInt64 = 0
  package var events: UInt64 = 0
  /// Times that messages were missing, and how many messages that were.
  package var gaps: UInt64 = 0
  package var missedBatches: UInt64 = 0
  /// Replays asked for, and batches that they brought.
  package var replays: UInt64 = 0
  package var replayedBatches: UInt64 = 0
  /// Times that the mirror had to be forgotten; the restarts and overflows among them.
  package var resets: UInt64 = 0
  package var restarts: UInt64 = 0
  package var overflows: UInt64 = 0
  /// Replays that did not come in time; also when there was nothing to forget.
  package var replayTimeouts: UInt64 = 0
  /// Messages and replies whose frames are not as they should be, and payloads that are no batch.
  package var malformedMessages: UInt64 = 0
  package var malformedBatches: UInt64 = 0
  /// Events by what was wrong with them (``CacheEventBatch``).
  package var malformedEvents: UInt64 = 0
  package var skippedEvents: UInt64 = 0
  package var unknownEvents: UInt64 = 0
  /// Messages that were in hand and thrown away: held ones at an overflow or a restart, and those of another rank.
  package var dropped: UInt64 = 0
  /// Live messages that a replay had brought before.
  package var duplicates: UInt64 = 0
  /// Age of the last live batch when it came, in seconds, by both clocks; negative when they disagree.
  package var lagSeconds = 0.0

  /// All zero.
  package init() {}

  /// Counts missing batches. The numbers they follow from come from the wire, so the sum stops at the largest.
  package mutating func addMissed(_ count: UInt64) {
    let (sum, overflows) = missedBatches.addingReportingOverflow(count)
    missedBatches = overflows ? .max : sum
  }
}

/// Bounds and times of a feed.
package struct CacheFeedLimits: Sendable, Equatable {
  /// Messages and bytes that are held while a replay runs.
  package var heldMessagesMax = 4096
  package var heldBytesMax = 16 << 20
  /// Longest silence in a replay.
  package var replaySilence: Nanoseconds = 5 * second
  package var batch = CacheEventLimits()

  /// The defaults.
  package init() {}
}
