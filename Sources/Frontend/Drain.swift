// The way down of a frontend, step by step on its first loop.

internal import Base
internal import EventLoop
internal import Transport

/// Walks a frontend down: grace, refusal, waiting for open requests, the cut, the stop. Or, when another process serves on
/// its sockets, waits for its connections to end first.
///
/// ```
///  grace ──▶ waiting ──deadline──▶ lastWords ──▶ cut
///               ▲ └──no open requests──▶ stopped ◀──┘
///  retiring ──deadline, signal┘
///     └──no connections──▶ stopped
/// ```
final class Drain: TimerHandler {
  private enum Step { case grace, retiring, waiting, lastWords, cut }

  /// How long callers have to take the in-band error of a stream that is cut.
  private static let lastWordsTime = 100 * millisecond

  private let frontend: Frontend
  private let loop: EventLoop
  private let timer = Timer()
  private var step = Step.grace
  private var deadline: Nanoseconds = 0

  init(frontend: Frontend, loop: EventLoop) {
    self.frontend = frontend
    self.loop = loop
  }

  /// Requests are served for this long, then no more.
  func begin(after grace: Nanoseconds) { loop.arm(timer, at: loop.now + grace, self) }

  /// Connections that are open may come back once each; those that have not by the drain's deadline are closed.
  func retire() {
    step = .retiring
    deadline = loop.now + frontend.drainTimeout
    frontend.retireServers()
    loop.arm(timer, at: loop.now + 10 * millisecond, self)
  }

  /// Ends retiring. False when a stop is under way already.
  func hasten() -> Bool {
    guard case .retiring = step else { return false }
    stopAccepting(for: frontend.drainTimeout)
    return true
  }

  func timerFired(_ timer: Timer) {
    switch step {
    case .grace: stopAccepting(for: frontend.drainTimeout)
    case .retiring where frontend.shared.loads.openConnections == 0: return frontend.stopLoops()
    // Open requests had their time.
    case .retiring: if loop.now >= deadline { stopAccepting(for: 0) }
    case .waiting, .lastWords, .cut:
      if frontend.shared.loads.openRequests == 0 { return frontend.stopLoops() }
      if loop.now >= deadline { passDeadline() }
    }
    loop.arm(timer, at: loop.now + 10 * millisecond, self)
  }

  private func stopAccepting(for time: Nanoseconds) {
    frontend.stopAccepting()
    deadline = loop.now + time
    step = .waiting
  }

  private func passDeadline() {
    switch step {
    case .waiting:
      frontend.announceCut()
      deadline = loop.now + Self.lastWordsTime
      step = .lastWords
    case .lastWords:
      // Streams that could be told are finished by now; what is left has a caller that does not read.
      frontend.cutOpenRequests()
      step = .cut
    case .grace, .retiring, .cut:
      break
    }
  }
}
