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
  /// It did not answer in time.
  case timedOut

  /// Why a worker is ejected for it; nil where it is not.
  var fault: String? {
    switch self {
    case .served, .undecided: nil
    case .failed(let reason): reason
    case .timedOut: "no answer in time"
    }
  }
}

/// Whether a canary request could be sent.
enum CanaryStart {
  case sent(any ProbeInFlight)
  /// The worker cannot be asked now.
  case later
  /// It generates nothing that could be asked for.
  case never
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

  /// Between two attempts to ask an ejected worker that cannot be asked, or says nothing to the point.
  private static let retryInterval = 2 * second

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

  /// Starts a canary request.
  var startCanary: ((_ report: @escaping (CanaryOutcome) -> Void) -> CanaryStart)?
  /// Whether requests are open at the worker: these are counted at their ends alone.
  var isBusy: (() -> Bool)?
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
      guard canaryWait != nil, canary == nil else {
        if canaryWait == nil { back() }
        return
      }
      // Where canaries are sent one must be served first.
      switch sendCanary() {
      case .sent: break
      case .later: loop.arm(standingTimer, at: loop.now + Self.retryInterval, self)
      case .never: back()
      }
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

  /// A worker that served something since the last time need not show that it can. One with requests open is not idle:
  /// behind a full batch a canary waits as long as any request.
  private func canaryIsDue() {
    planCanary()
    let counts = tally.counts
    defer { countsAtLastCanary = counts }
    guard counts == countsAtLastCanary else { return }
    if case .ejected = standing { return }
    guard canary == nil, isBusy?() != true else { return }
    _ = sendCanary()
  }

  /// To be called when none is under way.
  private func sendCanary() -> CanaryStart {
    let good = tally.counts.good
    let start = startCanary?({ [weak self] in self?.canaryEnded($0, good: good) }) ?? .never
    if case .sent(let sent) = start { canary = sent }
    return start
  }

  /// `good` is the tally when the canary was sent.
  private func canaryEnded(_ outcome: CanaryOutcome, good: Int) {
    canary = nil
    guard !isClosed else { return }
    var isEjected = false
    if case .ejected = standing { isEjected = true }
    guard let reason = outcome.fault else {
      guard isEjected else { return }
      switch outcome {
      case .undecided(let status): waitOn(status)
      case .served, .failed, .timedOut: back()
      }
      return
    }
    // It got work meanwhile, and the canary may have waited behind that.
    if case .timedOut = outcome, !isEjected, tally.counts.good > good || isBusy?() == true { return }
    eject(.canary, "a canary request failed: \(reason)")
  }

  /// An ejected worker answered its canary with what is no answer: it stays out, says why, and is asked again.
  private func waitOn(_ status: Int) {
    standing = .ejected(reason: "its canary was answered with \(status), which decides nothing")
    loop.arm(standingTimer, at: loop.now + Self.retryInterval, self)
    changed?(nil)
  }

  func close() {
    isClosed = true
    canary?.cancel()
    canary = nil
    loop.cancel(standingTimer)
    loop.cancel(canaryTimer)
    startCanary = nil
    isBusy = nil
    changed = nil
  }
}
