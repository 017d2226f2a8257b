// Cross-thread work for a loop: enqueue first, signal second, drain once a wake-up.

internal import CSystem
internal import Glibc
internal import Synchronization

/// The way into a loop from any thread.
package final class Mailbox: Sendable {
  /// Work that runs on the loop, which it is handed.
  package typealias Work = @Sendable (EventLoop) -> Void

  private let descriptor: Int32
  /// What waits; nil once the loop has ended.
  private let queue = Mutex<[Work]?>([])

  init(descriptor: Int32) { self.descriptor = descriptor }

  deinit { _ = Glibc.close(descriptor) }

  /// Runs `work` on the loop at its next wake-up; in order of submission. Once the loop has ended it is thrown away.
  package func submit(_ work: @escaping Work) {
    let wasEmpty = queue.withLock { queue in
      queue?.append(work)
      return queue?.count == 1
    }
    // A loop that already has mail has been signalled.
    if wasEmpty { signal() }
  }

  func drain(on loop: EventLoop) {
    var count: UInt64 = 0
    _ = read(descriptor, &count, 8)
    let work = queue.withLock { queue in
      let work = queue
      if queue != nil { queue = [] }
      return work
    }
    for item in work ?? [] { item(loop) }
  }

  /// Throws away what waits and what will come: the loop has ended.
  func close() {
    // Outside the lock: what the work holds may submit as it goes.
    let work = queue.withLock { $0.take() }
    withExtendedLifetime(work) {}
  }

  private func signal() {
    var one: UInt64 = 1
    _ = write(descriptor, &one, 8)
  }
}
