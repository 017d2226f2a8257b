// What the other frontends said: who lives, what each has booked, and what became of those that went silent.

package import Base

/// A worker of a model.
package struct PeerKey: Sendable, Hashable {
  package let model: String
  package let worker: UInt64
}

/// What happened to the messages of other frontends.
package struct PeerCounters: Sendable, Equatable {
  package var messages: UInt64 = 0
  /// Messages that were none.
  package var malformed: UInt64 = 0
  /// Messages that came twice or late, or by a second way from the same process.
  package var repeated: UInt64 = 0
  /// Messages that never came, by the numbers of those that did.
  package var missed: UInt64 = 0
  /// Peers that came back as another process.
  package var restarts: UInt64 = 0
  /// Peers whose load was dropped because nothing was heard of them.
  package var expired: UInt64 = 0
  /// Rows that found no room.
  package var refusedRows: UInt64 = 0
  /// Prompts that are hashed otherwise than here.
  package var otherPrompts: UInt64 = 0

  package init() {}
}

/// The other frontends by the address where each is heard. Told the time, holding no socket.
///
/// A row of a message says all that its sender has booked on a worker, so messages that are lost or come twice leave
/// nothing behind: the next row of the worker is right, and so is the next full message, which lacks what has ended.
///
///     unheard ──message──▶ heard ──no message for the lease──▶ unheard (its load is dropped)
///                          heard ──message of another incarnation──▶ heard (the former one's load is dropped)
package struct PeerFrontends {
  /// Workers that a peer may have load on; rows of more are refused.
  static let rowsMax = PeerMessage.rowsMax

  private struct Peer {
    /// The process that is heard; nil before the first message and after its lease has ended.
    var incarnation: UInt64?
    var sequence: UInt64 = 0
    var heardAt: Nanoseconds = 0
    var rows: [PeerKey: PeerLoad] = [:]
    /// This process was heard there: it is no other frontend.
    var isOwn = false
  }

  private let own: UInt64
  private let lease: Nanoseconds
  private var peers: [String: Peer] = [:]
  private var changed: Set<PeerKey> = []
  package private(set) var counters = PeerCounters()

  /// - Parameters:
  ///   - own: this process's incarnation, whose messages are passed over: its address may be among the peers'.
  ///   - lease: how long the load of a peer counts after its last message.
  package init(own: UInt64, lease: Nanoseconds) {
    self.own = own
    self.lease = lease
  }

  /// Whether a peer is heard at each address but this process's own, sorted by address.
  package var presence: [(address: String, isHeard: Bool)] {
    peers.filter { !$0.value.isOwn }.sorted { $0.key < $1.key }.map { ($0.key, $0.value.incarnation != nil) }
  }

  /// Begins to know of an address; nothing when it is known.
  package mutating func add(_ address: String) {
    if peers[address] == nil { peers[address] = Peer() }
  }

  /// Knows of an address no more: what was booked there is dropped.
  package mutating func remove(_ address: String) {
    drop(address)
    peers[address] = nil
  }

  /// Takes a message that came from `address`. Returns the prompts in it, for the routers; nil when there are none.
  package mutating func received(
    _ bytes: UnsafeRawBufferPointer, from address: String, now: Nanoseconds
  ) -> PeerMessage? {
    guard peers[address] != nil else { return nil }
    guard let message = PeerMessage(bytes) else {
      counters.malformed += 1
      return nil
    }
    guard message.incarnation != own else {
      peers[address]?.isOwn = true
      return nil
    }
    guard accept(message, address, now) else { return nil }
    counters.messages += 1
    switch message.body {
    case .load(let isFull, let models):
      take(models, isFull: isFull, address)
      return nil
    case .prompts: return message
    }
  }

  /// Notes that prompts could not be used, because they are hashed otherwise than here.
  package mutating func refusedPrompts() { counters.otherPrompts += 1 }

  /// Drops the load of peers that were not heard for the lease.
  package mutating func timePassed(now: Nanoseconds) {
    for (address, peer) in peers where peer.incarnation != nil && peer.heardAt + lease <= now {
      drop(address)
      counters.expired += 1
    }
  }

  /// What all peers together have booked on a worker.
  package func total(_ key: PeerKey) -> PeerLoad {
    peers.values.reduce(into: PeerLoad()) { sum, peer in
      if let load = peer.rows[key] { sum += load }
    }
  }

  /// The workers whose load by others changed since the last call.
  package mutating func takeChanged() -> Set<PeerKey> {
    defer { changed = [] }
    return changed
  }

  /// All workers that others have load on.
  package var loaded: Set<PeerKey> { peers.values.reduce(into: []) { $0.formUnion($1.rows.keys) } }

  // MARK: One peer

  /// Whether the message is the next one of the process that is heard there, or the first one of a new process.
  private mutating func accept(_ message: PeerMessage, _ address: String, _ now: Nanoseconds) -> Bool {
    guard let peer = peers[address] else { return false }
    if peer.incarnation == message.incarnation {
      guard message.sequence > peer.sequence else {
        counters.repeated += 1
        return false
      }
      counters.missed &+= message.sequence - peer.sequence - 1
    } else {
      // A process with two addresses counts once.
      if peers.contains(where: { $0.key != address && $0.value.incarnation == message.incarnation }) {
        counters.repeated += 1
        return false
      }
      if peer.incarnation != nil { counters.restarts += 1 }
      drop(address)
      peers[address]?.incarnation = message.incarnation
    }
    peers[address]?.sequence = message.sequence
    peers[address]?.heardAt = now
    return true
  }

  private mutating func drop(_ address: String) {
    guard let peer = peers[address] else { return }
    changed.formUnion(peer.rows.keys)
    peers[address] = Peer()
  }

  private mutating func take(_ models: [PeerMessage.ModelLoad], isFull: Bool, _ address: String) {
    guard var peer = peers.removeValue(forKey: address) else { return }
    defer { peers[address] = peer }
    var gone = isFull ? peer.rows : [:]
    for model in models {
      for row in model.rows {
        let key = PeerKey(model: model.model, worker: row.worker)
        gone[key] = nil
        let load = row.load.isEmpty ? nil : row.load
        guard peer.rows[key] != load else { continue }
        if load != nil, peer.rows[key] == nil, peer.rows.count >= Self.rowsMax {
          counters.refusedRows += 1
          continue
        }
        peer.rows[key] = load
        changed.insert(key)
      }
    }
    for key in gone.keys {
      peer.rows[key] = nil
      changed.insert(key)
    }
  }
}
