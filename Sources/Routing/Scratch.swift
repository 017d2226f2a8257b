// Working memory of a selection, one number a worker slot, used again each time.

import Glibc

/// Parallel arrays over worker slots. Their content means nothing between selections.
struct Scratch: ~Copyable {
  private var memory: UnsafeMutableRawPointer?
  private var capacity = 0

  deinit { free(memory) }

  /// Makes room for `slots` slots. The arrays move, and their content is lost.
  mutating func reserve(_ slots: Int) {
    guard slots > capacity else { return }
    free(memory)
    capacity = max(slots, capacity * 2, 16)
    guard let fresh = malloc(capacity * Self.stride) else { preconditionFailure("out of memory") }
    memory = fresh
  }

  /// Cost of the slot for this request.
  var cost: UnsafeMutablePointer<Double> { array(0) }
  /// The hot-prefix term in the cost.
  var spread: UnsafeMutablePointer<Double> { array(8) }
  /// Leading blocks that the slot's worker caches.
  var cached: UnsafeMutablePointer<Int32> { array(16) }
  /// Leading blocks that the slot's worker has in use.
  var active: UnsafeMutablePointer<Int32> { array(20) }
  /// The slots that may be chosen, packed.
  var eligible: UnsafeMutablePointer<Int32> { array(24) }
  /// The slots that may not, packed.
  var refused: UnsafeMutablePointer<Int32> { array(28) }
  /// Why not: raw values of ``RefusalReason``.
  var reason: UnsafeMutablePointer<UInt8> { array(32) }

  private static let stride = 33

  /// The array whose elements before it, of one slot, take `offset` bytes.
  private func array<Element>(_ offset: Int) -> UnsafeMutablePointer<Element> {
    guard let memory else { preconditionFailure("no room was reserved") }
    return (memory + offset * capacity).assumingMemoryBound(to: Element.self)
  }
}
