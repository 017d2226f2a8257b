// The worker directory on its thread: members by configuration and discovery, and the snapshots they make.

internal import Base
internal import EventLoop
internal import Logging
internal import Routing
internal import Telemetry
internal import Transport

/// Loop-confined. Members come from the configured URLs and from a discovery source; each change of one makes a
/// snapshot at the end of the wake-up.
final class DirectoryControl: TimerHandler, TickHandler, WorkerMemberOwner {
  private enum Tag {
    static let expiry: UInt8 = 1
    static let upkeep: UInt8 = 2
    static let outliers: UInt8 = 3
  }

  let loop: EventLoop
  let configuration: WorkerDirectoryConfiguration
  let logger: Logger
  private let prober: any WorkerProber
  let security: WorkerSecurity
  private let resolver: NameResolver
  private let publish: (WorkerSet) -> Void
  private let feeds: CacheFeeds
  private let expiryTimer = Timer(tag: Tag.expiry)
  private let upkeepTimer = Timer(tag: Tag.upkeep)
  private let outlierTimer = Timer(tag: Tag.outliers)
  private let countEjection: (EjectionCause) -> Void
  /// In order of discovery.
  private(set) var order: [WorkerMember] = []
  private var members: [UInt64: WorkerMember] = [:]
  /// The name behind each member; members of a group share one.
  private var names: [UInt64: ResolvedName] = [:]
  private var groups: [ResolvedName] = []
  /// The static workers that are configured now.
  private(set) var fixed: [WorkerURL] = []
  private var catalog: ModelCatalog
  private var current = WorkerSet.empty
  private var isDirty = false
  private var isClosed = false
  private var saidFull = false
  private var saidModelsFull = false
  private var saidBlockSizes = false
  /// Workers with open requests, as the routers told last; asked for again after ``busyUntil``.
  private var busy: Set<UInt64> = []
  private var busyUntil: Nanoseconds = 0
  let source: (any DiscoverySource)?
  let discoveryBoard: DiscoveryBoard
  var records = DirectoryRecords()

  /// - Parameter publish: called with each snapshot, on the loop.
  init(
    loop: EventLoop, configuration: WorkerDirectoryConfiguration, prober: any WorkerProber,
    security: WorkerSecurity, logger: Logger, source: (any DiscoverySource)? = nil,
    lockWait: Histogram? = nil, feedBoard: CacheFeedBoard = CacheFeedBoard(),
    discoveryBoard: DiscoveryBoard = DiscoveryBoard(),
    countEjection: @escaping (EjectionCause) -> Void = { _ in },
    publish: @escaping (WorkerSet) -> Void
  ) {
    self.loop = loop
    self.configuration = configuration
    self.prober = prober
    self.security = security
    self.logger = logger
    self.publish = publish
    self.countEjection = countEjection
    resolver = NameResolver(loop: loop, resolve: configuration.resolve)
    catalog = ModelCatalog(
      memory: configuration.modelMemory, modelsMax: configuration.modelsMax, routing: configuration.routing,
      lockWait: lockWait, panicShare: configuration.outliers.panicShare)
    self.discoveryBoard = discoveryBoard
    self.source = source
    feeds = CacheFeeds(loop: loop, configuration: configuration, board: feedBoard, logger: logger)
  }

  // MARK: Life

  /// Begins; `fixed` and `simulated` are the parsed URLs.
  func start(fixed: [WorkerURL], simulated: [WorkerURL]) {
    self.fixed = fixed
    for url in fixed { addStatic(url, .fixed) }
    for url in simulated { addStatic(url, .simulated) }
    source?.start(self)
    loop.arm(upkeepTimer, at: loop.now + configuration.upkeepInterval, self)
    planLook()
    flush()
  }

  func close() {
    isClosed = true
    source?.close()
    loop.cancel(expiryTimer)
    loop.cancel(upkeepTimer)
    loop.cancel(outlierTimer)
    for name in names.values { name.close() }
    for group in groups { group.close() }
    for member in order { member.close() }
    order = []
    members = [:]
    names = [:]
    groups = []
    feeds.close()
    resolver.close()
    prober.close()
  }

  func timerFired(_ timer: Timer) {
    switch timer.tag {
    case Tag.upkeep: maintainRouting()
    case Tag.outliers:
      for member in order { member.lookForFaults() }
      planLook()
    default: markDirty()
    }
  }

  /// Has the routers forget what has expired, and the allocator return what that freed. It takes milliseconds when
  /// much was freed, which is why no loop does it.
  private func maintainRouting() {
    feeds.follow(order.map(\.worker), catalog.models, retriesFailed: true)
    feeds.checkTruth()
    var shrank = false
    for model in catalog.models where model.routing.maintain(now: loop.now) { shrank = true }
    if shrank { Machine.returnFreeMemory() }
    loop.arm(upkeepTimer, at: loop.now + configuration.upkeepInterval, self)
  }

  /// A share of failures needs looks at regular times; failures in a row are told by the loops.
  private func planLook() {
    guard configuration.outliers.faultShare != nil else { return }
    let interval = configuration.outliers.window / OutlierWatch.looksPerWindow
    loop.arm(outlierTimer, at: loop.now + max(interval, 100 * millisecond), self)
  }

