// The reactor against a played kernel: stale events, ticks, mail from other threads, shared shutdown.

import Base
import Glibc
import Synchronization
import TestSupport
import Testing

@testable import EventLoop

private final class Handler: EventHandler, TickHandler {
  var seen: [Readiness] = []
  var ticks = 0
  var onReady: (() -> Void)?
  var onTick: (() -> Void)?

  func ready(_ readiness: Readiness) {
    seen.append(readiness)
    onReady?()
  }

  func endOfTick() {
    ticks += 1
    onTick?()
  }
}

struct EventLoopTests {
  @Test func anEventOfAClosedDescriptorIsIgnored() throws {
    let kernel = FakeKernel()
    let loop = try EventLoop(index: 0, system: kernel, seed: 1)
    defer { loop.close() }
    let first = Handler()
    let second = Handler()
    let a = try loop.register(10, first)
    _ = try loop.register(11, second)
    kernel.queue([(10, .readable), (11, .readable)])
    second.onReady = {}
    first.onReady = {}
    // Closed earlier in the same batch: the second event is stale when its turn comes.
    kernel.queueFirst([(11, .readable)])
    second.onReady = { loop.deregister(a) }
    loop.turn(patience: 0)
    #expect(first.seen.isEmpty)
    #expect(second.seen.count == 2)
  }

  @Test func whoRegistersForInputIsNotWokenForOutput() throws {
    var ends: [Int32] = [-1, -1]
    try #require(
      socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue), 0, &ends) == 0)
    defer { for end in ends { close(end) } }
    let loop = try EventLoop(index: 0, seed: 1)
    defer { loop.close() }
    let handler = Handler()
    let registration = try loop.registerInput(ends[0], handler)
    loop.turn(patience: 0)
    // It is writable all the time, and again with each read.
    #expect(handler.seen.isEmpty)
    #expect(write(ends[1], "ab", 2) == 2)
    loop.turn(patience: 0)
    #expect(handler.seen.count == 1 && handler.seen[0].isReadable)
    var byte: UInt8 = 0
    #expect(read(ends[0], &byte, 1) == 1)
    loop.turn(patience: 0)
    #expect(handler.seen.count == 1)
    loop.deregister(registration, stillOpen: ends[0])
  }

  @Test func aReusedSlotDoesNotGetItsPredecessorsEvents() throws {
    let kernel = FakeKernel()
    let loop = try EventLoop(index: 0, system: kernel, seed: 1)
    defer { loop.close() }
    let old = Handler()
    let new = Handler()
    let registration = try loop.register(10, old)
    let stale = kernel.data(of: 10)
    loop.deregister(registration)
    _ = try loop.register(12, new)
    kernel.queueRaw([(stale, .readable)])
    loop.turn(patience: 0)
    #expect(old.seen.isEmpty)
    #expect(new.seen.isEmpty)
  }

  @Test func theEndOfTickRunsAfterAllEventsAndMayQueueMore() throws {
    let kernel = FakeKernel()
    let loop = try EventLoop(index: 0, system: kernel, seed: 1)
    defer { loop.close() }
    let handler = Handler()
    _ = try loop.register(10, handler)
    handler.onReady = { [unowned handler] in loop.atEndOfTick(handler) }
    handler.onTick = { [unowned handler] in if handler.ticks == 1 { loop.atEndOfTick(handler) } }
    kernel.queue([(10, .readable)])
    loop.turn(patience: 0)
    #expect(handler.ticks == 2)
  }

  @Test func mailFromOtherThreadsRunsInOrderAndStopsTheLoop() throws {
    let loop = try EventLoop(index: 0, seed: 1)
    let mailbox = loop.mailbox
    let order = Mutex<[Int]>([])
    let sender = try Thread(name: "sender") {
      for number in 0..<100 { mailbox.submit { _ in order.withLock { $0.append(number) } } }
      mailbox.submit { $0.stop() }
    }
    loop.run()
    sender.join()
    #expect(order.withLock { $0 } == Array(0..<100))
  }

  @Test func anEndedLoopLetsGoOfAllThatWasHandedToIt() throws {
    final class Owner: TimerHandler {
      func timerFired(_ timer: Timer) {}
    }
    let loop = try EventLoop(index: 0, system: FakeKernel(), seed: 1)
    var handler: Handler? = Handler()
    var owner: Owner? = Owner()
    var letter: Owner? = Owner()
    weak let heldHandler = handler
    weak let heldOwner = owner
    weak let heldLetter = letter
    var registration: Registration?
    let near = Timer()
    if let handler, let owner, let letter {
      registration = try loop.register(10, handler)
      loop.atEndOfTick(handler)
      loop.arm(near, at: loop.now + millisecond, owner)
      loop.arm(Timer(), at: loop.now + 3600 * second, owner)
      let bound = LoopBound(letter, of: loop)
      loop.mailbox.submit { _ = bound.open(on: $0) }
    }
    handler = nil
    owner = nil
    letter = nil
    #expect(heldHandler != nil && heldOwner != nil && heldLetter != nil)
    loop.close()
    #expect(heldHandler == nil && heldOwner == nil && heldLetter == nil)
    #expect(!near.isArmed)
    // What comes late does nothing.
    if let registration { loop.deregister(registration) }
    loop.mailbox.submit { _ in Issue.record("the loop has ended") }
    loop.turn(patience: 0)
  }

  @Test func timersFireWithTheClockOfTheLoop() throws {
    final class Owner: TimerHandler {
      var fired = 0
      func timerFired(_ timer: Timer) { fired += 1 }
    }
    let kernel = FakeKernel()
    let loop = try EventLoop(index: 0, system: kernel, seed: 1)
    defer { loop.close() }
    let owner = Owner()
    let timer = Timer()
    loop.arm(timer, at: kernel.time + 50 * millisecond, owner)
    loop.turn(patience: 0)
    #expect(owner.fired == 0)
    kernel.time += 51 * millisecond
    loop.turn(patience: 0)
    #expect(owner.fired == 1)
  }

  @Test func aBufferIsLentAndReclaimed() {
    let pool = BufferPool()
    var buffer = ByteBuffer()
    pool.lend(to: &buffer)
    let capacity = buffer.capacity
    #expect(capacity >= BufferPool.blockBytes)
    buffer.append("hello" as StaticString)
    pool.reclaim(&buffer)
    let keptWhileFull = buffer.hasMemory
    #expect(keptWhileFull)
    buffer.removeAll()
    pool.reclaim(&buffer)
    let keptWhenEmpty = buffer.hasMemory
    #expect(!keptWhenEmpty)
  }
}
