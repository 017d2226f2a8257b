// One worker in and out of service by how its requests go: ejection, canary, slow start.

internal import Base
internal import EventLoop

/// How much of the work that falls to a ready worker it is given.
package enum WorkerStanding: Sendable, Equatable {
  case full
  /// Its requests failed: it gets none, unless too many workers are out.
  case ejected(reason: String)
  /// It is back since then: until the end its share grows.
  case recovering(since: UInt64, until: UInt64)
}

/// How a canary request ended.
enum CanaryOutcome: Sendable, Equatable {
  case served
  /// It answered, and it is not to be said whether it would serve: it is full, or refuses what was asked.
  case undecided(status: Int)
  case failed(String)
}

/// Loop-confined.
///
///     full ──failures──▶ ejected ──time──▶ [canary ──▶] recovering ──time──▶ full
///                           ▲                  │ failed         │ failures
///                           └──────────────────┴────────────────┘
final class WorkerBreaker: TimerHandler {
  private enum Tag {
    static let standing: UInt8 = 0
    static let canary: UInt8 = 1
  }

  private let loop: EventLoop
  private let rules: OutlierRules
  private let tally: WorkerTally
  /// Between two canaries of an idle worker; nil for none.
  private let canaryWait: Nanoseconds?
  private var watch: OutlierWatch
  private(set) var standing = WorkerStanding.full
  private let standingTimer = Timer(tag: Tag.standing)
  private let canaryTimer = Timer(tag: Tag.canary)
  private var canary: (any ProbeInFlight)?
  private var countsAtLastCanary = OutlierCounts()
  private var isClosed = false

  /// Starts a canary request; nil when the worker cannot be asked now.
  var startCanary: ((_ report: @escaping (CanaryOutcome) -> Void) -> (any ProbeInFlight)?)?
  /// The standing is another; with the cause when it is an ejection.
  var changed: ((EjectionCause?) -> Void)?

  init(_ tally: WorkerTally, _ rules: OutlierRules, canaryWait: Nanoseconds?, loop: EventLoop) {
    self.tally = tally
    self.rules = rules
    self.canaryWait = canaryWait
    self.loop = loop
    watch = OutlierWatch(rules)
  }

  /// Begins with canaries, where they are asked for.
  func start() { planCanary() }

  /// Looks at how requests went since the last time. To be called now and then, and when several failed in a row.
  func look() {
    guard !isClosed, rules.isWatching else { return }
    if case .ejected = standing { return }
    guard let (cause, reason) = watch.look(tally.counts, row: tally.row, now: loop.now) else { return }
    eject(cause, reason)
  }

  private func eject(_ cause: EjectionCause, _ reason: String) {
    let length = watch.eject(now: loop.now)
    // Workers that failed together do not come back together.
    loop.arm(standingTimer, at: loop.now + length + loop.random.next() % (length / 10 + 1), self)
    standing = .ejected(reason: reason)
    changed?(cause)
  }

  /// It could not be reached meanwhile, and is again: its process may be another, and begins anew, slowly. One of which a
  /// canary is asked for waits for that.
  func reached() {
    guard case .ejected = standing, canaryWait == nil else { return tally.forgetRow() }
    back()
  }

  private func back() {
    tally.forgetRow()
    watch.returned(now: loop.now)
    if rules.slowStart > 0 {
      standing = .recovering(since: loop.now, until: loop.now + rules.slowStart)
      loop.arm(standingTimer, at: loop.now + rules.slowStart, self)
    } else {
      loop.cancel(standingTimer)
      standing = .full
    }
    changed?(nil)
  }

  func timerFired(_ timer: Timer) {
    guard !isClosed else { return }
    if timer.tag == Tag.canary { return canaryIsDue() }
    switch standing {
    case .ejected:
      // Where canaries are sent one must be served first.
      if canaryWait == nil || !sendCanary() { back() }
    case .recovering:
      standing = .full
      changed?(nil)
    case .full: break
    }
  }

  // MARK: Canary

  private func planCanary() {
    guard let canaryWait, !isClosed else { return }
    loop.arm(canaryTimer, at: loop.now + canaryWait - loop.random.next() % (canaryWait / 10 + 1), self)
  }

  /// A worker that served something since the last time need not show that it can.
  private func canaryIsDue() {
    planCanary()
    let counts = tally.counts
    defer { countsAtLastCanary = counts }
    guard counts == countsAtLastCanary else { return }
    if case .ejected = standing { return }
    _ = sendCanary()
  }

  /// False when none can be sent.
  private func sendCanary() -> Bool {
    guard canary == nil else { return true }
    canary = startCanary?({ [weak self] in self?.canaryEnded($0) })
    return canary != nil
  }

  private func canaryEnded(_ outcome: CanaryOutcome) {
    canary = nil
    guard !isClosed else { return }
    switch outcome {
    case .failed(let reason): eject(.canary, "a canary request failed: \(reason)")
    case .served, .undecided:
      if case .ejected = standing { back() }
    }
  }

  func close() {
    isClosed = true
    canary?.cancel()
    canary = nil
    loop.cancel(standingTimer)
    loop.cancel(canaryTimer)
    startCanary = nil
    changed = nil
  }
}
