// One worker's cache events: from its publishers' sockets to the routing states of its models.

internal import Base
internal import EventLoop
internal import KVEvents
internal import Logging
internal import Routing

/// Follows one worker while it is ready. Loop-confined, on the control thread.
///
///     predictions ──first batch──▶ events ──gap, overflow, other blocks, drift──▶ predictions ──after a while──▶ events
final class WorkerFeed {
  /// What a scrape and `/v1/router/state` read of it.
  struct Status: Sendable, Equatable {
    var counters = CacheFeedCounters()
    /// Times that a rank was left alone for a while.
    var rests: UInt64 = 0
    /// Times that the engine's reports contradicted its events.
    var drifts = 0
    var mirror = CacheMirrorCounts()
    var blocks = 0
    var source = CacheSource.predicted
    var reason = CacheSourceReason.noFeed
  }

  /// How long predictions are preferred after the engine's reports had contradicted the events.
  private static let driftRecovery = 300 * second

  let worker: UInt64
  let sources: [CacheEventSource]
  private let models: [(name: String, routing: ModelRouting, mirror: MirrorBox)]
  private let loop: EventLoop
  private let logger: Logger
  private let isQuiet: Bool
  private var ranks: [RankFeed] = []
  private lazy var turns = FeedTurns(on: loop) { [unowned self] in turn() }
  private var status = Status()
  private var lastReported = Status()
  /// Events are not trusted before this time.
  private var distrustedUntil: Nanoseconds = 0
  /// Ranks that may hold blocks that are not known: some of their events never came.
  private var ranksWithHoles: Set<Int> = []
  /// Ranks whose rest is over, and of which nothing was heard since.
  private var silentRanks: Set<Int> = []
  /// There was no memory for all of its blocks: until they are forgotten, none are kept in the index.
  private var hasOverflowed = false
  private var hasEvents = false
  private var saidBlockSize = false
  /// A socket failed, or could not be had: the owner makes the feed anew.
  private(set) var hasFailed = false

  /// The mirror of one model's blocks. A box, because mirrors are not copied.
  final class MirrorBox {
    /// Salted blocks whose seed is remembered; those behind more of them are not known.
    private static let saltedMax = 1 << 16

    var mirror: CacheMirror
    /// Of each rank, seeds of salted blocks by the engine's hash: the engine names a salt on a prompt's first block only.
    private var salted: [Int: [UInt64: UInt64]] = [:]
    /// Ranks of which salted blocks were left out since their last clear.
    private var full: Set<Int> = []

    /// Tokens in the blocks that it takes.
    let blockSize: Int

    init(blockSize: Int) {
      self.blockSize = blockSize
      mirror = CacheMirror(blockSize: blockSize)
    }

    /// True when blocks were left out, for want of memory or of room for salts.
    var isIncomplete: Bool { mirror.isIncomplete || !full.isEmpty }

    /// The seed of blocks behind `parent` that name no salt themselves; nil when it is not a salted one.
    func seed(behind parent: UInt64?, rank: Int) -> UInt64? { parent.flatMap { salted[rank]?[$0] } }

    func stored(_ blocks: StoredBlocks, isSalted: Bool) {
      if isSalted {
        let count = salted.values.reduce(0) { $0 + $1.count }
        guard count + blocks.hashes.count <= Self.saltedMax else {
          full.insert(blocks.rank)
          return
        }
        for hash in blocks.hashes { salted[blocks.rank, default: [:]][hash] = blocks.seed }
      }
      mirror.stored(blocks)
    }

    func removed(_ hashes: UnsafeBufferPointer<UInt64>, _ tier: Routing.CacheTier, rank: Int) {
      mirror.removed(hashes, tier: tier, rank: rank)
      guard salted[rank] != nil else { return }
      // A block that went to another tier can still have children.
      for hash in hashes where !mirror.holds(hash, rank: rank) { salted[rank]?[hash] = nil }
    }

