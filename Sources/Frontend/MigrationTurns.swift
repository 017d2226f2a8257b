// Whose turn it is to move: the streams of a worker that died break off all at once.

internal import Base
internal import EventLoop

/// Bounds how many streams of a loop move in one wake-up, so that its other streams do not wait for all of them. The rest
/// moves in the wake-ups that follow, in order. Loop-confined; as many wait at most as the loop has streams.
final class MigrationTurns: TimerHandler {
  private let loop: EventLoop
  private let timer = Timer()
  private var waiting: [() -> Void] = []
  /// The wake-up that was last moved in, by its time, and how many did.
  private var wakeUp: Nanoseconds = 0
  private var taken = 0

  init(_ loop: EventLoop) { self.loop = loop }

  /// True when one may move now, of `most` in a wake-up; else `turn` is called in a later one, and must ask again.
  func take(_ most: Int, orLater turn: @escaping () -> Void) -> Bool {
    if wakeUp != loop.now {
      wakeUp = loop.now
      taken = 0
    }
    guard taken >= max(most, 1) else {
      taken += 1
      return true
    }
    if waiting.isEmpty { loop.arm(timer, at: loop.now + 1, self) }
    waiting.append(turn)
    return false
  }

  func timerFired(_ timer: Timer) {
    // Those that find no room again wait behind nobody new: this one's turns are taken first.
    let turns = waiting
    waiting = []
    for turn in turns { turn() }
  }
}
