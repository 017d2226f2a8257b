// From a block's chained hash to the set of workers that hold it, in pieces small enough to grow under a lock.

import Glibc

/// An extendible hash table: a directory over the upper bits of the key leads to a segment, an open-addressed table
/// whose places are chosen by the lower bits. A place is the key and `words` words of the set, side by side.
///
/// Segments grow to ``segmentWords`` and then split, so that the longest pause is the rehashing of one segment (about
/// 20 µs), however large the table and however wide its sets. Memory follows the number of blocks both ways.
///
/// Invariants: at most three quarters of a segment's places are taken; key 0 marks an empty place (a hash of 0 is never
/// stored); `2^(depth - segment.depth)` neighbours in the directory lead to the same segment.
struct EventTable: ~Copyable {
  struct Segment: BitwiseCopyable {
    var places: UnsafeMutablePointer<UInt64>?
    /// Places less one; -1 without memory.
    var mask = -1
    var count = 0
    /// How many upper bits all its keys share.
    var depth: Int
  }

  /// Words of a segment's places beyond which it splits.
  static let segmentWords = 4_096
  private static let placesMin = 8
  /// Beyond this depth segments grow instead, so that keys with equal upper bits cannot blow up the directory.
  private static let depthMax = 20

  /// Words of a set: one for each 64 lanes.
  private(set) var words = 1
  /// Blocks in the table.
  private(set) var count = 0
  /// Words of places that were moved or swept since the beginning.
  private(set) var work = 0
  private var segments = Slab<Segment>()
  private var directory: UnsafeMutablePointer<Int32>?
  private var depth = 0
  private var placeBytes = 0

  init() {}

  deinit {
    for index in 0..<segments.used { free(segments.base[index].places) }
    free(directory)
  }

  /// Bytes of memory held.
  var bytes: Int { placeBytes + segments.bytes + (directory == nil ? 0 : 4 << depth) }

  /// Segments that ``sweep(_:clearing:)`` can be asked for.
  var segmentCount: Int { segments.used }

  // MARK: Look-up

  /// The set stored under `key`; nil when absent. Valid until the next insertion or removal.
  func find(_ key: UInt64) -> UnsafeMutablePointer<UInt64>? {
    guard let directory, key != 0 else { return nil }
    let segment = segments.base + Int(directory[directoryIndex(key)])
    guard let places = segment.pointee.places else { return nil }
    let stride = words &+ 1
    var place = Int(truncatingIfNeeded: key) & segment.pointee.mask
    while true {
      let found = places + place &* stride
      if found[0] == key { return found + 1 }
      if found[0] == 0 { return nil }
      place = (place &+ 1) & segment.pointee.mask
    }
  }

  /// One word of the set stored under `key`; 0 when absent.
  func word(_ word: Int, of key: UInt64) -> UInt64 {
    guard let set = find(key) else { return 0 }
    return set[word]
  }

  private func directoryIndex(_ key: UInt64) -> Int {
    // Shifting by 64 gives 0, which is right for a directory of one.
    Int(truncatingIfNeeded: key >> UInt64(64 &- depth))
  }

  // MARK: Insertion

  /// The set of `key`, empty when it is new.
  ///
  /// - Parameters:
  ///   - growth: bytes that the table may grow by.
  ///   - dead: lanes that mean nothing any more; they are dropped where a segment is rehashed anyway.
  /// - Returns: nil when more memory would be needed than allowed, or the key is 0.
  mutating func insert(
    _ key: UInt64, growth: Int, clearing dead: [UInt64]
  ) -> UnsafeMutablePointer<UInt64>? {
    guard key != 0 else { return nil }
    if let found = find(key) { return found }
    if directory == nil { begin() }
    var attempts = 0
    while true {
      guard let directory else { return nil }
      let index = directory[directoryIndex(key)]
      let segment = segments.record(index)
      if (segment.pointee.count &+ 1) &* 4 <= (segment.pointee.mask &+ 1) &* 3 {
        segment.pointee.count &+= 1
        count &+= 1
        return put(key, segment)
      }
      // A split may leave all keys on one side, but not again and again.
      attempts += 1
      guard attempts < 64, grow(index, growth: growth, clearing: dead) else { return nil }
    }
  }

