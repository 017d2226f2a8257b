// The cost formula on fixed numbers, and the choices that follow from it.

import Base
import Testing

@testable import Routing

/// Prompt of 10 blocks of 16 tokens.
private func inputs(overlap: Double, decode: Double, prefill: Double = 0) -> CostInputs {
  var inputs = CostInputs()
  inputs.promptTokens = 160
  inputs.overlapBlocks = overlap
  inputs.potentialDecodeBlocks = decode
  inputs.activePrefillTokens = prefill
  return inputs
}

@Suite struct CostFormula {
  @Test func workedExampleOfThreeWorkers() {
    // Dynamo's documented example: the second worker wins although the third caches most.
    let cost = CostParameters()
    #expect(cost.cost(inputs(overlap: 2, decode: 10)) == 18)
    #expect(cost.cost(inputs(overlap: 5, decode: 5)) == 10)
    #expect(cost.cost(inputs(overlap: 8, decode: 9)) == 11)
  }

  @Test func waitingPrefillAddsItsBlocks() {
    #expect(CostParameters().cost(inputs(overlap: 2, decode: 10, prefill: 48)) == 21)
  }

  @Test func creditNeverTurnsTheCostNegative() {
    var cost = CostParameters()
    cost.overlapCredit = 3
    #expect(cost.cost(inputs(overlap: 8, decode: 4)) == 4)
  }

  @Test func scaleWeighsPrefillAgainstDecode() {
    var cost = CostParameters()
    cost.prefillScale = 2
    #expect(cost.cost(inputs(overlap: 5, decode: 5)) == 15)
    cost.prefillScale = 0
    #expect(cost.cost(inputs(overlap: 5, decode: 5)) == 5)
  }

  @Test func decayShrinksTheCreditOnBusierWorkers() {
    var cost = CostParameters()
    cost.creditDecay = 1
    var busy = inputs(overlap: 8, decode: 0, prefill: 160)
    busy.excessPrefillBlocks = 10
    // Excess equals the prompt: half the credit is left.
    #expect(cost.cost(busy) == 16)
    #expect(cost.cost(inputs(overlap: 8, decode: 0)) == 2)
  }

  @Test func requestsInFlightCountByTheirWeight() {
    var cost = CostParameters()
    cost.activeRequestWeight = 0.5
    var some = inputs(overlap: 0, decode: 0)
    some.activeRequests = 6
    #expect(cost.cost(some) == 13)
  }

  @Test func hotPrefixTermBeginsAboveItsBoundAndTakesTheWholeCreditAtTwice() {
    let cost = CostParameters()
    var hot = inputs(overlap: 10, decode: 0)
    func term(_ requests: Double, _ elsewhere: Double?) -> Double {
      hot.activeRequests = requests
      hot.activeRequestsElsewhere = elsewhere
      return cost.spread(hot)
    }
    #expect(term(8, 0) == 0)
    #expect(term(12, 0) == 5)
    #expect(term(16, 0) == 10)
    #expect(term(500, 0) == 10)
    #expect(term(20, 10) == 0)
    #expect(term(30, 10) == 5)
    #expect(term(500, nil) == 0)
    hot.overlapBlocks = 0
    #expect(term(500, 0) == 0)
    var off = cost
    off.spreadsHotPrefixes = false
    hot.overlapBlocks = 10
    #expect(off.spread(hot) == 0)
  }
}

@Suite struct KVChoice {
  @Test func cachedPrefixAttractsTheNextRequest() {
    let bench = Bench(workers: 4)
    bench.serve([1, 2, 3, 4], on: 3)
    #expect(bench.select([1, 2, 3, 9]) == .chosen)
    #expect(bench.decision.worker == 3)
    #expect(bench.decision.overlapBlocks == 3)
    #expect(bench.decision.bestOverlapBlocks == 3)
    #expect(bench.decision.promptBlocks == 4)
    // 4 blocks less 3 cached, and 4 in use; elsewhere 4 and 4.
    #expect(bench.decision.cost == 5)
    #expect(bench.decision.margin == 3)
  }

  @Test func loadOutweighsTheCacheWhenTheCostSaysSo() {
    let bench = Bench(workers: 2)
    bench.serve([1, 2], on: 1)
    bench.select([100, 101, 102, 103, 104, 105], named: 1)
    bench.select([1, 2])
    #expect(bench.decision.worker == 2)
  }

  @Test func sharedBlocksInFlightCountOnce() {
    let bench = Bench(workers: 1)
    bench.select([1, 2, 3, 4])
    bench.select([1, 2, 3, 5])
    #expect(bench.load(of: 1)?.activeBlocks == 5)
    #expect(bench.load(of: 1)?.activeRequests == 2)
    bench.select([1, 2, 3, 4])
    #expect(bench.load(of: 1)?.activeBlocks == 5)
  }

  @Test func withoutReuseEveryBlockCounts() {
    let bench = Bench(workers: 1) { $0.assumesReuse = false }
    bench.select([1, 2, 3, 4])
    bench.select([1, 2, 3, 5])
    #expect(bench.load(of: 1)?.activeBlocks == 8)
    #expect(bench.decision.overlapBlocks == 3)
  }

