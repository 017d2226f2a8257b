// What one request may ask for: weights of its own, workers, sessions; and the explanation of a choice not made.

import Base
import Testing

@testable import Routing

@Suite struct CostTiers {
  private func inputs(_ device: Double, _ host: Double, _ disk: Double) -> CostInputs {
    var inputs = CostInputs()
    inputs.promptTokens = 320
    inputs.overlapBlocks = device
    inputs.hostBlocks = host
    inputs.diskBlocks = disk
    return inputs
  }

  @Test func lowerTiersCreditLess() {
    let cost = CostParameters()
    #expect(cost.cost(inputs(4, 0, 0)) == 16)
    #expect(cost.cost(inputs(4, 8, 0)) == 10)
    #expect(cost.cost(inputs(4, 8, 8)) == 8)
    #expect(cost.cost(inputs(0, 0, 20)) == 15)
    var other = cost
    other.hostCredit = 0
    other.diskCredit = 1
    #expect(other.cost(inputs(4, 8, 8)) == 8)
  }

  @Test func decayLeavesLowerTiersAlone() {
    var cost = CostParameters()
    cost.creditDecay = 1
    var busy = inputs(8, 8, 0)
    busy.excessPrefillBlocks = 20
    // Half of 8, and 6 of the host.
    #expect(cost.cost(busy) == 10)
  }

  @Test func decodeWorkersCreditDecodeBlocks() {
    var cost = CostParameters()
    cost.creditsDecodeBlocks = true
    cost.activeRequestWeight = 2
    var some = inputs(4, 0, 0)
    some.potentialDecodeBlocks = 10
    some.activeRequests = 3
    #expect(cost.cost(some) == 12)
    some.potentialDecodeBlocks = 2
    #expect(cost.cost(some) == 6)
  }
}

@Suite struct RequestRules {
  @Test func ownWeightsHoldForOneRequest() {
    let bench = Bench(workers: 2) { $0.cost.spreadsHotPrefixes = false }
    bench.serve([1, 2, 3, 4, 5, 6], on: 1)
    bench.select([90, 91, 92, 93], named: 1)
    let prompt = chain([1, 2, 3, 4, 5, 6])
    bench.selectChain(prompt) { $0.weights = RequestWeights(overlapCredit: 0) }
    #expect(bench.decision.worker == 2)
    #expect(bench.router.options.cost.overlapCredit == 1)
    #expect(bench.router.options.temperature == 0)
  }

  @Test func withoutReuseARequestSharesNothing() {
    let bench = Bench(workers: 1)
    bench.select([1, 2, 3])
    bench.selectChain(chain([1, 2, 3])) { $0.weights = RequestWeights(assumesReuse: false) }
    #expect(bench.load(of: 1)?.activeBlocks == 6)
    #expect(bench.decision.cost == 6 + 3)
    bench.selectChain(chain([1, 2, 3]))
    #expect(bench.load(of: 1)?.activeBlocks == 6)
  }

  @Test func ownTemperatureDraws() {
    var firsts = 0
    for seed in 0..<400 {
      let bench = Bench(workers: 2, seed: UInt64(seed))
      bench.serve([1, 2, 3, 4], on: 1)
      bench.selectChain(chain([1, 2, 3, 4])) { $0.weights = RequestWeights(temperature: 1) }
      if bench.decision.worker == 1 { firsts += 1 }
    }
    #expect((250...340).contains(firsts))
  }

  @Test func onlyAllowedWorkersAreChosen() {
    let bench = Bench(workers: 4)
    bench.serve([1, 2, 3], on: 1)
    for _ in 0..<10 {
      bench.selectChain(chain([1, 2, 3])) { $0.allowed = [2, 4, 77] }
      #expect([2, 4].contains(bench.decision.worker))
    }
    #expect(bench.selectChain([]) { $0.allowed = [] } == .allRefused)
    let reasons = Set(bench.decision.candidates.map(\.refusal))
    #expect(reasons == [.notAllowed])
    #expect(RefusalReason.notAllowed.label == "not_allowed")
  }