  /// Takes the place of a key that is not there and returns its empty set.
  private func put(_ key: UInt64, _ segment: UnsafeMutablePointer<Segment>) -> UnsafeMutablePointer<UInt64>? {
    guard let places = segment.pointee.places else { return nil }
    let stride = words &+ 1
    var place = Int(truncatingIfNeeded: key) & segment.pointee.mask
    while places[place &* stride] != 0 { place = (place &+ 1) & segment.pointee.mask }
    places[place &* stride] = key
    return places + (place &* stride &+ 1)
  }

  private mutating func begin() {
    guard let memory = malloc(4) else { preconditionFailure("out of memory") }
    let entries = memory.assumingMemoryBound(to: Int32.self)
    directory = entries
    depth = 0
    entries[0] = segments.allocate()
    segments.base[Int(entries[0])] = Segment(depth: 0)
  }

  private mutating func grow(
    _ index: Int32, growth: Int, clearing dead: [UInt64]
  ) -> Bool {
    let segment = segments.base[Int(index)]
    let places = segment.mask + 1
    let splits = places * (words + 1) >= Self.segmentWords && segment.depth < Self.depthMax
    let doubles = splits && segment.depth == depth
    let added =
      splits
      ? placesBytes(places) + segments.growth(for: 1) + (doubles ? 4 << depth : 0)
      : placesBytes(max(Self.placesMin, places * 2)) - placesBytes(places)
    guard added <= growth else { return false }
    if splits {
      split(index, clearing: dead)
    } else {
      rehash(index, places: max(Self.placesMin, places * 2), clearing: dead)
    }
    return true
  }

  private mutating func split(_ index: Int32, clearing dead: [UInt64]) {
    if segments.base[Int(index)].depth == depth { doubleDirectory() }
    let new = segments.allocate()
    let old = segments.base[Int(index)]
    guard let source = old.places, let directory else { return }
    let places = old.mask + 1
    let lower = segments.record(index)
    let upper = segments.record(new)
    lower.pointee = Segment(places: makePlaces(places), mask: old.mask, count: 0, depth: old.depth + 1)
    upper.pointee = Segment(places: makePlaces(places), mask: old.mask, count: 0, depth: old.depth + 1)
    // Among the directory's entries for the old segment, the upper half has the next bit set.
    let span = 1 << (depth - old.depth)
    var first = 0
    while directory[first] != index { first += span }
    for entry in first + span / 2..<first + span { directory[entry] = new }
    let bit = UInt64(1) << UInt64(63 - old.depth)
    move(source, places, clearing: dead) { $0 & bit == 0 ? lower : upper }
    release(source, places)
  }

  private mutating func doubleDirectory() {
    guard let directory, let memory = malloc(8 << depth) else { preconditionFailure("out of memory") }
    // An entry is half a word.
    work += 1 << depth
    let wider = memory.assumingMemoryBound(to: Int32.self)
    for entry in 0..<(1 << depth) {
      wider[2 * entry] = directory[entry]
      wider[2 * entry + 1] = directory[entry]
    }
    free(directory)
    self.directory = wider
    depth += 1
  }

  // MARK: Removal

  /// Removes `key`, moving later keys of its run up so that no marker stays behind.
  mutating func remove(_ key: UInt64) {
    guard let set = find(key), let directory else { return }
    let index = directory[directoryIndex(key)]
    let segment = segments.record(index)
    guard let places = segment.pointee.places else { return }
    let stride = words + 1
    let mask = segment.pointee.mask
    var hole = (set - 1 - places) / stride
    var place = hole
    while true {
      place = (place &+ 1) & mask
      let candidate = places + place &* stride
      if candidate[0] == 0 { break }
      let home = Int(truncatingIfNeeded: candidate[0]) & mask
      // The key may move up only if its home does not lie between the hole and its place.
      if (place &- home) & mask >= (place &- hole) & mask {
        (places + hole &* stride).update(from: candidate, count: stride)
        hole = place
      }
    }
    (places + hole &* stride).update(repeating: 0, count: stride)
    segment.pointee.count -= 1
    count -= 1
    shrink(index)
  }

