// When a loop rests between wake-ups: only while events are dense, and never longer than its interval.

import Base
import TestSupport
import Testing

@testable import EventLoop

private final class Silent: EventHandler {
  func ready(_ readiness: Readiness) {}
}

struct WakeupPacerTests {
  private let interval = 250 * microsecond

  private func pacer(events: Int, every gap: Nanoseconds, times: Int) -> WakeupPacer {
    var pacer = WakeupPacer(now: second)
    pacer.interval = interval
    for turn in 1...times { pacer.woke(at: second + UInt64(turn) * gap, events: events) }
    return pacer
  }

  @Test func sparseEventsNeverWait() {
    #expect(!pacer(events: 1, every: 10 * millisecond, times: 50).isDense)
    #expect(!pacer(events: 1, every: 130 * microsecond, times: 50).isDense)
  }

  @Test func denseEventsWait() {
    #expect(pacer(events: 1, every: 60 * microsecond, times: 50).isDense)
    // A loop that already rests stays so while a pause gathers two or more.
    #expect(pacer(events: 3, every: interval, times: 50).isDense)
    #expect(!pacer(events: 2, every: interval, times: 50).isDense)
  }

  @Test func oneEventAfterSilenceEndsIt() {
    var pacer = pacer(events: 3, every: interval, times: 50)
    pacer.woke(at: 10 * second, events: 1)
    #expect(!pacer.isDense)
  }

  @Test func itRestsForTheRemainderOfTheInterval() {
    let pacer = pacer(events: 10, every: interval, times: 50)
    let woke = second + 50 * interval
    #expect(pacer.pause(at: woke) == interval)
    #expect(pacer.pause(at: woke + 100 * microsecond) == 150 * microsecond)
    #expect(pacer.pause(at: woke + interval) == 0)
    #expect(pacer.pause(at: woke + second) == 0)
  }

  @Test func itRestsLongerForFewerEventsAndTwiceTheIntervalAtMost() {
    let woke = second + 50 * interval
    #expect(pacer(events: 5, every: interval, times: 50).pause(at: woke) == 8 * 50 * microsecond)
    #expect(pacer(events: 3, every: interval, times: 50).pause(at: woke) == 2 * interval)
  }

  @Test func nothingWaitsWhereItIsOff() {
    var pacer = WakeupPacer(now: 0)
    for turn in 1...100 { pacer.woke(at: UInt64(turn), events: 10) }
    #expect(!pacer.isDense)
  }

  @Test func aBusyLoopRestsBeforeItsWaitAndAnIdleOneDoesNot() throws {
    let kernel = FakeKernel()
    let loop = try EventLoop(index: 0, system: kernel, seed: 1)
    defer { loop.close() }
    loop.wakeupInterval = interval
    loop.openStreams = 1
    _ = try loop.register(10, Silent())
    for _ in 0..<40 {
      kernel.time += 20 * microsecond
      kernel.queue(Array(repeating: (10, .readable), count: 12))
      loop.turn(patience: 0)
    }
    #expect(kernel.rests.last == interval - 20 * microsecond)
    #expect(kernel.rests.count > 5)
    var before = kernel.rests.count
    loop.openStreams = 0
    for _ in 0..<40 {
      kernel.time += 20 * microsecond
      kernel.queue(Array(repeating: (10, .readable), count: 12))
      loop.turn(patience: 0)
    }
    // Nothing is relayed whose pieces could be gathered.
    #expect(kernel.rests.count == before)
    loop.openStreams = 1
    before = kernel.rests.count
    kernel.time += second
    for _ in 0..<5 {
      kernel.time += 10 * millisecond
      kernel.queue([(10, .readable)])
      loop.turn(patience: 0)
    }
    // The first wake-up after the silence still counts as busy; its rest has passed long ago.
    #expect(kernel.rests.count == before)
  }
}
