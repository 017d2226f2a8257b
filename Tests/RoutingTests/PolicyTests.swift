// The other modes, refusals, and the explanation.

import Base
import Testing

@testable import Routing

@Suite struct Policies {
  @Test func roundRobinTakesTurnsAndSkipsTheRefused() {
    let bench = Bench(workers: 3) { $0.mode = .roundRobin }
    var order: [UInt64] = []
    for _ in 0..<4 {
      bench.select([])
      order.append(bench.decision.worker)
    }
    #expect(order == [1, 2, 3, 1])
    bench.select([], excluded: [(2, .tried)])
    #expect(bench.decision.worker == 3)
    bench.select([])
    #expect(bench.decision.worker == 1)
  }

  @Test func leastLoadedFollowsRequestsInFlight() {
    let bench = Bench(workers: 3) { $0.mode = .leastLoaded }
    var bookings: [UInt64: Booking] = [:]
    for _ in 0..<3 {
      bench.select([])
      bookings[bench.decision.worker] = bench.decision.booking
    }
    #expect(bookings.count == 3)
    bench.router.free(bookings[2] ?? .none, served: true, now: bench.now)
    bench.select([])
    #expect(bench.decision.worker == 2)
  }

  @Test func powerOfTwoNeverTakesTheMostLoaded() {
    let bench = Bench(workers: 3) { $0.mode = .powerOfTwo }
    bench.select([], named: 2)
    bench.select([], named: 2)
    for _ in 0..<50 {
      bench.select([])
      #expect(bench.decision.worker != 2)
      bench.router.free(bench.decision.booking, served: true, now: bench.now)
    }
  }

  @Test func randomReachesEveryWorker() {
    let bench = Bench(workers: 5) { $0.mode = .random }
    var seen: Set<UInt64> = []
    for _ in 0..<200 {
      bench.select([])
      seen.insert(bench.decision.worker)
    }
    #expect(seen.count == 5)
  }

  @Test func directNeedsAName() {
    let bench = Bench(workers: 3) { $0.mode = .direct }
    #expect(bench.select([]) == .allRefused)
    #expect(bench.select([], named: 2) == .chosen)
    #expect(bench.decision.worker == 2)
    #expect(bench.select([], named: 77) == .allRefused)
  }

  @Test(arguments: RoutingMode.allCases)
  func everyModeCountsLoadAndGivesItBack(_ mode: RoutingMode) {
    let bench = Bench(workers: 1) { $0.mode = mode }
    bench.select([1, 2], tokens: 40, named: 1)
    let load = bench.load(of: 1)
    #expect(load?.activeRequests == 1)
    #expect(load?.activeBlocks == 2)
    #expect(load?.prefillTokens == 40)
    bench.router.free(bench.decision.booking, served: true, now: bench.now)
    #expect(bench.load(of: 1)?.activeRequests == 0)
    #expect(bench.load(of: 1)?.activeBlocks == 0)
    #expect(bench.load(of: 1)?.prefillTokens == 0)
    #expect(RoutingMode(name: mode.name) == mode)
  }

  @Test func unknownModeNameIsNone() { #expect(RoutingMode(name: "fastest") == nil) }
}

@Suite struct Refusals {
  @Test func noWorkersIsToldApartFromAllRefused() {
    let bench = Bench()
    #expect(bench.select([1]) == .noWorkers)
    bench.router.add(worker: 1)
    bench.router.refuse(worker: 1, .draining)
    #expect(bench.select([1]) == .allRefused)
    #expect(bench.decision.candidates.map(\.refusal.label) == ["draining"])
    #expect(bench.decision.candidates.map(\.cost) == [-1])
    #expect(bench.load(of: 1)?.activeRequests == 0)
    bench.router.allow(worker: 1)
    #expect(bench.select([1]) == .chosen)
    bench.router.remove(worker: 1)
    #expect(bench.select([1]) == .noWorkers)
  }

  @Test func ejectionEndsByItself() {
    let bench = Bench(workers: 1)
    bench.router.refuse(worker: 1, .ejected, until: bench.now + second)
    #expect(bench.select([1]) == .allRefused)
    bench.now += second
    #expect(bench.select([1]) == .chosen)
  }

  @Test func busyWorkersAreToldApart() {
    let bench = Bench(workers: 2, blocksMax: 10) { $0.busyBlocksShare = 0.5 }
    bench.select([1, 2, 3, 4, 5], named: 1)
    bench.select([1, 2, 3, 4, 5])
    #expect(bench.decision.worker == 2)
    #expect(bench.decision.candidates.map(\.refusal.label) == ["", "busy_blocks"])
    #expect(bench.select([1, 2, 3, 4, 5]) == .allBusy)

    let waiting = Bench(workers: 1) { $0.busyPrefillTokens = 32 }
    #expect(waiting.select([1, 2]) == .chosen)
    #expect(waiting.select([3]) == .allBusy)
    waiting.router.firstToken(waiting.decision.booking)
  }

  @Test func excludedWorkersAreNamedWithTheirReason() {
    let bench = Bench(workers: 3)
    bench.select([1], excluded: [(1, .tried), (2, .unhealthy)])
    #expect(bench.decision.worker == 3)
    #expect(bench.decision.candidates.map(\.worker) == [3, 1, 2])
    #expect(bench.decision.candidates.map(\.refusal.label) == ["", "tried", "unhealthy"])
    #expect(bench.decision.margin == nil)
  }

  @Test func explanationListsTheCheapestAndAlwaysTheChosen() throws {
    let bench = Bench(workers: 20) { $0.temperature = 1000 }
    for worker in 1...12 { bench.serve(Array(1...UInt64(worker)), on: UInt64(worker)) }
    for _ in 0..<30 {
      bench.select(Array(1...12))
      let decision = bench.decision
      #expect(decision.candidates.count == 8)
      let chosen = try #require(decision.candidates.first { $0.worker == decision.worker })
      #expect(chosen.cost == decision.cost)
      let costs = decision.candidates.map(\.cost)
      #expect(costs.dropLast() == costs.dropLast().sorted()[...])
      bench.router.free(decision.booking, served: true, now: bench.now)
    }
  }

  @Test func everyReasonHasALabel() {
    for raw in 1...8 {
      #expect(RefusalReason(rawValue: UInt8(raw))?.label.isEmpty == false)
    }
  }
}