  @Test func generatedBlocksCountWhereAsked() {
    let bench = Bench(workers: 1) { $0.tracksOutputBlocks = true }
    bench.select([1, 2], tokens: 40)
    let booking = bench.decision.booking
    bench.router.outputGrew(booking, tokens: 7)
    #expect(bench.load(of: 1)?.activeBlocks == 2)
    bench.router.outputGrew(booking, tokens: 8)
    #expect(bench.load(of: 1)?.activeBlocks == 3)
    bench.router.outputGrew(booking, tokens: 60)
    bench.router.outputGrew(booking, tokens: 50)
    #expect(bench.load(of: 1)?.activeBlocks == 6)
    bench.router.free(booking, served: true, now: bench.now)
    bench.router.outputGrew(booking, tokens: 600)
    #expect(bench.load(of: 1)?.activeBlocks == 0)
    let plain = Bench(workers: 1)
    plain.select([1, 2])
    plain.router.outputGrew(plain.decision.booking, tokens: 600)
    #expect(plain.load(of: 1)?.activeBlocks == 2)
  }

  @Test func blocksOfAnAnswerThatIsExpectedToEndCountLess() {
    let bench = Bench(workers: 1) { $0.tracksOutputBlocks = true }
    func begin(_ blocks: [UInt64], expected: Int) -> Booking {
      bench.selectChain(chain(blocks)) { $0.expectedTokens = expected }
      return bench.decision.booking
    }
    let first = begin([1, 2, 3, 4], expected: 64)
    #expect(bench.load(of: 1)?.activeBlocks == 4)
    bench.router.outputGrew(first, tokens: 16)
    // Four blocks of prompt and one of output, three quarters of the answer still to come: 3.75.
    #expect(bench.load(of: 1)?.activeBlocks == 4)
    bench.router.outputGrew(first, tokens: 48)
    #expect(bench.load(of: 1)?.activeBlocks == 2)
    // Shared blocks count in full: two of them, then a quarter of two and of four.
    let second = begin([1, 2, 9], expected: 0)
    bench.router.outputGrew(first, tokens: 64)
    #expect(bench.load(of: 1)?.activeBlocks == 3)
    // Beyond what was expected it counts as nothing, and never as less.
    bench.router.outputGrew(first, tokens: 6_400)
    #expect(bench.load(of: 1)?.activeBlocks == 3)
    bench.router.free(first, served: true, now: bench.now)
    #expect(bench.load(of: 1)?.activeBlocks == 3)
    // Without an expectation output counts in full.
    bench.router.outputGrew(second, tokens: 32)
    #expect(bench.load(of: 1)?.activeBlocks == 5)
    bench.router.free(second, served: true, now: bench.now)
    #expect(bench.load(of: 1)?.activeBlocks == 0)
    #expect(bench.router.index.workers.base[0].discountedBlocks == 0)
  }

  @Test func whatIsSoonFreeAttractsTheNextRequest() {
    let bench = Bench(workers: 2) { $0.tracksOutputBlocks = true }
    for (worker, expected) in [(UInt64(1), 100), (2, 0)] {
      bench.selectChain(chain([worker, 20, 30, 40])) {
        $0.named = worker
        $0.expectedTokens = expected
      }
      bench.router.firstToken(bench.decision.booking)
      bench.router.outputGrew(bench.decision.booking, tokens: 96)
    }
    bench.select([7, 8])
    #expect(bench.decision.worker == 1)
  }
}

@Suite struct DryRuns {
  @Test func explanationEqualsTheChoiceAndTouchesNothing() {
    let bench = Bench(workers: 12)
    bench.serve([1, 2, 3, 4], on: 3)
    bench.serve([1, 2], on: 5)
    bench.router.refuse(worker: 4, .draining)
    let before = (bench.router.statistics, bench.router.loads)
    let prompt = chain([1, 2, 3, 9])
    let candidates = prompt.withUnsafeBufferPointer {
      bench.router.survey(RoutingRequest(chain: $0, tokens: 64), now: bench.now).preview().candidates.map(
        \.facts)
    }
    #expect(bench.router.statistics == before.0)
    #expect(bench.router.loads == before.1)
    #expect(candidates.count == 12)
    #expect(candidates[0].worker == 3)
    #expect(candidates[0].overlapBlocks == 3)
    #expect(candidates[1].worker == 5)
    #expect(candidates.last?.refusal == .draining)
    #expect(candidates.last?.cost == -1)
    bench.selectChain(prompt)
    #expect(bench.decision.worker == 3)
    #expect(bench.decision.cost == candidates[0].cost)
    let none = Bench()
    #expect(none.explain([1]) == [])
  }

