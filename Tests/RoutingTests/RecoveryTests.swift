// A worker that came back from an ejection takes a growing share of the decisions.

import Base
import Testing

@testable import Routing

struct RecoveryTests {
  private static let length = 100 * second

  /// How many of `count` requests at `now` the recovering one of two workers gets.
  private func share(_ router: inout Router, at now: Nanoseconds, of count: Int = 200) -> Int {
    var random = Xoshiro256(seed: 7)
    let decision = RoutingDecision()
    var chosen = 0
    for _ in 0..<count {
      let request = RoutingRequest(chain: UnsafeBufferPointer(start: nil, count: 0), tokens: 10)
      guard router.select(request, now: now, random: &random, into: decision) == .chosen else { continue }
      if decision.worker == 1 { chosen += 1 }
      router.free(decision.booking, served: true, now: now)
    }
    return chosen
  }

  private func router() -> Router {
    var options = RoutingOptions()
    options.mode = .roundRobin
    var router = Router(options: options)
    router.add(worker: 1)
    router.add(worker: 2)
    router.recover(worker: 1, since: 1000 * second, until: 1000 * second + Self.length)
    return router
  }

  @Test func theShareGrows() {
    var router = router()
    let shares = [0, 10, 50, 90, 100].map { share(&router, at: (1000 + $0) * second) }
    // In turn with another it would get half of them.
    #expect(shares[0] <= 20 && shares[0] > 0)
    #expect(zip(shares, shares.dropFirst()).allSatisfy { $0 <= $1 })
    #expect(shares[2] > 40 && shares[4] == 100)
  }

  @Test func itServesWhoeverHasNobodyElse() {
    var router = router()
    router.refuse(worker: 2, .draining)
    #expect(share(&router, at: 1000 * second) == 200)
    var other = self.router()
    other.remove(worker: 2)
    #expect(share(&other, at: 1000 * second) == 200)
  }

  @Test func aDryRunTakesNoTurn() {
    var router = router()
    let request = RoutingRequest(chain: UnsafeBufferPointer(start: nil, count: 0), tokens: 10)
    for _ in 0..<50 { _ = router.survey(request, now: 1000 * second) }
    var untouched = self.router()
    #expect(share(&router, at: 1000 * second) == share(&untouched, at: 1000 * second))
  }

  @Test func operatorsSeeHowLongItRecovers() {
    let router = router()
    let states = router.state(now: 1030 * second)
    #expect(states.map(\.recoveringUntil) == [1100 * second, nil])
    #expect(router.state(now: 1100 * second).map(\.recoveringUntil) == [nil, nil])
  }
}
