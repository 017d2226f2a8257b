// One decision: look up, refuse, price, choose, explain, book.
//
// Its steps are mutating, also those that change nothing: a borrowed router would be copied whole for each call.

package import Base
import Glibc

extension Router {
  /// Chooses a worker, books the request on it and explains the choice.
  ///
  /// The request's tokens and blocks are in one unit: real tokens with blocks of tokens, or quarters of bytes.
  /// When the outcome is not ``RoutingOutcome/chosen``, nothing was booked.
  package mutating func select(
    _ request: RoutingRequest, now: Nanoseconds, random: inout Xoshiro256, into decision: RoutingDecision
  ) -> RoutingOutcome {
    if request.weights != nil {
      return selectByOwnWeights(request, now: now, random: &random, into: decision)
    }
    tidy(now: now, budget: 4)
    selections += 1
    decision.reset(promptBlocks: request.chain.count)
    guard index.workers.used > 0 else { return .noWorkers }
    let known = timedLook(request, now: now, decision)
    let (eligible, refused, busy) = sort(request, now: now)
    guard eligible > 0 else {
      if request.explains { explain(chosen: -1, eligible: 0, refused: refused, decision) }
      return refused == 0 ? .noWorkers : busy > 0 ? .allBusy : .allRefused
    }
    price(request, eligible)
    let slot = choose(eligible, &random)
    fill(decision, slot: slot, eligible: eligible)
    if request.explains {
      if case .kv = options.mode {
        decision.evictedBlocks = index.workers.base[slot].inModelBlocks(evictedBlocks(request, slot))
      }
      explain(chosen: slot, eligible: eligible, refused: refused, decision)
    }
    decision.booking = book(request, slot: slot, known: known, now: now)
    decisions += 1
    return .chosen
  }

  /// ``look(_:now:)``, and how long it took. Other modes look nothing up: they are spared the clock, for the lock's sake.
  private mutating func timedLook(
    _ request: RoutingRequest, now: Nanoseconds, _ decision: RoutingDecision
  ) -> Int {
    guard case .kv = options.mode else { return look(request, now: now) }
    let began = decision.time
    defer { decision.lookUpTime = decision.time &- began }
    return look(request, now: now)
  }

  /// Fills in what each worker caches and has in use of the prompt, in its own blocks; returns how many blocks of the
  /// model's size the prefix index knows.
  mutating func look(_ request: RoutingRequest, now: Nanoseconds) -> Int {
    for slot in 0..<index.workers.used {
      scratch.cached[slot] = 0
      scratch.active[slot] = 0
    }
    let known = index.match(request.chain, now: now, cached: scratch.cached, active: scratch.active)
    // Chains of another size are found with workers of that size only.
    for other in request.otherChains {
      _ = index.match(other.chain, now: now, cached: scratch.cached, active: scratch.active)
    }
    if workersWithEvents > 0 { matchEvents(request, now: now) }
    return known
  }

  private mutating func selectByOwnWeights(
    _ request: RoutingRequest, now: Nanoseconds, random: inout Xoshiro256, into decision: RoutingDecision
  ) -> RoutingOutcome {
    let common = options
    defer { options = common }
    return select(adopted(request), now: now, random: &random, into: decision)
  }

  /// Puts a request's own weights in the place of the model's, and returns the request without them.
  mutating func adopted(_ request: RoutingRequest) -> RoutingRequest {
    options.cost.overlapCredit = request.weights?.overlapCredit ?? options.cost.overlapCredit
    options.cost.prefillScale = request.weights?.prefillScale ?? options.cost.prefillScale
    options.temperature = request.weights?.temperature ?? options.temperature
    options.assumesReuse = request.weights?.assumesReuse ?? options.assumesReuse
    var plain = request
    plain.weights = nil
    return plain
  }

  // MARK: Who may

