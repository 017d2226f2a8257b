// Hedging: two workers are asked for one answer, and one is heard, whatever the other does.

import Base
import EventLoop
import Routing
import Telemetry
import TestSupport
import Testing
import Workers

@testable import Frontend

struct HedgeTests {
  private static let patience = 100 * millisecond
  private static let ok = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}"
  private static let full = "HTTP/1.1 503 No\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}"

  private func rig(
    traces: Bool = false, _ edit: (inout FrontendConfiguration) -> Void = { _ in }
  ) throws -> FrontendRig {
    try FrontendRig(traces: traces) {
      $0.retries.hedgeAfter = Self.patience
      edit(&$0)
    }
  }

  /// A request that two workers have, and their connections.
  private func hedged(_ rig: FrontendRig) -> (caller: Int32, first: Int32, second: Int32) {
    let caller = rig.post(FrontendRig.chat(bytes: 100))
    _ = rig.upstreamRequest()
    let first = rig.dialer.last
    rig.pass(Self.patience - 1)
    #expect(rig.dialer.last == first)
    rig.pass(1)
    #expect(rig.dialer.last == first + 1)
    #expect(rig.upstreamRequest().hasPrefix("POST /v1/chat/completions"))
    return (caller, first, rig.dialer.last)
  }

  private func expectNothingLeft(_ rig: FrontendRig) {
    #expect(rig.service.workers.models[0].routing.loads.allSatisfy { $0.activeRequests == 0 })
    #expect(rig.shared.retriesInProgress == 0)
    #expect(rig.service.openRequests == 0)
  }

  @Test(arguments: [true, false])
  func theFirstHeadWinsAndTheOtherWorkerIsLetGo(_ firstIsFaster: Bool) throws {
    let rig = try rig()
    let (caller, first, second) = hedged(rig)
    rig.send(Self.ok, on: firstIsFaster ? first : second)
    #expect(rig.isClosed(firstIsFaster ? second : first))
    #expect(rig.output(caller).status == 200)
    #expect(rig.shared.metrics.hedges.value == 1)
    #expect(rig.shared.metrics.hedgesWon.value == (firstIsFaster ? 0 : 1))
    expectNothingLeft(rig)
  }

  @Test(arguments: [true, false])
  func aWorkerThatFailsLeavesTheRequestToTheOther(_ breaks: Bool) throws {
    for firstFails in [true, false] {
      let rig = try rig()
      let (caller, first, second) = hedged(rig)
      let (loser, winner) = firstFails ? (first, second) : (second, first)
      if breaks { rig.reset(loser) } else { rig.send(Self.full, on: loser) }
      #expect(rig.output(caller).isEmpty && !rig.isClosed(winner))
      rig.send(Self.ok, on: winner)
      #expect(rig.output(caller).status == 200)
      expectNothingLeft(rig)
    }
  }

  @Test func whenBothFailTheCallerHearsOfTheLast() throws {
    let rig = try rig()
    let (caller, first, second) = hedged(rig)
    rig.reset(second)
    rig.reset(first)
    #expect(rig.output(caller).status == 502)
    expectNothingLeft(rig)
  }

  @Test func aCallerThatLeavesCancelsBoth() throws {
    let rig = try rig()
    let (caller, first, second) = hedged(rig)
    rig.reset(caller)
    #expect(rig.isClosed(first) && rig.isClosed(second))
    expectNothingLeft(rig)
  }

  @Test func anAnswerThatHasBegunIsNotAskedForAgain() throws {
    let rig = try rig()
    let caller = rig.post(FrontendRig.chat(bytes: 100))
    _ = rig.upstreamRequest()
    let worker = rig.dialer.last
    rig.send("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n", on: worker)
    rig.pass(10 * Self.patience)
    #expect(rig.dialer.last == worker)
    rig.send("{}", on: worker)
    #expect(rig.output(caller).status == 200)
    expectNothingLeft(rig)
  }

  @Test func hedgesAreWithinTheRetryBudget() throws {
    let rig = try rig {
      $0.retries.floor = 0
      $0.retries.share = 0
    }
    let caller = rig.post(FrontendRig.chat(bytes: 100))
    _ = rig.upstreamRequest()
    let worker = rig.dialer.last
    rig.pass(10 * Self.patience)
    #expect(rig.dialer.last == worker && rig.shared.metrics.hedges.value == 0)
    #expect(rig.shared.metrics.retriesRefused.value == 1)
    rig.send(Self.ok, on: worker)
    #expect(rig.output(caller).status == 200)
  }

  @Test func withoutTheSettingNobodyElseIsAsked() throws {
    let rig = try FrontendRig()
    _ = rig.post(FrontendRig.chat(bytes: 100))
    _ = rig.upstreamRequest()
    let worker = rig.dialer.last
    rig.pass(10 * Self.patience)
    #expect(rig.dialer.last == worker)
  }

  @Test func bothAttemptsAreSpans() throws {
    let rig = try rig(traces: true)
    let (_, _, other) = hedged(rig)
    rig.pass(millisecond)
    rig.send(Self.ok, on: other)
    rig.pass(second)
    let (faults, _) = try rig.spans.check(SpanSchema())
    #expect(faults.isEmpty)
    #expect(rig.spans.text.contains("request.is_hedge") && rig.spans.text.contains("hedge_lost"))
  }
}
