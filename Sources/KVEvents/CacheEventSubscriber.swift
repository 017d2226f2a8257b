// Drives the sockets of one feed for a loop that waits on descriptors.

package import Base

/// Where and how one engine rank is followed.
package struct CacheEventSubscription: Sendable, Equatable {
  package var events: CacheEventEndpoint
  /// Address of the engine's replay socket; nil when it has none.
  package var replay: CacheEventEndpoint?
  /// Only messages whose topic begins so; all when empty.
  package var topic = ""
  /// Data parallel rank; batches of another are dropped. Nil takes all.
  package var rank: Int?
  /// Batches come with their bytes, for a relay.
  package var keepsPayloads = false
  package var limits = CacheFeedLimits()
  package var sockets = ZeroMQSocketOptions()

  /// A subscription to all topics.
  package init(events: CacheEventEndpoint, replay: CacheEventEndpoint? = nil) {
    self.events = events
    self.replay = replay
  }
}

/// Follows one engine rank. Confined to the thread that made it.
///
/// The owner waits until one of ``descriptors`` is readable or ``deadline`` has come, level- or edge-triggered, then
/// calls ``readable(now:perform:)``; once right after the start as well.
package final class CacheEventSubscriber {
  /// Messages and bytes taken from a socket in one turn, so that one busy engine does not hold the thread.
  private static let turnMessagesMax = 64
  private static let turnBytesMax = 1 << 20

  private let live: ZeroMQSocket
  private let replay: ZeroMQSocket?
  private let replayAddress: String
  private var feed: CacheFeed
  private var message = ZeroMQMessage()
  private var hasBegun = false
  private var hasMore = true
  /// The last failure of a socket's call; none is expected.
  package private(set) var lastError: ZeroMQError?

  /// Binds or connects the sockets. Fails when an address is taken or is none; not when no engine is there yet.
  package init(_ subscription: CacheEventSubscription, context: ZeroMQContext) throws(ZeroMQError) {
    live = try ZeroMQSocket(.subscribe, context: context, options: subscription.sockets)
    try live.subscribe(subscription.topic)
    replayAddress = subscription.replay?.address ?? ""
    feed = CacheFeed(
      rank: subscription.rank, canReplay: subscription.replay != nil,
      keepsPayloads: subscription.keepsPayloads, limits: subscription.limits)
    if subscription.replay == nil {
      replay = nil
    } else {
      let socket = try ZeroMQSocket(.dealer, context: context, options: subscription.sockets)
      try socket.connect(replayAddress)
      replay = socket
    }
    if subscription.events.isBound {
      try live.bind(subscription.events.address)
    } else {
      try live.connect(subscription.events.address)
    }
  }

  /// What to wait on; the same for the subscriber's whole life.
  package var descriptors: [Int32] { [live.descriptor] + (replay.map { [$0.descriptor] } ?? []) }

  /// When to call ``readable(now:perform:)`` though no descriptor is readable: 0 for at once, nil for never.
  package var deadline: Nanoseconds? { hasMore ? 0 : feed.deadline }

  /// Counts of the feed.
  package var counters: CacheFeedCounters { feed.counters }

  /// True while messages are held for a replay.
  package var isReplaying: Bool { feed.isReplaying }

  /// Where the live socket listens, with the port that was found; for subscriptions that bind.
  package var boundAddress: String { live.boundAddress }

  /// Takes what has come, a bounded part in each call, and has time pass. `perform` is called with each thing to do;
  /// requests for a replay are performed before, and told for the record. It must not call back into the subscriber.
  package func readable(now: CacheFeedTime, perform: (CacheFeedAction) -> Void) {
    func act(_ action: CacheFeedAction) {
      if case .requestReplay(let sequence) = action { requestReplay(from: sequence) }
      perform(action)
    }
    if !hasBegun {
      hasBegun = true
      feed.subscribed(now: now, perform: act)
    }
    // Replies first: they are older, and make room for what is live.
    var isDrained = true
    if let replay {
      isDrained = drain(replay) { feed.receivedReply(message, now: now, perform: act) }
    }
    let isLiveDrained = drain(live) {
      guard message.count == 3, !message.hasTooManyFrames else {
        feed.receivedMalformed()
        return
      }
      feed.received(sequence: message[1], payload: message[2], now: now, perform: act)
    }
    feed.timePassed(now: now, perform: act)
    // A request that was sent may have taken in the news of a reply.
    if isDrained, isLiveDrained, hasRequested { isDrained = false }
    hasRequested = false
    hasMore = !(isDrained && isLiveDrained)
  }

  /// Begins anew: the owner knows of a restart that the messages may not show. The next turn asks for a replay.
  package func engineRestarted(perform: (CacheFeedAction) -> Void) {
    feed.engineRestarted(perform: perform)
    hasBegun = false
    hasMore = true
  }

  private var hasRequested = false

  /// Receives until nothing is left, or a turn's worth; true for the former.
  private func drain(_ socket: ZeroMQSocket, take: () -> Void) -> Bool {
    var bytes = 0
    for _ in 0..<Self.turnMessagesMax {
      do throws(ZeroMQError) {
        guard try socket.receive(into: &message) else { return true }
      } catch {
        lastError = error
        return true
      }
      bytes += message.byteCount
      take()
      if bytes > Self.turnBytesMax { return false }
    }
    return false
  }

  /// Asks anew over a fresh connection, on which no answer to an earlier request can come.
  private func requestReplay(from sequence: UInt64) {
    guard let replay else { return }
    hasRequested = true
    do throws(ZeroMQError) {
      replay.disconnect(replayAddress)
      try replay.connect(replayAddress)
      _ = try replay.send(message: [[], withUnsafeBytes(of: sequence.bigEndian) { Array($0) }])
    } catch {
      lastError = error
    }
  }
}
