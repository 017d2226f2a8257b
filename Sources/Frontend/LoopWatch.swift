// How late a loop comes to what is due: a timer whose lateness is the wait that anything else would have had.

internal import Base
internal import EventLoop
internal import Telemetry

/// Looks at one loop ten times a second. Dynamo's canary does it a hundred times, which an idle process would pay for.
final class LoopWatch: TimerHandler {
  static let interval = 100 * millisecond
  /// Lateness that counts as a stall, as in Dynamo.
  static let stall = 5 * millisecond

  private let loop: EventLoop
  private let delay: LocalHistogram
  private let stalls: LocalCounter
  private let timer = Timer()
  /// Shows other loops that this one turns.
  let beat = LoopBeat()
  private var due: Nanoseconds = 0

  init(_ loop: EventLoop, registry: MetricRegistry) {
    self.loop = loop
    delay = LocalHistogram(registry.histogram(.eventLoopDelay, buckets: .stageSeconds))
    stalls = LocalCounter(registry.counter(.eventLoopStalls))
  }

  /// Looks again and again, until the loop ends.
  func begin() {
    // Timers fire at whole milliseconds: their rounding must not look like lateness.
    due = (loop.now + Self.interval) / millisecond * millisecond
    loop.arm(timer, at: due, self)
  }

  func timerFired(_ timer: Timer) {
    let late = loop.now - min(due, loop.now)
    delay.observe(Double(late) / 1e9)
    if late > Self.stall { stalls.add() }
    beat.beat()
    begin()
  }
}
