// From an engine's block hash to ours, with the tiers that hold the block.

import Glibc

/// An open-addressed table with linear probing. Engine hashes may be anything, even counted up, so they are mixed.
///
/// Invariant: at most three quarters of the places are taken; a place without tiers is empty.
struct MirrorTable: ~Copyable {
  private struct Place: BitwiseCopyable {
    var external: UInt64
    var chained: UInt64
  }

  private var places: UnsafeMutablePointer<Place>?
  private var tiers: UnsafeMutablePointer<UInt8>?
  private var mask = -1
  private(set) var count = 0

  init() {}

  deinit {
    free(places)
    free(tiers)
  }

  /// Bytes of memory held.
  var bytes: Int { (mask + 1) * (MemoryLayout<Place>.stride + 1) }

  private func home(_ external: UInt64) -> Int {
    let mixed = (external ^ external >> 32) &* 0x9e37_79b9_7f4a_7c15
    return Int(truncatingIfNeeded: mixed >> 32) & mask
  }

  /// Our hash of the engine's block, and the tiers that hold it; nil when unknown.
  func find(_ external: UInt64) -> (chained: UInt64, tiers: UInt8)? {
    guard let places, let tiers else { return nil }
    var place = home(external)
    while tiers[place] != 0 {
      if places[place].external == external { return (places[place].chained, tiers[place]) }
      place = (place &+ 1) & mask
    }
    return nil
  }

  /// Stores what an engine's hash stands for; without tiers it is removed.
  mutating func set(_ external: UInt64, _ chained: UInt64, tiers held: UInt8) {
    guard held != 0 else {
      remove(external)
      return
    }
    if (count + 1) * 4 > (mask + 1) * 3 { resize(max((mask + 1) * 2, 64)) }
    guard let places, let tiers else { return }
    var place = home(external)
    while tiers[place] != 0 {
      if places[place].external == external { break }
      place = (place &+ 1) & mask
    }
    if tiers[place] == 0 { count += 1 }
    places[place] = Place(external: external, chained: chained)
    tiers[place] = held
  }

  /// Calls `body` with what each of the engine's hashes stands for and the tiers that hold it, in no order.
  func forEach(_ body: (_ chained: UInt64, _ tiers: UInt8) -> Void) {
    guard let places, let tiers else { return }
    for place in 0...mask where tiers[place] != 0 { body(places[place].chained, tiers[place]) }
  }

  private mutating func remove(_ external: UInt64) {
    guard let places, let tiers else { return }
    var hole = home(external)
    while tiers[hole] != 0, places[hole].external != external { hole = (hole &+ 1) & mask }
    guard tiers[hole] != 0 else { return }
    var place = hole
    while true {
      place = (place &+ 1) & mask
      if tiers[place] == 0 { break }
      // The entry may move up only if its home does not lie between the hole and its place.
      if (place &- home(places[place].external)) & mask >= (place &- hole) & mask {
        places[hole] = places[place]
        tiers[hole] = tiers[place]
        hole = place
      }
    }
    tiers[hole] = 0
    count -= 1
    if count == 0 {
      resize(0)
    } else if mask >= 1024, count * 8 < mask {
      resize((mask + 1) / 4)
    }
  }

  private mutating func resize(_ wanted: Int) {
    let (oldPlaces, oldTiers, oldCount) = (places, tiers, mask + 1)
    mask = wanted - 1
    count = 0
    if wanted > 0 {
      guard let newPlaces = malloc(wanted * MemoryLayout<Place>.stride), let newTiers = calloc(wanted, 1)
      else { preconditionFailure("out of memory") }
      places = newPlaces.assumingMemoryBound(to: Place.self)
      tiers = newTiers.assumingMemoryBound(to: UInt8.self)
    } else {
      (places, tiers) = (nil, nil)
    }
    if let oldPlaces, let oldTiers {
      for place in 0..<oldCount where oldTiers[place] != 0 {
        set(oldPlaces[place].external, oldPlaces[place].chained, tiers: oldTiers[place])
      }
    }
    free(oldPlaces)
    free(oldTiers)
  }
}
