// What engines tell of their caches: applied in batches, forgotten in one step, looked up beside the predictions.

import Base

/// What a worker's events have made of the index.
package struct EventState: Sendable, Equatable {
  /// Blocks that the worker holds, by tier.
  package var deviceBlocks = 0
  package var hostBlocks = 0
  package var diskBlocks = 0
  /// Blocks were refused for want of memory since the last clear, so overlaps may be told too short.
  package var isIncomplete = false
}

extension Router {
  /// Says by what a worker's cached blocks are counted from the next decision on. What the other source knows is kept
  /// up to date meanwhile, so that changing back loses nothing.
  package mutating func setSource(worker id: UInt64, _ source: CacheSource, reason: CacheSourceReason) {
    guard let slot = slot(of: id) else { return }
    let worker = index.workers.record(Int32(slot))
    // What was compared with the one source says nothing of the other.
    if worker.pointee.source != source { worker.pointee.truth = CacheTruth() }
    workersWithEvents += (source == .events ? 1 : 0) - (worker.pointee.source == .events ? 1 : 0)
    worker.pointee.source = source
    worker.pointee.sourceReason = reason
  }

  /// The work of one slice, in words of the tables that are touched, about 10 ns each. The last operation may come on top
  /// (``EventTable``): the splitting of one segment with the directory's growth, twice 1,024 words, after which a segment
  /// whose keys are all on one side grows by 1,024 more. Together less than 50 µs.
  static let workPerSlice = 1_024
  /// What an operation costs where no segment grows: it looks a block up in a place that is in no cache.
  static let workPerOperation = 4

  /// Applies a worker's operations in order, the first of them only where they are much work: a lock around one call is
  /// held for less than 50 µs. Returns how many were applied, at least one where there are any.
  ///
  /// Memory: events may take three quarters of ``RoutingOptions/indexBytesMax``, and predictions give way to them. At
  /// that bound stored blocks are refused and counted, and the worker is flagged incomplete until it is cleared.
  package mutating func applySlice(
    worker id: UInt64, _ operations: UnsafeBufferPointer<CacheOperation>
  ) -> Int {
    guard let slot = slot(of: id) else { return operations.count }
    let before = events.work
    var applied = 0
    while applied < operations.count,
      applied * Self.workPerOperation + events.work - before < Self.workPerSlice
    {
      apply(slot, operations[applied])
      applied += 1
    }
    fitMemory()
    return applied
  }

  /// Applies all of a worker's operations at once, for callers that hold no lock.
  package mutating func apply(worker id: UInt64, _ operations: UnsafeBufferPointer<CacheOperation>) {
    var rest = operations[...]
    while !rest.isEmpty {
      rest = rest.dropFirst(applySlice(worker: id, UnsafeBufferPointer(rebasing: rest)))
    }
  }

  /// Applies stored blocks and then removed ones, all of one tier.
  package mutating func apply(
    worker id: UInt64, added: UnsafeBufferPointer<UInt64>, removed: UnsafeBufferPointer<UInt64>,
    tier: CacheTier = .device
  ) {
    guard let slot = slot(of: id) else { return }
    for hash in added { apply(slot, CacheOperation(.stored, hash: hash, tier: tier)) }
    for hash in removed { apply(slot, CacheOperation(.removed, hash: hash, tier: tier)) }
    fitMemory()
  }

  /// Forgets all that a worker's events told, in one step.
  package mutating func clearEvents(worker id: UInt64) {
    guard let slot = slot(of: id) else { return }
    clear(slot)
  }

  /// The longest prefix of a chain that any worker told of: a look-up without a decision, to be measured.
  package mutating func longestEventPrefix(_ chain: UnsafeBufferPointer<UInt64>) -> Int {
    var longest: Int32 = 0
    events.match(chain) { _, device, _, _ in longest = max(longest, device) }
    return Int(longest)
  }

  /// What a worker's events have made of the index; nil when the worker is not known.
  package func eventState(of id: UInt64) -> EventState? {
    slot(of: id).map { eventState(index.workers.base[$0]) }
  }

