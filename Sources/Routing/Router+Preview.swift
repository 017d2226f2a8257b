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

extension Router {
  /// What ``selectOrQueue(_:ticket:now:random:into:)`` would do now. Nothing but working memory is touched.
  package mutating func preview(_ request: RoutingRequest, now: Nanoseconds) -> PlacementPreview {
    var preview = PlacementPreview()
    var request = request
    if let session = request.session, request.named == nil {
      switch sessionWorker(session, request, now) {
      case .none: break
      case .worker(let worker):
        request.named = worker
        preview.sessionWorker = worker
      case .lost: preview.sessionIsLost = true
      }
    }
    let found = explain(request, now: now)
    let eligible = found.count { $0.refusal == .none }
    let likelihoods =
      preview.sessionIsLost
      ? [] : likelihoods(found[..<eligible], request.weights?.temperature ?? options.temperature)
    preview.candidates = found.enumerated().map { place, candidate in
      PlacementPreview.Candidate(
        facts: candidate, likelihood: place < likelihoods.count ? likelihoods[place] : 0)
    }
    if options.queue != nil, eligible > 0 {
      preview.wouldWait = true
      for candidate in found[..<eligible] {
        if let slot = slot(of: candidate.worker), !isFull(slot) { preview.wouldWait = false }
      }
    }
    return preview
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

  /// The chance of each candidate, given cheapest first.
  private func likelihoods(_ candidates: ArraySlice<RoutingCandidate>, _ temperature: Double) -> [Double] {
    let count = Double(candidates.count)
    guard let least = candidates.first?.cost, let most = candidates.last?.cost else { return [] }
    switch options.mode {
    case .kv where temperature > 0:
      let range = most - least
      let weights = candidates.map { range > 0 ? exp(-($0.cost - least) / range / temperature) : 1 }
      let total = weights.reduce(0, +)
      return weights.map { $0 / total }
    case .kv, .leastLoaded, .direct:
      let ties = Double(candidates.count { $0.cost == least })
      return candidates.map { $0.cost == least ? 1 / ties : 0 }
    case .random: return candidates.map { _ in 1 / count }
    case .powerOfTwo:
      guard count > 1 else { return [1] }
      return candidates.map { candidate in
        let beaten = candidates.reduce(-0.5) { sum, other in
          sum + (other.cost > candidate.cost ? 1 : other.cost == candidate.cost ? 0.5 : 0)
        }
        return beaten * 2 / (count * (count - 1))
      }
    case .roundRobin:
      let slots = candidates.compactMap { slot(of: $0.worker) }
      let next = slots.filter { $0 >= nextSlot }.min() ?? slots.min()
      return candidates.map { slot(of: $0.worker) == next ? 1 : 0 }
    }
  }
}
