// What workers hold by their own word: the blocks that engines reported as stored and not yet as removed.

import Glibc

/// Sets of workers by block, one table a tier; tables of tiers never seen take no memory.
///
/// A worker is a lane: one bit in every set. Forgetting a worker means giving up its lane in one step. Its bits stay in
/// the sets as dead ones, masked in every look-up, until a sweep has passed over all segments; then the lane is used
/// again.
///
/// Invariant: a lane is live (has a slot), dead (waits for a pass), being swept, or free; only live lanes are looked up.
struct EventIndex: ~Copyable {
  struct Lane {
    /// The worker's slot; -1 when the lane is not live.
    var slot: Int32 = -1
    /// Blocks held, by tier.
    var device = 0
    var host = 0
    var disk = 0
    /// Blocks were refused for want of memory since the lane began.
    var isIncomplete = false
  }

  /// Blocks between two probes of a look-up.
  static let stride = 32
  /// Dead lanes at which it is better to sweep at once than to widen all sets.
  private static let deadLanesMax = 8

  private var device = EventTable()
  private var host = EventTable()
  private var disk = EventTable()
  private(set) var lanes: [Lane] = []
  private var live: [UInt64] = [0]
  private var dead: [UInt64] = [0]
  private var sweeping: [UInt64] = [0]
  /// The table that the pass is in; nil between passes.
  private var pass: CacheTier?
  /// The next segment of that table.
  private var cursor = 0
  private var ends = [Int32](repeating: 0, count: 64)
  /// Blocks that found no room.
  private(set) var refusedBlocks = 0

  init() {}

  /// Bytes of memory held.
  var bytes: Int { device.bytes + host.bytes + disk.bytes }

  /// Words that were moved or looked through since the beginning, beside look-ups: the price of growing and sweeping.
  var work: Int { device.work + host.work + disk.work }

  /// Distinct blocks, by tier.
  var blocks: (device: Int, host: Int, disk: Int) { (device.count, host.count, disk.count) }

  /// True when some worker has blocks outside its device.
  var hasTiers: Bool { host.count > 0 || disk.count > 0 }

  // MARK: Lanes

  /// A lane for the worker in `slot`; nil when sets cannot be widened within `growth` bytes.
  mutating func makeLane(slot: Int32, growth: Int) -> Int32? {
    if let free = freeLane() { return begin(free, slot) }
    if count(dead) + count(sweeping) >= Self.deadLanesMax {
      sweepAll()
      if let free = freeLane() { return begin(free, slot) }
    }
    let words = live.count + (lanes.isEmpty ? 0 : 1)
    let added =
      device.growth(widening: words) + host.growth(widening: words) + disk.growth(widening: words)
    guard added <= growth else { return nil }
    lanes.append(contentsOf: (0..<64).map { _ in Lane() })
    while live.count < words {
      live.append(0)
      dead.append(0)
      sweeping.append(0)
    }
    device.widen(to: words)
    host.widen(to: words)
    disk.widen(to: words)
    ends = [Int32](repeating: 0, count: lanes.count)
    return freeLane().flatMap { begin($0, slot) }
  }

  private func freeLane() -> Int? {
    for word in live.indices where !lanes.isEmpty {
      let free = ~(live[word] | dead[word] | sweeping[word])
      if free != 0 { return word * 64 + free.trailingZeroBitCount }
    }
    return nil
  }

  private mutating func begin(_ lane: Int, _ slot: Int32) -> Int32 {
    lanes[lane] = Lane(slot: slot)
    live[lane / 64] |= 1 << UInt64(lane % 64)
    return Int32(lane)
  }

  /// Gives up a lane in one step: nothing of it is found any more.
  mutating func endLane(_ lane: Int32) {
    let lane = Int(lane)
    let bit = UInt64(1) << UInt64(lane % 64)
    live[lane / 64] &= ~bit
    let record = lanes[lane]
    lanes[lane] = Lane()
    // A lane that never held anything has left no bits behind.
    guard record.device + record.host + record.disk > 0 else { return }
    if device.count + host.count + disk.count > 0 { dead[lane / 64] |= bit }
  }

  private func count(_ mask: [UInt64]) -> Int { mask.reduce(0) { $0 + $1.nonzeroBitCount } }

  // MARK: Changes

  /// Adds a block to what a lane holds; false when there was no room. `growth` bounds the bytes that it may take.
  mutating func store(_ hash: UInt64, lane: Int32, tier: CacheTier, growth: Int) -> Bool {
    let (word, bit) = (Int(lane) / 64, UInt64(1) << UInt64(Int(lane) % 64))
    let set =
      switch tier {
      case .device: device.insert(hash, growth: growth, clearing: dead)
      case .host: host.insert(hash, growth: growth, clearing: dead)
      case .disk: disk.insert(hash, growth: growth, clearing: dead)
      }
    guard let set else {
      refusedBlocks += 1
      lanes[Int(lane)].isIncomplete = true
      return false
    }
    if set[word] & bit == 0 {
      set[word] |= bit
      add(1, to: Int(lane), tier)
    }
    return true
  }

  /// Counts a block that could not even be tried, for want of a lane.
  mutating func refuse() { refusedBlocks += 1 }

  /// Takes a block from what a lane holds. False when it did not hold it.
  mutating func remove(_ hash: UInt64, lane: Int32, tier: CacheTier) -> Bool {
    let (word, bit) = (Int(lane) / 64, UInt64(1) << UInt64(Int(lane) % 64))
    let found =
      switch tier {
      case .device: device.find(hash)
      case .host: host.find(hash)
      case .disk: disk.find(hash)
      }
    guard let set = found, set[word] & bit != 0 else { return false }
    set[word] &= ~bit
    add(-1, to: Int(lane), tier)
    for word in live.indices where set[word] & ~(dead[word] | sweeping[word]) != 0 { return true }
    switch tier {
    case .device: device.remove(hash)
    case .host: host.remove(hash)
    case .disk: disk.remove(hash)
    }
    return true
  }