  private mutating func shrink(_ index: Int32) {
    if count == 0 {
      freeAll()
      return
    }
    let segment = segments.base[Int(index)]
    let places = segment.mask + 1
    if segment.count == 0 || (places > Self.placesMin * 4 && segment.count * 8 < places) {
      rehash(index, places: segment.count == 0 ? 0 : places / 4, clearing: [])
    }
  }

  /// Clears dead lanes from all sets of one segment; blocks that nobody holds then are gone.
  mutating func sweep(_ index: Int, clearing dead: [UInt64]) {
    guard index < segments.used, let places = segments.base[index].places else { return }
    let mask = segments.base[index].mask
    work += (mask + 1) * (words + 1)
    var survivors = 0
    for place in 0...mask {
      let set = places + (place &* (words &+ 1) &+ 1)
      if set[-1] != 0, cleared(set, dead) { survivors += 1 }
    }
    guard survivors < segments.base[index].count else { return }
    var wanted = survivors == 0 ? 0 : Self.placesMin
    while survivors * 2 > wanted { wanted *= 2 }
    rehash(Int32(index), places: min(wanted, mask + 1), clearing: dead)
    if count == 0 { freeAll() }
  }

  /// Clears lanes of a set; false when it is empty then.
  private func cleared(_ set: UnsafeMutablePointer<UInt64>, _ dead: [UInt64]) -> Bool {
    var rest: UInt64 = 0
    for word in 0..<words {
      if word < dead.count { set[word] &= ~dead[word] }
      rest |= set[word]
    }
    return rest != 0
  }

  /// Makes all sets `words` words long. The whole table is rehashed: it happens once for each 64 workers.
  mutating func widen(to words: Int) {
    guard words > self.words else { return }
    let narrow = self.words
    self.words = words
    for index in 0..<segments.used {
      let old = segments.base[index]
      guard let source = old.places else { continue }
      let wide = makePlaces(old.mask + 1)
      for place in 0...old.mask {
        (wide + place * (words + 1)).update(from: source + place * (narrow + 1), count: narrow + 1)
      }
      segments.base[index].places = wide
      placeBytes -= (old.mask + 1) * (narrow + 1) * 8
      free(source)
    }
  }

  /// Bytes that ``widen(to:)`` would add.
  func growth(widening words: Int) -> Int { placeBytes / (self.words + 1) * (words - self.words) }

  // MARK: Segments

  /// Moves a segment's keys into new memory of `places` places.
  private mutating func rehash(
    _ index: Int32, places: Int, clearing dead: [UInt64]
  ) {
    let segment = segments.record(index)
    let old = segment.pointee
    segment.pointee.places = places > 0 ? makePlaces(places) : nil
    segment.pointee.mask = places - 1
    segment.pointee.count = 0
    guard let source = old.places else { return }
    move(source, old.mask + 1, clearing: dead) { _ in segment }
    release(source, old.mask + 1)
  }

  /// Puts the keys of `source` that somebody still holds where `target` says, and counts anew.
  private mutating func move(
    _ source: UnsafeMutablePointer<UInt64>, _ places: Int, clearing dead: [UInt64],
    to target: (UInt64) -> UnsafeMutablePointer<Segment>
  ) {
    work += places * (words + 1)
    for place in 0..<places {
      let from = source + place &* (words &+ 1)
      guard from[0] != 0 else { continue }
      guard cleared(from + 1, dead) else {
        count -= 1
        continue
      }
      let segment = target(from[0])
      segment.pointee.count &+= 1
      put(from[0], segment)?.update(from: from + 1, count: words)
    }
  }

  private func placesBytes(_ places: Int) -> Int { places * (words + 1) * 8 }

  private mutating func makePlaces(_ places: Int) -> UnsafeMutablePointer<UInt64> {
    guard let memory = calloc(places * (words + 1), 8) else { preconditionFailure("out of memory") }
    placeBytes += placesBytes(places)
    return memory.assumingMemoryBound(to: UInt64.self)
  }

  private mutating func release(_ source: UnsafeMutablePointer<UInt64>, _ places: Int) {
    placeBytes -= placesBytes(places)
    free(source)
  }

  private mutating func freeAll() {
    for index in 0..<segments.used { free(segments.base[index].places) }
    free(directory)
    directory = nil
    segments = Slab()
    depth = 0
    count = 0
    placeBytes = 0
  }
}
