// Static workers: when they are asked, when they are chosen, what snapshots say.

import Base
import EventLoop
import OpenAI
import Routing
import Testing

@testable import Workers

struct StaticWorkerTests {
  private func rig(edit: (inout WorkerDirectoryConfiguration) -> Void = { _ in }) throws -> ControlRig {
    try ControlRig { configuration in
      configuration.urls = ["http://127.0.0.1:8000"]
      edit(&configuration)
    }
  }

  @Test func aWorkerIsAskedAtOnceAndReadyWhenItAnswers() throws {
    let rig = try rig()
    #expect(rig.state() == "unprobed")
    #expect(rig.prober.open.first?.questions.cache == true)
    rig.answer("m", blockSize: 32, totalBlocks: 100)
    #expect(rig.state() == "ready")
    let worker = rig.latest.workers[0]
    #expect(worker.blockSize == 32)
    #expect(worker.totalBlocks == 100)
    #expect(worker.source.label == "static")
    #expect(rig.latest.models.map(\.name) == ["m"])
    #expect(rig.latest.hasReadyWorker)
  }

  @Test func aWorkerThatSaysNothingOfItsCacheHasTheUsualOne() throws {
    let rig = try rig()
    rig.answer("m")
    #expect(rig.latest.workers[0].blockSize == 16)
    #expect(rig.latest.workers[0].totalBlocks == 16_384)
  }

  /// One answer that did not come decides nothing, and another engine serves other routes.
  @Test func itsRoutesAreAskedForUntilTheyAreToldAndAgainAfterAChange() throws {
    let rig = try rig()
    func answer(_ engine: EngineKind, _ endpoints: EndpointSet?) {
      var answer = ProbeAnswer(models: ["m"], engine: engine)
      answer.endpoints = endpoints
      rig.end(.success(answer))
      rig.advance(60 * second)
    }
    #expect(rig.prober.open.first?.questions.routes == true)
    answer(.vllm, nil)
    #expect(rig.latest.workers[0].endpoints == Worker.assumedEndpoints)
    #expect(rig.prober.open.first?.questions.routes == true)
    answer(.vllm, EndpointSet(.embeddings))
    #expect(rig.latest.workers[0].endpoints == EndpointSet(.embeddings))
    #expect(rig.prober.open.first?.questions.routes == false)
    answer(.sglang, nil)
    #expect(rig.prober.open.first?.questions.routes == true)
    answer(.sglang, EndpointSet(.rerank))
    #expect(rig.latest.workers[0].endpoints == EndpointSet(.rerank))
  }

  @Test func theConfiguredBlockSizeWins() throws {
    let rig = try rig { $0.blockSizeOverride = 64 }
    #expect(rig.latest.workers[0].blockSize == 64)
    rig.answer("m", blockSize: 32)
    #expect(rig.latest.workers[0].blockSize == 64)
  }

  @Test func expiredRoutingStateIsClearedWithoutAnyRequest() throws {
    let rig = try rig { $0.routing.bookingExpiry = 10 * second }
    rig.answer("m")
    let routing = rig.latest.models[0].routing
    var random = Xoshiro256(seed: 1)
    _ = routing.select(
      RoutingRequest(chain: UnsafeBufferPointer(start: nil, count: 0), tokens: 100), bytes: 400,
      now: rig.loop.now,
      random: &random, into: RoutingDecision())
    #expect(routing.statistics.bookings == 1)
    rig.advance(6 * second)
    #expect(routing.statistics.bookings == 1)
    rig.advance(6 * second)
    #expect(routing.statistics.bookings == 0)
    #expect(routing.statistics.expiredBookings == 1)
    #expect(routing.loads[0].activeRequests == 0)
  }

  @Test func aWorkerThatWasNeverReadyIsAskedEachSecond() throws {
    let rig = try rig()
    rig.refuse()
    #expect(rig.state() == "connect: Connection refused")
    rig.advance(second - 10 * millisecond)
    #expect(rig.prober.open.isEmpty)
    rig.advance(20 * millisecond)
    rig.answer("m")
    #expect(rig.state() == "ready")
  }

