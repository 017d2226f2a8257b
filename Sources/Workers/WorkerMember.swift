// One worker over time: its health by probes, its exclusion after failed connects, what the snapshot says of it.

internal import Base
internal import EventLoop
internal import Transport

/// What a member tells the directory.
protocol WorkerMemberOwner: AnyObject {
  /// The member's ``WorkerMember/worker`` is another than before.
  func changed(_ member: WorkerMember, from old: Worker)
  /// A probe ended; asked for file members, whose record may be dead.
  func probed(_ member: WorkerMember)
  /// The engine was asked what it makes of sample chats.
  func checked(_ member: WorkerMember)
  /// A connect failed, in a probe or for a request.
  func connectFailed(_ member: WorkerMember)
  /// Whether requests are open at it now.
  func hasOpenRequests(_ member: WorkerMember) -> Bool
  /// Its requests or a canary failed.
  func ejected(_ member: WorkerMember, _ cause: EjectionCause)
}

/// Loop-confined.
///
///     unprobed ──▶ ready ◀──▶ unreachable      (a probe's outcome; an exclusion shows a ready one as unreachable)
final class WorkerMember: TimerHandler {
  private enum Health {
    case unprobed
    case ready
    case unreachable(String)
  }

  /// Silent probes in a row that end a ready worker: one busy with long prompts may miss a deadline and still serve,
  /// and to take it out would push its load onto the others.
  private static let silencesMax = 3

  private static let excludedReason = "a connect for a request failed"
  /// Connects that time out this long after the first one are another sign; those of one moment are one.
  private static let doubtAfter = second

  let url: WorkerURL
  /// The record it came from; nil for static workers.
  var finding: DiscoveryFinding?
  /// Its record is stale, and it was asked because of that.
  var isDoubted = false
  /// What the snapshot says.
  private(set) var worker: Worker
  /// The last probe found nobody listening.
  private(set) var isRefused = false

  private let loop: EventLoop
  private let prober: any WorkerProber
  private let configuration: WorkerDirectoryConfiguration
  private unowned let owner: any WorkerMemberOwner
  private let probeTimer = Timer()
  private let exclusionTimer = Timer(tag: 1)
  private var probe: (any ProbeInFlight)?
  private var check: (any ProbeInFlight)?
  private var health = Health.unprobed
  private var exclusion = Exclusion()
  private var hasBeenReady = false
  private var cacheIsKnown = false
  private var eventsAreKnown = false
  private var routesAreKnown = false
  private var silences = 0
  private let breaker: WorkerBreaker
  /// When a connect for a request was first not made in time, and the worker has not answered since.
  private var doubtedSince: Nanoseconds?
  private var isClosed = false

  init(
    _ worker: Worker, url: WorkerURL, finding: DiscoveryFinding? = nil, loop: EventLoop,
    prober: any WorkerProber, configuration: WorkerDirectoryConfiguration, owner: any WorkerMemberOwner
  ) {
    self.worker = worker
    breaker = WorkerBreaker(
      worker.tally, configuration.outliers, canaryWait: configuration.canary?.wait, loop: loop)
    self.url = url
    self.finding = finding
    self.loop = loop
    self.prober = prober
    self.configuration = configuration
    self.owner = owner
    if worker.isReady {
      health = .ready
      hasBeenReady = true
    }
    routesAreKnown = finding != nil
    if let card = finding?.card { cacheIsKnown = card.blockSize != nil && card.totalBlocks != nil }
    breaker.changed = { [weak self] in self?.standingChanged($0) }
    breaker.startCanary = { [weak self] in self?.canary($0) ?? .never }
    breaker.isBusy = { [weak self] in self.map { $0.owner.hasOpenRequests($0) } ?? false }
    breaker.start()
  }

  var id: UInt64 { worker.id }

  // MARK: Probing

  /// Asks now, whatever was planned.
  func probeNow() {
    guard !isClosed, !worker.upstream.addresses.isEmpty else { return }
    probe?.cancel()
    loop.cancel(probeTimer)
    // A publisher's port may be another after an engine's restart; one that had none is not asked again and again.
    let questions = ProbeQuestions(
      cache: !cacheIsKnown,
      events: configuration.followsCacheEvents && (!eventsAreKnown || !worker.eventSources.isEmpty),
      routes: !routesAreKnown)
    probe = prober.probe(worker.upstream, questions) { [weak self] in self?.ended($0) }
  }

