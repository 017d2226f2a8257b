// A growable list of token ids that the encoder writes to without checks per id.

/// Token ids in one allocation with one owner.
package struct TokenIDs: ~Copyable {
  private var base: UnsafeMutablePointer<UInt32>
  private var capacity: Int

  /// How many ids there are.
  package private(set) var count = 0

  /// Creates an empty list that can take `capacity` ids before it grows.
  package init(capacity: Int = 64) {
    self.capacity = max(capacity, 16)
    base = .allocate(capacity: self.capacity)
  }

  deinit { base.deallocate() }

  /// The ids; valid until the next mutation.
  package var buffer: UnsafeBufferPointer<UInt32> { UnsafeBufferPointer(start: base, count: count) }

  /// A copy of the ids; for tests and answers.
  package var array: [UInt32] { Array(buffer) }

  /// Drops all ids and keeps the memory.
  package mutating func removeAll() { count = 0 }

  /// Drops all but the first `count` ids.
  package mutating func truncate(to count: Int) { self.count = min(count, self.count) }

  /// Appends `id`.
  package mutating func append(_ id: UInt32) {
    reserve(1)
    base[count] = id
    count += 1
  }

  /// Appends the ids at `source`.
  package mutating func append(_ source: UnsafeBufferPointer<UInt32>) {
    guard let start = source.baseAddress else { return }
    reserve(source.count)
    (base + count).update(from: start, count: source.count)
    count += source.count
  }

  /// Makes room for `extra` more ids.
  @inline(__always)
  mutating func reserve(_ extra: Int) {
    if capacity &- count < extra { grow(extra) }
  }

  /// Where the next id goes; room must have been reserved.
  @inline(__always)
  var end: UnsafeMutablePointer<UInt32> { base + count }

  /// Declares that `extra` ids were written at ``end``.
  @inline(__always)
  mutating func commit(_ extra: Int) { count &+= extra }

  @inline(never)
  private mutating func grow(_ extra: Int) {
    let wanted = max(capacity * 2, count + extra)
    let grown = UnsafeMutablePointer<UInt32>.allocate(capacity: wanted)
    grown.update(from: base, count: count)
    base.deallocate()
    base = grown
    capacity = wanted
  }
}
