// Past the bound of body memory: reading pauses, requests wait in order, and give up after a while.

import Base
import EventLoop
import Telemetry
import TestSupport
import Testing
import Transport

@testable import Frontend

/// More than a short body, so that each takes one.
private let step = 64 << 10
private let body = FrontendRig.chat(bytes: 1_000)

struct BodyMemoryTests {
  /// A rig with memory for `bodies` short ones.
  private func rig(bodies: Int, edit: (inout FrontendConfiguration) -> Void = { _ in }) throws -> FrontendRig
  {
    try FrontendRig {
      $0.bodyMemoryMax = bodies * step
      $0.bodyMemoryStep = step
      $0.bodyMemoryLoan = 0
      edit(&$0)
    }
  }

  @Test func aRequestWaitsUntilAnotherGivesItsMemoryBack() throws {
    let rig = try rig(bodies: 1)
    let first = rig.post(body)
    _ = rig.upstreamRequest()
    let second = rig.post(body)
    #expect(rig.dialer.last == 100)
    #expect(rig.output(second).isEmpty)
    rig.answer("{\"a\":1}")
    #expect(rig.output(first).status == 200)
    // The memory came free with the head of the first answer: the second request follows on the kept connection.
    #expect(String(decoding: rig.kernel.takeOutput(100), as: UTF8.self).hasSuffix(body))
    #expect(rig.shared.bodyMemoryInUse == step)
    #expect(rig.shared.metrics.bodyMemoryWaits.value == 1)
  }

  @Test func aShortBodyTakesLittleMoreThanItsLength() throws {
    let rig = try FrontendRig()
    _ = rig.post(body)
    _ = rig.upstreamRequest()
    #expect((body.utf8.count..<body.utf8.count + 1_024).contains(rig.shared.bodyMemoryInUse))
  }

  @Test func thoseThatWaitAreServedInOrder() throws {
    let rig = try rig(bodies: 1)
    _ = rig.post(body)
    _ = rig.upstreamRequest()
    let names = ["one", "two", "three"]
    let callers = names.map { rig.post(body.replacing("lorem", with: $0)) }
    for index in names.indices {
      #expect(rig.dialer.last == 100 + Int32(index))
      rig.answerAndClose("{}")
      let request = rig.upstreamRequest()
      #expect(request.contains(names[index]), "\(names[index])")
      #expect(callers[index...].allSatisfy { rig.output($0).isEmpty })
    }
  }

  @Test func readingPausesAndGoesOn() throws {
    let rig = try rig(bodies: 4) { $0.preprocess.inlineBytesMax = .max }
    let long = FrontendRig.chat(bytes: 3 * step)
    _ = rig.post(body)
    _ = rig.upstreamRequest()
    _ = rig.post(body)
    _ = rig.upstreamRequest()
    let caller = rig.connect()
    let pieces = [0, 1, 2, 3].map { index in
      String(long.dropFirst(index * step).prefix(step))
    }
    rig.send(FrontendRig.head(bodyBytes: long.utf8.count) + pieces[0], on: caller)
    rig.send(pieces[1], on: caller)
    rig.send(pieces[2], on: caller)
    rig.send(pieces[3], on: caller)
    // Two steps were free; the third piece came before reading stopped, the fourth is still with the kernel.
    #expect(rig.kernel.input[caller]?.count == 1)
    #expect(rig.shared.bodyMemoryInUse == 4 * step)
    rig.answerAndClose("{}")
    rig.turn()
    // One step came free: the third piece has room, and the fourth is read; it needs more in turn.
    rig.shared.releaseBodyMemory(step)
    rig.pass(BodyWaiters.interval)
    #expect(rig.kernel.input[caller]?.isEmpty == true)
    #expect(rig.upstreamRequest().hasSuffix("\r\n\r\n" + long))
  }

