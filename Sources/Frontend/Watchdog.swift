// Signs of life for the service manager, given only while every loop turns.

internal import Base
internal import EventLoop
internal import Logging
internal import Synchronization

/// Counts the turns of one loop; read by another.
final class LoopBeat: Sendable {
  private let count = Atomic<Int>(0)

  func beat() { count.add(1, ordering: .relaxed) }

  var value: Int { count.load(ordering: .relaxed) }
}

/// Remembers where the loops were at the last look.
struct LoopPulse {
  private let beats: [LoopBeat]
  private var last: [Int]

  init(_ beats: [LoopBeat]) {
    self.beats = beats
    last = beats.map(\.value)
  }

  /// The loops that have not turned since the last look.
  mutating func stuck() -> [Int] {
    let now = beats.map(\.value)
    defer { last = now }
    return now.indices.filter { now[$0] == last[$0] }
  }
}

/// Tells the manager that all is well, twice in the time that it waits. It runs on a loop, so when that one hangs nobody
/// is told; when another one hangs, it says nothing.
final class Watchdog: TimerHandler {
  private let loop: EventLoop
  private let manager: ServiceManager
  private let interval: Nanoseconds
  private let logger: Logger
  private var pulse: LoopPulse
  private let timer = Timer()

  /// Nil where the manager expects no signs of life.
  init?(_ manager: ServiceManager?, loop: EventLoop, beats: [LoopBeat], logger: Logger) {
    guard let manager, let interval = manager.watchdogInterval else { return nil }
    self.manager = manager
    self.loop = loop
    self.logger = logger
    // A look must come after the loops' own, or it finds them standing still.
    self.interval = max(interval / 2, 2 * LoopWatch.interval)
    pulse = LoopPulse(beats)
  }

  func begin() { loop.arm(timer, at: loop.now + interval, self) }

  func timerFired(_ timer: Timer) {
    let stuck = pulse.stuck()
    if stuck.isEmpty {
      manager.isAlive()
    } else {
      logger.error("event loops stand still", metadata: ["loops": "\(stuck)"])
    }
    begin()
  }
}