    func cleared(rank: Int) {
      mirror.cleared(rank: rank)
      salted[rank] = nil
      full.remove(rank)
    }
  }

  /// - Parameters:
  ///   - models: those that the worker serves; the first has the events that name no adapter.
  ///   - isQuiet: faults were said of a feed before this one.
  init(_ worker: Worker, models: [ServedModel], isQuiet: Bool = false, loop: EventLoop, logger: Logger) {
    self.isQuiet = isQuiet
    self.worker = worker.id
    sources = worker.eventSources
    self.models = models.map {
      ($0.name, $0.routing, MirrorBox(blockSize: $0.blockSizes.known(worker.blockSize)))
    }
    self.loop = loop
    self.logger = logger
  }

  /// True when it feeds the routing states of these models and no others, with the worker's blocks as they are now.
  func serves(_ served: [ServedModel], _ worker: Worker) -> Bool {
    models.count == served.count
      && zip(models, served).allSatisfy {
        $0.routing === $1.routing && $0.mirror.blockSize == $1.blockSizes.known(worker.blockSize)
      }
  }

  // MARK: Life

  /// Subscribes to every rank; says what cannot be had. `host` is the engine's machine.
  func start(host: String, context: ZeroMQContext) {
    for source in sources {
      guard let events = CacheEventEndpoint.events(of: source.endpoint, host: host, rank: 0) else {
        warn("cannot listen to the engine's cache events", "no address to meet it at: \(source.endpoint)")
        continue
      }
      var subscription = CacheEventSubscription(
        events: events,
        replay: source.replayEndpoint.flatMap { CacheEventEndpoint.replay(of: $0, host: host, rank: 0) })
      subscription.topic = source.topic
      do throws(ZeroMQError) {
        ranks.append(try RankFeed(subscription, context: context, turns: turns))
      } catch {
        hasFailed = true
        warn("cannot listen to the engine's cache events", "\(events.address): \(error)")
      }
    }
    if !ranks.isEmpty {
      logger.info(
        "listening to the engine's cache events",
        metadata: metadata(["endpoint": "\(sources[0].endpoint)", "ranks": "\(ranks.count)"]))
    }
    turn()
  }

  /// The worker left or no longer answers: nothing of its cache is known.
  func close() {
    turns.close()
    ranks = []
    for model in models {
      model.routing.clearEvents(worker: worker)
      model.routing.setSource(.predicted, .noFeed, worker: worker)
    }
  }

  /// Takes what has come on all sockets. A bounded part of it: the rest comes with the next turn.
  private func turn() {
    let now = CacheFeedTime(
      monotonic: loop.now, wallSeconds: Double(loop.system.wallNanoseconds()) / 1e9)
    var next: Nanoseconds?
    for (index, rank) in ranks.enumerated() {
      if rank.resume(now: loop.now) { silentRanks.insert(index) }
      rank.turn(now: now) { perform($0, rank: index) }
      if let deadline = rank.deadline { next = min(next ?? .max, deadline) }
    }
    if let error = ranks.lazy.compactMap(\.error).first, !hasFailed {
      hasFailed = true
      warn("a socket of the engine's cache events has failed", "\(error)")
    }
    applyOperations()
    judge()
    report()
    turns.request(at: next)
  }

  // MARK: Events

  private func perform(_ action: CacheFeedAction, rank: Int) {
    switch action {
    case .apply(let batch):
      hasEvents = true
      // As at the feed's beginning: had anything been lost before this, it would have said so first.
      if silentRanks.remove(rank) != nil { ranksWithHoles.remove(rank) }
      for event in batch.events { take(event, of: batch, rank: rank) }
    case .forgetAll(let reason):
      silentRanks.remove(rank)
      let rest = ranks[rank].restarted(now: loop.now, random: &loop.random)
      // A new engine's cache is empty, and that is known; after a loss its content is not.
      beginAnew(rank, withHoles: reason != .restarted || rest != nil)
      logger.info(
        "what was known of the engine's cache is forgotten",
        metadata: metadata(["reason": "\(reason.rawValue)"]))
      if let rest {
        warn(
          "the engine's cache events begin anew again and again: they are left alone for a while",
          "\(reason.rawValue), for \(rest / 1_000_000) ms")
      }
    case .requestReplay: break
    }
  }