  // MARK: Static workers

  /// Takes other static workers: those that are no longer named leave, those that are new are asked.
  func adopt(fixed urls: [WorkerURL]) {
    for url in fixed where !urls.contains(url) { withdraw(url) }
    // One that found no room before is tried again.
    for url in urls where !fixed.contains(url) || (!url.isPerAddress && members[url.id] == nil) {
      addStatic(url, .fixed)
    }
    fixed = urls
    // An address that a name has too was not added while it had a worker of its own.
    for group in groups where !group.isUnknown { regroup(group, .fixed) }
  }

  func adopt(_ weights: RoutingWeights) { catalog.adopt(weights) }

  private func withdraw(_ url: WorkerURL) {
    let reason = "it is no longer configured"
    guard url.isPerAddress else {
      if let member = members[url.id], case .fixed = member.worker.source { remove(member, reason: reason) }
      return
    }
    guard let index = groups.firstIndex(where: { $0.url == url }) else { return }
    let group = groups.remove(at: index)
    group.close()
    for member in order where names[member.id] === group { remove(member, reason: reason) }
  }

  private func addStatic(_ url: WorkerURL, _ source: WorkerSource) {
    if url.isPerAddress {
      let group = ResolvedName(
        url, loop: loop, resolver: resolver, interval: configuration.resolveInterval
      ) { [weak self] in self?.regroup($0, source) }
      groups.append(group)
      group.start()
    } else {
      let member = member(url, of: url, addresses: [], source)
      if add(member) { resolve(member) }
    }
  }

  /// Finds the member's addresses, now and from time to time; it is probed as soon as it has one.
  func resolve(_ member: WorkerMember) {
    let name = ResolvedName(
      member.url, loop: loop, resolver: resolver, interval: configuration.resolveInterval
    ) { [weak member] name in
      member?.moved(to: name.addresses, unreachable: name.isUnknown ? "its name has no address" : nil)
    }
    names[member.id] = name
    name.start()
  }

  /// `named` is the URL as configured, whose host stands in the Host field and in the worker's certificate.
  func member(
    _ url: WorkerURL, of named: WorkerURL, addresses: [SocketAddress], _ source: WorkerSource
  ) -> WorkerMember {
    let upstream = Upstream(
      id: url.id, addresses: addresses, authority: named.authority, pathPrefix: url.pathPrefix,
      security: security.security(of: url, name: named.host), isMultiplexed: url.isMultiplexed)
    var worker = Worker(
      id: url.id, url: url.text, upstream: upstream, source: source,
      tally: WorkerTally(rowMax: configuration.outliers.rowMax))
    if let size = configuration.blockSizeOverride { worker.blockSize = size }
    return member(worker, url: url)
  }

  func member(_ worker: Worker, url: WorkerURL, finding: DiscoveryFinding? = nil) -> WorkerMember {
    WorkerMember(
      worker, url: url, finding: finding, loop: loop, prober: prober, configuration: configuration,
      owner: self)
  }

  /// One worker per address: those that are new come, those that the name lost go.
  private func regroup(_ name: ResolvedName, _ source: WorkerSource) {
    if name.isUnknown {
      logger.warning("name has no address", metadata: ["url": "\(name.url.text)"])
      if name.addresses.isEmpty { return }
    }
    var present: Set<UInt64> = []
    for address in name.addresses {
      let url = name.url.worker(at: address)
      present.insert(url.id)
      guard members[url.id] == nil else { continue }
      // The name, not the address, stays the Host field: a proxy in front of the engine may look at it.
      let member = member(url, of: name.url, addresses: [address], source)
      guard add(member) else { continue }
      names[url.id] = name
      member.probeNow()
    }
    for member in order where names[member.id] === name && !present.contains(member.id) {
      remove(member, reason: "the name has lost this address")
    }
  }

  // MARK: Members

  /// False when there is no room or the id is taken.
  @discardableResult
  func add(_ member: WorkerMember) -> Bool {
    guard members[member.id] == nil else { return false }
    guard order.count < configuration.workersMax else {
      if !saidFull {
        logger.warning(
          "too many workers; further ones are ignored", metadata: ["limit": "\(configuration.workersMax)"])
      }
      saidFull = true
      return false
    }
    members[member.id] = member
    order.append(member)
    if member.worker.isReady { logReady(member.worker) }
    markDirty()
    return true
  }

  func remove(_ member: WorkerMember, reason: String) {
    member.close()
    members[member.id] = nil
    if let name = names.removeValue(forKey: member.id), !name.url.isPerAddress { name.close() }
    order.removeAll { $0 === member }
    logger.info("worker is gone", metadata: describe(member.worker, reason: reason))
    markDirty()
  }

  func member(_ id: UInt64) -> WorkerMember? { members[id] }

  /// What registered workers' ``Worker/source`` says.
  var recordSource: WorkerSource { source?.kind ?? .file }

