// How the index forgets: by age, by the worker's capacity, by memory.

import Base
import Glibc

extension PrefixIndex {
  /// Drops the least recently used nodes until a chain fits of which `known` leading blocks are stored already.
  ///
  /// The tables may take half the memory at most, so that runs always have the other half; and no chain may take more
  /// than a quarter, so that one huge prompt cannot empty the index. How many nodes one call drops is bounded by the
  /// chain's length, whose hashing has cost more; when most are held by requests in flight, the rest waits for later.
  mutating func makeRoom(blocks: Int, known: Int) -> Bool {
    if Self.runBytes(blocks) > bytesMax / 4 { return false }
    var fresh = blocks - known
    var budget = 64 + blocks / 4
    while true {
      // A chain adds at most one split and one new node; a split copies the entries of every worker.
      let tables = nodes.growth(for: 2) + entries.growth(for: 2 * workers.used + 2) + map.growth(for: 2)
      let held = nodes.bytes + entries.bytes + map.bytes + tables
      let fits = bytes + tables + Self.runBytes(fresh) + 32 <= bytesMax
      if fits, held <= bytesMax / 2 || tables == 0 { return true }
      guard oldestNode >= 0, budget > 0 else { return false }
      budget -= 1
      evict(oldestNode)
      evictedNodes += 1
      // What was known may be what was just dropped.
      fresh = blocks
    }
  }

  /// Drops least recently used nodes while more memory is held than allowed, until they and their entries, one for each
  /// worker, are `budget`.
  mutating func shrink(budget: Int) {
    var left = budget
    while bytes > bytesMax, oldestNode >= 0, left > 0 {
      left -= 1 + evict(oldestNode)
      evictedNodes += 1
    }
  }

  /// Under the LRU policy, ends the worker's oldest predictions until they fit into its cache.
  mutating func trim(_ slot: Int32) {
    guard case .leastRecentlyUsed = policy else { return }
    while workers.base[Int(slot)].cachedBlocks > workers.base[Int(slot)].blocksMax {
      let oldest = workers.base[Int(slot)].oldest
      guard oldest >= 0 else { return }
      dropPrediction(oldest)
    }
  }

  /// Clears away a few predictions that no longer stand: of this worker, and nodes that nobody used for long.
  mutating func sweep(_ slot: Int32, now: Nanoseconds, budget: Int) {
    var left = budget
    while left > 0, workers.base[Int(slot)].oldest >= 0 {
      let oldest = workers.base[Int(slot)].oldest
      if isCached(entries.base + Int(oldest), now) { break }
      dropPrediction(oldest)
      left -= 1
    }
    guard case .timeToLive(let life) = policy else { return }
    left = budget
    while left > 0, oldestNode >= 0, nodes.base[Int(oldestNode)].touched &+ life <= now {
      evict(oldestNode)
      left -= 1
    }
  }

  /// Ends all predictions of a node and returns how many. The node goes too, unless requests in flight or children hold
  /// it.
  @discardableResult
  private mutating func evict(_ node: Int32) -> Int {
    var ended = 0
    var index = nodes.base[Int(node)].firstEntry
    while index >= 0 {
      let next = entries.base[Int(index)].nextInNode
      if entries.base[Int(index)].isListed { unlist(index) }
      if entries.base[Int(index)].references == 0 { remove(entry: index) }
      index = next
      ended += 1
    }
    reap(node)
    return ended
  }

  private mutating func dropPrediction(_ index: Int32) {
    let node = entries.base[Int(index)].node
    unlist(index)
    if entries.base[Int(index)].references == 0 { remove(entry: index) }
    reap(node)
  }

  /// Removes an entry that is neither listed nor referenced. Its node may be left for ``reap(_:)``.
  mutating func remove(entry index: Int32) {
    let entry = entries.base[Int(index)]
    let node = Int(entry.node)
    var before: Int32 = -1
    var cursor = nodes.base[node].firstEntry
    while cursor >= 0, cursor != index {
      before = cursor
      cursor = entries.base[Int(cursor)].nextInNode
    }
    if before < 0 {
      nodes.base[node].firstEntry = entry.nextInNode
    } else {
      entries.base[Int(before)].nextInNode = entry.nextInNode
    }
    entries.release(index)
  }

  /// Removes a node without entries and children, and the parents that are so then.
  mutating func reap(_ start: Int32) {
    var index = start
    while index >= 0 {
      let node = nodes.base[Int(index)]
      guard node.firstEntry < 0, node.children == 0 else { return }
      map.remove(node.run[0])
      runBytes -= Self.runBytes(Int(node.length))
      free(node.run)
      nodes.base[Int(index)].length = 0
      nodes.release(index)
      if node.parent >= 0 { nodes.record(node.parent).pointee.children -= 1 }
      index = node.parent
    }
  }
}