  private func take(_ event: CacheEvent, of batch: CacheEventBatch, rank: Int) {
    let adapter = event.adapter.isEmpty ? nil : batch.text(at: event.adapter)
    // Removals name no adapter, and blocks of all of them share the engine's hashes: each mirror knows its own.
    switch event.kind {
    case .cleared:
      beginAnew(rank, withHoles: false)
    case .removed:
      guard let tier = Routing.CacheTier(event.tier) else { return }
      withHashes(event, of: batch) { hashes in
        for model in models { model.mirror.removed(hashes, tier, rank: rank) }
      }
    case .stored:
      guard let tier = Routing.CacheTier(event.tier), !event.isBigram,
        let model = adapter.map({ name in models.first { $0.name == name } }) ?? models.first
      else { return }
      store(event, of: batch, rank: rank, tier, in: model.mirror, adapter: adapter)
    }
  }

  private func store(
    _ event: CacheEvent, of batch: CacheEventBatch, rank: Int, _ tier: Routing.CacheTier,
    in box: MirrorBox, adapter: String?
  ) {
    let known = event.salt.isEmpty ? box.seed(behind: event.parent, rank: rank) : nil
    let seed =
      known
      ?? batch.text[event.salt].withUnsafeBytes { salt in
        var name = adapter ?? ""
        return name.withUTF8 { PromptBlocks.seed(adapter: UnsafeRawBufferPointer($0), salt: salt) }
      }
    // Blocks with an image in them have other hashes here; those before them are told apart by tokens alone.
    let blocks = min(event.hashableBlocks, event.hashes.count)
    guard blocks > 0 || event.tokens.isEmpty else { return }
    // Blocks whose parents are unknown are a sign of events that never came.
    let unknownBefore = box.mirror.counts.parentsNotFound
    defer { if box.mirror.counts.parentsNotFound > unknownBefore { ranksWithHoles.insert(rank) } }
    withHashes(event, of: batch) { hashes in
      batch.tokens.withUnsafeBufferPointer { tokens in
        let count = event.tokens.isEmpty ? 0 : blocks * event.blockSize
        guard count <= event.tokens.count else { return }
        box.stored(
          StoredBlocks(
            hashes: UnsafeBufferPointer(rebasing: hashes[..<(event.tokens.isEmpty ? hashes.count : blocks)]),
            parent: event.parent,
            tokens: UnsafeBufferPointer(
              rebasing: tokens[event.tokens.lowerBound..<(event.tokens.lowerBound + count)]),
            blockSize: event.blockSize, tier: tier, seed: seed, rank: rank),
          isSalted: known != nil || !event.salt.isEmpty)
      }
    }
  }

  private func withHashes(
    _ event: CacheEvent, of batch: CacheEventBatch, _ body: (UnsafeBufferPointer<UInt64>) -> Void
  ) {
    batch.hashes.withUnsafeBufferPointer { body(UnsafeBufferPointer(rebasing: $0[event.hashes])) }
  }

  private func applyOperations() {
    for model in models where model.mirror.mirror.pendingOperations > 0 {
      let operations = model.mirror.mirror.takeOperations()
      if !hasOverflowed { model.routing.apply(operations, worker: worker) }
    }
  }

  // MARK: Trust

