// What each worker is believed to cache and has in use: one tree of prompt prefixes for all workers of a model.

package import Base
import Glibc

/// When a predicted block is forgotten.
package enum CachePolicy: Sendable {
  /// After this many nanoseconds without use.
  case timeToLive(Nanoseconds)
  /// When the worker holds more blocks than it has; the least recently used goes first.
  case leastRecentlyUsed
}

/// A compressed tree of chained block hashes.
///
/// A node is a run of blocks that so far always came together. An entry says what one worker has of a node: a prediction
/// (`listed`, with the time of its last use), references of requests in flight, or both. An entry covers its whole node:
/// where a prompt ends or branches off inside a node, the node is split. Since a chained hash names the whole prefix,
/// nodes are found by their first hash in one table, and the common part of a run by binary search.
///
/// Invariants: a node has an entry or a child; a worker's overlap counts leading blocks only, so a hole left by
/// forgetting ends it; in both lists of use a node's or entry's parents are newer than it is, so eviction takes leaves
/// first; `bytes` stays within the limit.
struct PrefixIndex: ~Copyable {
  struct Node: BitwiseCopyable {
    var run: UnsafeMutablePointer<UInt64>
    var touched: Nanoseconds = 0
    var length: Int32
    var parent: Int32
    var firstEntry: Int32 = -1
    var children: Int32 = 0
    /// Entries of this node that are predictions; the node is in the list of use while there are any.
    var listed: Int32 = 0
    var older: Int32 = -1
    var newer: Int32 = -1
  }

  struct Entry: BitwiseCopyable {
    var touched: Nanoseconds = 0
    var node: Int32
    var slot: Int32
    var nextInNode: Int32
    var older: Int32 = -1
    var newer: Int32 = -1
    var references: Int32 = 0
    var isListed = false
  }

  var nodes = Slab<Node>()
  var entries = Slab<Entry>()
  var workers = Slab<WorkerState>()
  var map = BlockMap()
  var runBytes = 0
  var oldestNode: Int32 = -1
  var newestNode: Int32 = -1
  let policy: CachePolicy
  /// Falls while engines' events take a part of the memory.
  var bytesMax: Int
  /// Nodes dropped because memory was short.
  var evictedNodes = 0
  /// Chains that found no room because everything was in use.
  var refusedChains = 0

  init(policy: CachePolicy, bytesMax: Int) {
    self.policy = policy
    self.bytesMax = bytesMax
  }

  deinit {
    for index in 0..<nodes.used where nodes.base[index].length > 0 { free(nodes.base[index].run) }
  }

  /// Bytes of memory held for all workers.
  var bytes: Int { runBytes + nodes.bytes + entries.bytes + map.bytes }

  // MARK: Time

  /// Voids every prediction for the worker. Stored ones are cleared away bit by bit later.
  func forget(_ slot: Int32, until time: Nanoseconds) {
    let worker = workers.base + Int(slot)
    worker.pointee.voidUntil = max(worker.pointee.voidUntil, time)
  }

  /// The time to stamp the worker's next predictions with: `now`, but later than any stamp before and than whatever
  /// was forgotten, so that equal stamps mean one request.
  func nextStamp(_ slot: Int32, now: Nanoseconds) -> Nanoseconds {
    let worker = workers.base + Int(slot)
    let stamp = max(now, worker.pointee.lastStamp &+ 1, worker.pointee.voidUntil &+ 1)
    worker.pointee.lastStamp = stamp
    return stamp
  }

  // MARK: Look-up

