// Follows the messages of one engine rank: finds gaps and restarts, has them repaired by replays, keeps the order.

package import Base

/// The state machine of one feed. No I/O; it is told the time.
///
///     waiting ── 0 ──────────────> following <── end of replay, or giving up ──┐
///        │                           │   │                                     │
///        └─ n > 0 ──> replaying <────┘   └─ expected: apply                    │
///                        │           gap, restart past 0                       │
///                        └─────────────────────────────────────────────────────┘
///
/// A publisher numbers its messages from 0 when it starts, and sends each once, so live sequences only rise. One that
/// does not has been started anew. One beyond what is expected tells of a gap: live messages are then held, and applied
/// behind the replay. Where the missing ones cannot be had, the mirror's content is unknown: it is forgotten, and the
/// feed goes on with what comes.
///
/// An engine that restarts and, unheard, publishes more messages than before looks like a gap. So a replay begins with
/// the last message that was applied: when its timestamp is another, so is the engine. Without a replay nothing tells,
/// unless the owner learns of the restart and says so with ``engineRestarted(perform:)``.
package struct CacheFeed {
  private enum State {
    /// Nothing is known of the engine's sequence.
    case waiting
    /// `expected` is the next to come.
    case following
    /// A replay was asked for when `from` was expected; it is over at `deadline` unless more comes.
    case replaying(from: UInt64, deadline: Nanoseconds)
  }

  /// What the owner's mirror holds.
  private enum Mirror {
    /// Nothing, and so does the engine.
    case empty
    /// What has been applied.
    case filled
    /// Nothing, though the engine may hold blocks.
    case unknown
  }

  private struct Held {
    let sequence: UInt64
    let payload: [UInt8]
  }

  private let rank: Int?
  private let canReplay: Bool
  private let keepsPayloads: Bool
  private let limits: CacheFeedLimits
  private var decoder: CacheEventDecoder
  private var batch = CacheEventBatch()
  private var state = State.waiting
  /// The sequence to apply next; what is below has been applied or is lost.
  private var expected: UInt64 = 0
  /// The engine's timestamp of the message before `expected`; nil when there is none or it could not be read.
  private var lastTimestamp: Double?
  /// The highest sequence heard live since the engine's start.
  private var heard: UInt64?
  /// Live messages that wait for the replay's end, in rising order.
  private var held: [Held] = []
  private var heldBytes = 0
  private var mirror = Mirror.empty
  /// What happened so far.
  package private(set) var counters = CacheFeedCounters()

  /// A feed that has heard nothing.
  ///
  /// - Parameters:
  ///   - rank: data parallel rank; batches that name another are dropped. Nil takes all.
  ///   - canReplay: whether the engine offers replays.
  ///   - keepsPayloads: whether batches come with their bytes.
  package init(
    rank: Int?, canReplay: Bool, keepsPayloads: Bool = false, limits: CacheFeedLimits = CacheFeedLimits()
  ) {
    self.rank = rank
    self.canReplay = canReplay
    self.keepsPayloads = keepsPayloads
    self.limits = limits
    decoder = CacheEventDecoder(limits: limits.batch)
  }

  /// True between a request for a replay and its end.
  package var isReplaying: Bool {
    if case .replaying = state { return true }
    return false
  }

  /// When ``timePassed(now:perform:)`` has something to do; nil when never.
  package var deadline: Nanoseconds? {
    if case .replaying(_, let deadline) = state { return deadline }
    return nil
  }

  /// Number of live messages held for a replay's end.
  package var heldMessages: Int { held.count }

  /// The subscription stands: asks for what the engine said before, without waiting for its next message.
  package mutating func subscribed(now: CacheFeedTime, perform: (CacheFeedAction) -> Void) {
    guard case .waiting = state, canReplay else { return }
    beginReplay(now: now, perform: perform)
  }

  /// The engine is known to have been started anew, by other means than its messages.
  package mutating func engineRestarted(perform: (CacheFeedAction) -> Void) {
    counters.restarts += 1
    forget(.restarted, perform: perform)
    beginAnew()
  }

  /// A live message: `sequence` is its second frame, `payload` its third.
  package mutating func received(
    sequence frame: UnsafeRawBufferPointer, payload: UnsafeRawBufferPointer, now: CacheFeedTime,
    perform: (CacheFeedAction) -> Void
  ) {
    counters.messages += 1
    guard let sequence = Self.sequence(frame), sequence != Self.endMarker else {
      counters.malformedMessages += 1
      return
    }
    if let heard, sequence <= heard {
      engineRestarted(perform: perform)
    }
    heard = sequence
    switch state {
    case .waiting: begin(sequence, payload, now: now, perform: perform)
    case .following: follow(sequence, payload, now: now, perform: perform)
    case .replaying: hold(sequence, payload, now: now, perform: perform)
    }
  }

  /// A message on the live socket that does not have three frames.
  package mutating func receivedMalformed() {
    counters.messages += 1
    counters.malformedMessages += 1
  }

  /// A reply to the request for a replay, in any of its forms: behind an empty delimiter or not, `[sequence, payload]`
  /// (vLLM before 0.26, SGLang before 0.5.21) or `[topic, sequence, payload]`. The last has all bits of its sequence
  /// set. Replies that nobody asked for are ignored.
  package mutating func receivedReply(
    _ message: borrowing ZeroMQMessage, now: CacheFeedTime, perform: (CacheFeedAction) -> Void
  ) {
    guard case .replaying(let from, _) = state else { return }
    guard (2...4).contains(message.count), !message.hasTooManyFrames,
      let sequence = Self.sequence(message[message.count - 2])
    else {
      counters.malformedMessages += 1
      return
    }
    if sequence == Self.endMarker {
      endReplay(from: from, now: now, perform: perform)
      return
    }
    state = .replaying(from: from, deadline: now.monotonic + limits.replaySilence)
    guard sequence >= expected else {
      check(sequence, message[message.count - 1], now: now, perform: perform)
      return
    }
    if sequence > expected {
      missed(sequence - expected)
      forget(.replayIncomplete, perform: perform)
    }
    expected = sequence + 1
    counters.replayedBatches += 1
    apply(message[message.count - 1], isLive: false, now: now, perform: perform)
  }

  /// Gives a replay up whose deadline has passed.
  package mutating func timePassed(now: CacheFeedTime, perform: (CacheFeedAction) -> Void) {
    guard case .replaying(_, let deadline) = state, deadline <= now.monotonic else { return }
    counters.replayTimeouts += 1
    resume(.replayTimedOut, now: now, perform: perform)
  }

  // MARK: - Steps

  private static let endMarker = UInt64.max

  private static func sequence(_ frame: UnsafeRawBufferPointer) -> UInt64? {
    guard frame.count == 8 else { return nil }
    return UInt64(bigEndian: frame.loadUnaligned(as: UInt64.self))
  }

  private static func timestamp(of payload: UnsafeRawBufferPointer) -> Double? {
    var reader = MessagePackReader(payload)
    do throws(MessagePackError) {
      _ = try reader.arrayCount()
      return try reader.double()
    } catch {
      return nil
    }
  }

  /// The first message of an engine.
  private mutating func begin(
    _ sequence: UInt64, _ payload: UnsafeRawBufferPointer, now: CacheFeedTime,
    perform: (CacheFeedAction) -> Void
  ) {
    if sequence == 0 || !canReplay {
      state = .following
      expected = sequence + 1
      if sequence > 0 {
        missed(sequence)
        forget(.gap, perform: perform)
      }
      apply(payload, isLive: true, now: now, perform: perform)
    } else {
      hold(sequence, payload, now: now, perform: perform)
      beginReplay(now: now, perform: perform)
    }
  }

  /// A reply that was applied before: when the engine sent something else under that sequence, it is another engine,
  /// and its messages are asked for from the first. Those that are held are its own.
  private mutating func check(
    _ sequence: UInt64, _ payload: UnsafeRawBufferPointer, now: CacheFeedTime,
    perform: (CacheFeedAction) -> Void
  ) {
    guard sequence == expected - 1, let lastTimestamp, let timestamp = Self.timestamp(of: payload),
      timestamp != lastTimestamp
    else { return }
    counters.restarts += 1
    forget(.restarted, perform: perform)
    decoder.engineRestarted()
    expected = 0
    self.lastTimestamp = nil
    beginReplay(now: now, perform: perform)
  }

  private mutating func follow(
    _ sequence: UInt64, _ payload: UnsafeRawBufferPointer, now: CacheFeedTime,
    perform: (CacheFeedAction) -> Void
  ) {
    if sequence < expected {
      // A replay was ahead of the subscription; then this is no news. Else the engine is another.
      if let lastTimestamp, let timestamp = Self.timestamp(of: payload), timestamp > lastTimestamp {
        engineRestarted(perform: perform)
        heard = sequence
        begin(sequence, payload, now: now, perform: perform)
      } else {
        counters.duplicates += 1
      }
      return
    }
    if sequence > expected {
      counters.gaps += 1
      if canReplay {
        hold(sequence, payload, now: now, perform: perform)
        beginReplay(now: now, perform: perform)
        return
      }
      counters.addMissed(sequence - expected)
      forget(.gap, perform: perform)
    }
    expected = sequence + 1
    apply(payload, isLive: true, now: now, perform: perform)
  }

  private mutating func missed(_ count: UInt64) {
    counters.gaps += 1
    counters.addMissed(count)
  }

  private mutating func beginReplay(now: CacheFeedTime, perform: (CacheFeedAction) -> Void) {
    counters.replays += 1
    state = .replaying(from: expected, deadline: now.monotonic + limits.replaySilence)
    perform(.requestReplay(from: max(expected, 1) - 1))
  }

  private mutating func hold(
    _ sequence: UInt64, _ payload: UnsafeRawBufferPointer, now: CacheFeedTime,
    perform: (CacheFeedAction) -> Void
  ) {
    guard held.count < limits.heldMessagesMax, heldBytes + payload.count <= limits.heldBytesMax else {
      counters.overflows += 1
      counters.dropped += UInt64(held.count)
      clearHeld()
      state = .following
      forget(.overflow, perform: perform)
      expected = sequence + 1
      apply(payload, isLive: true, now: now, perform: perform)
      return
    }
    held.append(Held(sequence: sequence, payload: Array(payload)))
    heldBytes += payload.count
  }

  /// The engine has sent what it has.
  private mutating func endReplay(
    from: UInt64, now: CacheFeedTime, perform: (CacheFeedAction) -> Void
  ) {
    releaseHeld(now: now, perform: perform)
    guard let next = held.first else {
      // Nothing is missing. An engine that has not spoken yet begins at 0.
      state = expected == 0 ? .waiting : .following
      return
    }
    // Each further replay must have brought something, or it would be asked for without end.
    if expected > from {
      missed(next.sequence - expected)
      beginReplay(now: now, perform: perform)
      return
    }
    resume(.replayIncomplete, now: now, perform: perform)
  }

  /// Goes on without the rest of a replay: what is missing between the mirror and the held messages stays so.
  private mutating func resume(
    _ reason: CacheFeedReset, now: CacheFeedTime, perform: (CacheFeedAction) -> Void
  ) {
    state = expected == 0 && held.isEmpty ? .waiting : .following
    releaseHeld(now: now, perform: perform)
    while let next = held.first {
      counters.addMissed(next.sequence - expected)
      forget(reason, perform: perform)
      expected = next.sequence
      releaseHeld(now: now, perform: perform)
    }
  }

  /// Applies the held messages that follow on what was applied, up to the next one that does not.
  private mutating func releaseHeld(now: CacheFeedTime, perform: (CacheFeedAction) -> Void) {
    var count = 0
    while count < held.count, held[count].sequence <= expected {
      let message = held[count]
      count += 1
      heldBytes -= message.payload.count
      if message.sequence < expected {
        counters.duplicates += 1
        continue
      }
      expected += 1
      message.payload.withUnsafeBytes { apply($0, isLive: true, now: now, perform: perform) }
    }
    held.removeFirst(count)
  }

  private mutating func beginAnew() {
    counters.dropped += UInt64(held.count)
    clearHeld()
    decoder.engineRestarted()
    expected = 0
    lastTimestamp = nil
    heard = nil
    state = .waiting
  }

  private mutating func clearHeld() {
    held = []
    heldBytes = 0
  }

  private mutating func forget(_ reason: CacheFeedReset, perform: (CacheFeedAction) -> Void) {
    // Where nothing is held, only that something is missing, or no longer missing, is news.
    let next = reason.leavesHoles ? Mirror.unknown : .empty
    guard mirror != next else { return }
    mirror = next
    counters.resets += 1
    perform(.forgetAll(reason))
  }

  private mutating func apply(
    _ payload: UnsafeRawBufferPointer, isLive: Bool, now: CacheFeedTime, perform: (CacheFeedAction) -> Void
  ) {
    lastTimestamp = nil
    do throws(CacheEventError) {
      try decoder.decode(payload, into: &batch)
    } catch {
      counters.malformedBatches += 1
      forget(.undecodable, perform: perform)
      return
    }
    lastTimestamp = batch.timestamp
    if let rank, let other = batch.rank, other != rank {
      counters.dropped += 1
      return
    }
    counters.batches += 1
    counters.events += UInt64(batch.events.count)
    counters.malformedEvents += UInt64(batch.malformedEvents)
    counters.skippedEvents += UInt64(batch.skippedEvents)
    counters.unknownEvents += UInt64(batch.unknownEvents)
    if isLive { counters.lagSeconds = now.wallSeconds - batch.timestamp }
    if batch.hidesRemovals {
      forget(.undecodable, perform: perform)
      return
    }
    mirror = .filled
    if keepsPayloads { batch.payload = Array(payload) }
    perform(.apply(batch))
  }
}
