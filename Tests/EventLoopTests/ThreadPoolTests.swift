// The thread pool on real threads: everything comes home once, the bound refuses, the end drops what waits.

import Base
import Synchronization
import Testing

@testable import EventLoop

/// Adds itself up on a thread of the pool and is counted at home. Unchecked: the pool hands it from thread to thread.
private final class Sum: PooledWork, @unchecked Sendable {
  let number: Int
  private(set) var result = 0
  private let home: (Sum, EventLoop) -> Void

  init(_ number: Int, home: @escaping (Sum, EventLoop) -> Void) {
    self.number = number
    self.home = home
  }

  func run() { result = (0...number).reduce(0, +) }

  func returned(to loop: EventLoop) { home(self, loop) }
}

struct ThreadPoolTests {
  @Test func everythingComesHomeOnceToItsOwnLoop() throws {
    let loop = try EventLoop(index: 0, seed: 1)
    let pool = try ThreadPool(waitingMax: 1_000)
    try pool.start(threads: 3, name: "test")
    var seen = Set<Int>()
    for number in 0..<500 {
      let work = Sum(number) { work, home in
        #expect(home === loop)
        #expect(work.result == number * (number + 1) / 2)
        #expect(seen.insert(number).inserted)
        if seen.count == 500 { loop.stop() }
      }
      #expect(pool.submit(work, from: loop.mailbox))
    }
    loop.run()
    pool.stop()
    #expect(seen.count == 500)
  }

  @Test func aFullQueueRefusesAndCounts() throws {
    let loop = try EventLoop(index: 0, seed: 1)
    let pool = try ThreadPool(waitingMax: 2)
    var home = 0
    let work = (0..<3).map { Sum($0) { _, _ in home += 1 } }
    #expect(work.map { pool.submit($0, from: loop.mailbox) } == [true, true, false])
    #expect(pool.waitingCount == 2 && pool.refusedCount == 1)
    #expect(pool.runNext())
    #expect(pool.submit(work[2], from: loop.mailbox))
    while pool.runNext() {}
    loop.turn(patience: 0)
    #expect(home == 3)
    pool.stop()
  }

  @Test func aStoppedPoolDropsWhatWaitsAndTakesNoMore() throws {
    let loop = try EventLoop(index: 0, seed: 1)
    let pool = try ThreadPool(waitingMax: 2)
    var work: Sum? = Sum(1) { _, _ in Issue.record("it was dropped") }
    weak let kept = work
    #expect(work.map { pool.submit($0, from: loop.mailbox) } == true)
    work = nil
    pool.stop()
    #expect(kept == nil)
    #expect(!pool.submit(Sum(1) { _, _ in }, from: loop.mailbox))
  }
}