  /// Parts the live workers into those that may be chosen and those that may not. `takesTurns` is false where nothing is
  /// decided.
  mutating func sort(
    _ request: RoutingRequest, now: Nanoseconds, takesTurns: Bool = true
  ) -> (eligible: Int, refused: Int, busy: Int) {
    var (eligible, refused, busy) = (0, 0, 0)
    var recovering = 0
    for slot in 0..<index.workers.used {
      let worker = index.workers.base + slot
      guard worker.pointee.isLive else { continue }
      var reason = refusal(worker, request, now)
      if worker.pointee.recoveringUntil > now, case .none = reason, takesTurns,
        Self.letsOthersGoFirst(worker, now)
      {
        reason = .recovering
        recovering &+= 1
      }
      scratch.reason[slot] = reason
      switch reason {
      case .none:
        scratch.eligible[eligible] = Int32(truncatingIfNeeded: slot)
        eligible &+= 1
        continue
      case .busyBlocks, .busyPrefill: busy &+= 1
      default: break
      }
      scratch.refused[refused] = Int32(truncatingIfNeeded: slot)
      refused &+= 1
    }
    guard eligible == 0, recovering > 0 else { return (eligible, refused, busy) }
    // Nobody else would do: those that are still recovering may.
    let refusedBefore = refused
    refused = 0
    for place in 0..<refusedBefore {
      let slot = scratch.refused[place]
      if case .recovering = scratch.reason[Int(slot)] {
        scratch.reason[Int(slot)] = .none
        scratch.eligible[eligible] = slot
        eligible &+= 1
      } else {
        scratch.refused[refused] = slot
        refused &+= 1
      }
    }
    return (eligible, refused, busy)
  }

  /// Whether a recovering worker leaves this decision to the others: its share of the decisions grows with the time.
  private static func letsOthersGoFirst(
    _ worker: UnsafeMutablePointer<WorkerState>, _ now: Nanoseconds
  ) -> Bool {
    let length =
      worker.pointee.recoveringUntil - min(worker.pointee.recoveringSince, worker.pointee.recoveringUntil)
    let passed = now - min(worker.pointee.recoveringSince, now)
    let share = length == 0 ? 1 : max(recoveryShareMin, Double(passed) / Double(length))
    worker.pointee.recoveryTurn += share
    guard worker.pointee.recoveryTurn >= 1 else { return true }
    worker.pointee.recoveryTurn -= 1
    return false
  }

  /// The share that a recovering worker begins with.
  private static let recoveryShareMin = 0.1

  mutating func refusal(
    _ worker: UnsafeMutablePointer<WorkerState>, _ request: RoutingRequest, _ now: Nanoseconds
  ) -> RefusalReason {
    if worker.pointee.refusedUntil > now {
      if case .none = worker.pointee.refusal {} else { return worker.pointee.refusal }
    }
    if let named = request.named {
      if worker.pointee.id != named { return .notNamed }
    } else if case .direct = options.mode {
      return .notNamed
    }
    if let allowed = request.allowed, !allowed.contains(worker.pointee.id) { return .notAllowed }
    for exclusion in request.excluded where exclusion.worker == worker.pointee.id { return exclusion.reason }
    return Self.busyReason(
      worker, blocksShare: options.busyBlocksShare, prefillTokens: options.busyPrefillTokens)
  }

  /// Whether a worker has too much to do for any request.
  @inline(__always)
  static func busyReason(
    _ worker: UnsafeMutablePointer<WorkerState>, blocksShare: Double?, prefillTokens: Int?
  ) -> RefusalReason {
    if let blocksShare, worker.pointee.blocksMax < Int.max {
      if Double(worker.pointee.blocksInUse) >= blocksShare * Double(worker.pointee.blocksMax) {
        return .busyBlocks
      }
    }
    if let prefillTokens, worker.pointee.prefillTokens >= prefillTokens { return .busyPrefill }
    return .none
  }

  // MARK: What it costs