  @Test func memoryThatAnotherLoopGivesBackIsFoundSoon() throws {
    let rig = try rig(bodies: 1)
    #expect(rig.shared.reserveBodyMemory(step))
    _ = rig.post(body)
    rig.pass(BodyWaiters.interval)
    #expect(rig.dialer.last == 99)
    rig.shared.releaseBodyMemory(step)
    rig.pass(BodyWaiters.interval)
    #expect(rig.upstreamRequest().hasSuffix(body))
  }

  @Test func waitingEndsWithARefusal() throws {
    for (gap, limit) in [(30 * second, 5 * second), (2 * second, 2 * second)] {
      let rig = try rig(bodies: 1) { $0.server.bodyGapTimeout = gap }
      #expect(rig.shared.reserveBodyMemory(step))
      let caller = rig.post(body)
      rig.pass(limit - 100 * millisecond)
      #expect(rig.output(caller).isEmpty)
      rig.pass(200 * millisecond)
      let answer = rig.output(caller)
      #expect(answer.status == 529)
      #expect(answer.contains("retry-after: 1\r\n") && answer.contains("\"code\":\"overloaded\""))
      #expect(rig.shared.bodyMemoryInUse == step)
      #expect(rig.shared.metrics.bodyMemoryRefusals.value == 1)
      #expect(rig.service.bodyWaiters.isEmpty)
      // The body was whole, so the connection is kept.
      #expect(!rig.isClosed(caller))
      rig.shared.releaseBodyMemory(step)
      rig.send(FrontendRig.head(bodyBytes: body.utf8.count) + body, on: caller)
      #expect(rig.upstreamRequest().hasSuffix(body))
    }
  }

  @Test func anUploadThatIsRefusedIsReadToItsEndAndClosed() throws {
    let rig = try rig(bodies: 1)
    #expect(rig.shared.reserveBodyMemory(step))
    let caller = rig.connect()
    rig.send(FrontendRig.head(bodyBytes: 10_000) + "{\"model\":", on: caller)
    rig.send("\"", on: caller)
    rig.pass(5_100 * millisecond)
    let answer = rig.output(caller)
    #expect(answer.status == 529 && answer.contains("connection: close\r\n"))
    rig.send(String(repeating: "x", count: 5_000), on: caller)
    #expect(!rig.isClosed(caller))
    rig.close(caller)
    #expect(rig.isClosed(caller))
  }

  @Test func whatOneGivesUpMayBeEnoughForTheNext() throws {
    let rig = try rig(bodies: 2) { $0.preprocess.inlineBytesMax = .max }
    // Two uploads hold one step each and want another: neither can go on.
    let half = FrontendRig.chat(bytes: step + 1_000)
    let callers = [rig.connect(), rig.connect()]
    for caller in callers {
      rig.send(FrontendRig.head(bodyBytes: half.utf8.count) + half.prefix(step), on: caller)
    }
    for caller in callers { rig.send(String(half.dropFirst(step)), on: caller) }
    #expect(rig.dialer.last == 99)
    rig.pass(5_100 * millisecond)
    #expect(rig.output(callers[0]).status == 529)
    #expect(rig.output(callers[1]).isEmpty)
    #expect(rig.upstreamRequest().hasSuffix(half))
  }

  @Test func theLoanLetsHalfReadBodiesGoOnOneAfterTheOther() throws {
    let rig = try rig(bodies: 5) {
      $0.preprocess.inlineBytesMax = .max
      $0.bodyMemoryLoan = 2 * step
    }
    // Three uploads hold all that is given, and each wants one step more.
    let half = FrontendRig.chat(bytes: step + 1_000)
    let callers = (0..<3).map { _ in rig.connect() }
    for caller in callers {
      rig.send(FrontendRig.head(bodyBytes: half.utf8.count) + half.prefix(step), on: caller)
    }
    #expect(rig.shared.bodyMemoryInUse == 3 * step)
    // Nobody else gets in by the loan while one of them has it.
    rig.send(String(half.dropFirst(step).prefix(10)), on: callers[0])
    rig.send(String(half.dropFirst(step)), on: callers[1])
    #expect(rig.output(rig.post(body)).isEmpty)
    #expect(rig.dialer.last == 99)
    rig.send(String(half.dropFirst(step + 10)), on: callers[0])
    rig.turn()
    #expect(rig.upstreamRequest().hasSuffix(half))
    // It had not to get in line. It is whole, so the next may borrow, although the first still holds what it took.
    rig.pass(BodyWaiters.interval)
    #expect(rig.upstreamRequest().hasSuffix(half))
    #expect(rig.shared.bodyMemoryInUse == 5 * step)
    // Now all is held by whole bodies but for one: the others wait for these.
    rig.send(String(half.dropFirst(step)), on: callers[2])
    rig.pass(BodyWaiters.interval)
    #expect(rig.dialer.last == 101)
    rig.answerAndClose("{}")
    rig.pass(BodyWaiters.interval)
    #expect(rig.upstreamRequest().contains("lorem"))
  }

