// What a connect that fails says about a worker: refused at once, late, or not even tried.

import Base
import EventLoop
import Glibc
import Routing
import TestSupport
import Testing
import Workers

@testable import Frontend

struct WorkerFailureTests {
  /// Posts a request and has its connect end with `code`.
  private func failing(_ rig: FrontendRig, _ code: Int32) -> Int32 {
    let caller = rig.post(FrontendRig.chat(bytes: 100))
    rig.kernel.connectErrors[rig.dialer.last] = code
    rig.kernel.queue([(rig.dialer.last, .error)])
    rig.turn()
    return caller
  }

  private func isServedByAnother(_ rig: FrontendRig, _ caller: Int32, first: Int32) {
    #expect(rig.dialer.last == first + 1)
    _ = rig.upstreamRequest()
    rig.answer("{}")
    #expect(rig.output(caller).status == 200)
  }

  /// Workers that no request may go to.
  private func refused(_ rig: FrontendRig) -> Int {
    rig.service.workers.models[0].routing.report(now: rig.loop.now).workers.count { $0.refusal != .none }
  }

  @Test func aRefusedConnectExcludesTheWorkerForAll() throws {
    let rig = try FrontendRig()
    let caller = failing(rig, ECONNREFUSED)
    #expect(rig.reports.failed.count == 1 && rig.reports.timedOut.isEmpty)
    #expect(refused(rig) == 1)
    isServedByAnother(rig, caller, first: 100)
  }

  @Test func aConnectThatTimesOutMovesItsRequestAndNobodyElses() throws {
    let rig = try FrontendRig()
    let caller = rig.post(FrontendRig.chat(bytes: 100))
    rig.pass(4 * second)
    #expect(rig.reports.failed.isEmpty && rig.reports.timedOut.count == 1)
    #expect(refused(rig) == 0)
    isServedByAnother(rig, caller, first: 100)
  }

  @Test(arguments: [EADDRNOTAVAIL, ENOBUFS, EMFILE])
  func whatThisMachineLacksIsNotTheWorkersFault(_ code: Int32) throws {
    let rig = try FrontendRig()
    let caller = failing(rig, code)
    #expect(rig.reports.failed.isEmpty && rig.reports.timedOut.isEmpty)
    #expect(refused(rig) == 0)
    isServedByAnother(rig, caller, first: 100)
  }
}
