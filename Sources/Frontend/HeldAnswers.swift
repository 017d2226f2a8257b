// The memory that answers may hold together while they are held back to be compressed.

internal import Synchronization

/// A budget in bytes that all loops of the process share. An answer that finds no room goes out as it is.
package final class HeldAnswers: Sendable {
  /// The one of this process: 64 MiB, 256 of the longest answers.
  package static let process = HeldAnswers(bytesMax: 64 << 20)

  private let bytesMax: Int
  private let taken = Atomic<Int>(0)
  private let refused = Atomic<Int>(0)

  package init(bytesMax: Int) { self.bytesMax = bytesMax }

  /// Takes `count` bytes; false, and counted, when there is not so much left.
  func take(_ count: Int) -> Bool {
    var seen = taken.load(ordering: .relaxed)
    while seen + count <= bytesMax {
      let (isTaken, present) = taken.compareExchange(
        expected: seen, desired: seen + count, ordering: .relaxed)
      if isTaken { return true }
      seen = present
    }
    refused.add(1, ordering: .relaxed)
    return false
  }

  func release(_ count: Int) { taken.subtract(count, ordering: .relaxed) }

  /// Bytes that are taken.
  var inUse: Int { taken.load(ordering: .relaxed) }

  /// Answers that found no room.
  var refusals: Int { refused.load(ordering: .relaxed) }
}