  /// Finds how many leading blocks of a chain each worker caches and has in use.
  ///
  /// - Parameters:
  ///   - cached, active: one number a worker slot, zero at the start; raised to the blocks found.
  /// - Returns: how many leading blocks the index knows of any worker.
  func match(
    _ chain: UnsafeBufferPointer<UInt64>, now: Nanoseconds, cached: UnsafeMutablePointer<Int32>,
    active: UnsafeMutablePointer<Int32>
  ) -> Int {
    var position = 0
    guard let blocks = chain.baseAddress, nodes.count > 0 else { return 0 }
    while position < chain.count {
      let index = map.find(blocks[position])
      if index < 0 { break }
      let node = nodes.base[Int(index)]
      let common = commonLength(node, blocks + position, chain.count &- position)
      let start = Int32(truncatingIfNeeded: position)
      let end = Int32(truncatingIfNeeded: position &+ common)
      var next = node.firstEntry
      while next >= 0 {
        let entry = entries.base + Int(next)
        let slot = Int(entry.pointee.slot)
        if cached[slot] == start, isCached(entry, now) { cached[slot] = end }
        if active[slot] == start, entry.pointee.references > 0 { active[slot] = end }
        next = entry.pointee.nextInNode
      }
      position &+= common
      if common < Int(node.length) { break }
    }
    return position
  }

  /// Leading blocks of a chain that the index knows of any worker.
  func known(of chain: UnsafeBufferPointer<UInt64>) -> Int {
    var position = 0
    guard let blocks = chain.baseAddress, nodes.count > 0 else { return 0 }
    while position < chain.count {
      let index = map.find(blocks[position])
      if index < 0 { break }
      let node = nodes.base[Int(index)]
      let common = commonLength(node, blocks + position, chain.count &- position)
      position &+= common
      if common < Int(node.length) { break }
    }
    return position
  }

  /// Leading blocks that a node's run and `blocks` share; at least 1, for the first is what found the node.
  func commonLength(_ node: Node, _ blocks: UnsafePointer<UInt64>, _ count: Int) -> Int {
    let most = min(Int(node.length), count)
    if node.run[most - 1] == blocks[most - 1] { return most }
    var same = 1
    var different = most
    while different - same > 1 {
      let middle = (same + different) / 2
      if node.run[middle - 1] == blocks[middle - 1] { same = middle } else { different = middle }
    }
    return same
  }

  /// Raises `cached` to the leading blocks that workers with events were sent within `life`, which their events may not
  /// tell yet. Numbers of other workers are left alone.
  func matchRecent(
    _ chain: UnsafeBufferPointer<UInt64>, now: Nanoseconds, life: Nanoseconds,
    recent: UnsafeMutablePointer<Int32>
  ) {
    var position = 0
    guard let blocks = chain.baseAddress, nodes.count > 0 else { return }
    while position < chain.count {
      let index = map.find(blocks[position])
      if index < 0 { break }
      let node = nodes.base[Int(index)]
      let common = commonLength(node, blocks + position, chain.count &- position)
      var next = node.firstEntry
      while next >= 0 {
        let entry = entries.base + Int(next)
        let slot = Int(entry.pointee.slot)
        if recent[slot] == position, isCached(entry, now), now < entry.pointee.touched &+ life {
          recent[slot] = Int32(truncatingIfNeeded: position &+ common)
        }
        next = entry.pointee.nextInNode
      }
      position &+= common
      if common < Int(node.length) { break }
    }
  }

  /// When the worker last used the block that ends its overlap with the chain; 0 when it has none.
  func lastUse(_ chain: UnsafeBufferPointer<UInt64>, slot: Int32, overlap: Int) -> Nanoseconds {
    var position = 0
    var last: Int32 = -1
    while position < overlap {
      let index = map.find(chain[position])
      guard index >= 0 else { return 0 }
      position += Int(nodes.base[Int(index)].length)
      last = index
    }
    let entry = last >= 0 ? existingEntry(of: slot, in: last) : -1
    return entry >= 0 ? entries.base[Int(entry)].touched : 0
  }

  /// True when the prediction stands: not forgotten, not outlived.
  func isCached(_ entry: UnsafeMutablePointer<Entry>, _ now: Nanoseconds) -> Bool {
    guard entry.pointee.isListed else { return false }
    let touched = entry.pointee.touched
    if touched <= workers.base[Int(entry.pointee.slot)].voidUntil { return false }
    if case .timeToLive(let life) = policy { return now < touched &+ life }
    return true
  }

  // MARK: Adding

