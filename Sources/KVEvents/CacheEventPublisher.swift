// Publishes cache events as vLLM 0.32 does: PUB for all who listen, ROUTER for those who missed something.

internal import Base

/// Where a simulated engine publishes, and how much it remembers.
package struct CacheEventPublication: Sendable, Equatable {
  /// Address of the PUB socket: bound when it is a wildcard, `ipc://` or `inproc://`, else connected to, as vLLM does.
  package var endpoint: String
  /// Address of the ROUTER socket, always bound; nil for none.
  package var replayEndpoint: String?
  package var topic = ""
  package var rank = 0
  /// Batches and bytes kept for replays (vLLM: 10,000 batches).
  package var replayBatchesMax = 10_000
  package var replayBytesMax = 64 << 20
  /// Bytes of replays that clients have not read yet, of all clients and of all publishers of one context together. A
  /// replay that does not fit beside them is refused: it gets its end alone.
  package var unreadBytesMax = 128 << 20

  /// A publication without a topic.
  package init(endpoint: String, replayEndpoint: String? = nil) {
    self.endpoint = endpoint
    self.replayEndpoint = replayEndpoint
  }

  /// True when the PUB socket listens; else it connects to somebody who does.
  package var isBound: Bool {
    endpoint.contains("*") || endpoint.contains("::") || !endpoint.hasPrefix("tcp://")
  }
}

/// Counts of a publisher.
package struct CacheEventPublisherCounters: Sendable, Equatable {
  /// Batches sent.
  package var batches: UInt64 = 0
  /// Requests for a replay, and those that were no such thing.
  package var replays: UInt64 = 0
  package var malformedRequests: UInt64 = 0
  /// Replays that ended early because the one who asked did not read.
  package var abandonedReplays: UInt64 = 0
  /// Replays that got their end alone, because too many others wait to be read.
  package var refusedReplays: UInt64 = 0

  /// All zero.
  package init() {}
}

