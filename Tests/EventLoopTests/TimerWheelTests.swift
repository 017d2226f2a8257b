// Timers: none early, none lost, cancel and re-arm from inside a handler.

import Base
import Testing

@testable import EventLoop

private final class Recorder: TimerHandler {
  var fired: [(tag: UInt8, deadline: Nanoseconds)] = []
  var onFire: ((Timer) -> Void)?

  func timerFired(_ timer: Timer) {
    fired.append((timer.tag, timer.deadline))
    onFire?(timer)
  }
}

struct TimerWheelTests {
  @Test(arguments: [1, 2, 63, 64, 65, 4095, 4096, 4097, 262_143, 262_144, 262_145, 20_000_000])
  func firesAtItsDeadlineAndNotBefore(milliseconds: UInt64) {
    let start: Nanoseconds = 123_456_789_123
    let wheel = TimerWheel(now: start)
    let recorder = Recorder()
    let timer = Timer()
    let deadline = start + milliseconds * millisecond
    wheel.arm(timer, at: deadline, recorder)
    var now = start
    while recorder.fired.isEmpty {
      guard let next = wheel.nextDeadline else {
        Issue.record("the timer was lost")
        return
      }
      #expect(next >= now)
      now = max(next, now + 1)
      wheel.advance(to: now)
    }
    #expect(now >= deadline)
    #expect(now <= deadline + millisecond)
    #expect(!timer.isArmed)
    #expect(wheel.nextDeadline == nil)
  }

  @Test func randomDeadlinesFireOnceInOrderOfTicks() {
    var random = Xoshiro256(seed: 7)
    let start: Nanoseconds = 5 * second
    let wheel = TimerWheel(now: start)
    let recorder = Recorder()
    var timers: [Timer] = []
    for index in 0..<2000 {
      let timer = Timer(tag: UInt8(index & 255))
      timers.append(timer)
      wheel.arm(timer, at: start + random.next() % (600 * second), recorder)
    }
    for timer in timers.prefix(500) { wheel.cancel(timer) }
    var now = start
    var seen = 0
    while let next = wheel.nextDeadline {
      now = next
      wheel.advance(to: now)
      for entry in recorder.fired[seen...] {
        #expect(entry.deadline <= now)
        #expect(now - entry.deadline <= millisecond)
      }
      seen = recorder.fired.count
    }
    #expect(recorder.fired.count == 1500)
    #expect(timers.allSatisfy { !$0.isArmed })
  }

  @Test func aHandlerMayRearmItselfAndCancelItsNeighbour() {
    let wheel = TimerWheel(now: 0)
    let recorder = Recorder()
    let first = Timer(tag: 1)
    let second = Timer(tag: 2)
    let third = Timer(tag: 3)
    for timer in [first, second, third] { wheel.arm(timer, at: 10 * millisecond, recorder) }
    recorder.onFire = { timer in
      recorder.onFire = nil
      for other in [first, second, third] where other !== timer { wheel.cancel(other) }
      wheel.arm(timer, at: 20 * millisecond, recorder)
    }
    wheel.advance(to: 15 * millisecond)
    #expect(recorder.fired.count == 1)
    wheel.advance(to: 25 * millisecond)
    #expect(recorder.fired.count == 2)
    #expect(wheel.nextDeadline == nil)
  }

  @Test func jumpingFarAheadFiresEverything() {
    let wheel = TimerWheel(now: 0)
    let recorder = Recorder()
    let timers = (0..<100).map { Timer(tag: UInt8($0)) }
    for (index, timer) in timers.enumerated() {
      wheel.arm(timer, at: UInt64(index) * 3 * second, recorder)
    }
    wheel.advance(to: 1000 * second)
    #expect(recorder.fired.count == 100)
  }
}
