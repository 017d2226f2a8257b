// Working memory of the merge loop.

/// Symbols of one piece, their neighbours and the ranks of their pairs. One a thread; grown to the longest piece seen
/// and given back when that was a long one.
struct MergeWorkspace: ~Copyable {
  /// Pieces of at most this many symbols are merged in place; longer ones by list and heap.
  static let shortMax = 96
  /// Memory for pieces beyond this many bytes is given back after use.
  static let keptBytesMax = 64 << 10

  private(set) var ids: UnsafeMutablePointer<UInt32>
  /// The rank of each symbol with its right neighbour.
  private(set) var ranks: UnsafeMutablePointer<UInt32>
  private(set) var next: UnsafeMutablePointer<Int32>
  private(set) var previous: UnsafeMutablePointer<Int32>
  private var capacity: Int
  private var linkCapacity = 0
  var count = 0

  init() {
    capacity = 256
    ids = .allocate(capacity: capacity)
    ranks = .allocate(capacity: capacity)
    next = .allocate(capacity: 1)
    previous = .allocate(capacity: 1)
  }

  deinit {
    ids.deallocate()
    ranks.deallocate()
    next.deallocate()
    previous.deallocate()
  }

  /// Makes room for a piece of `bytes` bytes, which has at most as many symbols.
  @inline(__always)
  mutating func reserve(_ bytes: Int) {
    if bytes > capacity { grow(to: bytes) }
  }

  /// Gives memory back that only an unusually long piece needed.
  mutating func trim() {
    guard capacity > MergeWorkspace.keptBytesMax else { return }
    grow(to: 256)
    next.deallocate()
    previous.deallocate()
    next = .allocate(capacity: 1)
    previous = .allocate(capacity: 1)
    linkCapacity = 0
  }

  private mutating func grow(to wanted: Int) {
    ids.deallocate()
    ranks.deallocate()
    capacity = max(wanted, 256)
    ids = .allocate(capacity: capacity)
    ranks = .allocate(capacity: capacity)
  }

  /// Links each symbol with its neighbours; -1 and ``count`` stand for none.
  mutating func linkSymbols() {
    if linkCapacity < count {
      next.deallocate()
      previous.deallocate()
      linkCapacity = count
      next = .allocate(capacity: count)
      previous = .allocate(capacity: count)
    }
    for index in 0..<count {
      next[index] = Int32(truncatingIfNeeded: index &+ 1)
      previous[index] = Int32(truncatingIfNeeded: index &- 1)
    }
  }

  /// Closes the gaps that merged symbols left.
  mutating func compact() {
    var written = 0
    var index = 0
    while index < count {
      ids[written] = ids[index]
      written += 1
      index = Int(next[index])
    }
    count = written
  }
}

/// A binary heap of pairs: the lowest rank first, and of equal ones the leftmost.
struct MergeHeap {
  private var entries: [UInt64] = []

  init(capacity: Int) { entries.reserveCapacity(capacity) }

  /// Adds an entry without keeping the order; follow with ``order()``.
  mutating func append(rank: UInt32, place: Int) { entries.append(MergeHeap.entry(rank, place)) }

  mutating func order() {
    for index in stride(from: entries.count / 2 - 1, through: 0, by: -1) { sink(index) }
  }

  mutating func insert(rank: UInt32, place: Int) {
    entries.append(MergeHeap.entry(rank, place))
    var index = entries.count - 1
    let entry = entries[index]
    while index > 0 {
      let parent = (index - 1) / 2
      guard entries[parent] > entry else { break }
      entries[index] = entries[parent]
      index = parent
    }
    entries[index] = entry
  }

  mutating func removeFirst() -> (rank: UInt32, place: Int)? {
    guard let first = entries.first, let last = entries.popLast() else { return nil }
    if !entries.isEmpty {
      entries[0] = last
      sink(0)
    }
    return (UInt32(truncatingIfNeeded: first >> 32), Int(UInt32(truncatingIfNeeded: first)))
  }

  private mutating func sink(_ start: Int) {
    var index = start
    let entry = entries[index]
    let count = entries.count
    while true {
      var child = index * 2 + 1
      guard child < count else { break }
      if child + 1 < count, entries[child + 1] < entries[child] { child += 1 }
      guard entries[child] < entry else { break }
      entries[index] = entries[child]
      index = child
    }
    entries[index] = entry
  }

  private static func entry(_ rank: UInt32, _ place: Int) -> UInt64 {
    UInt64(rank) << 32 | UInt64(UInt32(truncatingIfNeeded: place))
  }
}
