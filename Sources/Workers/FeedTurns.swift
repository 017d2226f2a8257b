// The turns of a feed of cache events: when its sockets have news, when somebody asks, when a time has come.

package import Base
package import EventLoop

/// Waits for a feed's sockets and has its owner take one turn at the end of a tick, however many of them are ready and
/// however often it was asked for. Loop-confined; holds its owner only through `turn`.
package final class FeedTurns: EventHandler, TickHandler, TimerHandler {
  private let loop: EventLoop
  private let turn: () -> Void
  private let timer = Timer()
  private var registrations: [(registration: Registration, descriptor: Int32)] = []
  private var isRequested = false
  private var isClosed = false

  /// Waits for nothing yet.
  package init(on loop: EventLoop, turn: @escaping () -> Void) {
    self.loop = loop
    self.turn = turn
  }

  /// Has a turn follow whenever `descriptor`, a ZeroMQ socket's, becomes readable. What was so before does not count.
  package func watch(_ descriptor: Int32) throws(SystemError) {
    registrations.append((try loop.registerInput(descriptor, self), descriptor))
  }

  /// Waits for these no more; they are still open.
  package func forget(_ descriptors: [Int32]) {
    registrations.removeAll { entry in
      guard descriptors.contains(entry.descriptor) else { return false }
      loop.deregister(entry.registration, stillOpen: entry.descriptor)
      return true
    }
  }

  /// A turn at the end of this tick.
  package func request() {
    guard !isRequested, !isClosed else { return }
    isRequested = true
    loop.atEndOfTick(self)
  }

  /// A turn in a later tick, at `deadline` (0 for the next tick), instead of what was asked for so before; nil for none.
  package func request(at deadline: Nanoseconds?) {
    guard let deadline, !isClosed else {
      loop.cancel(timer)
      return
    }
    loop.arm(timer, at: max(deadline, loop.now), self)
  }

  /// Waits no more; no turn follows.
  package func close() {
    isClosed = true
    loop.cancel(timer)
    for entry in registrations { loop.deregister(entry.registration, stillOpen: entry.descriptor) }
    registrations = []
  }

  package func ready(_ readiness: Readiness) { request() }

  package func timerFired(_ timer: Timer) { request() }

  package func endOfTick() {
    isRequested = false
    if !isClosed { turn() }
  }
}
