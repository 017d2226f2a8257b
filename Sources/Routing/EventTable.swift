// From a block's chained hash to the set of workers that hold it, in pieces small enough to grow under a lock.

import Glibc

/// An extendible hash table: a directory over the upper bits of the key leads to a segment, an open-addressed table
/// whose places are chosen by the lower bits. A place is the key and a set of 64 lanes.
///
/// Segments grow to ``segmentPlaces`` and then split, so that the longest pause is the rehashing of one segment (about
/// 10 µs), however large the table. Memory follows the number of blocks both ways.
///
/// Invariants: at most three quarters of a segment's places are taken; key 0 marks an empty place (a hash of 0 is never
/// stored); `2^(depth - segment.depth)` neighbours in the directory lead to the same segment.
struct EventTable: ~Copyable {
  struct Place: BitwiseCopyable {
    var key: UInt64
    /// The lanes that hold the block.
    var lanes: UInt64
  }

  struct Segment: BitwiseCopyable {
    var places: UnsafeMutablePointer<Place>?
    /// Places less one; -1 without memory.
    var mask = -1
    var count = 0
    /// How many upper bits all its keys share.
    var depth: Int
  }

  /// Places of a segment beyond which it splits.
  static let segmentPlaces = 512
  private static let placesMin = 8
  /// Beyond this depth segments grow instead, so that keys with equal upper bits cannot blow up the directory, and so
  /// that doubling it stays as little work as a split: it is enough for 4 million blocks.
  static let depthMax = 14
  /// Entries that are copied in the time of one word of a place: they lie side by side.
  private static let entriesPerWord = 8

  /// Blocks in the table.
  private(set) var count = 0
  /// Words that were moved or swept since the beginning.
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

  /// The place of `key`; nil when absent. Valid until the next insertion or removal.
  func find(_ key: UInt64) -> UnsafeMutablePointer<Place>? {
    guard let directory, key != 0 else { return nil }
    let segment = segments.base + Int(directory[directoryIndex(key)])
    guard let places = segment.pointee.places else { return nil }
    var place = Int(truncatingIfNeeded: key) & segment.pointee.mask
    while true {
      let found = places + place
      if found.pointee.key == key { return found }
      if found.pointee.key == 0 { return nil }
      place = (place &+ 1) & segment.pointee.mask
    }
  }

  /// The lanes that hold `key`; none when it is absent.
  func lanes(of key: UInt64) -> UInt64 { find(key)?.pointee.lanes ?? 0 }

  private func directoryIndex(_ key: UInt64) -> Int {
    // Shifting by 64 gives 0, which is right for a directory of one.
    Int(truncatingIfNeeded: key >> UInt64(truncatingIfNeeded: 64 &- depth))
  }

  // MARK: Insertion

  /// The place of `key`, its set empty when it is new.
  ///
  /// - Parameters:
  ///   - growth: bytes that the table may grow by.
  ///   - dead: lanes that mean nothing any more; they are dropped where a segment is rehashed anyway.
  /// - Returns: nil when more memory would be needed than allowed, or the key is 0.
  mutating func insert(_ key: UInt64, growth: Int, clearing dead: UInt64) -> UnsafeMutablePointer<Place>? {
    guard key != 0 else { return nil }
    if let found = find(key) { return found }
    if directory == nil { begin() }
    var maySplit = true
    while let directory {
      let index = directory[directoryIndex(key)]
      let segment = segments.record(index)
      if (segment.pointee.count &+ 1) &* 4 <= (segment.pointee.mask &+ 1) &* 3 {
        segment.pointee.count &+= 1
        count &+= 1
        return put(key, segment)
      }
      // A split may leave all keys on one side: the segment is enlarged then, rather than split again and again.
      guard grow(index, for: key, growth: growth, clearing: dead, splitting: maySplit) else { return nil }
      maySplit = false
    }
    return nil
  }

  /// Takes the place of a key that is not there; its set is empty.
  private func put(_ key: UInt64, _ segment: UnsafeMutablePointer<Segment>) -> UnsafeMutablePointer<Place>? {
    guard let places = segment.pointee.places else { return nil }
    var place = Int(truncatingIfNeeded: key) & segment.pointee.mask
    while places[place].key != 0 { place = (place &+ 1) & segment.pointee.mask }
    places[place].key = key
    return places + place
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
    _ index: Int32, for key: UInt64, growth: Int, clearing dead: UInt64, splitting maySplit: Bool
  ) -> Bool {
    let segment = segments.base[Int(index)]
    let places = segment.mask + 1
    let splits = maySplit && places >= Self.segmentPlaces && segment.depth < Self.depthMax
    let doubles = splits && segment.depth == depth
    let added =
      splits
      ? Self.bytes(places) + segments.growth(for: 1) + (doubles ? 4 << depth : 0)
      : Self.bytes(max(Self.placesMin, places * 2)) - Self.bytes(places)
    guard added <= growth else { return false }
    if splits {
      split(index, of: key, clearing: dead)
    } else {
      rehash(index, places: max(Self.placesMin, places * 2), clearing: dead)
    }
    return true
  }