  @Test func explanationTakesOwnWeightsAndTiers() {
    let bench = Bench(workers: 2)
    bench.follow(1, 2)
    let prompt = chain([1, 2, 3, 4])
    bench.store(prompt[..<1], on: 1)
    bench.store(prompt[1..<4], on: 1, tier: .host)
    bench.store(prompt[..<2], on: 2)
    let found = bench.explain(prompt)
    #expect(found.map(\.worker) == [1, 2])
    #expect(found[0].hostBlocks == 3)
    #expect(found[0].cost == 4 - 1 - 2.25 + 4)
    #expect(found[0].cacheSource == .events)
    let plain = bench.explain(prompt) { $0.weights = RequestWeights(overlapCredit: 0) }
    #expect(plain.map(\.cost) == [4 - 2.25 + 4, 8])
    #expect(bench.router.options.cost.overlapCredit == 1)
  }

  @Test func stateTellsWhatIsKnownOfEachWorker() {
    let bench = Bench(workers: 3, blocksMax: 100) { $0.busyPrefillTokens = 40 }
    bench.follow(2)
    bench.store([1, 2, 3], on: 2)
    bench.serve([1, 2], on: 1)
    bench.router.refuse(worker: 1, .ejected, until: bench.now + second)
    bench.select([1, 2, 3], named: 3)
    var rows = bench.router.state(now: bench.now)
    #expect(rows.map(\.load.worker) == [1, 2, 3])
    #expect(rows[0].refusal == .ejected)
    #expect(rows[0].refusedUntil == bench.now + second)
    #expect(rows[0].predictedBlocks == 2)
    #expect(rows[0].load.cacheReason == .noFeed)
    #expect(rows[0].blocksMax == 100)
    #expect(rows[1].events.deviceBlocks == 3)
    #expect(rows[1].load.cachedBlocks == 3)
    #expect(rows[1].load.cacheSource == .events)
    #expect(rows[1].load.cacheReason == .feedLive)
    #expect(rows[2].refusal == .busyPrefill)
    #expect(rows[2].refusedUntil == nil)
    bench.router.remove(worker: 3)
    bench.router.remove(worker: 2)
    rows = bench.router.state(now: bench.now + 2 * second)
    #expect(rows.map(\.load.worker) == [1, 3])
    #expect(rows.map(\.isLive) == [true, false])
    #expect(rows[0].refusal == .none)
  }
}

@Suite struct Truth {
  private func run(_ bench: Bench, _ count: Int, cached: Int) {
    for _ in 0..<count {
      bench.select(Array(1...20), named: 1)
      bench.router.free(
        bench.decision.booking, served: true, now: bench.now, promptTokens: 320, cachedTokens: cached)
    }
  }

  @Test func eachReportSaysHowFarItIsFromWhatWasExpected() {
    let bench = Bench(workers: 1)
    bench.serve(Array(1...20), on: 1)
    func error(_ blocks: [UInt64], prompt: Int?, cached: Int?, served: Bool = true) -> Double? {
      bench.select(blocks, named: 1)
      return bench.router.free(
        bench.decision.booking, served: served, now: bench.now, promptTokens: prompt, cachedTokens: cached)
    }
    #expect(error(Array(1...20), prompt: 320, cached: 320) == 0)
    #expect(error(Array(1...20), prompt: 320, cached: 240) == 0.25)
    #expect(error(Array(101...120), prompt: 320, cached: 32) == 0.1)
    // Of these nothing can be said.
    #expect(error(Array(1...20), prompt: 320, cached: nil) == nil)
    #expect(error(Array(1...20), prompt: 320, cached: 0, served: false) == nil)
    #expect(error([1, 2], prompt: 32, cached: 0) == nil)
    #expect(bench.router.free(bench.decision.booking, served: true, now: bench.now, cachedTokens: 0) == nil)
  }

