// From a block's chained hash to the index node that begins with it.

import Glibc

/// An open-addressed table with linear probing. Keys are hashes already, so they choose their place themselves.
///
/// Invariant: at most five eighths of the places are taken; a place with value -1 is empty.
struct BlockMap: ~Copyable {
  private var keys: UnsafeMutablePointer<UInt64>?
  private var values: UnsafeMutablePointer<Int32>?
  private var mask = -1
  private(set) var count = 0

  deinit {
    free(keys)
    free(values)
  }

  /// Bytes of memory held.
  var bytes: Int { (mask + 1) * Self.placeBytes }

  /// Bytes that inserting `more` keys would add.
  func growth(for more: Int) -> Int {
    var places = max(mask + 1, 64)
    while (count + more) * 8 > places * 5 { places *= 2 }
    return places * Self.placeBytes - bytes
  }

  /// The value of `key`; -1 when absent.
  func find(_ key: UInt64) -> Int32 {
    guard let keys, let values else { return -1 }
    var place = Int(truncatingIfNeeded: key) & mask
    while values[place] >= 0 {
      if keys[place] == key { return values[place] }
      place = (place &+ 1) & mask
    }
    return -1
  }

  /// Stores `value` under `key`, in place of an earlier value.
  mutating func set(_ key: UInt64, _ value: Int32) {
    if (count + 1) * 8 > (mask + 1) * 5 { resize(max((mask + 1) * 2, 64)) }
    guard let keys, let values else { return }
    var place = Int(truncatingIfNeeded: key) & mask
    while values[place] >= 0 {
      if keys[place] == key {
        values[place] = value
        return
      }
      place = (place &+ 1) & mask
    }
    keys[place] = key
    values[place] = value
    count += 1
  }

  /// Removes `key`, moving later keys of its run up so that no marker stays behind.
  mutating func remove(_ key: UInt64) {
    guard let keys, let values else { return }
    var hole = Int(truncatingIfNeeded: key) & mask
    while keys[hole] != key || values[hole] < 0 {
      if values[hole] < 0 { return }
      hole = (hole &+ 1) & mask
    }
    var place = hole
    while true {
      place = (place &+ 1) & mask
      if values[place] < 0 { break }
      let home = Int(truncatingIfNeeded: keys[place]) & mask
      // The key may move up only if its home does not lie between the hole and its place.
      if (place &- home) & mask >= (place &- hole) & mask {
        keys[hole] = keys[place]
        values[hole] = values[place]
        hole = place
      }
    }
    values[hole] = -1
    count -= 1
    if count == 0 {
      release()
    } else if mask >= 1024, count * 8 < mask {
      resize((mask + 1) / 4)
    }
  }

  /// Calls `body` with each key and its value, in no order.
  func forEach(_ body: (_ key: UInt64, _ value: Int32) -> Void) {
    guard let keys, let values else { return }
    for place in 0...mask where values[place] >= 0 { body(keys[place], values[place]) }
  }

  private static var placeBytes: Int { MemoryLayout<UInt64>.stride + MemoryLayout<Int32>.stride }

  private mutating func release() {
    free(keys)
    free(values)
    keys = nil
    values = nil
    mask = -1
  }

  private mutating func resize(_ places: Int) {
    let oldKeys = keys
    let oldValues = values
    let oldPlaces = mask + 1
    guard let newKeys = malloc(places * 8), let newValues = malloc(places * 4) else {
      preconditionFailure("out of memory")
    }
    memset(newValues, 0xff, places * 4)
    keys = newKeys.assumingMemoryBound(to: UInt64.self)
    values = newValues.assumingMemoryBound(to: Int32.self)
    mask = places - 1
    count = 0
    if let oldKeys, let oldValues {
      for place in 0..<oldPlaces where oldValues[place] >= 0 { set(oldKeys[place], oldValues[place]) }
    }
    free(oldKeys)
    free(oldValues)
  }
}