  private mutating func add(_ change: Int, to lane: Int, _ tier: CacheTier) {
    switch tier {
    case .device: lanes[lane].device += change
    case .host: lanes[lane].host += change
    case .disk: lanes[lane].disk += change
    }
  }

  // MARK: Sweeping

  /// Clears dead lanes from up to `segments` segments. True while there is more to do.
  mutating func sweep(segments: Int) -> Bool {
    if pass == nil {
      guard count(dead) > 0 else { return false }
      swap(&dead, &sweeping)
      pass = .device
      cursor = 0
    }
    var left = segments
    while left > 0, let tier = pass {
      left -= 1
      // Segments that come during the pass hold nothing dead: they are halves of swept ones, or lie behind the cursor.
      let isDone: Bool
      switch tier {
      case .device: isDone = Self.sweep(&device, cursor, sweeping)
      case .host: isDone = Self.sweep(&host, cursor, sweeping)
      case .disk: isDone = Self.sweep(&disk, cursor, sweeping)
      }
      cursor += 1
      guard isDone else { continue }
      cursor = 0
      pass = CacheTier(rawValue: tier.rawValue + 1)
      if pass == nil { for word in sweeping.indices { sweeping[word] = 0 } }
    }
    return pass != nil || count(dead) > 0
  }

  /// Sweeps one segment; true when there is no such.
  private static func sweep(_ table: inout EventTable, _ segment: Int, _ mask: [UInt64]) -> Bool {
    guard segment < table.segmentCount else { return true }
    table.sweep(segment, clearing: mask)
    return false
  }

  private mutating func sweepAll() { while sweep(segments: 1024) {} }

  // MARK: Look-up

  /// Finds how many leading blocks of a chain each live lane holds on its device, and beyond these on its host, and
  /// beyond both on its disk.
  ///
  /// Engines evict children before their parents, so a set that is the same at two places of the chain is taken to be
  /// the same between them: the chain is probed at every ``stride``th block, and only where lanes have dropped out is
  /// it read block by block.
  ///
  /// - Parameter body: is given the slot and its leading blocks by tier, of each lane that has any.
  mutating func match(_ chain: UnsafeBufferPointer<UInt64>, _ body: (Int, Int32, Int32, Int32) -> Void) {
    let most = Int32(truncatingIfNeeded: chain.count)
    guard most > 0 else { return }
    for word in live.indices where live[word] != 0 {
      let first = word &* 64
      for bit in 0..<64 { ends[first &+ bit] = 0 }
      Self.extend(device, word, live[word], chain, &ends, first)
      guard hasTiers else {
        Self.forEach(live[word]) { bit in
          let end = ends[first &+ bit]
          if end > 0 { body(Int(lanes[first &+ bit].slot), end, 0, 0) }
        }
        continue
      }
      let onDevice = Array(ends[first..<first &+ 64])
      Self.extend(host, word, live[word], chain, &ends, first)
      let onHost = Array(ends[first..<first &+ 64])
      Self.extend(disk, word, live[word], chain, &ends, first)
      Self.forEach(live[word]) { bit in
        let end = ends[first &+ bit]
        guard end > 0 else { return }
        body(Int(lanes[first &+ bit].slot), onDevice[bit], onHost[bit] &- onDevice[bit], end &- onHost[bit])
      }
    }
  }

  /// Raises the ends of lanes for as long as `table` says that they hold the next block.
  private static func extend(
    _ table: borrowing EventTable, _ word: Int, _ all: UInt64, _ chain: UnsafeBufferPointer<UInt64>,
    _ ends: inout [Int32], _ first: Int
  ) {
    guard table.count > 0 else { return }
    let count = chain.count
    var waiting = all
    var alive: UInt64 = 0
    var place = 0
    // Up to here every block is read, because some lane has dropped out before.
    var readTo = 0
    ends.withUnsafeMutableBufferPointer { ends in
      let ends = ends.baseAddress.map { $0 + first }
      guard let ends else { return }
      var nextJoin = least(ends, waiting)
      place = nextJoin
      while place < count {
        if place == nextJoin {
          forEach(waiting) { bit in
            if Int(ends[bit]) == place {
              alive |= 1 << UInt64(bit)
              waiting &= ~(1 << UInt64(bit))
            }
          }
          nextJoin = least(ends, waiting)
        }
        let here = table.word(word, of: chain[place]) & alive
        if here != alive {
          forEach(alive & ~here) { ends[$0] = Int32(truncatingIfNeeded: place) }
          alive = here
        }
        if alive == 0 {
          if waiting == 0 { return }
          place = nextJoin
          readTo = place
          continue
        }
        let ahead = min(place &+ stride, count &- 1, nextJoin)
        if ahead > readTo, ahead > place &+ 1 {
          if table.word(word, of: chain[ahead]) & alive == alive {
            place = ahead
            continue
          }
          readTo = ahead
        }
        place &+= 1
      }
      forEach(alive) { ends[$0] = Int32(truncatingIfNeeded: count) }
    }
  }

  /// The lowest end among some lanes; `Int.max` of none.
  private static func least(_ ends: UnsafeMutablePointer<Int32>, _ lanes: UInt64) -> Int {
    var least = Int.max
    forEach(lanes) { least = min(least, Int(ends[$0])) }
    return least
  }

  @inline(__always)
  private static func forEach(_ lanes: UInt64, _ body: (Int) -> Void) {
    var left = lanes
    while left != 0 {
      body(left.trailingZeroBitCount)
      left &= left &- 1
    }
  }
}
