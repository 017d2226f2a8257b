// One engine's cache events, turned into operations on the hashes that prompts are looked up by.

import Base

/// What a stored event says. All memory is the caller's and is not kept.
package struct StoredBlocks {
  /// The engine's hashes of the blocks, in order.
  package var hashes: UnsafeBufferPointer<UInt64>
  /// The engine's hash of the block before the first; nil when the first begins a prompt.
  package var parent: UInt64?
  /// The blocks' tokens one after the other. Empty when the event names blocks that are known already, as engines do
  /// when they copy blocks to another tier.
  package var tokens: UnsafeBufferPointer<UInt32>
  package var blockSize: Int
  package var tier: CacheTier
  /// From ``PromptBlocks/seed(adapter:salt:)`` when the blocks belong to an adapter or a salt.
  package var seed: UInt64
  /// The engine's data-parallel rank, by its place among the worker's.
  package var rank: Int

  package init(
    hashes: UnsafeBufferPointer<UInt64>, parent: UInt64?, tokens: UnsafeBufferPointer<UInt32>, blockSize: Int,
    tier: CacheTier = .device, seed: UInt64 = PromptBlocks.seed, rank: Int = 0
  ) {
    self.rank = rank
    self.hashes = hashes
    self.parent = parent
    self.tokens = tokens
    self.blockSize = blockSize
    self.tier = tier
    self.seed = seed
  }
}

/// What was wrong with a worker's events. The first three are Dynamo's names, the rest ours.
package struct CacheMirrorCounts: Sendable, Equatable, BitwiseCopyable {
  /// Stored events whose parent is not known (`parent_block_not_found`).
  package internal(set) var parentsNotFound = 0
  /// Removed blocks that are not known, and stored ones without tokens (`block_not_found`).
  package internal(set) var blocksNotFound = 0
  /// Stored events of another block size than the model's.
  package internal(set) var wrongBlockSizes = 0
  /// Stored events whose tokens are not as many as their blocks need.
  package internal(set) var malformed = 0
  /// Blocks beyond the bound.
  package internal(set) var refused = 0
  package internal(set) var stored = 0
  package internal(set) var removed = 0
  package internal(set) var cleared = 0

  package init() {}
}