  /// `key` belongs into the segment.
  private mutating func split(_ index: Int32, of key: UInt64, clearing dead: UInt64) {
    if segments.base[Int(index)].depth == depth { doubleDirectory() }
    let new = segments.allocate()
    let old = segments.base[Int(index)]
    guard let source = old.places, let directory else { return }
    let places = old.mask + 1
    let lower = segments.record(index)
    let upper = segments.record(new)
    lower.pointee = Segment(places: makePlaces(places), mask: old.mask, count: 0, depth: old.depth + 1)
    upper.pointee = Segment(places: makePlaces(places), mask: old.mask, count: 0, depth: old.depth + 1)
    // The directory's entries for the old segment share its upper bits; in the upper half of them the next bit is set.
    let span = 1 << (depth - old.depth)
    let first = directoryIndex(key) & ~(span - 1)
    work += span / Self.entriesPerWord
    for entry in first + span / 2..<first + span { directory[entry] = new }
    let bit = UInt64(1) << UInt64(63 - old.depth)
    move(source, places, clearing: dead) { $0 & bit == 0 ? lower : upper }
    release(source, places)
  }

  private mutating func doubleDirectory() {
    guard let directory, let memory = malloc(8 << depth) else { preconditionFailure("out of memory") }
    work += (2 << depth) / Self.entriesPerWord
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
    guard let found = find(key), let directory else { return }
    let index = directory[directoryIndex(key)]
    let segment = segments.record(index)
    guard let places = segment.pointee.places else { return }
    let mask = segment.pointee.mask
    var hole = found - places
    var place = hole
    while true {
      place = (place &+ 1) & mask
      let candidate = places[place]
      if candidate.key == 0 { break }
      let home = Int(truncatingIfNeeded: candidate.key) & mask
      // The key may move up only if its home does not lie between the hole and its place.
      if (place &- home) & mask >= (place &- hole) & mask {
        places[hole] = candidate
        hole = place
      }
    }
    places[hole] = Place(key: 0, lanes: 0)
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
      rehash(index, places: segment.count == 0 ? 0 : places / 4, clearing: 0)
    }
  }

  /// Clears dead lanes from all sets of one segment; blocks that nobody holds then are gone.
  mutating func sweep(_ index: Int, clearing dead: UInt64) {
    guard index < segments.used, let places = segments.base[index].places else { return }
    let mask = segments.base[index].mask
    work += 2 * (mask + 1)
    var survivors = 0
    for place in 0...mask {
      places[place].lanes &= ~dead
      if places[place].lanes != 0 { survivors += 1 }
    }
    guard survivors < segments.base[index].count else { return }
    var wanted = survivors == 0 ? 0 : Self.placesMin
    while survivors * 2 > wanted { wanted *= 2 }
    rehash(Int32(index), places: min(wanted, mask + 1), clearing: dead)
    if count == 0 { freeAll() }
  }

  // MARK: Segments

  /// Moves a segment's keys into new memory of `places` places.
  private mutating func rehash(_ index: Int32, places: Int, clearing dead: UInt64) {
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
    _ source: UnsafeMutablePointer<Place>, _ places: Int, clearing dead: UInt64,
    to target: (UInt64) -> UnsafeMutablePointer<Segment>
  ) {
    work += 2 * places
    for place in 0..<places where source[place].key != 0 {
      let held = source[place].lanes & ~dead
      guard held != 0 else {
        count -= 1
        continue
      }
      let segment = target(source[place].key)
      segment.pointee.count &+= 1
      put(source[place].key, segment)?.pointee.lanes = held
    }
  }

  private static func bytes(_ places: Int) -> Int { places * MemoryLayout<Place>.stride }

  private mutating func makePlaces(_ places: Int) -> UnsafeMutablePointer<Place> {
    guard let memory = calloc(places, MemoryLayout<Place>.stride) else {
      preconditionFailure("out of memory")
    }
    placeBytes += Self.bytes(places)
    return memory.assumingMemoryBound(to: Place.self)
  }

  private mutating func release(_ source: UnsafeMutablePointer<Place>, _ places: Int) {
    placeBytes -= Self.bytes(places)
    free(source)
  }

  private mutating func freeAll() {
    work += segments.used / Self.entriesPerWord
    for index in 0..<segments.used { free(segments.base[index].places) }
    free(directory)
    directory = nil
    segments = Slab()
    depth = 0
    count = 0
    placeBytes = 0
  }
}