  func eventState(_ worker: WorkerState) -> EventState {
    guard worker.lane >= 0 else { return EventState(isIncomplete: worker.lacksLane) }
    let lane = events.lanes[Int(worker.lane)]
    return EventState(
      deviceBlocks: lane.device, hostBlocks: lane.host, diskBlocks: lane.disk, isIncomplete: lane.isIncomplete
    )
  }

  private mutating func apply(_ slot: Int, _ operation: CacheOperation) {
    switch operation.kind {
    case .stored:
      guard let lane = lane(of: slot) else { return }
      _ = events.store(operation.hash, lane: lane, tier: operation.tier, growth: eventGrowth)
    case .removed:
      let lane = index.workers.base[slot].lane
      if lane >= 0 { _ = events.remove(operation.hash, lane: lane, tier: operation.tier) }
    case .cleared: clear(slot)
    }
  }

  /// Bytes that events may still take.
  private var eventGrowth: Int { options.indexBytesMax / 4 * 3 - events.bytes }

  private mutating func lane(of slot: Int) -> Int32? {
    let lane = index.workers.base[slot].lane
    if lane >= 0 { return lane }
    guard let made = events.makeLane(slot: Int32(slot), growth: eventGrowth) else {
      events.refuse()
      index.workers.record(Int32(slot)).pointee.lacksLane = true
      return nil
    }
    index.workers.record(Int32(slot)).pointee.lane = made
    return made
  }

  private mutating func clear(_ slot: Int) {
    let lane = index.workers.base[slot].lane
    index.workers.record(Int32(slot)).pointee.lacksLane = false
    guard lane >= 0 else { return }
    events.endLane(lane)
    index.workers.record(Int32(slot)).pointee.lane = -1
  }

  /// A worker leaves: its lane ends, and it no longer counts as one with events.
  mutating func endEvents(_ slot: Int) {
    clear(slot)
    if case .events = index.workers.base[slot].source { workersWithEvents -= 1 }
    index.workers.record(Int32(slot)).pointee.source = .predicted
  }

  /// Leaves to predictions what events do not take; some of what is over goes at once, the rest with later calls.
  mutating func fitMemory() {
    index.bytesMax = options.indexBytesMax - events.bytes
    if index.bytes > index.bytesMax { index.shrink(budget: 32) }
  }

  /// Puts what events tell in the place of predictions, for the workers that have events as their source.
  mutating func matchEvents(_ request: RoutingRequest, now: Nanoseconds) {
    let tiers = events.hasTiers
    let life = options.predictedTTL
    if let life { matchRecent(request, now: now, life: life) }
    for slot in 0..<index.workers.used {
      if tiers {
        scratch.host[slot] = 0
        scratch.disk[slot] = 0
      }
      guard case .events = index.workers.base[slot].source else { continue }
      // Where events are missing, what was sent there counts too.
      let predicted = index.workers.base[slot].sourceReason.leavesHoles ? scratch.cached[slot] : 0
      scratch.cached[slot] = life == nil ? predicted : max(predicted, scratch.told[slot])
    }
    matchTold(request.chain, tiers)
    for other in request.otherChains { matchTold(other.chain, tiers) }
  }

  /// Fills in what workers were sent within `life`.
  private mutating func matchRecent(_ request: RoutingRequest, now: Nanoseconds, life: Nanoseconds) {
    for slot in 0..<index.workers.used { scratch.told[slot] = 0 }
    index.matchRecent(request.chain, now: now, life: life, recent: scratch.told)
    for other in request.otherChains {
      index.matchRecent(other.chain, now: now, life: life, recent: scratch.told)
    }
  }

  /// Raises what workers cache to what their events tell of one chain.
  private mutating func matchTold(_ chain: UnsafeBufferPointer<UInt64>, _ tiers: Bool) {
    let (workers, cached, host, disk) = (index.workers.base, scratch.cached, scratch.host, scratch.disk)
    events.match(chain) { slot, onDevice, onHost, onDisk in
      guard case .events = workers[slot].source else { return }
      // A block that was sent lately is taken to be on the device, where the prompt is computed.
      let recent = max(0, cached[slot] - onDevice)
      cached[slot] = max(cached[slot], onDevice)
      guard tiers else { return }
      host[slot] = max(0, onHost - recent)
      disk[slot] = max(0, onDisk - max(0, recent - onHost))
    }
  }
}
