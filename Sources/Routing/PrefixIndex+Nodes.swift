// How nodes come to be: a chain laid into the tree, and runs split where chains part.

import Base
import Glibc

extension PrefixIndex {
  /// Lays a chain into the tree and returns the node that ends with its last block.
  mutating func path(_ blocks: UnsafePointer<UInt64>, _ count: Int) -> Int32 {
    var position = 0
    var last: Int32 = -1
    while position < count {
      let index = map.find(blocks[position])
      if index < 0 { return makeNode(blocks + position, count - position, parent: last) }
      let node = nodes.base[Int(index)]
      let common = commonLength(node, blocks + position, count - position)
      last = common < Int(node.length) ? split(index, at: common) : index
      position += common
    }
    return last
  }

  private mutating func makeNode(_ blocks: UnsafePointer<UInt64>, _ count: Int, parent: Int32) -> Int32 {
    let index = nodes.allocate()
    nodes.base[Int(index)] = Node(run: copy(blocks, count), length: Int32(count), parent: parent)
    if parent >= 0 { nodes.record(parent).pointee.children += 1 }
    map.set(blocks[0], index)
    return index
  }

  /// Parts a run: its first `length` blocks become a new parent with the same entries, which is returned. The old node
  /// keeps the rest, so that requests which remember it as their leaf stay right.
  private mutating func split(_ lower: Int32, at length: Int) -> Int32 {
    let upper = nodes.allocate()
    let node = nodes.base + Int(lower)
    let rest = Int(node.pointee.length) - length
    var parent = Node(
      run: copy(node.pointee.run, length), touched: node.pointee.touched, length: Int32(length),
      parent: node.pointee.parent)
    parent.children = 1
    parent.listed = node.pointee.listed
    nodes.base[Int(upper)] = parent

    memmove(node.pointee.run, node.pointee.run + length, rest * MemoryLayout<UInt64>.stride)
    shrink(node, to: rest)
    node.pointee.parent = upper
    map.set(parent.run[0], upper)
    map.set(node.pointee.run[0], lower)
    if parent.listed > 0 { linkNode(upper, after: lower) }

    var index = node.pointee.firstEntry
    while index >= 0 {
      let above = entries.allocate()
      let entry = entries.base[Int(index)]
      var mirrored = entry
      mirrored.node = upper
      mirrored.nextInNode = nodes.base[Int(upper)].firstEntry
      entries.base[Int(above)] = mirrored
      nodes.base[Int(upper)].firstEntry = above
      if entry.isListed { linkEntry(above, after: index) }
      index = entry.nextInNode
    }
    return upper
  }

  private mutating func copy(_ blocks: UnsafePointer<UInt64>, _ count: Int) -> UnsafeMutablePointer<UInt64> {
    let size = count * MemoryLayout<UInt64>.stride
    guard let memory = malloc(size) else { preconditionFailure("out of memory") }
    memcpy(memory, blocks, size)
    runBytes += Self.runBytes(count)
    return memory.assumingMemoryBound(to: UInt64.self)
  }

  private mutating func shrink(_ node: UnsafeMutablePointer<Node>, to count: Int) {
    runBytes -= Self.runBytes(Int(node.pointee.length)) - Self.runBytes(count)
    node.pointee.length = Int32(count)
    if let memory = realloc(node.pointee.run, count * MemoryLayout<UInt64>.stride) {
      node.pointee.run = memory.assumingMemoryBound(to: UInt64.self)
    }
  }

  /// Bytes that a run takes from the allocator, whose own header and rounding are counted in.
  static func runBytes(_ count: Int) -> Int { max(32, (count * 8 + 8 + 15) & ~15) }
}

// MARK: Lists of use

extension PrefixIndex {
  /// Marks an entry as used at `time` and moves it and its node to the new end of their lists.
  mutating func touch(_ index: Int32, _ time: Nanoseconds) {
    let entry = entries.base + Int(index)
    let node = entry.pointee.node
    if nodes.base[Int(node)].listed > 0 { unlinkNode(node) }
    if entry.pointee.isListed {
      unlinkEntry(index)
    } else {
      entry.pointee.isListed = true
      workers.record(entry.pointee.slot).pointee.cachedBlocks += Int(nodes.base[Int(node)].length)
      nodes.record(node).pointee.listed += 1
    }
    entry.pointee.touched = time
    linkEntry(index, after: workers.base[Int(entry.pointee.slot)].newest)
    nodes.base[Int(node)].touched = max(nodes.base[Int(node)].touched, time)
    linkNode(node, after: newestNode)
  }

  /// Ends a prediction; the entry itself stays for its references.
  mutating func unlist(_ index: Int32) {
    let entry = entries.base + Int(index)
    let node = entry.pointee.node
    unlinkEntry(index)
    entry.pointee.isListed = false
    workers.record(entry.pointee.slot).pointee.cachedBlocks -= Int(nodes.base[Int(node)].length)
    nodes.record(node).pointee.listed -= 1
    if nodes.base[Int(node)].listed == 0 { unlinkNode(node) }
  }

  /// Puts an entry into its worker's list, next to `older` on the newer side; at the old end when that is -1.
  func linkEntry(_ index: Int32, after older: Int32) {
    let entry = entries.base + Int(index)
    let worker = workers.base + Int(entry.pointee.slot)
    let newer = older >= 0 ? entries.base[Int(older)].newer : worker.pointee.oldest
    entry.pointee.older = older
    entry.pointee.newer = newer
    if older >= 0 { entries.base[Int(older)].newer = index } else { worker.pointee.oldest = index }
    if newer >= 0 { entries.base[Int(newer)].older = index } else { worker.pointee.newest = index }
  }

  private func unlinkEntry(_ index: Int32) {
    let entry = entries.base + Int(index)
    let worker = workers.base + Int(entry.pointee.slot)
    let (older, newer) = (entry.pointee.older, entry.pointee.newer)
    if older >= 0 { entries.base[Int(older)].newer = newer } else { worker.pointee.oldest = newer }
    if newer >= 0 { entries.base[Int(newer)].older = older } else { worker.pointee.newest = older }
    entry.pointee.older = -1
    entry.pointee.newer = -1
  }

  /// Puts a node into the list of use, next to `older` on the newer side; at the old end when that is -1.
  mutating func linkNode(_ index: Int32, after older: Int32) {
    let newer = older >= 0 ? nodes.base[Int(older)].newer : oldestNode
    nodes.base[Int(index)].older = older
    nodes.base[Int(index)].newer = newer
    if older >= 0 { nodes.base[Int(older)].newer = index } else { oldestNode = index }
    if newer >= 0 { nodes.base[Int(newer)].older = index } else { newestNode = index }
  }

  private mutating func unlinkNode(_ index: Int32) {
    let (older, newer) = (nodes.base[Int(index)].older, nodes.base[Int(index)].newer)
    if older >= 0 { nodes.base[Int(older)].newer = newer } else { oldestNode = newer }
    if newer >= 0 { nodes.base[Int(newer)].older = older } else { newestNode = older }
    nodes.base[Int(index)].older = -1
    nodes.base[Int(index)].newer = -1
  }
}
