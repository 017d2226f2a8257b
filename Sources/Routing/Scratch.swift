// Working memory of a selection, one number a worker slot, used again each time.

import Glibc

/// Parallel arrays over worker slots. Their content means nothing between selections.
struct Scratch: ~Copyable {
  private var memory: UnsafeMutableRawPointer
  private var capacity = 16

  /// Cost of the slot for this request.
  private(set) var cost: UnsafeMutablePointer<Double>
  /// The hot-prefix term in the cost.
  private(set) var spread: UnsafeMutablePointer<Double>
  /// Leading blocks that the slot's worker caches.
  private(set) var cached: UnsafeMutablePointer<Int32>
  /// Leading blocks that the slot's worker has in use.
  private(set) var active: UnsafeMutablePointer<Int32>
  /// The slots that may be chosen, packed.
  private(set) var eligible: UnsafeMutablePointer<Int32>
  /// The slots that may not, packed.
  private(set) var refused: UnsafeMutablePointer<Int32>
  /// Blocks beyond `cached` that the slot's worker holds on its host. Written only while some worker has such.
  private(set) var host: UnsafeMutablePointer<Int32>
  /// Blocks beyond those that it holds on disk.
  private(set) var disk: UnsafeMutablePointer<Int32>
  /// Leading blocks that events tell of, or that were predicted lately. Written only for workers with events.
  private(set) var told: UnsafeMutablePointer<Int32>
  /// Why not.
  private(set) var reason: UnsafeMutablePointer<RefusalReason>

  init() {
    memory = Self.allocate(capacity)
    cost = Self.array(memory, 0, capacity)
    spread = Self.array(memory, 8, capacity)
    cached = Self.array(memory, 16, capacity)
    active = Self.array(memory, 20, capacity)
    eligible = Self.array(memory, 24, capacity)
    refused = Self.array(memory, 28, capacity)
    host = Self.array(memory, 32, capacity)
    disk = Self.array(memory, 36, capacity)
    told = Self.array(memory, 40, capacity)
    reason = Self.array(memory, 44, capacity)
  }

  deinit { free(memory) }

  /// Makes room for `slots` slots. The arrays move, and their content is lost.
  mutating func reserve(_ slots: Int) {
    guard slots > capacity else { return }
    free(memory)
    capacity = max(slots, capacity * 2)
    memory = Self.allocate(capacity)
    cost = Self.array(memory, 0, capacity)
    spread = Self.array(memory, 8, capacity)
    cached = Self.array(memory, 16, capacity)
    active = Self.array(memory, 20, capacity)
    eligible = Self.array(memory, 24, capacity)
    refused = Self.array(memory, 28, capacity)
    host = Self.array(memory, 32, capacity)
    disk = Self.array(memory, 36, capacity)
    told = Self.array(memory, 40, capacity)
    reason = Self.array(memory, 44, capacity)
  }

  /// Bytes of one slot in all arrays.
  private static let stride = 45

  private static func allocate(_ slots: Int) -> UnsafeMutableRawPointer {
    guard let memory = malloc(slots * stride) else { preconditionFailure("out of memory") }
    return memory
  }

  /// The array before which one slot takes `offset` bytes in the others.
  private static func array<Element>(
    _ memory: UnsafeMutableRawPointer, _ offset: Int, _ slots: Int
  ) -> UnsafeMutablePointer<Element> {
    (memory + offset * slots).assumingMemoryBound(to: Element.self)
  }
}