  @Test func aReadyWorkerIsAskedAboutEachThirtySeconds() throws {
    let rig = try rig()
    rig.answer("m")
    rig.advance(26 * second)
    #expect(rig.prober.open.isEmpty)
    rig.advance(8 * second)
    #expect(rig.prober.open.count == 1)
    #expect(rig.prober.open.first?.questions.cache == false)
  }

  @Test func aWorkerThatWasReadyIsAskedEachTwoSecondsUntilItReturns() throws {
    let rig = try rig()
    rig.answer("m")
    rig.advance(34 * second)
    rig.end(.failure(.answer("status 503 'Loading model'")))
    #expect(rig.state() == "status 503 'Loading model'")
    #expect(rig.latest.models.map { $0.workers.count } == [0])
    rig.advance(1_900 * millisecond)
    #expect(rig.prober.open.isEmpty)
    rig.advance(200 * millisecond)
    // What comes back may have another cache.
    #expect(rig.prober.open.first?.questions.cache == true)
    rig.answer("m", blockSize: 8)
    #expect(rig.state() == "ready")
    #expect(rig.latest.workers[0].blockSize == 8)
  }

  @Test func oneMissedDeadlineDoesNotTakeABusyWorkerOut() throws {
    let rig = try rig()
    rig.answer("m")
    rig.advance(34 * second)
    for expected in ["ready", "ready", "no answer in time"] {
      rig.end(.failure(.silent))
      #expect(rig.state() == expected)
      rig.advance(2_010 * millisecond)
    }
  }

  @Test func aFailedConnectExcludesAtOnceAndAnAnswerBringsItBackAfterASecond() throws {
    let rig = try rig()
    rig.answer("m")
    let id = rig.latest.workers[0].id
    rig.control.requestFailed(id)
    rig.control.requestFailed(id)
    rig.turn()
    #expect(rig.state() == "a connect for a request failed")
    rig.answer("m")
    #expect(rig.state() == "a connect for a request failed")
    rig.advance(990 * millisecond)
    #expect(rig.state() != "ready")
    rig.advance(20 * millisecond)
    #expect(rig.state() == "ready")
  }

  @Test func oneConnectThatTimedOutOnlyHasTheWorkerAsked() throws {
    let rig = try rig()
    rig.answer("m")
    let id = rig.latest.workers[0].id
    rig.control.requestTimedOut(id)
    rig.turn()
    #expect(rig.state() == "ready")
    // Others of the same moment are no further sign.
    for _ in 0..<50 { rig.control.requestTimedOut(id) }
    rig.advance(900 * millisecond)
    rig.control.requestTimedOut(id)
    rig.turn()
    #expect(rig.state() == "ready")
    rig.answer("m")
    #expect(rig.state() == "ready")
    // The answer ends the doubt: the next one is a first one again.
    rig.advance(5 * second)
    rig.control.requestTimedOut(id)
    rig.turn()
    #expect(rig.state() == "ready")
  }

  @Test func aConnectThatTimedOutIsBelievedWhenAProbeIsNotAnsweredEither() throws {
    let rig = try rig()
    rig.answer("m")
    rig.control.requestTimedOut(rig.latest.workers[0].id)
    rig.turn()
    #expect(rig.state() == "ready")
    rig.end(.failure(.silent))
    #expect(rig.state() == "no answer in time")
    rig.advance(2_010 * millisecond)
    rig.answer("m")
    #expect(rig.state() == "ready")
  }

  @Test func connectsThatTimeOutAgainExcludeTheWorker() throws {
    let rig = try rig()
    rig.answer("m")
    let id = rig.latest.workers[0].id
    rig.control.requestTimedOut(id)
    rig.advance(1_100 * millisecond)
    #expect(rig.state() == "ready")
    rig.control.requestTimedOut(id)
    rig.turn()
    #expect(rig.state() == "a connect for a request failed")
    rig.answer("m")
    rig.advance(1_010 * millisecond)
    #expect(rig.state() == "ready")
    // Of a worker that is out already, and of one that is not known, there is nothing to learn.
    rig.control.requestFailed(id)
    rig.control.requestTimedOut(id)
    rig.control.requestTimedOut(42)
    rig.turn()
    #expect(rig.state() == "a connect for a request failed")
  }