  /// The members that a source named without a record.
  var served: [WorkerMember] {
    order.filter {
      if case .kubernetes = $0.worker.source { $0.finding == nil } else { false }
    }
  }

  /// The members that registered themselves.
  var registered: [WorkerMember] { order.filter { $0.finding != nil } }

  /// True when a worker that was configured has this URL.
  func isConfigured(_ url: WorkerURL) -> Bool {
    guard let member = members[url.id] else { return false }
    return member.finding == nil
  }

  /// A loop could not connect to this worker.
  func requestFailed(_ id: UInt64) {
    members[id]?.connectFailed()
  }

  /// A loop could not connect to this worker in time.
  func requestTimedOut(_ id: UInt64) {
    members[id]?.connectTimedOut()
  }

  /// Requests of this worker failed one after the other.
  func requestsFailed(_ id: UInt64) {
    members[id]?.lookForFaults()
  }

  // MARK: What members tell

  func changed(_ member: WorkerMember, from old: Worker) {
    markDirty()
    let worker = member.worker
    switch worker.state {
    case .ready:
      if !old.isReady || old.models != worker.models { logReady(worker) }
    case .unreachable(let reason):
      if !worker.state.isSame(as: old.state) {
        logger.warning("worker is unreachable", metadata: describe(worker, reason: reason))
      }
    case .unprobed: break
    }
  }

  func probed(_ member: WorkerMember) { judge(member) }

  func checked(_ member: WorkerMember) {
    let worker = member.worker
    switch worker.prompts {
    case .differs(let samples):
      logger.warning(
        "the engine makes other tokens of a prompt than this process: blocks of such prompts will not match",
        metadata: describe(worker, reason: "differs in: \(samples.joined(separator: ", "))"))
    case .unanswered(let reason):
      logger.info("the engine's tokens could not be checked", metadata: describe(worker, reason: reason))
    case .agrees:
      logger.info("the engine makes the same tokens as this process", metadata: describe(worker, reason: nil))
    case .unchecked: break
    }
  }

  func ejected(_ member: WorkerMember, _ cause: EjectionCause) {
    countEjection(cause)
    logger.warning(
      "worker is ejected: requests go to others for a while",
      metadata: describe(member.worker, reason: member.worker.stateInWords.reason))
  }

  /// Asked by each idle worker's canary: the routers, which are locked for it, tell of all workers together, once a second.
  func hasOpenRequests(_ member: WorkerMember) -> Bool {
    if loop.now >= busyUntil {
      busyUntil = loop.now + second
      busy = []
      for model in catalog.models {
        for load in model.routing.loads where load.activeRequests > 0 { busy.insert(load.worker) }
      }
    }
    return busy.contains(member.id)
  }

  func connectFailed(_ member: WorkerMember) { names[member.id]?.refresh() }

  private func logReady(_ worker: Worker) {
    var metadata = describe(worker, reason: nil)
    metadata["models"] = "\(worker.models.prefix(8).joined(separator: ", "))"
    metadata["block_size"] = .stringConvertible(worker.blockSize)
    metadata["total_blocks"] = .stringConvertible(worker.totalBlocks)
    logger.info("worker is ready", metadata: metadata)
  }

  private func describe(_ worker: Worker, reason: String?) -> Logger.Metadata {
    var metadata: Logger.Metadata = [
      "\(LogKey.workerID)": .stringConvertible(worker.id), "url": "\(worker.url)",
      "source": "\(worker.source.label)",
    ]
    if let reason { metadata["reason"] = "\(reason)" }
    return metadata
  }

  // MARK: Snapshots

  func markDirty() {
    guard !isDirty, !isClosed else { return }
    isDirty = true
    loop.atEndOfTick(self)
  }

  func endOfTick() { flush() }

  /// Publishes what changed.
  private func flush() {
    guard isDirty, !isClosed else { return }
    isDirty = false
    let workers = order.map(\.worker)
    catalog.update(
      workers, now: loop.now, wallSeconds: Int(loop.system.wallNanoseconds() / second))
    if let expiry = catalog.nextExpiry {
      loop.arm(expiryTimer, at: expiry, self)
    } else {
      loop.cancel(expiryTimer)
    }
    if catalog.refusedCount > 0, !saidModelsFull {
      saidModelsFull = true
      logger.warning(
        "too many models; further ones are ignored", metadata: ["limit": "\(configuration.modelsMax)"])
    }
    let models = catalog.models
    if !saidBlockSizes, let model = models.first(where: { $0.blockSizes.leftOut > 0 }) {
      saidBlockSizes = true
      logger.warning(
        "a model's workers have too many block sizes; the caches of some are known by its own size, without events",
        metadata: ["model": "\(model.name)", "limit": "\(BlockSizes.countMax)"])
    }
    feeds.follow(workers, models)
    let unused = unusedRecords
    let isSame =
      current.workers.hasSameFacts(as: workers) && current.models.count == models.count
      && zip(current.models, models).allSatisfy { $0 === $1 } && current.unused == unused
    guard !isSame else { return }
    current = WorkerSet(generation: current.generation + 1, workers: workers, models: models, unused: unused)
    publish(current)
  }
}
