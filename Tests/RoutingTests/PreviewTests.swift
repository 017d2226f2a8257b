// Previews say what decisions then do, and leave no trace.

import Base
import Testing

@testable import Routing

extension Bench {
  func preview(
    _ blocks: [UInt64], _ change: (inout RoutingRequest) -> Void = { _ in }
  ) -> PlacementPreview {
    chain(blocks).withUnsafeBufferPointer {
      var request = RoutingRequest(chain: $0, tokens: $0.count * 16)
      change(&request)
      return router.survey(request, now: now).preview()
    }
  }

  var report: RouterReport { router.report(now: now) }
}

@Suite struct Previewing {
  @Test(arguments: [
    (RoutingMode.kv, 0.0), (.kv, 0.5), (.random, 0), (.powerOfTwo, 0), (.leastLoaded, 0), (.roundRobin, 0),
  ])
  func likelihoodsAreTheSharesOfDecisions(mode: RoutingMode, temperature: Double) {
    let bench = Bench(workers: 4) {
      $0.mode = mode
      $0.temperature = temperature
    }
    // Unequal load: none, one, one and three requests.
    for (worker, count) in [(UInt64(2), 1), (3, 1), (4, 3)] {
      for index in 0..<count { bench.select([UInt64(worker) * 100 + UInt64(index)], named: worker) }
    }
    var counts: [UInt64: Int] = [:]
    let rounds = 4_000
    var expected: [UInt64: Double] = [:]
    for _ in 0..<rounds {
      let preview = bench.preview([1, 2, 3])
      #expect(abs(preview.candidates.reduce(0) { $0 + $1.likelihood } - 1) < 1e-9)
      for candidate in preview.candidates {
        expected[candidate.facts.worker, default: 0] += candidate.likelihood
      }
      bench.select([1, 2, 3])
      if let winner = preview.winner { #expect(winner == bench.decision.worker) }
      counts[bench.decision.worker, default: 0] += 1
      bench.router.free(bench.decision.booking, served: false, now: bench.now)
    }
    for (worker, sum) in expected {
      let difference = Double(counts[worker, default: 0]) - sum
      #expect(abs(difference) < 0.04 * Double(rounds), "\(worker): \(counts) against \(expected)")
    }
  }

  @Test func nothingIsBookedAndNothingRemembered() {
    let bench = Bench(workers: 3) { $0.queue = QueueOptions(threshold: 1) }
    bench.serve([1, 2, 3, 4], on: 2)
    let before = bench.report
    let preview = bench.preview([1, 2, 3, 4, 5]) {
      $0.session = RoutingSession(key: 7, isHard: true)
      $0.weights = RequestWeights(overlapCredit: 0, temperature: 3)
    }
    #expect(preview.candidates.count == 3 && preview.winner == nil)
    #expect(bench.report.workers == before.workers && bench.report.statistics == before.statistics)
    #expect(bench.report.sessions == 0 && bench.report.options.temperature == 0)
    #expect(bench.preview([1, 2, 3, 4, 5]).winner == 2)
  }

  @Test func sessionsAndTheQueueAreForeseen() {
    let bench = Bench(workers: 2) { $0.queue = QueueOptions(threshold: 1) }
    let session = RoutingSession(key: 7, isHard: true)
    #expect(bench.place(tokens: 100) { $0.session = session } == .decided(.chosen))
    let worker = bench.decision.worker
    let preview = bench.preview([1]) { $0.session = session }
    #expect(preview.sessionWorker == worker && preview.winner == worker && !preview.wouldWait)
    bench.router.remove(worker: worker)
    let lost = bench.preview([1]) { $0.session = session }
    #expect(lost.sessionIsLost && lost.winner == nil)
    #expect(bench.report.sessions == 1)
    bench.router.refuse(worker: 3 - worker, .ejected)
    #expect(bench.preview([1]).candidates.map(\.facts.refusal) == [.ejected])
    bench.router.allow(worker: 3 - worker)
    #expect(bench.place(tokens: 9_000) == .decided(.chosen))
    #expect(bench.preview([1]).wouldWait)
  }

  @Test func ownPrefillScaleChangesTheCostOnce() {
    let bench = Bench(workers: 1)
    let plain = bench.preview([1, 2]).candidates[0].facts.cost
    let scaled = bench.preview([1, 2]) {
      var weights = RequestWeights()
      weights.prefillScale = 3
      $0.weights = weights
    }
    #expect(scaled.candidates[0].facts.cost == plain + 4)
    #expect(bench.preview([1, 2]).candidates[0].facts.cost == plain)
  }

  @Test func movedSessionsAreKept() {
    let bench = Bench(workers: 2)
    let session = RoutingSession(key: 7, isHard: false)
    bench.router.moveSession(session, to: 2, now: bench.now)
    #expect(bench.preview([1]) { $0.session = session }.winner == 2)
  }
}