  @Test func anExcludedWorkerStaysAwayUntilItAnswers() throws {
    let rig = try rig()
    rig.answer("m")
    rig.control.requestFailed(rig.latest.workers[0].id)
    rig.turn()
    rig.advance(1_500 * millisecond)
    #expect(rig.state() == "a connect for a request failed")
    rig.refuse()
    #expect(rig.state() == "connect: Connection refused")
    rig.advance(2_010 * millisecond)
    rig.answer("m")
    #expect(rig.state() == "ready")
  }

  @Test func aSecondFailureExcludesForTwiceAsLong() throws {
    let rig = try rig()
    rig.answer("m")
    let id = rig.latest.workers[0].id
    for length in [1, 2, 4] as [UInt64] {
      rig.control.requestFailed(id)
      rig.turn()
      rig.answer("m")
      rig.advance(length * second - 10 * millisecond)
      #expect(rig.state() != "ready")
      rig.advance(20 * millisecond)
      #expect(rig.state() == "ready")
    }
  }

  @Test func reportsAboutUnknownWorkersAreIgnored() throws {
    let rig = try rig()
    rig.control.requestFailed(42)
    rig.turn()
    #expect(rig.state() == "unprobed")
  }

  @Test func snapshotsComeOnlyWithChangesAndCountUp() throws {
    let rig = try rig()
    rig.answer("m")
    let count = rig.sets.count
    rig.advance(34 * second)
    rig.answer("m")
    #expect(rig.sets.count == count)
    rig.advance(34 * second)
    rig.answer("m", "adapter")
    #expect(rig.sets.count == count + 1)
    #expect(rig.latest.models.map(\.name) == ["m", "adapter"])
    #expect(rig.sets.map(\.generation) == Array(1...rig.sets.count))
  }

  @Test func onlyTheNamedModelIsServed() throws {
    let rig = try rig { $0.modelName = "m" }
    rig.answer("other")
    #expect(rig.state() == "it does not serve m")
    rig.advance(1_010 * millisecond)
    rig.answer("other", "m")
    #expect(rig.latest.models.map(\.name) == ["m"])
  }

  @Test func aModelIsForgottenAnHourAfterItsLastWorkerLeft() throws {
    let rig = try rig()
    rig.answer("m")
    rig.advance(34 * second)
    rig.refuse()
    #expect(rig.latest.models.count == 1)
    rig.advance(3_599 * second)
    #expect(rig.latest.models.count == 1)
    rig.advance(2 * second)
    #expect(rig.latest.models.isEmpty)
    #expect(rig.state() == "connect: Connection refused")
  }

  @Test func eachChangeOfStateIsOneLine() throws {
    let rig = try rig()
    rig.refuse()
    rig.advance(1_010 * millisecond)
    rig.refuse()
    rig.advance(1_010 * millisecond)
    rig.answer("m")
    rig.advance(34 * second)
    rig.answer("m")
    let lines = rig.lines.lines
    #expect(lines.count == 2)
    #expect(lines.first?.contains("worker is unreachable") == true)
    #expect(lines.first?.contains("Connection refused") == true)
    #expect(lines.last?.contains("worker is ready") == true)
    #expect(lines.last?.contains("\"worker_id\":\(rig.latest.workers[0].id)") == true)
  }

  @Test func twoSpellingsOfAWorkerAreOne() throws {
    let rig = try rig { $0.urls = ["http://127.0.0.1:8000", "http://127.0.0.1:8000/v1"] }
    #expect(rig.latest.workers.count == 1)
    #expect(rig.prober.open.count == 1)
  }

  @Test func workersPastTheBoundAreIgnored() throws {
    let rig = try rig {
      $0.urls = (1...5).map { "http://127.0.0.1:\($0)" }
      $0.workersMax = 3
    }
    #expect(rig.latest.workers.count == 3)
    #expect(rig.lines.lines.filter { $0.contains("too many workers") }.count == 1)
  }

  @Test func anOldProbeOfAClosedDirectoryIsNotHeard() throws {
    let rig = try rig()
    let count = rig.sets.count
    let pending = rig.prober.open
    rig.control.close()
    #expect(rig.prober.isClosed)
    #expect(rig.prober.open.isEmpty)
    for probe in pending { probe.end(.failure(.silent)) }
    rig.advance(60 * second)
    #expect(rig.sets.count == count)
  }
}