/// The blocks of one worker by the engine's own hashes, which are opaque to us. Owned by one thread; no lock.
///
/// Several of the engine's hashes may stand for one of our blocks (a group of layers, an image that our hash leaves
/// out); the block is gone when the last of them is. A hash stored twice in one tier is held once, as in Dynamo.
///
/// Ranks hold blocks of equal hashes each for itself: the worker has a block while one of its ranks has it, and what is
/// forgotten of one rank leaves the others' blocks alone.
///
/// Operations gather until ``takeOperations()``; they are to be applied in order, in slices of any size.
package struct CacheMirror: ~Copyable {
  /// What one rank holds. A box, because tables are not copied.
  private final class Rank {
    var hashes = MirrorTable()
    /// Blocks were refused since its last clear.
    var isIncomplete = false
  }

  private var ranks = [Rank()]
  /// Of each of our blocks, how many engine hashes stand for it: ten bits a tier.
  private var holders = BlockMap()
  private var operations: [CacheOperation] = []
  private let blockSize: Int
  private let blocksMax: Int
  package private(set) var counts = CacheMirrorCounts()
  /// - Parameters:
  ///   - blockSize: tokens in a block of the model; events of another size are not taken.
  ///   - blocksMax: the most engine hashes that are held, over all tiers; about 40 bytes each.
  package init(blockSize: Int, blocksMax: Int = 4 << 20) {
    precondition(blockSize > 0, "a block holds at least one token")
    self.blockSize = blockSize
    self.blocksMax = blocksMax
  }

  /// Blocks were refused since the rank's last clear: look-ups would miss them, so predictions are the better source.
  package var isIncomplete: Bool { ranks.contains(where: \.isIncomplete) }

  /// True when the engine's rank holds the block in some tier.
  package func holds(_ external: UInt64, rank: Int = 0) -> Bool {
    rank < ranks.count && (ranks[rank].hashes.find(external)?.tiers ?? 0) != 0
  }

  /// Engine hashes held.
  package var count: Int { ranks.reduce(0) { $0 + $1.hashes.count } }

  /// Bytes of memory held, without the operations.
  package var bytes: Int { ranks.reduce(holders.bytes) { $0 + $1.hashes.bytes } }

  /// Operations that wait to be taken.
  package var pendingOperations: Int { operations.count }

  /// The operations since the last call, in the order in which they must be applied.
  package mutating func takeOperations() -> [CacheOperation] {
    var taken: [CacheOperation] = []
    swap(&taken, &operations)
    return taken
  }

  // MARK: Events

  /// The engine has stored blocks.
  package mutating func stored(_ event: StoredBlocks) {
    guard event.blockSize == blockSize || event.tokens.isEmpty else {
      counts.wrongBlockSizes += 1
      return
    }
    while ranks.count <= event.rank { ranks.append(Rank()) }
    let rank = ranks[event.rank]
    if event.tokens.isEmpty {
      copied(event, rank)
      return
    }
    let (needed, overflows) = event.hashes.count.multipliedReportingOverflow(by: blockSize)
    guard !overflows, needed == event.tokens.count, needed > 0 else {
      counts.malformed += 1
      return
    }
    var previous: UInt64?
    if let parent = event.parent {
      guard let found = rank.hashes.find(parent) else {
        counts.parentsNotFound += 1
        return
      }
      previous = found.chained
    }
    let bytes = UnsafeRawBufferPointer(event.tokens)
    let blockBytes = blockSize * PromptBlocks.tokenBytes
    for (index, external) in event.hashes.enumerated() {
      let block = bytes.slice(index * blockBytes..<(index + 1) * blockBytes)
      let local = XXH3.hash(block, seed: event.seed)
      let chained = previous.map { XXH3.hash16($0, local, seed: PromptBlocks.seed) } ?? local
      guard hold(external, chained, event.tier, rank) else { return }
      previous = chained
    }
  }

  /// Blocks without tokens: they must be known from another tier.
  private mutating func copied(_ event: StoredBlocks, _ rank: Rank) {
    for external in event.hashes {
      if let found = rank.hashes.find(external) {
        guard hold(external, found.chained, event.tier, rank) else { return }
      } else {
        counts.blocksNotFound += 1
      }
    }
  }

  /// Notes that `external` stands for `chained` in a tier; false when the mirror is full.
  private mutating func hold(_ external: UInt64, _ chained: UInt64, _ tier: CacheTier, _ rank: Rank) -> Bool {
    counts.stored += 1
    if let found = rank.hashes.find(external) {
      if found.chained != chained {
        // The engine's hash stands for other content than before, without a removal between.
        for other in CacheTier.allCases where found.tiers & other.bit != 0 { drop(external, other, rank) }
      } else if found.tiers & tier.bit != 0 {
        return true
      }
    }
    let tiers = rank.hashes.find(external)?.tiers ?? 0
    let held = max(holders.find(chained), 0)
    guard tiers != 0 || count < blocksMax, held >> tier.shift & 1023 < 1023 else {
      counts.refused += 1
      rank.isIncomplete = true
      return false
    }
    rank.hashes.set(external, chained, tiers: tiers | tier.bit)
    holders.set(chained, held + 1 << tier.shift)
    if held >> tier.shift & 1023 == 0 {
      operations.append(CacheOperation(.stored, hash: chained, tier: tier))
    }
    return true
  }

  /// The engine has dropped blocks from a tier.
  package mutating func removed(
    _ externals: UnsafeBufferPointer<UInt64>, tier: CacheTier = .device, rank: Int = 0
  ) {
    for external in externals {
      guard rank < ranks.count, let found = ranks[rank].hashes.find(external), found.tiers & tier.bit != 0
      else {
        counts.blocksNotFound += 1
        continue
      }
      counts.removed += 1
      drop(external, tier, ranks[rank])
    }
  }

  private mutating func drop(_ external: UInt64, _ tier: CacheTier, _ rank: Rank) {
    guard let found = rank.hashes.find(external) else { return }
    rank.hashes.set(external, found.chained, tiers: found.tiers & ~tier.bit)
    release(found.chained, tier)
  }

  /// One of the hashes that stand for our block is gone from a tier.
  private mutating func release(_ chained: UInt64, _ tier: CacheTier) {
    let held = holders.find(chained)
    guard held > 0 else { return }
    let left = held - 1 << tier.shift
    if left == 0 { holders.remove(chained) } else { holders.set(chained, left) }
    if left >> tier.shift & 1023 == 0 {
      operations.append(CacheOperation(.removed, hash: chained, tier: tier))
    }
  }

  /// One rank of the engine has dropped everything, or its feed begins anew. Memory is given back.
  package mutating func cleared(rank: Int) {
    guard ranks.indices.contains(rank) else { return }
    let gone = ranks[rank]
    let isAll = gone.hashes.count == count
    counts.cleared += 1
    ranks[rank] = Rank()
    if isAll {
      holders = BlockMap()
      // What came before is void, so it need not be applied.
      operations = [CacheOperation(.cleared)]
      return
    }
    gone.hashes.forEach { chained, tiers in
      for tier in CacheTier.allCases where tiers & tier.bit != 0 { release(chained, tier) }
    }
  }

  /// The engine has dropped everything, or the feed begins anew. Memory is given back.
  package mutating func cleared() {
    counts.cleared += 1
    ranks = [Rank()]
    holders = BlockMap()
    operations = [CacheOperation(.cleared)]
  }

  /// Puts the whole of what is held in the place of the operations that wait, for an index that has lost it.
  package mutating func tellAgain() {
    var told = [CacheOperation(.cleared)]
    holders.forEach { chained, held in
      for tier in CacheTier.allCases where held >> tier.shift & 1023 != 0 {
        told.append(CacheOperation(.stored, hash: chained, tier: tier))
      }
    }
    operations = told
  }
}

extension CacheTier {
  /// The tier's bit in a set of tiers.
  var bit: UInt8 { 1 << rawValue }
  /// Where the tier's count begins in ``CacheMirror/holders``.
  var shift: Int32 { Int32(rawValue) * 10 }
}
