// The load that several frontends of the same workers tell each other of, on the router's side.
//
// What others booked is added to a worker's own sums, so that costs, bounds and queues weigh it without knowing of it.

package import Base

/// What one frontend, or several together, booked on a worker.
package struct PeerLoad: Sendable, Equatable, BitwiseCopyable {
  package var requests = 0
  /// Distinct blocks of its requests in flight, in the worker's size. Blocks that requests of two frontends share count
  /// for each: nobody tells whose they are.
  package var blocks = 0
  /// Prompt tokens of its requests before their first token.
  package var prefillTokens = 0

  package init(requests: Int = 0, blocks: Int = 0, prefillTokens: Int = 0) {
    self.requests = requests
    self.blocks = blocks
    self.prefillTokens = prefillTokens
  }

  package var isEmpty: Bool { self == PeerLoad() }

  /// Adds another frontend's.
  package static func += (left: inout PeerLoad, right: PeerLoad) {
    left.requests += right.requests
    left.blocks += right.blocks
    left.prefillTokens += right.prefillTokens
  }
}

/// What a router has to tell other frontends since it was last asked.
package struct PeerShare: Sendable, Equatable {
  /// A worker and all that is booked on it now.
  package struct Row: Sendable, Equatable {
    package var worker: UInt64
    package var load: PeerLoad

    package init(worker: UInt64, load: PeerLoad) {
      self.worker = worker
      self.load = load
    }
  }

  /// Prompts that were sent to workers whose caches are predicted.
  package struct Prompts: Sendable, Equatable {
    /// One of them, by its full blocks.
    package struct Prompt: Sendable, Equatable {
      package var worker: UInt64
      /// Tokens in a block of the worker.
      package var blockSize: Int
      /// Its blocks among ``PeerShare/Prompts/hashes``.
      package var blocks: Range<Int>

      package init(worker: UInt64, blockSize: Int, blocks: Range<Int>) {
        self.worker = worker
        self.blockSize = blockSize
        self.blocks = blocks
      }
    }

    package var prompts: [Prompt] = []
    package var hashes: [UInt64] = []

    package init() {}
  }

  package var rows: [Row] = []
  package var prompts = Prompts()
  /// Prompts that found no room, of all times.
  package var droppedPrompts = 0
}

/// What waits to be told: at most a row for each worker, and prompts up to a bound.
struct PeerOutbox {
  /// Blocks of all prompts that wait; past it prompts are dropped and counted. 256 KiB, room for the longest prompt.
  static let hashesMax = 32_768

  /// Slots whose load changed; some may be used for another worker by now.
  var slots: [Int32] = []
  var prompts = PeerShare.Prompts()
  var droppedPrompts = 0
}

extension Router {
  /// Notes that what is booked on a worker has changed.
  mutating func noteBooked(_ slot: Int) {
    guard !index.workers.base[slot].isUntold else { return }
    index.workers.base[slot].isUntold = true
    outbox.slots.append(Int32(truncatingIfNeeded: slot))
  }

  /// Notes that a worker whose cache is predicted was sent a prompt.
  mutating func share(_ chain: UnsafeBufferPointer<UInt64>, slot: Int) {
    let worker = index.workers.base + slot
    if case .events = worker.pointee.source, options.predictedTTL == nil { return }
    let first = outbox.prompts.hashes.count
    guard first + chain.count <= PeerOutbox.hashesMax else {
      outbox.droppedPrompts += 1
      return
    }
    outbox.prompts.hashes.append(contentsOf: chain)
    outbox.prompts.prompts.append(
      PeerShare.Prompts.Prompt(
        worker: worker.pointee.id, blockSize: worker.pointee.blockSize, blocks: first..<first + chain.count))
  }

  /// What this frontend booked on the workers whose load changed since the last call, or on all workers that have any,
  /// and the prompts sent since. Workers that left are not told of: they are missing where all are.
  package mutating func takeShare(isFull: Bool) -> PeerShare {
    var share = PeerShare()
    for slot in outbox.slots where Int(slot) < index.workers.used {
      let worker = index.workers.base + Int(slot)
      guard worker.pointee.isUntold else { continue }
      worker.pointee.isUntold = false
      if !isFull, worker.pointee.isLive {
        share.rows.append(PeerShare.Row(worker: worker.pointee.id, load: worker.pointee.ownLoad))
      }
    }
    outbox.slots.removeAll(keepingCapacity: true)
    if isFull {
      for slot in 0..<index.workers.used {
        let worker = index.workers.base[slot]
        let load = worker.ownLoad
        if worker.isLive, !load.isEmpty { share.rows.append(PeerShare.Row(worker: worker.id, load: load)) }
      }
    }
    swap(&share.prompts, &outbox.prompts)
    share.droppedPrompts = outbox.droppedPrompts
    return share
  }

  /// Says what other frontends have booked on a worker now; nothing when it is not known. What this router does not count
  /// of its own requests it does not count of theirs.
  package mutating func setPeers(worker id: UInt64, _ load: PeerLoad) {
    guard let slot = slot(of: id) else { return }
    var load = load
    if !options.tracksActiveBlocks { load.blocks = 0 }
    if !options.tracksPrefillTokens { load.prefillTokens = 0 }
    let worker = index.workers.base + slot
    worker.pointee.activeRequests += load.requests - worker.pointee.peers.requests
    worker.pointee.untrackedBlocks += load.blocks - worker.pointee.peers.blocks
    worker.pointee.prefillTokens += load.prefillTokens - worker.pointee.peers.prefillTokens
    worker.pointee.peers = load
  }

  /// Predicts that a worker caches the blocks of a prompt that another frontend sent there. Blocks of another size than
  /// the worker is known to have are those of another engine, and nothing is predicted where events tell.
  package mutating func predict(
    _ chain: UnsafeBufferPointer<UInt64>, blockSize: Int, worker id: UInt64, now: Nanoseconds
  ) {
    guard options.mode == .kv, let slot = slot(of: id) else { return }
    let worker = index.workers.base + slot
    guard worker.pointee.blockSize == blockSize else { return }
    if case .events = worker.pointee.source, options.predictedTTL == nil { return }
    let stamp = index.nextStamp(Int32(slot), now: now)
    _ = index.add(
      chain, known: index.known(of: chain), slot: Int32(slot), stamp: stamp, references: false)
  }
}
