// Bodies that trickle: ended by their average pace, whatever the gaps, unless it is we who do not read.

import Base
import EventLoop
import HTTP
import TestSupport
import Testing

@testable import Transport

private let head = "POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n"

struct BodyPaceTests {
  private func limits(_ pace: LeastPace? = LeastPace(bytesPerSecond: 100, grace: 20 * second)) -> ServerLimits
  {
    var limits = ServerLimits()
    limits.leastPace = pace
    return limits
  }

  /// Sends `count` bytes each `gap` until the connection ends or `times` are over; returns how often.
  private func trickle(_ rig: ServerRig, _ count: Int, each gap: Nanoseconds, times: Int = 100) -> Int {
    for time in 0..<times {
      rig.pass(gap)
      if rig.application.exchanges.last?.ends.isEmpty == false { return time }
      rig.send(String(repeating: "x", count: count))
    }
    return times
  }

  @Test func aByteNowAndThenEndsAfterTheGrace() throws {
    let rig = try ServerRig(limits: limits())
    rig.send(head)
    #expect(trickle(rig, 1, each: 5 * second) == 4, "20 s, and what three bytes buy")
    #expect(rig.application.exchanges[0].ends.map(\.name) == ["timedOut"])
    #expect(rig.application.refusals == [408] && rig.application.slowBodies == 1)
    #expect(rig.output().hasPrefix("HTTP/1.1 408"))
    rig.pass(3 * second)
    #expect(rig.isClosed)
  }

  @Test func whoKeepsThePaceIsNotEnded() throws {
    let rig = try ServerRig(limits: limits())
    rig.send(head)
    #expect(trickle(rig, 1_000, each: 10 * second) == 100)
    // Half of it is not enough: the credit of a silence at most, then the end.
    let more = trickle(rig, 500, each: 10 * second)
    #expect(more == 2)
    #expect(rig.application.slowBodies == 1)
  }

  @Test func whatCameFastDoesNotPayForHours() throws {
    let rig = try ServerRig(limits: limits())
    rig.send(head)
    for _ in 0..<50 { rig.send(String(repeating: "x", count: 10_000)) }
    #expect(trickle(rig, 1, each: 5 * second) == 6, "the longest silence that is allowed, 30 s")
    #expect(rig.application.slowBodies == 1)
  }

  @Test func silenceEndsAsBefore() throws {
    let rig = try ServerRig(limits: limits(LeastPace(bytesPerSecond: 1, grace: 60 * second)))
    rig.send(head)
    rig.pass(31 * second)
    #expect(rig.application.refusals == [408] && rig.application.slowBodies == 0)
  }

  @Test func withoutAPaceGapsAloneCount() throws {
    let rig = try ServerRig(limits: limits(nil))
    rig.send(head)
    #expect(trickle(rig, 1, each: 20 * second) == 100)
  }

  @Test func timeInWhichWeDoNotReadIsNotTheirs() throws {
    let rig = try ServerRig(limits: limits())
    rig.send(head)
    rig.pass(19 * second)
    let exchange = rig.application.exchanges[0]
    exchange.exchange.pauseBody()
    // Asked for again while it is paused already.
    rig.pass(100 * second)
    exchange.exchange.pauseBody()
    rig.pass(100 * second)
    exchange.exchange.resumeBody()
    rig.turn()
    #expect(exchange.ends.isEmpty)
    rig.send("x")
    #expect(exchange.ends.isEmpty)
    rig.pass(2 * second)
    #expect(exchange.ends.map(\.name) == ["timedOut"] && rig.application.slowBodies == 1)
  }

  @Test func chunksAreCountedByWhatTheyCarry() throws {
    let rig = try ServerRig(limits: limits())
    rig.send("POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n")
    for _ in 0..<4 {
      rig.pass(5 * second)
      // 500 bytes of extension a chunk would keep the pace.
      rig.send("1;\(String(repeating: "e", count: 500))\r\nx\r\n")
    }
    rig.pass(second)
    #expect(rig.application.slowBodies == 1)
  }

  @Test func whereAnAnswerHasBegunTheConnectionIsCut() throws {
    let rig = try ServerRig(limits: limits())
    rig.application.onHead = { $0.respond(200, .stream) }
    rig.send(head)
    #expect(trickle(rig, 1, each: 5 * second) == 4)
    #expect(rig.application.exchanges[0].ends.map(\.name) == ["timedOut"])
    #expect(rig.isClosed && rig.application.refusals.isEmpty && rig.application.slowBodies == 1)
  }

  @Test func theNextRequestBeginsAnew() throws {
    let rig = try ServerRig(limits: limits())
    for _ in 0..<5 {
      rig.send("POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nx")
      rig.pass(15 * second)
      rig.send("y")
      #expect(rig.output().hasPrefix("HTTP/1.1 200"))
    }
    #expect(rig.application.slowBodies == 0)
  }
}
