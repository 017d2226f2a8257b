// Which pairs of tokens merge, in which order, and into what.

/// All merges of a model: from a pair of ids to its rank, and from a rank to the token that comes of it.
///
/// An entry of the open-addressing table is one word: left id (21 bits), right id (21 bits), rank (22 bits).
///
/// `@unchecked`: raw memory that only the loader writes, before the table is shared.
final class MergeTable: @unchecked Sendable {
  /// No merge.
  static let none = UInt32.max

  private let slots: UnsafeMutablePointer<UInt64>
  private let slotMask: Int
  private let results: UnsafeMutablePointer<UInt32>
  /// A bit for each hash that some merge has, at least 16 bits a merge. Most pairs never merge, and this small table
  /// says so without a visit to the big one.
  private let sieve: UnsafeMutablePointer<UInt64>
  private let sieveShift: UInt64
  private let capacity: Int
  private(set) var count = 0

  /// Room for at most `capacity` merges.
  init(capacity: Int) {
    self.capacity = capacity
    var slotCount = 16
    while slotCount * 2 < capacity * 3 { slotCount *= 2 }
    slots = .allocate(capacity: slotCount)
    slots.initialize(repeating: UInt64.max, count: slotCount)
    slotMask = slotCount - 1
    results = .allocate(capacity: max(capacity, 1))
    var sieveBits = 10
    while 1 << sieveBits < capacity * 16 { sieveBits += 1 }
    sieveShift = UInt64(64 - sieveBits)
    sieve = .allocate(capacity: 1 << (sieveBits - 6))
    sieve.initialize(repeating: 0, count: 1 << (sieveBits - 6))
  }

  deinit {
    slots.deallocate()
    results.deallocate()
    sieve.deallocate()
  }

  /// Adds the next merge. A pair that was there before gets the later rank, as in a map.
  func append(left: UInt32, right: UInt32, result: UInt32) {
    precondition(count < capacity, "the loader counts merges before it makes room")
    results[count] = result
    let key = MergeTable.key(left, right)
    let mixed = MergeTable.mixed(key)
    let bit = Int(truncatingIfNeeded: mixed >> sieveShift)
    sieve[bit >> 6] |= 1 << UInt64(bit & 63)
    var index = MergeTable.place(mixed) & slotMask
    while slots[index] != UInt64.max, slots[index] >> 22 != key { index = (index + 1) & slotMask }
    slots[index] = key << 22 | UInt64(count)
    count += 1
  }

  /// The rank of the merge of `left` and `right`, ``none`` when they do not merge.
  @inline(__always)
  func rank(_ left: UInt32, _ right: UInt32) -> UInt32 {
    let key = MergeTable.key(left, right)
    let mixed = MergeTable.mixed(key)
    let bit = Int(truncatingIfNeeded: mixed &>> sieveShift)
    guard sieve[bit &>> 6] &>> UInt64(truncatingIfNeeded: bit & 63) & 1 != 0 else { return MergeTable.none }
    return storedRank(key, mixed)
  }

  private func storedRank(_ key: UInt64, _ mixed: UInt64) -> UInt32 {
    var index = MergeTable.place(mixed) & slotMask
    while true {
      let entry = slots[index]
      if entry >> 22 == key { return UInt32(truncatingIfNeeded: entry) & 0x3f_ffff }
      if entry == UInt64.max { return MergeTable.none }
      index = (index &+ 1) & slotMask
    }
  }

  /// The token that the merge with `rank` makes.
  @inline(__always)
  func result(_ rank: UInt32) -> UInt32 { results[Int(rank)] }

  @inline(__always)
  private static func key(_ left: UInt32, _ right: UInt32) -> UInt64 { UInt64(left) &<< 21 | UInt64(right) }

  @inline(__always)
  private static func mixed(_ key: UInt64) -> UInt64 { key &* 0x9e37_79b9_7f4a_7c15 }

  /// The upper bits tell the sieve's place; these are others.
  @inline(__always)
  private static func place(_ mixed: UInt64) -> Int { Int(truncatingIfNeeded: mixed &>> 24) }
}