/// Publishes the batches of one engine rank. Confined to the thread that made it.
///
/// The owner waits until one of ``descriptors`` is readable, then calls ``readable()``; again while it says true.
package final class CacheEventPublisher {
  /// Requests for a replay that are served in one turn.
  private static let turnRequestsMax = 4
  /// What libzmq needs for a batch of a replay beside its bytes: five frames in its queue.
  private static let batchOverhead = 512

  private let publication: CacheEventPublication
  private let unsent: UnsentBytes
  private let live: ZeroMQSocket
  private let replay: ZeroMQSocket?
  private let topic: [UInt8]
  private var kept = ReplayBuffer()
  private var payload = ByteBuffer()
  private var request = ZeroMQMessage()
  /// Sequence of the next batch.
  package private(set) var sequence: UInt64 = 0
  /// What happened so far.
  package private(set) var counters = CacheEventPublisherCounters()
  /// The last failure of a socket's call; none is expected.
  package private(set) var lastError: ZeroMQError?

  /// Binds or connects the sockets.
  package init(_ publication: CacheEventPublication, context: ZeroMQContext) throws(ZeroMQError) {
    self.publication = publication
    unsent = context.unsent
    topic = Array(publication.topic.utf8)
    var options = ZeroMQSocketOptions()
    options.sendQueueMax = 100_000
    options.receiveQueueMax = 64
    options.frameBytesMax = 4096
    live = try ZeroMQSocket(.publish, context: context, options: options)
    if publication.replayEndpoint == nil {
      replay = nil
    } else {
      // One whole replay fits the queue.
      options.sendQueueMax = Int32(clamping: publication.replayBatchesMax + 16)
      replay = try ZeroMQSocket(.router, context: context, options: options)
    }
    if let replay, let address = publication.replayEndpoint { try replay.bind(address) }
    if publication.isBound {
      try live.bind(publication.endpoint)
    } else {
      try live.connect(publication.endpoint)
    }
  }

  /// A publisher over sockets that are bound or connected already.
  init(
    _ publication: CacheEventPublication, live: ZeroMQSocket, replay: ZeroMQSocket?, context: ZeroMQContext
  ) {
    self.publication = publication
    unsent = context.unsent
    self.live = live
    self.replay = replay
    topic = Array(publication.topic.utf8)
  }

  /// What to wait on; the same for the publisher's whole life.
  package var descriptors: [Int32] { [live.descriptor] + (replay.map { [$0.descriptor] } ?? []) }

  /// Address of the PUB socket with the port that was found; empty when it connects.
  package var boundAddress: String { publication.isBound ? live.boundAddress : "" }

  /// Address of the ROUTER socket with the port that was found; nil when there is none.
  package var boundReplayAddress: String? { replay?.boundAddress }

  /// Sends the events gathered in `encoder` as the next batch; nothing when there are none.
  ///
  /// - Parameter timestamp: seconds since 1970.
  package func publish(_ encoder: inout CacheEventEncoder, timestamp: Double) {
    guard encoder.count > 0 else { return }
    payload.removeAll()
    encoder.finish(timestamp: timestamp, rank: publication.rank, into: &payload)
    publish(payload: payload.bytes)
  }

  /// Sends a batch that somebody else encoded as the next one: a relay's way.
  package func publish(payload bytes: [UInt8]) {
    do throws(ZeroMQError) {
      // PUB drops for those who lag, and never refuses.
      if try live.send(message: [topic, Self.bytes(of: sequence), bytes]) { counters.batches += 1 }
    } catch {
      lastError = error
    }
    live.takeNews()
    kept.append(bytes, batchesMax: publication.replayBatchesMax, bytesMax: publication.replayBytesMax)
    sequence += 1
  }

  /// Answers requests for replays and takes in who subscribed. True when more requests wait: call again.
  package func readable() -> Bool {
    live.takeNews()
    guard let replay else { return false }
    for _ in 0..<Self.turnRequestsMax {
      do throws(ZeroMQError) {
        guard try replay.receive(into: &request) else { return false }
        try serve(replay)
      } catch {
        lastError = error
        return false
      }
    }
    return true
  }

  /// Answers `[client, "", first sequence]` as vLLM 0.26 and later: `[client, "", topic, sequence, payload]` for each
  /// batch kept, and at the end `[client, "", "", -1, ""]`. A client that gets the end alone has lost what it asked for,
  /// as when the batches were too old, and may ask again.
  private func serve(_ replay: ZeroMQSocket) throws(ZeroMQError) {
    guard request.count == 3, !request.hasTooManyFrames, request[1].isEmpty, request[2].count <= 8 else {
      counters.malformedRequests += 1
      return
    }
    let client = Array(request[0])
    let first = request[2].reduce(0 as UInt64) { $0 << 8 | UInt64($1) }
    var number = max(first, sequence - UInt64(kept.count))
    let needed = kept.byteCount + kept.count * Self.batchOverhead
    if number < sequence, unsent.count + needed > publication.unreadBytesMax {
      counters.refusedReplays += 1
      number = sequence
    } else {
      counters.replays += 1
    }
    while number < sequence {
      let batch = kept[Int(number + UInt64(kept.count) - sequence)]
      guard try reply(replay, client, topic, number, batch) else { return }
      number += 1
    }
    _ = try reply(replay, client, [], UInt64.max, [])
  }

  private func reply(
    _ replay: ZeroMQSocket, _ client: [UInt8], _ topic: [UInt8], _ number: UInt64, _ payload: [UInt8]
  ) throws(ZeroMQError) -> Bool {
    // A router drops what its client's queue has no room for; only an ended client is told, at the first frame.
    let isSent = try replay.send(
      counted: [client, [], topic, Self.bytes(of: number), payload], overhead: Self.batchOverhead)
    if !isSent { counters.abandonedReplays += 1 }
    return isSent
  }

  private static func bytes(of number: UInt64) -> [UInt8] {
    withUnsafeBytes(of: number.bigEndian) { Array($0) }
  }
}

/// The latest payloads, oldest first, in a ring that grows to its bound.
struct ReplayBuffer {
  private var ring: [[UInt8]] = []
  private var start = 0
  private(set) var count = 0
  private(set) var byteCount = 0

  /// The payload `index` places behind the oldest.
  subscript(index: Int) -> [UInt8] { ring[(start + index) % ring.count] }

  /// Adds the newest, and drops the oldest beyond the bounds; with no room at all it drops the newest as well.
  mutating func append(_ payload: [UInt8], batchesMax: Int, bytesMax: Int) {
    byteCount += payload.count
    while count > 0, count >= batchesMax || byteCount > bytesMax { removeOldest() }
    guard batchesMax > 0, payload.count <= bytesMax else {
      byteCount -= payload.count
      return
    }
    if count == ring.count { grow(to: min(max(ring.count * 2, 64), batchesMax)) }
    ring[(start + count) % ring.count] = payload
    count += 1
  }

  private mutating func removeOldest() {
    byteCount -= ring[start].count
    ring[start] = []
    start = (start + 1) % ring.count
    count -= 1
  }

  private mutating func grow(to capacity: Int) {
    var larger: [[UInt8]] = []
    larger.reserveCapacity(capacity)
    for index in 0..<count { larger.append(self[index]) }
    larger.append(contentsOf: repeatElement([], count: capacity - count))
    ring = larger
    start = 0
  }
}
