// Static workers and routing weights that change while the directory runs.

import Base
import EventLoop
import Routing
import Synchronization
import Telemetry
import Testing

@testable import Workers

struct ReconfigurationTests {
  private func urls(_ texts: String...) throws -> [WorkerURL] {
    try texts.map { try WorkerURL.parse($0).get() }
  }

  private let a = "http://127.0.0.1:8001"
  private let b = "http://127.0.0.1:8002"

  @Test func workersThatAreNoLongerNamedLeaveAndNewOnesAreAsked() throws {
    let rig = try ControlRig { $0.urls = [a] }
    rig.answer("m")
    let first = rig.latest.workers[0].id
    rig.control.adopt(fixed: try urls(a, b))
    rig.turn()
    #expect(rig.latest.workers.map(\.url) == [a, b])
    #expect(rig.latest.models[0].workers.map(\.id) == [first])
    rig.answer("m")
    #expect(rig.latest.models[0].workers.count == 2)
    rig.control.adopt(fixed: try urls(b))
    rig.turn()
    #expect(rig.latest.workers.map(\.url) == [b])
    #expect(rig.latest.models[0].workers.map(\.facts.url) == [b])
    #expect(rig.latest.models[0].routing.loads.map(\.worker) == [rig.latest.workers[0].id])
    #expect(rig.lines.lines.contains { $0.contains("worker is gone") && $0.contains("no longer configured") })
    rig.control.adopt(fixed: [])
    rig.turn()
    #expect(rig.latest.workers.isEmpty && !rig.latest.hasReadyWorker)
    #expect(rig.latest.models.map(\.name) == ["m"])
  }

  @Test func aWorkerThatLeavesAndReturnsIsAskedAnew() throws {
    let rig = try ControlRig { $0.urls = [a] }
    rig.answer("m")
    rig.control.adopt(fixed: [])
    rig.turn()
    #expect(rig.prober.open.isEmpty)
    rig.control.adopt(fixed: try urls(a))
    rig.turn()
    #expect(rig.state() == "unprobed")
    rig.answer("m")
    #expect(rig.state() == "ready")
  }

  @Test func theSameWorkersAgainChangeNothing() throws {
    let rig = try ControlRig { $0.urls = [a, b] }
    let count = rig.sets.count
    rig.control.adopt(fixed: try urls(b, a))
    rig.turn()
    #expect(rig.sets.count == count)
    #expect(rig.prober.open.count == 2)
  }

  @Test func simulatedWorkersStay() throws {
    let rig = try ControlRig {
      $0.urls = [a]
      $0.simulatedURLs = [b]
    }
    rig.control.adopt(fixed: [])
    rig.turn()
    #expect(rig.latest.workers.map(\.url) == [b])
  }

  @Test func aWorkerThatFoundNoRoomIsTriedAgain() throws {
    let rig = try ControlRig {
      $0.urls = [a, b]
      $0.workersMax = 1
    }
    #expect(rig.latest.workers.map(\.url) == [a])
    rig.control.adopt(fixed: try urls(b))
    rig.turn()
    #expect(rig.latest.workers.map(\.url) == [b])
  }

  @Test func weightsReachTheModelsThereAreAndThoseToCome() throws {
    let rig = try ControlRig { $0.urls = [a, b] }
    rig.prober.open[0].end(
      .success(ProbeAnswer(models: ["m"], blockSize: 16, totalBlocks: 100, isDynamoWorker: false)))
    rig.turn()
    var weights = RoutingWeights()
    weights.busyPrefillTokens = 50
    rig.control.adopt(weights)
    rig.prober.open[0].end(
      .success(ProbeAnswer(models: ["n"], blockSize: 16, totalBlocks: 100, isDynamoWorker: false)))
    rig.turn()
    for model in rig.latest.models {
      var random = Xoshiro256(seed: 1)
      let outcomes = (0..<2).map { _ in
        model.routing.select(
          RoutingRequest(chain: UnsafeBufferPointer(start: nil, count: 0), tokens: 100), bytes: 400,
          now: rig.loop.now,
          random: &random, into: RoutingDecision())
      }
      guard case .chosen = outcomes[0], case .allBusy = outcomes[1] else {
        Issue.record("\(model.name): \(outcomes)")
        continue
      }
    }
    #expect(rig.latest.models.count == 2)
  }

  @Test func theDirectoryRefusesAllWhenOneURLIsUnusable() throws {
    var configuration = WorkerDirectoryConfiguration()
    configuration.urls = [a]
    configuration.resolve = { _, _ in [] }
    let directory = try WorkerDirectory(
      configuration: configuration, logger: quietLogger, registry: MetricRegistry())
    try directory.start()
    defer { directory.stop() }
    #expect(throws: WorkerDirectoryError.self) {
      try directory.adopt(urls: [b, "ftp://x", "http://"], weights: RoutingWeights())
    }
    try directory.adopt(urls: [b], weights: RoutingWeights())
    // What is asked later is done later: when this runs, the workers have changed.
    let loop = try EventLoop(index: 0, seed: 1)
    let seen = Mutex<[[String]]>([])
    directory.subscribe(loop.mailbox) { loop, set in
      seen.withLock { $0.append(set.workers.map(\.url)) }
      if set.workers.map(\.url) == [b] { loop.stop() }
    }
    loop.run()
    #expect(seen.withLock { $0.last } == [b])
    #expect(seen.withLock { $0 }.allSatisfy { $0 == [a] || $0 == [b] || $0.isEmpty })
  }

  /// Reading the same configuration again is no reason to undo what an operator did.
  @Test func anOperatorsChangesOutliveTheSameURLsAndNoOthers() throws {
    var configuration = WorkerDirectoryConfiguration()
    configuration.urls = [a]
    configuration.resolve = { _, _ in [] }
    let directory = try WorkerDirectory(
      configuration: configuration, logger: quietLogger, registry: MetricRegistry())
    try directory.start()
    let done = Mutex<[Set<String>]>([])
    let note: @Sendable () -> Void = {
      directory.onControl { control in done.withLock { $0.append(Set(control.fixed.map(\.text))) } }
    }
    directory.add(url: b) { _ in }
    note()
    try directory.adopt(urls: [a], weights: RoutingWeights())
    note()
    try directory.adopt(urls: [b], weights: RoutingWeights())
    note()
    try directory.adopt(urls: [a], weights: RoutingWeights())
    note()
    // The control thread does all that it was asked before it ends.
    directory.stop()
    #expect(done.withLock { $0 } == [[a, b], [a, b], [b], [a]])
  }
}