  @Test func prefillCountsOnlyWhatIsNotCached() {
    let bench = Bench(workers: 1)
    bench.serve([1, 2, 3], on: 1)
    bench.select([1, 2, 3, 4], tokens: 70)
    #expect(bench.load(of: 1)?.prefillTokens == 70 - 48)
    bench.router.firstToken(bench.decision.booking)
    #expect(bench.load(of: 1)?.prefillTokens == 0)
  }

  @Test func switchesTurnLoadTrackingOff() {
    let bench = Bench(workers: 1) {
      $0.tracksActiveBlocks = false
      $0.tracksPrefillTokens = false
    }
    bench.select([1, 2, 3])
    #expect(bench.load(of: 1)?.activeBlocks == 0)
    #expect(bench.load(of: 1)?.prefillTokens == 0)
    #expect(bench.load(of: 1)?.activeRequests == 1)
    #expect(bench.overlaps([1, 2, 3]) == [1: 3])
  }

  @Test func tiesFallEvenlyOverSeeds() {
    var counts = [0, 0, 0, 0]
    for seed in 0..<4000 {
      let bench = Bench(workers: 4, seed: UInt64(seed))
      bench.select([1, 2, 3])
      counts[Int(bench.decision.worker) - 1] += 1
    }
    // Four standard deviations around 1000.
    for count in counts { #expect((890...1110).contains(count)) }
  }

  @Test func burstOfEqualPromptsSpreadsWithTheTermAndPilesUpWithout() {
    func spread(_ isOn: Bool) -> Int {
      let bench = Bench(workers: 2) { $0.cost.spreadsHotPrefixes = isOn }
      bench.serve(Array(1...50), on: 1)
      for _ in 0..<40 {
        bench.select(Array(1...50))
        bench.router.firstToken(bench.decision.booking)
      }
      return bench.load(of: 2)?.activeRequests ?? 0
    }
    #expect(spread(false) == 0)
    #expect(spread(true) >= 12)
  }

  @Test func spreadShareIsTold() {
    let bench = Bench(workers: 2)
    bench.serve(Array(1...50), on: 1)
    for _ in 0..<12 { bench.select(Array(1...50), named: 1) }
    bench.select(Array(1...50))
    // 12 in flight over a bound of 8: half of 50 on top of 50 in use, against 100 on the other worker.
    #expect(bench.decision.worker == 1)
    #expect(bench.decision.cost == 75)
    #expect(bench.decision.spreadShare == 25.0 / 75)
  }

  @Test func aCopyIsMadeOnlyWhereTheLoadIsWorthWhatItEvicts() {
    /// Where a prompt goes that is cached on worker 1, which has `others` requests of another prompt in flight.
    func chosen(weight: Double, blocksMax: Int, others: Int) -> (worker: UInt64, evicted: Int, cost: Double) {
      let bench = Bench(workers: 2, blocksMax: blocksMax) { $0.cost.evictionWeight = weight }
      bench.serve(Array(1...20), on: 1)
      bench.serve(Array(101...190), on: 2)
      for _ in 0..<others {
        bench.select(Array(201...230), named: 1)
        bench.router.firstToken(bench.decision.booking)
      }
      bench.select(Array(1...20))
      return (bench.decision.worker, bench.decision.evictedBlocks, bench.decision.cost)
    }
    // Full caches: worker 2 would have to evict 10 of its 90 blocks for these 20.
    #expect(chosen(weight: 0, blocksMax: 100, others: 1) == (2, 10, 40))
    #expect(chosen(weight: 4, blocksMax: 100, others: 1) == (1, 0, 50))
    // With room nothing is evicted, and Dynamo's cost decides.
    #expect(chosen(weight: 4, blocksMax: 1_000, others: 1) == (2, 0, 40))
  }

  @Test func theEvictionTermCountsWhatIsToldByEvents() {
    let bench = Bench(workers: 2, blocksMax: 10)
    bench.router.setSource(worker: 1, .events, reason: .feedLive)
    let held = chain(Array(101...109))
    held.withUnsafeBufferPointer {
      bench.router.apply(worker: 1, added: $0, removed: UnsafeBufferPointer(start: nil, count: 0))
    }
    bench.select([1, 2, 3], named: 1)
    #expect(bench.decision.evictedBlocks == 2)
    #expect(bench.decision.cost == 3 + 3 + 4 * 2)
    // A cache of unknown size has room.
    let unknown = Bench(workers: 1)
    unknown.serve(Array(1...500), on: 1)
    unknown.select([1000], named: 1)
    #expect(unknown.decision.evictedBlocks == 0)
  }

  @Test func temperatureDrawsBySoftmax() {
    var firsts = 0
    for seed in 0..<2000 {
      let bench = Bench(workers: 2, seed: UInt64(seed)) { $0.temperature = 1 }
      bench.serve([1, 2, 3, 4], on: 1)
      bench.select([1, 2, 3, 4])
      if bench.decision.worker == 1 { firsts += 1 }
    }
    // The two costs are one range apart: e to 1, which is 73 %; four standard deviations are 79.
    #expect((1383...1541).contains(firsts))
  }
}
