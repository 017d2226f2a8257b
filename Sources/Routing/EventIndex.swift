// What workers hold by their own word: the blocks that engines reported as stored and not yet as removed.

import Glibc

/// Sets of workers by block.
///
/// A worker is a lane: one bit in the sets of its bank. A bank is 64 lanes with tables of their own, so that a 65th worker
/// is a new bank and not wider sets. Forgetting a worker means giving up its lane in one step. Its bits stay in the sets
/// as dead ones, masked in every look-up, until a sweep has passed over all segments of the bank; then the lane is used
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

  /// 64 lanes, with one table a tier; tables of tiers never seen take no memory. A box, because tables are not copied.
  private final class Bank {
    var device = EventTable()
    var host = EventTable()
    var disk = EventTable()
    var live: UInt64 = 0
    var dead: UInt64 = 0
    var sweeping: UInt64 = 0

    var bytes: Int { device.bytes + host.bytes + disk.bytes }
    var work: Int { device.work + host.work + disk.work }
    /// Bits that mean nothing.
    var gone: UInt64 { dead | sweeping }
  }

  /// Where a pass over a bank with dead lanes is.
  private struct Pass {
    let bank: Int
    var tier = CacheTier.device
    /// The next segment of that table.
    var cursor = 0
  }

  /// Bytes of a bank beside its tables, about.
  static let bankBytes = 64 * MemoryLayout<Lane>.stride + 512

  private var banks: [Bank] = []
  private(set) var lanes: [Lane] = []
  private var pass: Pass?
  /// The bank of the last pass.
  private var sweptBank = 0
  private var ends = [Int32](repeating: 0, count: 64)
  /// Blocks that found no room.
  private(set) var refusedBlocks = 0
  /// Words that were moved or looked through since the beginning, beside look-ups: the price of growing and sweeping.
  private(set) var work = 0

  init() {}

  /// Bytes of memory held.
  var bytes: Int { banks.reduce(banks.count * Self.bankBytes) { $0 + $1.bytes } }

  /// Blocks by tier, each counted once for every 64 workers of which some hold it.
  var blocks: (device: Int, host: Int, disk: Int) {
    banks.reduce((0, 0, 0)) { ($0.0 + $1.device.count, $0.1 + $1.host.count, $0.2 + $1.disk.count) }
  }

  /// True when some worker has blocks outside its device.
  var hasTiers: Bool { banks.contains { $0.host.count > 0 || $0.disk.count > 0 } }

  // MARK: Lanes

  /// A lane for the worker in `slot`; nil when one more bank would take more than `growth` bytes.
  mutating func makeLane(slot: Int32, growth: Int) -> Int32? {
    for (index, bank) in banks.enumerated() {
      let free = ~(bank.live | bank.gone)
      if free != 0 { return begin(index * 64 + free.trailingZeroBitCount, slot) }
    }
    guard Self.bankBytes <= growth else { return nil }
    banks.append(Bank())
    lanes.append(contentsOf: repeatElement(Lane(), count: 64))
    return begin((banks.count - 1) * 64, slot)
  }

  private mutating func begin(_ lane: Int, _ slot: Int32) -> Int32 {
    lanes[lane] = Lane(slot: slot)
    banks[lane / 64].live |= 1 << UInt64(lane % 64)
    return Int32(lane)
  }

  /// Gives up a lane in one step: nothing of it is found any more. One segment is swept with it, so that however often
  /// workers begin anew, the lanes that wait for a pass are at most as many as a pass has steps.
  mutating func endLane(_ lane: Int32) {
    let bank = banks[Int(lane) / 64]
    let bit = UInt64(1) << UInt64(lane % 64)
    bank.live &= ~bit
    let record = lanes[Int(lane)]
    lanes[Int(lane)] = Lane()
    // A lane that never held anything has left no bits behind.
    if record.device + record.host + record.disk > 0 { bank.dead |= bit }
    _ = sweep(segments: 1)
    dropEmptyBanks()
  }

  // MARK: Changes

  /// Adds a block to what a lane holds; false when there was no room. `growth` bounds the bytes that it may take.
  mutating func store(_ hash: UInt64, lane: Int32, tier: CacheTier, growth: Int) -> Bool {
    let bank = banks[Int(lane) / 64]
    let bit = UInt64(1) << UInt64(lane % 64)
    let before = bank.work
    let place =
      switch tier {
      case .device: bank.device.insert(hash, growth: growth, clearing: bank.gone)
      case .host: bank.host.insert(hash, growth: growth, clearing: bank.gone)
      case .disk: bank.disk.insert(hash, growth: growth, clearing: bank.gone)
      }
    work += bank.work - before
    guard let place else {
      refusedBlocks += 1
      lanes[Int(lane)].isIncomplete = true
      return false
    }
    if place.pointee.lanes & bit == 0 {
      place.pointee.lanes |= bit
      add(1, to: Int(lane), tier)
    }
    return true
  }

  /// Counts a block that could not even be tried, for want of a lane.
  mutating func refuse() { refusedBlocks += 1 }

  /// Takes a block from what a lane holds. False when it did not hold it.
  mutating func remove(_ hash: UInt64, lane: Int32, tier: CacheTier) -> Bool {
    let bank = banks[Int(lane) / 64]
    let bit = UInt64(1) << UInt64(lane % 64)
    let found =
      switch tier {
      case .device: bank.device.find(hash)
      case .host: bank.host.find(hash)
      case .disk: bank.disk.find(hash)
      }
    guard let found, found.pointee.lanes & bit != 0 else { return false }
    found.pointee.lanes &= ~bit
    add(-1, to: Int(lane), tier)
    guard found.pointee.lanes & ~bank.gone == 0 else { return true }
    let before = bank.work
    switch tier {
    case .device: bank.device.remove(hash)
    case .host: bank.host.remove(hash)
    case .disk: bank.disk.remove(hash)
    }
    work += bank.work - before
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
    var left = segments
    while left > 0, var pass = pass ?? beginPass() {
      left -= 1
      let bank = banks[pass.bank]
      let before = bank.work
      // Segments that come during the pass hold nothing dead: they are halves of swept ones, or lie behind the cursor.
      let isDone: Bool
      switch pass.tier {
      case .device: isDone = Self.sweep(&bank.device, pass.cursor, bank.sweeping)
      case .host: isDone = Self.sweep(&bank.host, pass.cursor, bank.sweeping)
      case .disk: isDone = Self.sweep(&bank.disk, pass.cursor, bank.sweeping)
      }
      work += bank.work - before
      pass.cursor += 1
      if !isDone {
        self.pass = pass
      } else if let next = CacheTier(rawValue: pass.tier.rawValue + 1) {
        self.pass = Pass(bank: pass.bank, tier: next)
      } else {
        endPass(bank)
      }
    }
    return pass != nil || banks.contains { $0.dead != 0 }
  }

  private mutating func beginPass() -> Pass? {
    // In turn: the bank with the longest pass must not keep the others waiting for ever.
    let order = (0..<banks.count).map { (sweptBank + 1 + $0) % banks.count }
    guard let index = order.first(where: { banks[$0].dead != 0 }) else { return nil }
    sweptBank = index
    swap(&banks[index].dead, &banks[index].sweeping)
    return Pass(bank: index)
  }

  private mutating func endPass(_ bank: Bank) {
    pass = nil
    bank.sweeping = 0
    dropEmptyBanks()
  }

  /// Gives back banks at the end that have no workers.
  private mutating func dropEmptyBanks() {
    while let last = banks.last, last.live | last.gone == 0 {
      banks.removeLast()
      lanes.removeLast(64)
    }
  }

  /// Sweeps one segment; true when there is no such.
  private static func sweep(_ table: inout EventTable, _ segment: Int, _ mask: UInt64) -> Bool {
    guard segment < table.segmentCount else { return true }
    table.sweep(segment, clearing: mask)
    return false
  }

  // MARK: Look-up

  /// Finds how many leading blocks of a chain each live lane holds on its device, and beyond these on its host, and
  /// beyond both on its disk (``LaneWalk``).
  ///
  /// - Parameter body: is given the slot and its leading blocks by tier, of each lane that has any.
  mutating func match(_ chain: UnsafeBufferPointer<UInt64>, _ body: (Int, Int32, Int32, Int32) -> Void) {
    guard chain.count > 0 else { return }
    for (index, bank) in banks.enumerated() where bank.live != 0 {
      let first = index &* 64
      for lane in 0..<64 { ends[lane] = 0 }
      extend(bank.device, bank.live, chain)
      guard bank.host.count > 0 || bank.disk.count > 0 else {
        bank.live.forEachLane { lane in
          if ends[lane] > 0 { body(Int(lanes[first &+ lane].slot), ends[lane], 0, 0) }
        }
        continue
      }
      let onDevice = ends
      extend(bank.host, bank.live, chain)
      let onHost = ends
      extend(bank.disk, bank.live, chain)
      bank.live.forEachLane { lane in
        guard ends[lane] > 0 else { return }
        body(
          Int(lanes[first &+ lane].slot), onDevice[lane], onHost[lane] &- onDevice[lane],
          ends[lane] &- onHost[lane])
      }
    }
  }

  private mutating func extend(
    _ table: borrowing EventTable, _ lanes: UInt64, _ chain: UnsafeBufferPointer<UInt64>
  ) {
    guard table.count > 0 else { return }
    ends.withUnsafeMutableBufferPointer { ends in
      guard let ends = ends.baseAddress else { return }
      var walk = LaneWalk(chain, ends: ends)
      walk.extend(lanes, in: table)
    }
  }
}
