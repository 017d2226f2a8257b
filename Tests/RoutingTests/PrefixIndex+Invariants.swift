// The index's promises, checked record by record after every step of a random test.

import Base
import Testing

@testable import Routing

/// Records a broken invariant; cheaper than `#expect`, which keeps the parts of what it is given.
private func check(_ holds: Bool, line: Int = #line) {
  if !holds { Issue.record("invariant in line \(line) is broken") }
}

extension PrefixIndex {
  /// Fails the running test when any invariant of nodes, entries, lists, sums or memory is broken.
  func checkInvariants() {
    var liveNodes: Set<Int32> = []
    var seenEntries = 0
    var runs = 0
    var listedNodes = 0
    var children: [Int32: Int32] = [:]
    var active: [Int32: Int] = [:]
    var cached: [Int32: Int] = [:]
    var listedEntries: [Int32: Int] = [:]
    for index in 0..<Int32(nodes.used) where nodes.base[Int(index)].length > 0 {
      let node = nodes.base[Int(index)]
      liveNodes.insert(index)
      runs += Self.runBytes(Int(node.length))
      check(map.find(node.run[0]) == index)
      check(node.firstEntry >= 0 || node.children > 0)
      if node.parent >= 0 { children[node.parent, default: 0] += 1 }
      var listed: Int32 = 0
      var slots: Set<Int32> = []
      var next = node.firstEntry
      while next >= 0 {
        let entry = entries.base[Int(next)]
        check(entry.node == index)
        check(entry.isListed || entry.references > 0)
        check(entry.references >= 0)
        check(slots.insert(entry.slot).inserted)
        if entry.isListed {
          listed += 1
          cached[entry.slot, default: 0] += Int(node.length)
          listedEntries[entry.slot, default: 0] += 1
        }
        if entry.references > 0 { active[entry.slot, default: 0] += Int(node.length) }
        seenEntries += 1
        next = entry.nextInNode
      }
      check(listed == node.listed)
      if listed > 0 { listedNodes += 1 }
    }
    check(liveNodes.count == nodes.count)
    check(map.count == nodes.count)
    check(seenEntries == entries.count)
    check(runs == runBytes)
    check(bytes <= bytesMax)
    for index in liveNodes { check(nodes.base[Int(index)].children == children[index] ?? 0) }
    checkLists(listedNodes: listedNodes, listedEntries: listedEntries, active: active, cached: cached)
  }

  private func checkLists(
    listedNodes: Int, listedEntries: [Int32: Int], active: [Int32: Int], cached: [Int32: Int]
  ) {
    var length = 0
    var last: Int32 = -1
    var cursor = oldestNode
    while cursor >= 0 {
      check(nodes.base[Int(cursor)].older == last)
      length += 1
      last = cursor
      cursor = nodes.base[Int(cursor)].newer
    }
    check(last == newestNode)
    check(length == listedNodes)
    for slot in 0..<Int32(workers.used) {
      let worker = workers.base[Int(slot)]
      if worker.isReclaimed { continue }
      check(worker.activeBlocks == active[slot] ?? 0)
      check(worker.cachedBlocks == cached[slot] ?? 0)
      var length = 0
      var stamp: Nanoseconds = 0
      var cursor = worker.oldest
      while cursor >= 0 {
        let entry = entries.base[Int(cursor)]
        check(entry.slot == slot)
        check(entry.touched >= stamp)
        stamp = entry.touched
        length += 1
        cursor = entry.newer
      }
      check(length == listedEntries[slot] ?? 0)
    }
  }
}