  /// Chooses between events and predictions by what has come.
  private func judge() {
    let mirrors = models.map { $0.mirror.mirror.counts }
    if mirrors.contains(where: { $0.wrongBlockSizes > 0 && $0.stored == 0 }) {
      if !saidBlockSize {
        warn(
          "the engine's blocks are of another size than its worker's: its cache is predicted",
          "the worker has blocks of \(models.first?.mirror.blockSize ?? 0) tokens here")
      }
      saidBlockSize = true
      show(.predicted, .blockSize)
      return
    }
    if !hasOverflowed,
      models.contains(where: { $0.mirror.isIncomplete || $0.routing.lacksEvents(worker: worker) })
    {
      // Part of a cache is of no use; its memory is, to the predictions and to other workers.
      hasOverflowed = true
      for model in models {
        model.routing.clearEvents(worker: worker)
        _ = model.routing.maintain(now: loop.now)
      }
    }
    if hasOverflowed { return show(.predicted, .overflow) }
    guard hasEvents, loop.now >= distrustedUntil else { return }
    if ranks.contains(where: \.isResting) { return show(.events, .feedResting) }
    let isWhole = ranks.count == sources.count && ranksWithHoles.isEmpty
    show(.events, isWhole ? .feedLive : .feedGap)
  }

  /// Nothing of a rank's cache is known any more; what follows builds it up.
  private func beginAnew(_ rank: Int, withHoles: Bool) {
    for model in models { model.mirror.cleared(rank: rank) }
    if withHoles { ranksWithHoles.insert(rank) } else { ranksWithHoles.remove(rank) }
    // After an overflow the index holds no rank's blocks. Where the other ranks' are all known they are told again; if
    // there is no room for them still, they overflow again.
    guard hasOverflowed, !models.contains(where: { $0.mirror.isIncomplete }) else { return }
    for model in models { model.mirror.mirror.tellAgain() }
    hasOverflowed = false
  }

  private func distrust(_ reason: CacheSourceReason, for time: Nanoseconds) {
    distrustedUntil = loop.now + time
    show(.predicted, reason)
  }

  /// Called every few seconds: what the engine reports with its answers is held against what its events told.
  func checkTruth() {
    guard case .events = status.source else {
      judge()
      report()
      return
    }
    guard models.contains(where: { $0.routing.takeDrift(worker: worker) }) else { return }
    warn(
      "the engine's reports of cached tokens contradict its events: its cache is predicted for a while",
      "another tokenizer, chat template or salt than here, or caching switched off")
    status.drifts += 1
    distrust(.drift, for: Self.driftRecovery)
    report()
  }

  private func show(_ source: CacheSource, _ reason: CacheSourceReason) {
    guard status.source != source || status.reason != reason else { return }
    status.source = source
    status.reason = reason
    for model in models { model.routing.setSource(source, reason, worker: worker) }
    logger.info(
      "a worker's cache is known by another source",
      metadata: metadata(["cache_source": "\(source.label)", "reason": "\(reason.label)"]))
  }

  // MARK: Reports

  /// Told of each change of ``Status``.
  var reported: (Status) -> Void = { _ in }

  private func report() {
    var next = status
    next.counters = CacheFeedCounters()
    next.rests = 0
    for rank in ranks {
      next.counters.add(rank.counters)
      next.rests += rank.rests
    }
    next.mirror = models.first?.mirror.mirror.counts ?? CacheMirrorCounts()
    next.blocks = models.reduce(0) { $0 + $1.mirror.mirror.count }
    status = next
    guard next != lastReported else { return }
    lastReported = next
    reported(next)
  }

  private func warn(_ message: Logger.Message, _ reason: String) {
    logger.log(level: isQuiet ? .debug : .warning, message, metadata: metadata(["reason": "\(reason)"]))
  }

  private func metadata(_ fields: Logger.Metadata) -> Logger.Metadata {
    fields.merging(["worker_id": .stringConvertible(worker)]) { $1 }
  }
}

extension Routing.CacheTier {
  /// Nil for blocks that the worker has no nearer than others.
  fileprivate init?(_ tier: KVEvents.CacheTier) {
    switch tier {
    case .device: self = .device
    case .host: self = .host
    case .disk: self = .disk
    case .external: return nil
    }
  }
}
