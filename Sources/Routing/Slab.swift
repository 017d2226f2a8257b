// Records addressed by small numbers: one allocation, slots used again, nothing counted by reference.

import Glibc

/// A growing array of plain records with a list of free slots.
///
/// Invariant: `freeCount <= used <= capacity`; slots below `used` that are not on the free list are in use. Indexes stay
/// valid while their slot is in use; pointers only until the next ``allocate()``.
struct Slab<Element: BitwiseCopyable>: ~Copyable {
  private var memory: UnsafeMutablePointer<Element>?
  private var freeSlots: UnsafeMutablePointer<Int32>?
  private(set) var capacity = 0
  private(set) var used = 0
  private var freeCount = 0

  deinit {
    free(memory)
    free(freeSlots)
  }

  /// The records; only slots in use may be touched.
  var base: UnsafeMutablePointer<Element> {
    guard let memory else { preconditionFailure("an empty slab has no records") }
    return memory
  }

  /// The record in a slot, to be counted in. Under ThreadSanitizer `base[slot].field += 1` brings Swift 6.3's compiler down.
  func record(_ slot: Int32) -> UnsafeMutablePointer<Element> { base + Int(slot) }

  /// Slots in use.
  var count: Int { used - freeCount }

  /// Bytes of memory held.
  var bytes: Int { capacity * (MemoryLayout<Element>.stride + MemoryLayout<Int32>.stride) }

  /// Bytes that ``allocate()`` would add to make `slots` more slots.
  func growth(for slots: Int) -> Int {
    if freeCount + capacity - used >= slots { return 0 }
    let wanted = max(grown, used + slots)
    return (wanted - capacity) * (MemoryLayout<Element>.stride + MemoryLayout<Int32>.stride)
  }

  /// Takes a slot; its content is undefined until stored.
  mutating func allocate() -> Int32 {
    if freeCount > 0, let freeSlots {
      freeCount -= 1
      return freeSlots[freeCount]
    }
    if used == capacity { grow(to: grown) }
    used += 1
    return Int32(used - 1)
  }

  /// Gives a slot back; when it was the last, all memory goes unless it is little.
  mutating func release(_ slot: Int32) {
    freeSlots?[freeCount] = slot
    freeCount += 1
    if freeCount == used { empty() }
  }

  private var grown: Int { max(16, capacity * 2) }

  private mutating func empty() {
    used = 0
    freeCount = 0
    // A quiet server has one request at a time: it should not pay for memory with each.
    if capacity <= Self.keptCapacity { return }
    free(memory)
    free(freeSlots)
    memory = nil
    freeSlots = nil
    capacity = 0
  }

  private static var keptCapacity: Int { 64 }

  private mutating func grow(to wanted: Int) {
    guard let records = realloc(memory, wanted * MemoryLayout<Element>.stride),
      let slots = realloc(freeSlots, wanted * MemoryLayout<Int32>.stride)
    else { preconditionFailure("out of memory") }
    memory = records.assumingMemoryBound(to: Element.self)
    freeSlots = slots.assumingMemoryBound(to: Int32.self)
    capacity = wanted
  }
}