  /// Writes the cost of each worker that may be chosen: Dynamo's in KV mode, requests in flight otherwise.
  mutating func price(_ request: RoutingRequest, _ eligible: Int) {
    guard case .kv = options.mode else {
      for place in 0..<eligible {
        let slot = Int(scratch.eligible[place])
        scratch.cost[slot] = Double(index.workers.base[slot].activeRequests)
        scratch.spread[slot] = 0
      }
      return
    }
    var requests = 0
    var leastPrefill = Int.max
    for place in 0..<eligible {
      let worker = index.workers.base + Int(scratch.eligible[place])
      requests &+= worker.pointee.activeRequests
      leastPrefill = min(leastPrefill, worker.pointee.prefillTokens)
    }
    let hasTiers = workersWithEvents > 0 && events.hasTiers
    var inputs = CostInputs()
    inputs.promptTokens = Double(request.tokens)
    inputs.blockSize = Double(options.blockSize)
    for place in 0..<eligible {
      let slot = Int(scratch.eligible[place])
      let worker = index.workers.base + slot
      // The cost is in blocks of the model's size, 1 being the ratio of nearly all workers.
      let ratio = worker.pointee.blockRatio
      if hasTiers {
        inputs.hostBlocks = Double(scratch.host[slot]) * ratio
        inputs.diskBlocks = Double(scratch.disk[slot]) * ratio
      }
      inputs.overlapBlocks = Double(scratch.cached[slot]) * ratio
      inputs.activePrefillTokens = Double(worker.pointee.prefillTokens)
      inputs.excessPrefillBlocks = Double(worker.pointee.prefillTokens - leastPrefill) / inputs.blockSize
      inputs.activeRequests = Double(worker.pointee.activeRequests)
      inputs.potentialDecodeBlocks = 0
      if options.tracksActiveBlocks {
        let blocks = request.chain(worker.pointee.blockSize, model: options.blockSize).count
        let fresh = blocks &- (options.assumesReuse ? Int(scratch.active[slot]) : 0)
        inputs.potentialDecodeBlocks = Double(worker.pointee.blocksInUse &+ fresh) * ratio
      }
      inputs.evictedBlocks = Double(evictedBlocks(request, slot)) * ratio
      var spread = 0.0
      // Up to the floor, where nearly all workers are, the term is 0 whatever the others have.
      if eligible > 1, worker.pointee.activeRequests > options.cost.spreadFloor {
        let elsewhere = requests &- worker.pointee.activeRequests
        inputs.activeRequestsElsewhere = Double(elsewhere) / Double(eligible &- 1)
        spread = options.cost.spread(inputs)
      }
      scratch.spread[slot] = spread
      scratch.cost[slot] = options.cost.cost(inputs) + spread + options.cost.eviction(inputs)
    }
  }

  /// Blocks of its own that the worker would have to evict for the request, as far as its cache is known.
  private func evictedBlocks(_ request: RoutingRequest, _ slot: Int) -> Int {
    let worker = index.workers.base + slot
    guard worker.pointee.blocksMax < Int.max else { return 0 }
    var held = worker.pointee.cachedBlocks
    if case .events = worker.pointee.source {
      held = worker.pointee.lane >= 0 ? events.lanes[Int(worker.pointee.lane)].device : 0
    }
    let blocks = request.chain(worker.pointee.blockSize, model: options.blockSize).count
    let needed = blocks &- Int(scratch.cached[slot])
    return max(0, min(needed, needed &+ held &- worker.pointee.blocksMax))
  }

  // MARK: Which one

  private mutating func choose(_ eligible: Int, _ random: inout Xoshiro256) -> Int {
    switch options.mode {
    case .kv:
      return options.temperature > 0 ? softmax(eligible, &random) : cheapest(eligible, &random)
    case .leastLoaded, .direct: return cheapest(eligible, &random)
    case .random: return Int(scratch.eligible[random.below(eligible)])
    case .roundRobin: return inTurn(eligible)
    case .powerOfTwo:
      let first = random.below(eligible)
      guard eligible > 1 else { return Int(scratch.eligible[0]) }
      var second = random.below(eligible - 1)
      if second >= first { second += 1 }
      let (a, b) = (Int(scratch.eligible[first]), Int(scratch.eligible[second]))
      return scratch.cost[b] < scratch.cost[a] ? b : a
    }
  }

  /// The lowest cost; among equals each is as likely as any other (reservoir sampling).
  private mutating func cheapest(_ eligible: Int, _ random: inout Xoshiro256) -> Int {
    var best = Int(scratch.eligible[0])
    var ties = 1
    for place in 1..<max(eligible, 1) {
      let slot = Int(scratch.eligible[place])
      if scratch.cost[slot] < scratch.cost[best] {
        best = slot
        ties = 1
      } else if scratch.cost[slot] == scratch.cost[best] {
        ties &+= 1
        if random.below(ties) == 0 { best = slot }
      }
    }
    return best
  }