  private func ended(_ outcome: ProbeOutcome) {
    probe = nil
    guard !isClosed else { return }
    switch outcome {
    case .success(let answer): answered(answer)
    case .failure(let failure): failed(failure)
    }
    owner.probed(self)
    if !isClosed { loop.arm(probeTimer, at: loop.now + untilNextProbe, self) }
  }

  private var untilNextProbe: Nanoseconds {
    switch health {
    case .ready where silences == 0:
      // Spread over a tenth, so that a fleet started at once is not asked at once for ever.
      configuration.probeInterval - configuration.probeInterval / 10
        + loop.random.next() % (configuration.probeInterval / 5 + 1)
    case .ready: configuration.retryProbeInterval
    case .unprobed, .unreachable:
      hasBeenReady ? configuration.retryProbeInterval : configuration.firstProbeInterval
    }
  }

  private func answered(_ answer: ProbeAnswer) {
    isRefused = false
    silences = 0
    doubtedSince = nil
    var next = worker
    if finding == nil {
      next.models = answer.models
      if let name = configuration.modelName {
        guard answer.models.contains(name) else {
          failed(.answer("it does not serve \(name)"))
          return
        }
        next.models = [name]
      }
      if answer.isDynamoWorker { next.isDynamoWorker = true }
    } else if configuration.modelName == nil, let card = finding?.card {
      // A record names one model; the adapters that its engine has loaded are told by the worker itself.
      next.models = [card.displayName] + answer.adapters.filter { $0 != card.displayName }
    }
    next.engine = answer.engine
    next.adapters = answer.adapters
    if let sources = answer.eventSources {
      eventsAreKnown = true
      next.eventSources = sources
    }
    if finding == nil {
      // Another engine behind the same address serves other routes.
      if next.engine != worker.engine || next.models != worker.models { routesAreKnown = false }
      if let endpoints = answer.endpoints {
        routesAreKnown = true
        next.endpoints = endpoints
      }
    }
    exclusion.answered(at: loop.now)
    if !cacheIsKnown {
      cacheIsKnown = true
      if let blocks = answer.totalBlocks { next.totalBlocks = blocks }
      next.blockSize = configuration.blockSizeOverride ?? answer.blockSize ?? next.blockSize
    }
    hasBeenReady = true
    let wasReady = worker.isReady
    if case .unreachable = health { breaker.reached() }
    health = .ready
    if !wasReady || next.engine != worker.engine || next.models != worker.models {
      next.prompts = .unchecked
      check?.cancel()
      check = nil
    }
    show(next)
    checkPrompts()
  }

  /// Asks the engine what it makes of sample chats, once each time it comes up.
  private func checkPrompts() {
    guard check == nil, case .unchecked = worker.prompts, let model = worker.models.first,
      PromptCheck.knows(worker.engine), !worker.isDynamoWorker,
      let samples = configuration.promptSamples?(worker.engine, model), !samples.isEmpty
    else { return }
    check = prober.check(worker.upstream, engine: worker.engine, model: model, samples) {
      [weak self] agreement in
      guard let self, !self.isClosed else { return }
      self.check = nil
      var next = self.worker
      next.prompts = agreement
      self.show(next)
      self.owner.checked(self)
    }
  }

  private func failed(_ failure: ProbeFailure) {
    var isRefused = false
    if case .refused = failure { isRefused = true }
    self.isRefused = isRefused
    if case .silent = failure, case .ready = health {
      silences += 1
      // A connect that timed out and a probe that is not answered are two signs of one thing.
      guard silences >= Self.silencesMax || doubtedSince != nil else { return }
    }
    silences = 0
    doubtedSince = nil
    // What comes back may have another cache.
    if finding == nil {
      cacheIsKnown = false
      routesAreKnown = false
    }
    eventsAreKnown = false
    health = .unreachable(failure.reason)
    show(worker)
    if isRefused { owner.connectFailed(self) }
  }

  // MARK: Exclusion

  /// A connect for a request failed.
  func connectFailed() {
    guard !isClosed, exclusion.failed(at: loop.now) else { return }
    loop.arm(exclusionTimer, at: exclusion.until, self)
    doubtedSince = nil
    // A probe must answer before it is chosen again, even when that takes longer than the exclusion.
    health = .unreachable(Self.excludedReason)
    show(worker)
    owner.connectFailed(self)
    probeNow()
  }