  @Test func aDecisionWithAClockTellsHowLongItsLookUpTook() {
    let bench = Bench(workers: 1)
    var time: Nanoseconds = 5
    let decision = RoutingDecision {
      time += 7
      return time
    }
    let blocks = chain([1, 2, 3])
    blocks.withUnsafeBufferPointer {
      _ = bench.router.select(
        RoutingRequest(chain: $0, tokens: 48), now: bench.now, random: &bench.random, into: decision)
    }
    #expect(decision.lookUpTime == 7)
    bench.select([1, 2, 3])
    #expect(bench.decision.lookUpTime == 0)
  }

  @Test func theClockIsReadInKVModeOnly() {
    for (mode, readings) in [(RoutingMode.kv, 2), (.roundRobin, 0), (.leastLoaded, 0)] {
      let bench = Bench(workers: 2) { $0.mode = mode }
      var count = 0
      let decision = RoutingDecision {
        count += 1
        return 0
      }
      chain([1, 2, 3]).withUnsafeBufferPointer {
        _ = bench.router.select(
          RoutingRequest(chain: $0, tokens: 48), now: bench.now, random: &bench.random, into: decision)
      }
      #expect(count == readings, "\(mode)")
    }
  }

  @Test func reportsThatAgreeGiveNoVerdict() {
    let bench = Bench(workers: 1)
    bench.serve(Array(1...20), on: 1)
    run(bench, 40, cached: 312)
    let truth = bench.router.truth(of: 1)
    #expect(truth?.observations == 40)
    #expect(truth?.isDrifting == false)
    #expect((truth?.drift ?? 1) < 0.05)
    #expect(truth?.overstated == 0)
    #expect(bench.router.truth(of: 9) == nil)
  }

  @Test func verdictBeginsAndEndsApart() {
    let bench = Bench(workers: 1)
    bench.serve(Array(1...20), on: 1)
    run(bench, 15, cached: 0)
    #expect(bench.router.truth(of: 1)?.isDrifting == false)
    run(bench, 1, cached: 0)
    #expect(bench.router.truth(of: 1)?.isDrifting == true)
    #expect(bench.router.truth(of: 1)?.overstated == 16)
    #expect((bench.router.truth(of: 1)?.bias ?? 0) == 1)
    var count = 0
    while bench.router.truth(of: 1)?.isDrifting == true, count < 200 {
      run(bench, 1, cached: 320)
      count += 1
      let drift = bench.router.truth(of: 1)?.drift ?? 0
      #expect(bench.router.truth(of: 1)?.isDrifting == (drift >= CacheTruth.driftingUntil))
    }
    #expect(count > 10 && count < 200)
    #expect(bench.router.truth(of: 1)?.verdicts == 1)
    bench.router.resetTruth(worker: 1)
    #expect(bench.router.truth(of: 1) == CacheTruth())
  }

  @Test func unreportedHitsAndSmallPromptsProveNothing() {
    let bench = Bench(workers: 1)
    bench.serve(Array(1...20), on: 1)
    for _ in 0..<30 { bench.serve(Array(1...20), on: 1) }
    #expect(bench.router.truth(of: 1)?.observations == 0)
    bench.select([1, 2, 3], named: 1)
    bench.router.free(
      bench.decision.booking, served: true, now: bench.now, promptTokens: 48, cachedTokens: 0)
    #expect(bench.router.truth(of: 1)?.observations == 0)
    // Shared with a request in flight, whose blocks may not be there yet.
    bench.select(Array(1...20), named: 1)
    run(bench, 1, cached: 0)
    #expect(bench.router.truth(of: 1)?.observations == 0)
  }

  @Test func hitsThatTheRouterDidNotExpectAreCounted() {
    let bench = Bench(workers: 1)
    bench.select(Array(1...20), named: 1)
    bench.router.free(
      bench.decision.booking, served: true, now: bench.now, promptTokens: 320, cachedTokens: 160)
    #expect(bench.router.truth(of: 1)?.understated == 1)
    #expect(bench.router.truth(of: 1)?.bias == -0.5)
  }
}
