// The routing state of one model: one per process, shared by all loops behind one lock.

internal import Synchronization

/// Chooses workers for one model. (Round-robin until the router room lands.)
package final class ModelRouting: Sendable {
  private let next = Atomic<Int>(0)

  package init() {}

  package func pick(_ count: Int) -> Int {
    next.add(1, ordering: .relaxed).newValue % max(count, 1)
  }
}