  /// Records that the worker has, or is about to have, the chain's blocks, and returns the chain's last node.
  ///
  /// - Parameters:
  ///   - known: leading blocks that ``match(_:now:cached:active:)`` found; what is beyond needs memory.
  ///   - stamp: when the worker is predicted to cache the blocks, from ``nextStamp(_:now:)``; nil for no prediction.
  ///   - references: whether a request in flight uses the blocks; ``release(_:slot:)`` undoes it.
  /// - Returns: -1 when the chain is empty, or memory is short although everything unused was dropped.
  mutating func add(
    _ chain: UnsafeBufferPointer<UInt64>, known: Int, slot: Int32, stamp: Nanoseconds?, references: Bool
  ) -> Int32 {
    guard let blocks = chain.baseAddress, chain.count > 0, references || stamp != nil else { return -1 }
    guard makeRoom(blocks: chain.count, known: known) else {
      refusedChains += 1
      return -1
    }
    let leaf = path(blocks, chain.count)
    // From the leaf up, so that each parent ends up newer than its child.
    var node = leaf
    while node >= 0 {
      let entry = entry(of: slot, in: node)
      if references { addReference(entry) }
      if let stamp { touch(entry, stamp) }
      node = nodes.base[Int(node)].parent
    }
    if stamp != nil { trim(slot) }
    return leaf
  }

  /// Ends a request's use of the chain that ends at `leaf`.
  mutating func release(_ leaf: Int32, slot: Int32) {
    var node = leaf
    while node >= 0 {
      let parent = nodes.base[Int(node)].parent
      let index = existingEntry(of: slot, in: node)
      if index >= 0 {
        let entry = entries.base + Int(index)
        entry.pointee.references -= 1
        if entry.pointee.references == 0 {
          workers.record(slot).pointee.activeBlocks -= Int(nodes.base[Int(node)].length)
          if !entry.pointee.isListed { remove(entry: index) }
        }
      }
      node = parent
    }
    reap(leaf)
  }

  /// Blocks at the end of the chain that ends at `leaf` which one request alone has in use on the worker.
  func unsharedBlocks(_ leaf: Int32, slot: Int32) -> Int {
    var (node, blocks) = (leaf, 0)
    while node >= 0 {
      let index = existingEntry(of: slot, in: node)
      guard index >= 0, entries.base[Int(index)].references == 1 else { break }
      blocks += Int(nodes.base[Int(node)].length)
      node = nodes.base[Int(node)].parent
    }
    return blocks
  }

  /// Takes back the predictions stamped `stamp` for blocks after the first `keep`, because the request that
  /// they stood for never ran. Predictions that another request has renewed stay.
  mutating func retract(_ leaf: Int32, slot: Int32, keep: Int, blocks: Int, stamp: Nanoseconds) {
    var node = leaf
    var end = blocks
    while node >= 0, end > keep {
      let parent = nodes.base[Int(node)].parent
      end -= Int(nodes.base[Int(node)].length)
      let index = existingEntry(of: slot, in: node)
      if index >= 0, entries.base[Int(index)].isListed, entries.base[Int(index)].touched == stamp, end >= keep
      {
        unlist(index)
        if entries.base[Int(index)].references == 0 { remove(entry: index) }
      }
      node = parent
    }
    reap(leaf)
  }

  private func existingEntry(of slot: Int32, in node: Int32) -> Int32 {
    var index = nodes.base[Int(node)].firstEntry
    while index >= 0, entries.base[Int(index)].slot != slot { index = entries.base[Int(index)].nextInNode }
    return index
  }

  private mutating func entry(of slot: Int32, in node: Int32) -> Int32 {
    let existing = existingEntry(of: slot, in: node)
    if existing >= 0 { return existing }
    let index = entries.allocate()
    entries.base[Int(index)] = Entry(node: node, slot: slot, nextInNode: nodes.base[Int(node)].firstEntry)
    nodes.base[Int(node)].firstEntry = index
    return index
  }

  private func addReference(_ index: Int32) {
    let entry = entries.base + Int(index)
    entry.pointee.references += 1
    if entry.pointee.references == 1 {
      let length = nodes.base[Int(entry.pointee.node)].length
      workers.record(entry.pointee.slot).pointee.activeBlocks += Int(length)
    }
  }
}
