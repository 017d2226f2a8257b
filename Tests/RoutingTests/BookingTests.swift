// A request's load is given back exactly once, however it ends.

import Base
import Testing

@testable import Routing

@Suite struct Bookings {
  private func expectIdle(_ bench: Bench, _ worker: UInt64 = 1) {
    let load = bench.load(of: worker)
    #expect(load?.activeRequests == 0)
    #expect(load?.activeBlocks == 0)
    #expect(load?.prefillTokens == 0)
    #expect(bench.router.statistics.bookings == 0)
    bench.router.index.checkInvariants()
  }

  @Test(arguments: [true, false], [true, false])
  func everyEndingFreesTheLoad(_ hasFirstToken: Bool, _ served: Bool) {
    let bench = Bench(workers: 1)
    bench.select([1, 2, 3], tokens: 50)
    if hasFirstToken { bench.router.firstToken(bench.decision.booking) }
    bench.router.free(
      bench.decision.booking, served: served, now: bench.now, promptTokens: 50, cachedTokens: 0)
    expectIdle(bench)
  }

  @Test func endingTwiceCountsOnce() {
    let bench = Bench(workers: 1)
    bench.select([1, 2])
    let first = bench.decision.booking
    bench.select([1, 2])
    let second = bench.decision.booking
    bench.router.free(first, served: true, now: bench.now)
    bench.router.free(first, served: true, now: bench.now)
    bench.router.firstToken(first)
    #expect(bench.load(of: 1)?.activeRequests == 1)
    #expect(bench.load(of: 1)?.activeBlocks == 2)
    bench.router.firstToken(second)
    bench.router.firstToken(second)
    bench.router.free(second, served: true, now: bench.now)
    expectIdle(bench)
  }

  @Test func oldHandleDoesNotMeetANewRequestInItsSlot() {
    let bench = Bench(workers: 1)
    bench.select([1])
    let old = bench.decision.booking
    bench.router.free(old, served: true, now: bench.now)
    bench.select([2])
    #expect(bench.decision.booking.index == old.index)
    bench.router.free(old, served: true, now: bench.now)
    #expect(bench.load(of: 1)?.activeRequests == 1)
    bench.router.free(.none, served: true, now: bench.now)
    #expect(bench.load(of: 1)?.activeRequests == 1)
  }

  @Test func forgottenBookingsExpire() {
    let bench = Bench(workers: 2)
    bench.select([1, 2, 3], named: 1)
    let stale = bench.decision.booking
    bench.now += 299 * second
    bench.select([4], named: 2)
    #expect(bench.load(of: 1)?.activeRequests == 1)
    bench.now += second
    bench.select([5], named: 2)
    #expect(bench.load(of: 1)?.activeRequests == 0)
    #expect(bench.load(of: 1)?.activeBlocks == 0)
    #expect(bench.router.statistics.expiredBookings == 1)
    bench.router.free(stale, served: true, now: bench.now)
    #expect(bench.load(of: 1)?.activeRequests == 0)
    bench.now += 300 * second
    _ = bench.router.maintain(now: bench.now)
    expectIdle(bench)
    expectIdle(bench, 2)
    #expect(bench.router.statistics.expiredBookings == 3)
  }

  @Test func bookingsOutliveTheirPredictions() {
    let bench = Bench(workers: 1)
    bench.select([1, 2, 3])
    let long = bench.decision.booking
    bench.now += 200 * second
    _ = bench.router.maintain(now: bench.now)
    #expect(bench.overlaps([1, 2, 3]) == [1: 0])
    #expect(bench.load(of: 1)?.activeBlocks == 3)
    // A request that parts from it in the middle of its blocks shares the rest.
    bench.select([1, 2, 4])
    #expect(bench.load(of: 1)?.activeBlocks == 4)
    bench.router.free(long, served: true, now: bench.now)
    #expect(bench.load(of: 1)?.activeBlocks == 3)
    bench.router.free(bench.decision.booking, served: true, now: bench.now)
    expectIdle(bench)
  }
}
