// The memory of the start: pages of code that serving does not need.

internal import Base
internal import EventLoop

/// Lets go of the code that only the start needed.
final class StartPages: TimerHandler {
  /// By then the workers were probed and the first exports made: a start's last steps, which run after it serves.
  private static let patience = second

  private let timer = Timer()

  /// Once now, and once when the start's last steps are done.
  func release(on loop: EventLoop) {
    Machine.releaseStartPages()
    loop.arm(timer, at: loop.now + Self.patience, self)
  }

  func timerFired(_ timer: Timer) { Machine.releaseStartPages() }
}