  /// A connect for a request was not made in time. Alone that says little: the deadline is one caller's, and a SYN may be
  /// lost. It is believed when a probe is not answered either, or it happens again before one is.
  func connectTimedOut() {
    guard !isClosed, case .ready = health, !exclusion.isActive(at: loop.now) else { return }
    if let doubtedSince {
      if loop.now >= doubtedSince + Self.doubtAfter { connectFailed() }
      return
    }
    doubtedSince = loop.now
    if probe == nil { probeNow() }
  }

  func timerFired(_ timer: Timer) {
    if timer.tag == 1 { show(worker) } else { probeNow() }
  }

  // MARK: Standing

  /// Looks at how its requests went.
  func lookForFaults() {
    if case .ready = health { breaker.look() }
  }

  private func standingChanged(_ cause: EjectionCause?) {
    guard !isClosed else { return }
    show(worker)
    if let cause { owner.ejected(self, cause) }
  }

  private func canary(_ report: @escaping (CanaryOutcome) -> Void) -> CanaryStart {
    guard worker.isReady, !worker.isDraining else { return .later }
    guard let canary = configuration.canary, let model = worker.models.first,
      let question = CanaryQuestion(payload: canary.payload, model: model, endpoints: worker.endpoints)
    else { return .never }
    return .sent(prober.canary(worker.upstream, question, timeout: canary.timeout, report))
  }

  // MARK: Facts

  /// The name has other addresses, or none: then `reason` says why.
  func moved(to addresses: [SocketAddress], unreachable reason: String?) {
    let old = worker.upstream
    if let reason, addresses.isEmpty {
      health = .unreachable(reason)
      show(worker)
      return
    }
    guard old.addresses != addresses else { return }
    prober.forget(id)
    show(
      worker.moved(
        to: Upstream(
          id: id, addresses: addresses, authority: url.authority, pathPrefix: url.pathPrefix,
          security: old.security, isMultiplexed: old.isMultiplexed)))
    probeNow()
  }

  /// It is to be verified, and shown, other certificates than before.
  func secured(by security: SocketSecurity) {
    let old = worker.upstream
    show(
      worker.moved(
        to: Upstream(
          id: id, addresses: old.addresses, authority: String(decoding: old.authority, as: UTF8.self),
          pathPrefix: url.pathPrefix, security: security, isMultiplexed: old.isMultiplexed)))
    probeNow()
  }

  /// The record or its card was replaced.
  func renewed(_ finding: DiscoveryFinding, facts: Worker) {
    self.finding = finding
    var next = worker
    next.models =
      facts.models + worker.adapters.filter { worker.models.contains($0) && !facts.models.contains($0) }
    next.blockSize = facts.blockSize
    next.totalBlocks = facts.totalBlocks
    next.contextLength = facts.contextLength
    next.sequencesMax = facts.sequencesMax
    next.batchedTokensMax = facts.batchedTokensMax
    next.endpoints = facts.endpoints
    show(next)
  }

  /// An operator takes it out of service, or back.
  func drain(_ isDraining: Bool) {
    var next = worker
    next.isDraining = isDraining
    show(next)
  }

  private func show(_ facts: Worker) {
    let old = worker
    worker = facts
    worker.standing = breaker.standing
    switch health {
    case .unprobed: worker.state = .unprobed
    case .ready where exclusion.isActive(at: loop.now): worker.state = .unreachable(Self.excludedReason)
    case .ready: worker.state = .ready
    case .unreachable(let reason): worker.state = .unreachable(reason)
    }
    if !worker.hasSameFacts(as: old) { owner.changed(self, from: old) }
  }

  /// The worker left.
  func close() {
    isClosed = true
    breaker.close()
    probe?.cancel()
    probe = nil
    check?.cancel()
    check = nil
    loop.cancel(probeTimer)
    loop.cancel(exclusionTimer)
    prober.forget(id)
  }
}

extension Worker {
  /// The same worker at other addresses, or behind other certificates.
  fileprivate func moved(to upstream: Upstream) -> Worker {
    var worker = Worker(
      id: id, url: url, upstream: upstream, source: source, state: state, models: models,
      blockSize: blockSize,
      totalBlocks: totalBlocks, isDynamoWorker: isDynamoWorker, tally: tally)
    worker.standing = standing
    worker.engine = engine
    worker.adapters = adapters
    worker.contextLength = contextLength
    worker.sequencesMax = sequencesMax
    worker.batchedTokensMax = batchedTokensMax
    worker.prompts = prompts
    worker.isDraining = isDraining
    worker.eventSources = eventSources
    worker.endpoints = endpoints
    return worker
  }
}
