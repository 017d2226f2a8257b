// The simulated engine's cache: blocks in use, blocks kept for reuse, blocks free.

/// Counts references to blocks and remembers full ones by their chained hash.
///
/// A block is free (no content), active (used by at least one sequence) or inactive (full, known by its hash, used by
/// nobody; the least recently released is evicted first). Invariant: free + active + inactive = capacity.
struct BlockManager {
  private struct Block {
    var hash: UInt64 = 0
    var isKnown = false
    var references: Int32 = 0
    var previous: Int32 = -1
    var next: Int32 = -1
  }

  let capacity: Int
  private(set) var activeCount = 0
  private(set) var inactiveCount = 0
  /// Grows as blocks are first used, so that a large cache costs nothing until it fills.
  private var blocks: [Block] = []
  private var free: [Int32] = []
  private var known: [UInt64: Int32] = [:]
  private var oldest: Int32 = -1
  private var newest: Int32 = -1
  var observer: (any BlockObserver)?

  init(capacity: Int) { self.capacity = capacity }

  /// Blocks that can be handed out, by eviction if need be.
  var availableCount: Int { capacity - activeCount }

  /// Takes a block for new content; nil when all are active.
  mutating func allocate() -> Int32? {
    let block: Int32
    if let reused = free.popLast() {
      block = reused
    } else if blocks.count < capacity {
      block = Int32(blocks.count)
      blocks.append(Block())
    } else if oldest >= 0 {
      block = oldest
      evict(block)
    } else {
      return nil
    }
    blocks[Int(block)].references = 1
    activeCount += 1
    return block
  }

  /// The block known by `hash`, active or inactive.
  func find(_ hash: UInt64) -> Int32? { known[hash] }

  /// True when nobody uses `block` at the moment.
  func isInactive(_ block: Int32) -> Bool { blocks[Int(block)].references == 0 }

  /// Adds a reference to a known block.
  mutating func acquire(_ block: Int32) {
    if blocks[Int(block)].references == 0 {
      unlink(block)
      inactiveCount -= 1
      activeCount += 1
    }
    blocks[Int(block)].references += 1
  }

  /// Makes the now full, active `block` known by `hash`. Where the same content is known already, that block is taken
  /// instead and this one freed; the result is the block to use from now on.
  mutating func register(_ block: Int32, hash: UInt64) -> Int32 {
    if let other = known[hash] {
      acquire(other)
      release(block)
      return other
    }
    blocks[Int(block)].hash = hash
    blocks[Int(block)].isKnown = true
    known[hash] = block
    return block
  }

  /// Forgets all content; false, and nothing done, while a block is in use (vLLM's rule).
  mutating func forgetAll() -> Bool {
    guard activeCount == 0 else { return false }
    while oldest >= 0 {
      let block = oldest
      unlink(block)
      blocks[Int(block)].isKnown = false
      free.append(block)
    }
    inactiveCount = 0
    known.removeAll()
    return true
  }

  /// Drops a reference; the last one makes the block inactive when it is known, else free.
  mutating func release(_ block: Int32) {
    let index = Int(block)
    precondition(blocks[index].references > 0, "a block is released once per reference")
    blocks[index].references -= 1
    guard blocks[index].references == 0 else { return }
    activeCount -= 1
    if blocks[index].isKnown {
      link(block)
      inactiveCount += 1
    } else {
      free.append(block)
    }
  }

  private mutating func evict(_ block: Int32) {
    unlink(block)
    inactiveCount -= 1
    let hash = blocks[Int(block)].hash
    blocks[Int(block)].isKnown = false
    known[hash] = nil
    observer?.removed(hash: hash)
  }

  private mutating func link(_ block: Int32) {
    blocks[Int(block)].previous = newest
    blocks[Int(block)].next = -1
    if newest >= 0 { blocks[Int(newest)].next = block } else { oldest = block }
    newest = block
  }

  private mutating func unlink(_ block: Int32) {
    let previous = blocks[Int(block)].previous
    let next = blocks[Int(block)].next
    if previous >= 0 { blocks[Int(previous)].next = next } else { oldest = next }
    if next >= 0 { blocks[Int(next)].previous = previous } else { newest = previous }
  }
}
