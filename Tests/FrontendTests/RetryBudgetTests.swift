// What of a failed request counts against its worker, and how many requests may be repeated at a time.

import Base
import EventLoop
import Glibc
import Telemetry
import TestSupport
import Testing
@testable import Workers

@testable import Frontend

struct RetryBudgetTests {
  private func post(_ rig: FrontendRig) -> Int32 {
    let caller = rig.post(FrontendRig.chat(bytes: 100))
    _ = rig.upstreamRequest()
    return caller
  }

  private func refuse(_ rig: FrontendRig, _ status: Int) {
    rig.send("HTTP/1.1 \(status) No\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}", on: rig.dialer.last)
  }

  /// Faults that the two workers' tallies have.
  private func faults(_ rig: FrontendRig) -> Int {
    rig.service.workers.models[0].workers.reduce(0) { sum, worker in sum + worker.facts.tally.row }
  }

  @Test(arguments: [
    (500, 1), (502, 1), (504, 1), (501, 0), (529, 0), (400, 0), (401, 0), (403, 0), (404, 0), (429, 0),
  ])
  func whatCountsAgainstAWorker(_ status: Int, _ expected: Int) throws {
    let rig = try FrontendRig { $0.retries.workersMax = 0 }
    _ = post(rig)
    refuse(rig, status)
    #expect(faults(rig) == expected)
  }

  @Test func breaksCountAndCallersThatLeaveDoNot() throws {
    let rig = try FrontendRig { $0.retries.workersMax = 0 }
    let caller = post(rig)
    rig.reset(caller)
    #expect(faults(rig) == 0)
    _ = post(rig)
    rig.reset(rig.dialer.last)
    #expect(faults(rig) == 1)
    _ = post(rig)
    rig.send("no HTTP\r\n\r\n", on: rig.dialer.last)
    #expect(faults(rig) == 2)
  }

  @Test func repeatedRequestsAreBounded() throws {
    let rig = try FrontendRig {
      $0.retries.floor = 1
      $0.retries.share = 0
    }
    let first = post(rig)
    rig.reset(rig.dialer.last)
    #expect(rig.shared.retriesInProgress == 1)
    let retried = rig.dialer.last
    _ = rig.upstreamRequest()
    // The second one may not be repeated while the first is.
    let second = post(rig)
    rig.reset(rig.dialer.last)
    #expect(rig.output(second).status == 502)
    #expect(rig.shared.metrics.retriesRefused.value == 1)
    rig.send("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}", on: retried)
    #expect(rig.output(first).status == 200)
    #expect(rig.shared.retriesInProgress == 0)
  }

  @Test func aConnectThatFailsRepeatsNothing() throws {
    let rig = try FrontendRig {
      $0.retries.floor = 0
      $0.retries.share = 0
    }
    let caller = rig.post(FrontendRig.chat(bytes: 100))
    rig.kernel.connectErrors[rig.dialer.last] = ECONNREFUSED
    rig.kernel.queue([(rig.dialer.last, .error)])
    rig.turn()
    _ = rig.upstreamRequest()
    rig.answer("{}")
    #expect(rig.output(caller).status == 200)
    #expect(rig.shared.metrics.retriesRefused.value == 0)
  }

  @Test func theBudgetGrowsWithWhatIsInProgress() {
    var rules = RetryRules()
    rules.floor = 2
    rules.share = 0.1
    #expect(rules.allows(retries: 1, openRequests: 0) && !rules.allows(retries: 2, openRequests: 0))
    #expect(rules.allows(retries: 11, openRequests: 100) && !rules.allows(retries: 12, openRequests: 100))
  }
}
