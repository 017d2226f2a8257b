// Workers that only prefill: kept apart from those that answer, with a routing state of their own.

import Base
import EventLoop
import OpenAI
import Routing
import Testing
import Transport

@testable import Workers

struct PrefillWorkerTests {
  private func rig() throws -> ControlRig {
    try ControlRig { configuration in
      configuration.urls = ["http://127.0.0.1:8000"]
      configuration.prefillURLs = ["http://127.0.0.1:8001"]
    }
  }

  private func answer(_ rig: ControlRig, port: UInt16, blockSize: Int = 16, role: WorkerRole? = nil) {
    var answer = ProbeAnswer(models: ["m"], blockSize: blockSize, engine: .vllm)
    answer.role = role
    let id = try? WorkerURL.parse("http://127.0.0.1:\(port)").get().id
    rig.prober.open.first { $0.upstream.id == id }?.end(.success(answer))
    rig.turn()
  }

  @Test func theyAreNoWorkersOfWholeRequests() throws {
    let rig = try rig()
    answer(rig, port: 8001)
    // Nobody generates yet.
    let model = rig.latest.models[0]
    #expect(model.workers.isEmpty && model.hasWorkers && !rig.latest.hasReadyWorker)
    #expect(model.prefill?.workers.map(\.facts.url) == ["http://127.0.0.1:8001"])
    answer(rig, port: 8000, blockSize: 32)
    let both = rig.latest.models[0]
    #expect(both.workers.map(\.facts.url) == ["http://127.0.0.1:8000"])
    #expect(both.workers[0].facts.role == .aggregated && both.prefill?.workers[0].facts.role == .prefill)
    // One hashing does for both.
    #expect(both.routing.options.blockSize == 32 && both.prefill?.routing.options.blockSize == 32)
    #expect(both.blockSizes.others == [16])
    #expect(both.prefill?.routing.options.tracksActiveBlocks == false)
    #expect(both.routing.loads.count == 1 && both.prefill?.routing.loads.count == 1)
    #expect(rig.latest.pools.count == 2)
  }

  /// What is known of their caches stays while they are away for a moment.
  @Test func theirRoutingOutlivesThem() throws {
    let rig = try rig()
    answer(rig, port: 8000)
    answer(rig, port: 8001)
    let routing = rig.latest.models[0].prefill?.routing
    let id = try WorkerURL.parse("http://127.0.0.1:8001").get().id
    rig.control.requestFailed(id)
    rig.turn()
    #expect(rig.latest.models[0].prefill == nil)
    rig.advance(2 * second)
    answer(rig, port: 8001)
    #expect(rig.latest.models[0].prefill?.routing === routing)
  }

  @Test func aWorkerSaysItself() throws {
    let rig = try ControlRig { $0.urls = ["http://127.0.0.1:8000"] }
    answer(rig, port: 8000, role: .prefill)
    #expect(rig.latest.models[0].workers.isEmpty && rig.latest.models[0].prefill != nil)
    rig.advance(60 * second)
    // It was started anew, as one that does all.
    answer(rig, port: 8000)
    #expect(rig.latest.models[0].workers.count == 1 && rig.latest.models[0].prefill == nil)
  }

  @Test func listsOfModelsTellTheRole() throws {
    let text = "{\"data\":[{\"id\":\"m\",\"owned_by\":\"nvidia\",\"worker_type\":\"Prefill\"}]}"
    let answer = try Array(text.utf8).withUnsafeBytes { bytes throws(ProbeFailure) in
      try ProbeAnswer.parse(models: bytes)
    }
    #expect(answer.role == .prefill)
  }
}