  /// Drawn with weights exp(-(cost / range) / temperature); evenly when all costs are equal.
  private mutating func softmax(_ eligible: Int, _ random: inout Xoshiro256) -> Int {
    var least = Double.infinity
    var most = -Double.infinity
    for place in 0..<eligible {
      let cost = scratch.cost[Int(scratch.eligible[place])]
      least = min(least, cost)
      most = max(most, cost)
    }
    guard most > least else { return Int(scratch.eligible[random.below(eligible)]) }
    let scale = -1 / ((most - least) * options.temperature)
    var total = 0.0
    for place in 0..<eligible {
      total += exp((scratch.cost[Int(scratch.eligible[place])] - least) * scale)
    }
    var left = random.unit() * total
    for place in 0..<eligible {
      let slot = Int(scratch.eligible[place])
      left -= exp((scratch.cost[slot] - least) * scale)
      if left < 0 { return slot }
    }
    return Int(scratch.eligible[eligible - 1])
  }

  private mutating func inTurn(_ eligible: Int) -> Int {
    var slot = Int(scratch.eligible[0])
    for place in 0..<eligible where Int(scratch.eligible[place]) >= nextSlot {
      slot = Int(scratch.eligible[place])
      break
    }
    nextSlot = slot + 1
    return slot
  }

  // MARK: Why

  private mutating func fill(_ decision: RoutingDecision, slot: Int, eligible: Int) {
    let worker = index.workers.base + slot
    decision.worker = worker.pointee.id
    decision.overlapBlocks = worker.pointee.inModelBlocks(Int(scratch.cached[slot]))
    decision.cacheSource = worker.pointee.source
    if workersWithEvents > 0, events.hasTiers {
      decision.hostBlocks = worker.pointee.inModelBlocks(Int(scratch.host[slot]))
      decision.diskBlocks = worker.pointee.inModelBlocks(Int(scratch.disk[slot]))
    }
    let cost = scratch.cost[slot]
    decision.cost = cost
    decision.spreadShare = cost > 0 ? scratch.spread[slot] / cost : 0
    var best = 0
    var runnerUp = Double.infinity
    for place in 0..<eligible {
      let other = Int(scratch.eligible[place])
      best = max(best, index.workers.base[other].inModelBlocks(Int(scratch.cached[other])))
      if other != slot { runnerUp = min(runnerUp, scratch.cost[other]) }
    }
    decision.bestOverlapBlocks = best
    decision.margin = eligible > 1 ? runnerUp - cost : nil
  }

  /// Lists the cheapest candidates, the chosen one always among them, then refused ones while there is room.
  private mutating func explain(chosen: Int, eligible: Int, refused: Int, _ decision: RoutingDecision) {
    withUnsafeTemporaryAllocation(of: Int32.self, capacity: RoutingDecision.candidatesMax) { best in
      var count = 0
      for place in 0..<eligible {
        let slot = scratch.eligible[place]
        let cost = scratch.cost[Int(slot)]
        if count == best.count, cost >= scratch.cost[Int(best[count - 1])] { continue }
        var position = count < best.count ? count : count - 1
        while position > 0, scratch.cost[Int(best[position - 1])] > cost {
          best[position] = best[position - 1]
          position -= 1
        }
        best[position] = slot
        if count < best.count { count += 1 }
      }
      if chosen >= 0, count > 0, !best[..<count].contains(Int32(chosen)) { best[count - 1] = Int32(chosen) }
      for place in 0..<count { list(Int(best[place]), cost: scratch.cost[Int(best[place])], .none, decision) }
      for place in 0..<min(refused, best.count - count) {
        let slot = Int(scratch.refused[place])
        list(slot, cost: -1, scratch.reason[slot], decision)
      }
    }
  }

  private mutating func list(_ slot: Int, cost: Double, _ reason: RefusalReason, _ decision: RoutingDecision)
  {
    let worker = index.workers.base[slot]
    decision.candidates.append(
      RoutingCandidate(
        worker: worker.id, overlapBlocks: worker.inModelBlocks(Int(scratch.cached[slot])),
        activeBlocks: worker.inModelBlocks(worker.blocksInUse), prefillTokens: worker.prefillTokens,
        cost: cost, refusal: reason, cacheSource: worker.source))
    if case .none = reason {} else { decision.listsRefusal = true }
  }
}

extension Xoshiro256 {
  /// A number from 0 to `bound` - 1; the bias is below bound / 2^64.
  mutating func below(_ bound: Int) -> Int {
    Int(next().multipliedFullWidth(by: UInt64(bound)).high)
  }

  /// A number from 0 up to, not including, 1.
  mutating func unit() -> Double { Double(next() >> 11) * 0x1p-53 }
}
