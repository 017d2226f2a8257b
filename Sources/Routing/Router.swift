// The routing state of one model: workers, prefix index and load, told the time, holding no lock and no socket.

package import Base

/// Chooses workers for the requests of one model and remembers what it chose.
///
/// Not safe for several threads at once: the owner keeps it behind one lock and calls ``select(_:now:random:into:)``,
/// ``firstToken(_:)`` and ``free(_:served:now:promptTokens:cachedTokens:)`` inside short critical sections.
/// All times are readings of one monotonic clock.
package struct Router: ~Copyable {
  package internal(set) var options: RoutingOptions
  var index: PrefixIndex
  var load: ActiveLoad
  /// What engines tell of their caches.
  var events = EventIndex()
  /// Live workers whose source is their events: while there are none, the index of events is not asked.
  var workersWithEvents = 0
  var queue = RouterQueue()
  var sessions: SessionAffinity
  var scratch = Scratch()
  /// What other frontends are to be told; empty unless the options say so.
  var outbox = PeerOutbox()
  /// Slots of live workers by id.
  private var slots: [UInt64: Int32] = [:]
  /// Where round robin looks first next time.
  var nextSlot = 0
  private var sweepSlot = 0
  private var highestBytes = 0
  var expiredBookings = 0
  var correctedWorkers = 0
  /// Times that a worker was asked for, and found.
  var selections = 0
  var decisions = 0

  package init(options: RoutingOptions = RoutingOptions()) {
    precondition(options.blockSize > 0, "a block holds at least one token")
    self.options = options
    index = PrefixIndex(policy: options.cachePolicy, bytesMax: options.indexBytesMax)
    sessions = SessionAffinity(options.sessions)
    load = ActiveLoad(expiry: options.bookingExpiry)
  }

  // MARK: Workers

  /// Makes a worker known, or changes what is known of its cache.
  ///
  /// - Parameters:
  ///   - blocksMax: blocks of its cache; nil when unknown, which bounds nothing.
  ///   - batchedTokensMax: prompt tokens that it computes at once; nil when unknown, then 8192 for a new one.
  ///   - blockSize: tokens in its blocks, by ``BlockSizes/known(_:)``; nil for the model's. Another one than before means
  ///     another engine: what was known of the old one's cache is forgotten.
  package mutating func add(
    worker id: UInt64, blocksMax: Int? = nil, batchedTokensMax: Int? = nil, blockSize: Int? = nil
  ) {
    let blocks = blocksMax ?? Int.max
    let size = blockSize ?? options.blockSize
    precondition(size > 0, "a block holds at least one token")
    if let slot = slot(of: id) {
      if let batchedTokensMax { index.workers.base[slot].batchedTokensMax = batchedTokensMax }
      index.workers.base[slot].blocksMax = blocks
      if index.workers.base[slot].blockSize != size {
        index.forget(Int32(slot), until: index.workers.base[slot].lastStamp)
        clearEvents(worker: id)
        setBlockSize(size, slot)
      }
      index.trim(Int32(slot))
      return
    }
    let slot = index.workers.allocate()
    index.workers.base[Int(slot)] = WorkerState(id: id, blocksMax: blocks, blockSize: size)
    setBlockSize(size, Int(slot))
    if let batchedTokensMax { index.workers.base[Int(slot)].batchedTokensMax = batchedTokensMax }
    slots[id] = slot
    scratch.reserve(index.workers.used)
  }

  private func setBlockSize(_ size: Int, _ slot: Int) {
    index.workers.base[slot].blockSize = size
    index.workers.base[slot].blockRatio = Double(size) / Double(options.blockSize)
  }

  /// Forgets a worker: it is not chosen any more, its predictions are void at once, and requests that still run there
  /// end as usual. A worker of the same id that comes later starts empty.
  package mutating func remove(worker id: UInt64) {
    guard let slot = slot(of: id) else { return }
    endEvents(slot)
    setPeers(worker: id, PeerLoad())
    slots[id] = nil
    index.workers.base[slot].isLive = false
    index.forget(Int32(slot), until: .max)
    reclaim(slot)
  }

  /// Keeps a worker from being chosen until the given time, or until it is allowed again.
  package mutating func refuse(worker id: UInt64, _ reason: RefusalReason, until time: Nanoseconds = .max) {
    guard let slot = slot(of: id) else { return }
    index.workers.base[slot].refusal = reason
    index.workers.base[slot].refusedUntil = time
  }

  /// Lifts a refusal.
  package mutating func allow(worker id: UInt64) {
    guard let slot = slot(of: id) else { return }
    index.workers.base[slot].refusal = .none
  }

  /// Has a worker take a share of the decisions that grows from a tenth to all of them by `end`. `end` in the past ends it.
  package mutating func recover(worker id: UInt64, since: Nanoseconds, until end: Nanoseconds) {
    guard let slot = slot(of: id) else { return }
    index.workers.base[slot].recoveringSince = since
    index.workers.base[slot].recoveringUntil = end
  }

  /// Voids all predictions for a worker in one step, as after a refused connect: its cache may be gone.
  package mutating func forgetPredictions(worker id: UInt64, now: Nanoseconds) {
    guard let slot = slot(of: id) else { return }
    index.forget(Int32(slot), until: max(now, index.workers.base[slot].lastStamp))
  }

  /// The place of a live worker.
  func slot(of id: UInt64) -> Int? { slots[id].map { Int($0) } }

  // MARK: Bookings

  /// Books a request on a worker whatever the policies say, as for one that another frontend or a retry placed.
  /// `known` are the leading blocks of the request's chain in the model's size that the index has.
  mutating func book(_ request: RoutingRequest, slot: Int, known: Int, now: Nanoseconds) -> Booking {
    let overlap = scratch.cached[slot]
    let blockSize = index.workers.base[slot].blockSize
    let chain = request.chain(blockSize, model: options.blockSize)
    let known = blockSize == options.blockSize ? known : index.known(of: chain)
    // Blocks that a request in flight shares may not be computed yet, so a report about them would prove nothing.
    let overlapStamp =
      overlap > 0 && scratch.active[slot] == 0
      ? index.lastUse(chain, slot: Int32(slot), overlap: Int(overlap)) : 0
    let predicts = options.mode == .kv && !chain.isEmpty
    let references = options.tracksActiveBlocks && options.assumesReuse && !chain.isEmpty
    let stamp = predicts ? index.nextStamp(Int32(slot), now: now) : 0
    let leaf = index.add(
      chain, known: known, slot: Int32(slot), stamp: predicts ? stamp : nil, references: references)
    let isTracked = references && leaf >= 0
    let prefill = options.tracksPrefillTokens ? max(0, request.tokens - Int(overlap) * blockSize) : 0
    let untracked = options.tracksActiveBlocks && !isTracked ? Int32(chain.count) : 0
    let worker = index.workers.base + slot
    worker.pointee.activeRequests += 1
    worker.pointee.prefillTokens += prefill
    worker.pointee.untrackedBlocks += Int(untracked)
    if options.sharesLoad {
      noteBooked(slot)
      if predicts { share(chain, slot: slot) }
    }
    return load.add(
      ActiveLoad.Record(
        generation: 0, slot: Int32(slot), leaf: isTracked ? leaf : -1, blocks: Int32(chain.count),
        overlap: overlap, untracked: untracked, prefillTokens: prefill, tokens: request.tokens, bookedAt: now,
        stamp: stamp, overlapStamp: overlapStamp, sharesActive: scratch.active[slot] > 0,
        expectedTokens: request.expectedTokens))
  }

  /// The request has generated `tokens` tokens so far; their blocks count as in use where the options say so.
  ///
  /// Of a request whose length is expected, all blocks that no other request of the worker shares then count with the
  /// share of the answer that is still to come (Dynamo 1.6): what will soon be free is less of a load.
  package mutating func outputGrew(_ booking: Booking, tokens: Int) {
    guard options.tracksOutputBlocks, options.tracksActiveBlocks, let record = load.find(booking) else {
      return
    }
    let worker = index.workers.record(record.pointee.slot)
    let blockSize = worker.pointee.blockSize
    let tail = max(0, record.pointee.tokens - Int(record.pointee.blocks) * blockSize)
    let blocks = Int32(clamping: (tail + max(0, tokens)) / blockSize)
    let more = blocks - record.pointee.outputBlocks
    guard more > 0 else { return }
    record.pointee.outputBlocks = blocks
    record.pointee.untracked += more
    worker.pointee.untrackedBlocks += Int(more)
    if options.sharesLoad { noteBooked(Int(record.pointee.slot)) }
    guard record.pointee.expectedTokens > 0 else { return }
    let own =
      Int(record.pointee.untracked) + index.unsharedBlocks(record.pointee.leaf, slot: record.pointee.slot)
    let discount = Double(own) * min(1, Double(tokens) / Double(record.pointee.expectedTokens))
    worker.pointee.discountedBlocks += discount - record.pointee.discount
    record.pointee.discount = discount
  }

  /// The worker has given the request's first token: its prompt no longer waits.
  package mutating func firstToken(_ booking: Booking) {
    guard let record = load.find(booking) else { return }
    index.workers.record(record.pointee.slot).pointee.prefillTokens -= record.pointee.prefillTokens
    if options.sharesLoad { noteBooked(Int(record.pointee.slot)) }
    record.pointee.prefillTokens = 0
    record.pointee.hasFirstToken = true
  }

  /// Ends a request. Only the first call for a booking counts, and only before it expires.
  ///
  /// - Parameters:
  ///   - served: whether the worker worked on the prompt. If it did not, and no first token was seen, the predictions
  ///     that the request made are taken back.
  ///   - promptTokens, cachedTokens: what the engine reported. Far fewer cached tokens than predicted mean that the
  ///     engine has evicted these blocks, and with them whatever was used before them: those predictions are voided.
  ///   - request: how it went, for metrics; kept when there was a first token.
  /// - Returns: how far the expected overlap and the report are apart, as a share of the prompt; nil where the two cannot
  ///   be compared (``CacheTruth``).
  @discardableResult
  package mutating func free(
    _ booking: Booking, served: Bool, now: Nanoseconds, promptTokens: Int? = nil, cachedTokens: Int? = nil,
    request: ServedRequest = ServedRequest()
  ) -> Double? {
    guard let record = load.remove(booking) else { return nil }
    if request.timeToFirstToken > 0 { index.workers.base[Int(record.slot)].latest = request }
    end(record, keepsPredictions: served || record.hasFirstToken)
    var error: Double?
    if served, let cachedTokens {
      error = compare(record, promptTokens: promptTokens, cachedTokens: cachedTokens)
      learn(from: record, promptTokens: promptTokens, cachedTokens: cachedTokens)
    }
    reclaim(Int(record.slot))
    return error
  }

  private mutating func end(_ record: ActiveLoad.Record, keepsPredictions: Bool) {
    let worker = index.workers.base + Int(record.slot)
    worker.pointee.activeRequests -= 1
    worker.pointee.prefillTokens -= record.prefillTokens
    worker.pointee.untrackedBlocks -= Int(record.untracked)
    // Sums of fractions drift; without requests there is nothing to discount.
    worker.pointee.discountedBlocks =
      worker.pointee.activeRequests == worker.pointee.peers.requests
      ? 0 : worker.pointee.discountedBlocks - record.discount
    if options.sharesLoad { noteBooked(Int(record.slot)) }
    guard record.leaf >= 0 else { return }
    if !keepsPredictions, record.stamp > 0 {
      index.retract(
        record.leaf, slot: record.slot, keep: Int(record.overlap), blocks: Int(record.blocks),
        stamp: record.stamp)
    }
    index.release(record.leaf, slot: record.slot)
  }

  private mutating func learn(from record: ActiveLoad.Record, promptTokens: Int?, cachedTokens: Int) {
    let worker = index.workers.base + Int(record.slot)
    if cachedTokens > 0 { worker.pointee.hasReportedHits = true }
    guard worker.pointee.hasReportedHits, record.overlapStamp > 0 else { return }
    // The engine counts real tokens, the router perhaps quarters of bytes.
    var cached = Double(cachedTokens)
    if let promptTokens, promptTokens > 0 { cached *= Double(record.tokens) / Double(promptTokens) }
    let blocks = cached / Double(worker.pointee.blockSize)
    let overlap = Double(record.overlap)
    guard blocks * 2 < overlap, overlap - blocks >= 4 else { return }
    index.forget(record.slot, until: record.overlapStamp)
    correctedWorkers += 1
  }

  /// Holds the overlap of a request against the engine's report; not where the blocks may not have been computed yet.
  private func compare(_ record: ActiveLoad.Record, promptTokens: Int?, cachedTokens: Int) -> Double? {
    guard options.mode == .kv, !record.sharesActive else { return nil }
    let prompt = Double(promptTokens ?? record.tokens)
    guard prompt >= Double(CacheTruth.tokensMin) else { return nil }
    let scale = record.tokens > 0 ? prompt / Double(record.tokens) : 1
    let blockSize = index.workers.record(record.slot).pointee.blockSize
    let predicted = Double(record.overlap) * Double(blockSize) * scale
    _ = index.workers.record(record.slot).pointee.truth.observe(
      predicted: predicted, reported: Double(cachedTokens), prompt: prompt, blockSize: blockSize)
    return min(abs(predicted - Double(cachedTokens)) / prompt, 1)
  }

  /// Weighs candidates by `weights` from the next decision on.
  package mutating func adopt(_ weights: RoutingWeights) { options.weights = weights }

  // MARK: Upkeep

  /// The small share of upkeep that each selection does: a few expired bookings, a few outdated predictions.
  mutating func tidy(now: Nanoseconds, budget: Int) {
    var left = budget
    while left > 0, let booking = load.expired(now: now) {
      guard let record = load.remove(booking) else { break }
      end(record, keepsPredictions: true)
      reclaim(Int(record.slot))
      expiredBookings += 1
      left -= 1
    }
    guard index.workers.used > 0 else { return }
    sweepSlot = sweepSlot + 1 < index.workers.used ? sweepSlot + 1 : 0
    index.sweep(Int32(sweepSlot), now: now, budget: budget)
    reclaim(sweepSlot)
  }

  /// Clears away everything that has expired. Call it every few seconds.
  ///
  /// - Returns: true when the index has shrunk by more than 4 MiB since it last said so: the moment to have the
  ///   allocator return free pages to the system.
  package mutating func maintain(now: Nanoseconds) -> Bool {
    tidy(now: now, budget: .max)
    sessions.expire(now: now, budget: .max)
    while events.sweep(segments: 64) {}
    fitMemory()
    for slot in 0..<index.workers.used {
      // Reclaiming the last worker empties the table.
      guard slot < index.workers.used else { break }
      index.sweep(Int32(slot), now: now, budget: .max)
      reclaim(slot)
    }
    return noteShrinkage()
  }

  /// A part of ``maintain(now:)`` that is short enough to make others wait for it: one worker, `budget` of its blocks.
  /// True when something had expired; each call takes the next worker.
  package mutating func maintainSlice(now: Nanoseconds, budget: Int) -> Bool {
    let before = (index.entries.count, index.nodes.count, expiredBookings)
    tidy(now: now, budget: budget)
    sessions.expire(now: now, budget: budget)
    let hasSwept = events.sweep(segments: 2)
    fitMemory()
    return hasSwept || (index.entries.count, index.nodes.count, expiredBookings) != before
  }

  /// True when the index has shrunk by more than 4 MiB since it last said so.
  package mutating func noteShrinkage() -> Bool {
    let bytes = index.bytes + events.bytes
    let shrunk = max(0, highestBytes - bytes)
    if shrunk > Self.shrinkageWorthTrimming { highestBytes = bytes }
    highestBytes = max(highestBytes, bytes)
    return shrunk > Self.shrinkageWorthTrimming
  }

  private static let shrinkageWorthTrimming = 4 << 20

  /// Frees the slot of a removed worker once nothing refers to it.
  private mutating func reclaim(_ slot: Int) {
    guard slot < index.workers.used else { return }
    let worker = index.workers.base + slot
    guard !worker.pointee.isLive, worker.pointee.activeRequests == 0, worker.pointee.oldest < 0,
      worker.pointee.isReclaimed == false
    else { return }
    worker.pointee.isReclaimed = true
    index.workers.release(Int32(slot))
  }
}