  @Test func aBorrowerThatLeavesGivesTheLoanBack() throws {
    for leave in [FrontendRig.close, FrontendRig.reset] {
      let rig = try rig(bodies: 2) { $0.bodyMemoryLoan = step }
      #expect(rig.shared.reserveBodyMemory(step))
      let first = rig.connect()
      rig.send(FrontendRig.head(bodyBytes: 10_000) + "{\"model\":", on: first)
      #expect(rig.shared.bodyMemoryInUse == 2 * step)
      leave(rig)(first)
      #expect(rig.shared.bodyMemoryInUse == step)
      _ = rig.post(body)
      #expect(rig.upstreamRequest().hasSuffix(body))
    }
  }

  @Test func aCallerThatLeavesMakesRoomInTheLine() throws {
    for leave in [FrontendRig.close, FrontendRig.reset] {
      let rig = try rig(bodies: 1)
      #expect(rig.shared.reserveBodyMemory(step))
      let first = rig.post(body)
      _ = rig.post(body.replacing("lorem", with: "second"))
      leave(rig)(first)
      #expect(rig.isClosed(first))
      rig.shared.releaseBodyMemory(step)
      rig.pass(BodyWaiters.interval)
      #expect(rig.upstreamRequest().contains("second"))
      #expect(rig.service.bodyWaiters.isEmpty)
      #expect(rig.shared.bodyMemoryInUse == step)
    }
  }

  @Test func theDrainsDeadlineEndsTheWaiting() throws {
    let rig = try rig(bodies: 1)
    #expect(rig.shared.reserveBodyMemory(step))
    let caller = rig.post(body)
    rig.server.drain()
    rig.server.announceCut()
    rig.turn()
    #expect(rig.output(caller).status == 503)
    #expect(rig.service.bodyWaiters.isEmpty)
    #expect(rig.shared.loads.openRequests == 0)
    rig.pass(6 * second)
    #expect(rig.dialer.last == 99)
  }

  @Test func aDrainServesThoseThatWait() throws {
    let rig = try rig(bodies: 1)
    #expect(rig.shared.reserveBodyMemory(step))
    let caller = rig.post(body)
    rig.server.drain()
    rig.shared.releaseBodyMemory(step)
    rig.pass(BodyWaiters.interval)
    _ = rig.upstreamRequest()
    rig.answer("{}")
    #expect(rig.output(caller).status == 200)
  }

  @Test func aFullLineRefusesAtOnce() throws {
    let rig = try rig(bodies: 1) { $0.bodyWaitersMax = 1 }
    #expect(rig.shared.reserveBodyMemory(step))
    let first = rig.post(body)
    let second = rig.post(body)
    #expect(rig.output(first).isEmpty)
    #expect(rig.output(second).status == 529)
    #expect(rig.shared.bodyMemoryInUse == step)
  }

  @Test func aLongPromptsMemoryIsGivenBackWhenItsJobIsDropped() throws {
    let rig = try rig(bodies: 5)
    let long = rig.post(FrontendRig.chat(bytes: 300 * 1024))
    let next = rig.post(body)
    rig.close(long)
    #expect(rig.dialer.last == 99)
    rig.runPool()
    #expect(rig.upstreamRequest().hasSuffix(body))
    #expect(rig.output(next).isEmpty)
  }
}
