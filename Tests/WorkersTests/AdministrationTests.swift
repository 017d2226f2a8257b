// What operators change: workers out of service and back, static workers more or fewer.

import Base
import Routing
import TestSupport
import Testing

@testable import Workers

struct AdministrationTests {
  private func rig() throws -> ControlRig {
    let rig = try ControlRig {
      $0.urls = ["http://127.0.0.1:8000", "http://127.0.0.1:8001"]
      $0.routing.mode = .roundRobin
    }
    for probe in rig.prober.open {
      probe.end(
        .success(ProbeAnswer(models: ["m"], blockSize: nil, totalBlocks: nil, isDynamoWorker: false)))
    }
    rig.turn()
    #expect(rig.latest.models.first?.workers.count == 2)
    return rig
  }

  /// Whom the next four requests go to; they stay under way.
  private func chosen(_ rig: ControlRig) -> [UInt64] {
    let routing = rig.latest.models[0].routing
    var random = Xoshiro256(seed: 1)
    let decision = RoutingDecision()
    return (0..<4).compactMap { _ in
      let request = RoutingRequest(chain: UnsafeBufferPointer(start: nil, count: 0), tokens: 10)
      let outcome = routing.select(
        request, bytes: 40, now: rig.kernel.time, random: &random, into: decision)
      return outcome == .chosen ? decision.worker : nil
    }
  }

  @Test func aDrainingWorkerKeepsItsRequestsAndGetsNoMore() throws {
    let rig = try rig()
    let ids = rig.latest.workers.map(\.id)
    #expect(Set(chosen(rig)) == Set(ids))
    rig.control.member(ids[0])?.drain(true)
    rig.turn()
    #expect(rig.latest.workers.map(\.takesRequests) == [false, true])
    #expect(chosen(rig) == [ids[1], ids[1], ids[1], ids[1]])
    // It is still known, with what it has.
    #expect(rig.latest.models[0].routing.loads.map(\.activeRequests) == [2, 6])
    #expect(rig.latest.hasReadyWorker)
    rig.control.member(ids[0])?.drain(false)
    rig.turn()
    #expect(Set(chosen(rig)) == Set(ids))
  }

  /// A refused connect excludes a worker for a while; its end must not end a drain.
  @Test func aDrainOutlivesAnExclusionAndAProbe() throws {
    let rig = try rig()
    let ids = rig.latest.workers.map(\.id)
    rig.control.member(ids[0])?.drain(true)
    rig.turn()
    rig.latest.models[0].routing.connectFailed(
      ids[0], now: rig.kernel.time, refusedUntil: rig.kernel.time + second)
    rig.advance(2 * second)
    #expect(Set(chosen(rig)) == [ids[1]])
    rig.control.requestFailed(ids[0])
    rig.turn()
    for probe in rig.prober.open {
      probe.end(
        .success(ProbeAnswer(models: ["m"], blockSize: nil, totalBlocks: nil, isDynamoWorker: false)))
    }
    rig.advance(2 * second)
    #expect(rig.latest.workers.map(\.isReady) == [true, true])
    #expect(Set(chosen(rig)) == [ids[1]])
  }

  @Test func withAllDrainedNothingIsReady() throws {
    let rig = try rig()
    for worker in rig.latest.workers { rig.control.member(worker.id)?.drain(true) }
    rig.turn()
    #expect(!rig.latest.hasReadyWorker && chosen(rig) == [])
  }

  @Test func staticWorkersComeAndGo() throws {
    let rig = try rig()
    let url = try WorkerURL.parse("http://127.0.0.1:8002").get()
    #expect(rig.control.addFixed(url) && !rig.control.addFixed(url))
    rig.turn()
    #expect(rig.latest.workers.count == 3 && rig.latest.workers[2].id == url.id)
    #expect(rig.control.removeFixed(url) && !rig.control.removeFixed(url))
    rig.turn()
    #expect(rig.latest.workers.count == 2)
  }
}
