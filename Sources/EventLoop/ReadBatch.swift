// What one wake-up reads before any of it is delivered.

internal import Base

/// Bytes of many descriptors, read one after the other and delivered one after the other.
///
/// Reading is kernel code and delivering is ours, each larger than a processor's instruction cache: taking turns with
/// every descriptor makes each evict the other. Memory is bounded by ``capacity``; what does not fit is read after the
/// batch was delivered.
struct ReadBatch: ~Copyable {
  /// What a batch holds in bytes.
  static let capacity = 256 * 1024
  /// A read has at least this much room, so that a long prompt is one read.
  static let leastRoom = 64 * 1024

  /// One descriptor's bytes.
  struct Entry {
    let registration: Registration
    let offset: Int
    let count: Int
    let group: ReadGroup
  }

  private let memory = UnsafeMutableRawPointer.allocate(byteCount: capacity, alignment: 64)
  private var entries: [Entry] = []
  private var used = 0

  init(limit: Int) { entries.reserveCapacity(limit) }

  deinit { memory.deallocate() }

  var isEmpty: Bool { entries.isEmpty }

  /// Whether the next read would have too little room.
  var isFull: Bool { Self.capacity - used < Self.leastRoom }

  /// Where the next read goes.
  var room: UnsafeMutableRawBufferPointer {
    UnsafeMutableRawBufferPointer(start: memory + used, count: Self.capacity - used)
  }

  /// Keeps the first `count` bytes of ``room`` for a descriptor.
  mutating func keep(_ count: Int, for registration: Registration, _ group: ReadGroup) {
    entries.append(Entry(registration: registration, offset: used, count: count, group: group))
    // Each begins on a cache line of its own.
    used += (count + 63) & ~63
  }

  var count: Int { entries.count }

  func entry(_ index: Int) -> Entry { entries[index] }

  /// The bytes of an entry.
  func bytes(_ entry: Entry) -> UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(start: memory + entry.offset, count: entry.count)
  }

  mutating func removeAll() {
    entries.removeAll(keepingCapacity: true)
    used = 0
  }
}

/// Whose bytes are delivered together, because the same code takes them.
package enum ReadGroup: Sendable {
  /// From a peer that was asked. They come first: they make room for what callers ask next.
  case replies
  case requests
}
