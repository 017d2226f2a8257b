// What would become of a request if it came now: a decision without its consequences.

package import Base
import Glibc

/// How a placement would end, and how likely each worker is.
package struct PlacementPreview: Sendable {
  /// A worker that the decision looks at, and its chance of being chosen, from 0 to 1.
  package struct Candidate: Sendable {
    package let facts: RoutingCandidate
    package let likelihood: Double
  }

  /// The workers that may be chosen, the cheapest first, then those that may not.
  package internal(set) var candidates: [Candidate] = []
  /// Where the request's session would take it; nil when it has none there.
  package internal(set) var sessionWorker: UInt64?
  /// The worker of its hard session is gone or refused.
  package internal(set) var sessionIsLost = false
  /// Every worker that may be chosen is full: it would wait, or be refused where too many wait.
  package internal(set) var wouldWait = false

  /// The worker that is chosen for certain; nil when there is none, or several are possible.
  package var winner: UInt64? { candidates.first { $0.likelihood == 1 }?.facts.worker }
}

/// All that an operator may want to know of one router at one moment.
package struct RouterReport: Sendable {
  package let options: RoutingOptions
  package let statistics: RoutingStatistics
  package let queue: QueueStatistics
  package let sessions: Int
  package let workers: [RouterWorkerState]
}

/// What a router knows of a request's candidates at one moment: taken under the lock in one look at each worker, and put
/// in order without it.
package struct PlacementSurvey: Sendable {
  /// A worker that may be chosen.
  fileprivate struct Eligible: Sendable {
    let facts: RoutingCandidate
    /// Its place in the books, by which round robin goes.
    let slot: Int
    let isFull: Bool
  }

  fileprivate let mode: RoutingMode
  fileprivate let temperature: Double
  fileprivate let nextSlot: Int
  fileprivate let mayQueue: Bool
  fileprivate var sessionWorker: UInt64?
  fileprivate var sessionIsLost = false
  fileprivate var eligible: [Eligible] = []
  fileprivate var refused: [RoutingCandidate] = []

  /// What would become of the request.
  package func preview() -> PlacementPreview {
    var preview = PlacementPreview()
    preview.sessionWorker = sessionWorker
    preview.sessionIsLost = sessionIsLost
    preview.wouldWait = mayQueue && !eligible.isEmpty && eligible.allSatisfy(\.isFull)
    let sorted = eligible.sorted { ($0.facts.cost, $0.facts.worker) < ($1.facts.cost, $1.facts.worker) }
    let chances = sessionIsLost ? sorted.map { _ in 0 } : likelihoods(sorted)
    preview.candidates = zip(sorted, chances).map { .init(facts: $0.facts, likelihood: $1) }
    preview.candidates += refused.map { .init(facts: $0, likelihood: 0) }
    return preview
  }

  /// The chance of each candidate, given cheapest first.
  private func likelihoods(_ candidates: [Eligible]) -> [Double] {
    let count = candidates.count
    guard let least = candidates.first?.facts.cost, let most = candidates.last?.facts.cost else { return [] }
    switch mode {
    case .kv where temperature > 0:
      let range = most - least
      let weights = candidates.map { range > 0 ? exp(-($0.facts.cost - least) / range / temperature) : 1 }
      let total = weights.reduce(0, +)
      return weights.map { $0 / total }
    case .kv, .leastLoaded, .direct:
      let ties = candidates.prefix { $0.facts.cost == least }.count
      return (0..<count).map { $0 < ties ? 1 / Double(ties) : 0 }
    case .random: return candidates.map { _ in 1 / Double(count) }
    case .powerOfTwo: return chancesOfTwo(candidates)
    case .roundRobin:
      let slots = candidates.map(\.slot)
      let next = slots.filter { $0 >= nextSlot }.min() ?? slots.min()
      return slots.map { $0 == next ? 1 : 0 }
    }
  }

  /// Of two drawn candidates the cheaper one wins, and either of two equal ones.
  private func chancesOfTwo(_ candidates: [Eligible]) -> [Double] {
    let count = candidates.count
    guard count > 1 else { return [1] }
    var chances: [Double] = []
    while chances.count < count {
      let first = chances.count
      let ties = candidates[first...].prefix { $0.facts.cost == candidates[first].facts.cost }.count
      let beaten = Double(count - first - ties) + Double(ties - 1) / 2
      chances += repeatElement(beaten * 2 / Double(count * (count - 1)), count: ties)
    }
    return chances
  }
}

extension Router {
  /// What ``selectOrQueue(_:ticket:now:random:into:)`` would do now. Nothing but working memory is touched.
  package mutating func survey(_ request: RoutingRequest, now: Nanoseconds) -> PlacementSurvey {
    var survey = PlacementSurvey(
      mode: options.mode, temperature: request.weights?.temperature ?? options.temperature,
      nextSlot: nextSlot,
      mayQueue: options.queue != nil)
    var request = request
    if let session = request.session, request.named == nil {
      switch sessionWorker(session, request, now) {
      case .none: break
      case .worker(let worker):
        request.named = worker
        survey.sessionWorker = worker
      case .lost: survey.sessionIsLost = true
      }
    }
    let (eligible, refused) = weigh(request, now: now)
    survey.eligible.reserveCapacity(eligible)
    for place in 0..<eligible {
      let slot = Int(scratch.eligible[place])
      survey.eligible.append(
        .init(facts: candidate(slot, isEligible: true), slot: slot, isFull: isFull(slot)))
    }
    survey.refused = (0..<refused).map { candidate(Int(scratch.refused[$0]), isEligible: false) }
    return survey
  }

  /// Looks all workers up and prices those that may be chosen, as a decision does. Nothing is booked.
  private mutating func weigh(
    _ request: RoutingRequest, now: Nanoseconds
  ) -> (eligible: Int, refused: Int) {
    let common = options
    defer { options = common }
    let request = adopted(request)
    guard index.workers.used > 0 else { return (0, 0) }
    _ = look(request, now: now)
    let (eligible, refused, _) = sort(request, now: now, takesTurns: false)
    if eligible > 0 { price(request, eligible) }
    return (eligible, refused)
  }

  private func candidate(_ slot: Int, isEligible: Bool) -> RoutingCandidate {
    let worker = index.workers.base[slot]
    let hasTiers = workersWithEvents > 0 && events.hasTiers
    return RoutingCandidate(
      worker: worker.id, overlapBlocks: worker.inModelBlocks(Int(scratch.cached[slot])),
      activeBlocks: worker.inModelBlocks(worker.blocksInUse), prefillTokens: worker.prefillTokens,
      cost: isEligible ? scratch.cost[slot] : -1, refusal: isEligible ? .none : scratch.reason[slot],
      hostBlocks: hasTiers ? worker.inModelBlocks(Int(scratch.host[slot])) : 0,
      diskBlocks: hasTiers ? worker.inModelBlocks(Int(scratch.disk[slot])) : 0,
      spread: isEligible ? scratch.spread[slot] : 0, cacheSource: worker.source)
  }

  /// Options as they are now, numbers, and every worker.
  package func report(now: Nanoseconds) -> RouterReport {
    RouterReport(
      options: options, statistics: statistics, queue: queueStatistics, sessions: sessionCount,
      workers: state(now: now))
  }

  /// The session is served by `worker` now, which was chosen without asking it.
  package mutating func moveSession(_ session: RoutingSession, to worker: UInt64, now: Nanoseconds) {
    sessions.set(session.key, worker: worker, now: now)
  }
}
