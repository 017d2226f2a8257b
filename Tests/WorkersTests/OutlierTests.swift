// Workers whose requests fail are left out for a while, and never all of them.

import Base
import OpenAI
import Routing
import TestSupport
import Testing

@testable import Workers

struct OutlierTests {
  private func rig(
    _ count: Int, edit: (inout WorkerDirectoryConfiguration) -> Void = { _ in }
  ) throws -> ControlRig {
    let rig = try ControlRig {
      $0.urls = (0..<count).map { "http://127.0.0.1:\(8000 + $0)" }
      $0.routing.mode = .roundRobin
      edit(&$0)
    }
    answer(rig)
    #expect(rig.latest.models.first?.workers.count == count)
    return rig
  }

  /// All probes that are under way find a worker that serves.
  private func answer(_ rig: ControlRig) {
    for probe in rig.prober.open { probe.end(.success(ProbeAnswer(models: ["m"]))) }
    rig.turn()
  }

  private func standing(_ rig: ControlRig) -> [String] { rig.latest.workers.map(\.stateInWords.state) }

  /// `count` requests of a worker fail, as the loops tell.
  private func fail(_ rig: ControlRig, _ index: Int, _ count: Int = 5) {
    let worker = rig.latest.workers[index]
    for _ in 0..<count where worker.tally.failed() { rig.control.requestsFailed(worker.id) }
    rig.turn()
  }

  private func chosen(_ rig: ControlRig, _ count: Int = 12) -> Set<UInt64> {
    let routing = rig.latest.models[0].routing
    var random = Xoshiro256(seed: 1)
    let decision = RoutingDecision()
    var ids: Set<UInt64> = []
    for _ in 0..<count {
      let request = RoutingRequest(chain: UnsafeBufferPointer(start: nil, count: 0), tokens: 10)
      let outcome = routing.select(request, bytes: 40, now: rig.kernel.time, random: &random, into: decision)
      guard outcome == .chosen else { continue }
      ids.insert(decision.worker)
      routing.free(
        decision.booking, served: true, now: rig.kernel.time, bytes: 40, promptTokens: nil, cachedTokens: nil)
    }
    return ids
  }

  @Test func failuresInARowEjectAndTimeBringsBack() throws {
    let rig = try rig(3)
    let ids = rig.latest.workers.map(\.id)
    fail(rig, 0, 4)
    #expect(standing(rig) == ["ready", "ready", "ready"])
    fail(rig, 0, 1)
    #expect(standing(rig) == ["ejected", "ready", "ready"])
    #expect(rig.latest.workers[0].stateInWords.reason == "5 requests in a row failed")
    #expect(chosen(rig) == Set(ids.dropFirst()))
    // It stays in the router with what it has.
    #expect(rig.latest.models[0].routing.loads.count == 3)
    rig.advance(12 * second)
    #expect(standing(rig) == ["recovering", "ready", "ready"])
    // A slow start is no absence.
    #expect(chosen(rig, 60) == Set(ids))
    rig.advance(31 * second)
    answer(rig)
    #expect(standing(rig) == ["ready", "ready", "ready"])
  }

  @Test func aGoodRequestEndsARow() throws {
    let rig = try rig(3)
    for _ in 0..<10 {
      fail(rig, 0, 4)
      rig.latest.workers[0].tally.succeeded()
    }
    #expect(standing(rig)[0] == "ready")
  }

  @Test func ejectionsGrowUpToABound() {
    var rules = OutlierRules()
    rules.ejectionMax = 60 * second
    var watch = OutlierWatch(rules)
    var now: Nanoseconds = 1000 * second
    var lengths: [Nanoseconds] = []
    for _ in 0..<5 {
      let length = watch.eject(now: now)
      lengths.append(length / second)
      now += length
      watch.returned(now: now)
      now += second
    }
    #expect(lengths == [10, 20, 40, 60, 60])
    // Long enough in service, it begins anew.
    #expect(watch.eject(now: now + 1000 * second) == 10 * second)
  }

  @Test func aShareOfFailuresEjects() throws {
    let rig = try rig(3) { $0.outliers.rowMax = 0 }
    rig.advance(second)
    let tally = rig.latest.workers[1].tally
    for _ in 0..<9 {
      tally.succeeded()
      _ = tally.failed()
    }
    rig.advance(second)
    #expect(standing(rig)[1] == "ready", "18 requests are too few to say")
    tally.succeeded()
    _ = tally.failed()
    rig.advance(second)
    #expect(standing(rig)[1] == "ejected")
    #expect(rig.latest.workers[1].stateInWords.reason == "10 of 20 requests failed")
  }

  @Test func whatFailedBeforeTheWindowIsForgotten() {
    var watch = OutlierWatch(OutlierRules())
    var counts = OutlierCounts()
    for step in 0..<100 {
      counts.good += 2
      if step < 10 { counts.faults += 1 }
      #expect(watch.look(counts, row: 0, now: Nanoseconds(step) * second) == nil)
    }
    counts.faults += 30
    #expect(watch.look(counts, row: 0, now: 100 * second)?.0 == .faultShare)
  }

  @Test func aPanicLetsEverybodyServe() throws {
    let rig = try rig(4)
    let ids = rig.latest.workers.map(\.id)
    fail(rig, 0)
    fail(rig, 1)
    #expect(chosen(rig) == Set(ids[2...]))
    #expect(!rig.latest.models[0].isPanicking)
    // Three of four would be more than half.
    fail(rig, 2)
    #expect(standing(rig) == ["ejected", "ejected", "ejected", "ready"])
    #expect(rig.latest.models[0].isPanicking)
    #expect(chosen(rig) == Set(ids))
    rig.advance(12 * second)
    #expect(!rig.latest.models[0].isPanicking)
  }

  @Test func theOnlyWorkerIsNeverEjected() throws {
    let rig = try rig(1) { $0.outliers.panicShare = 1 }
    fail(rig, 0, 50)
    #expect(rig.latest.hasReadyWorker && rig.latest.models[0].isPanicking)
    #expect(chosen(rig).count == 1)
  }

  @Test func unreachableWorkersCountAsOut() throws {
    let rig = try rig(3)
    rig.control.requestFailed(rig.latest.workers[0].id)
    rig.turn()
    fail(rig, 1)
    #expect(standing(rig) == ["unreachable", "ejected", "ready"])
    #expect(rig.latest.models[0].isPanicking)
    #expect(chosen(rig) == Set(rig.latest.workers[1...].map(\.id)))
  }

  @Test func aDrainOutlivesAnEjection() throws {
    let rig = try rig(3)
    let ids = rig.latest.workers.map(\.id)
    fail(rig, 0)
    rig.control.member(ids[0])?.drain(true)
    rig.advance(12 * second)
    #expect(standing(rig)[0] == "draining" && !chosen(rig).contains(ids[0]))
    rig.control.member(ids[0])?.drain(false)
    rig.turn()
    #expect(chosen(rig, 60) == Set(ids))
  }

  @Test func rulesMayBeOff() throws {
    let rig = try rig(3) {
      $0.outliers.rowMax = 0
      $0.outliers.faultShare = nil
    }
    fail(rig, 0, 1000)
    rig.advance(10 * second)
    #expect(standing(rig)[0] == "ready")
  }

  // MARK: Canaries

  private func rigWithCanaries() throws -> ControlRig {
    try rig(3) {
      $0.canary = CanaryConfiguration()
      $0.probeInterval = 3_600 * second
    }
  }

  @Test func idleWorkersAreAskedAndOneThatFailsStaysOutUntilItServes() throws {
    let rig = try rigWithCanaries()
    #expect(rig.prober.canaries.isEmpty)
    rig.latest.workers[1].tally.succeeded()
    rig.advance(11 * second)
    // The second served something meanwhile.
    let id = rig.latest.workers[0].id
    #expect(Set(rig.prober.canaries.map(\.worker)) == [id, rig.latest.workers[2].id])
    for canary in rig.prober.canaries { canary.end(canary.worker == id ? .failed("status 500") : .served) }
    rig.turn()
    #expect(standing(rig) == ["ejected", "ready", "ready"])
    #expect(rig.latest.workers[0].stateInWords.reason == "a canary request failed: status 500")
    for _ in 0..<3 { rig.advance(4 * second) }
    let second = rig.prober.canaries.filter { $0.worker == id }
    #expect(second.count == 2 && standing(rig)[0] == "ejected")
    second.last?.end(.failed("no answer in time"))
    rig.turn()
    #expect(standing(rig)[0] == "ejected")
    for _ in 0..<6 { rig.advance(4 * Base.second) }
    // An engine that is full, or refuses what was asked, has not shown that it serves.
    for status in [529, 400] {
      rig.prober.canaries.last { $0.worker == id }?.end(.undecided(status: status))
      rig.turn()
      #expect(standing(rig)[0] == "ejected")
      #expect(
        rig.latest.workers.first { $0.id == id }?.stateInWords.reason?.contains("\(status)") == true)
      let asked = rig.prober.canaries.count { $0.worker == id }
      rig.advance(2 * Base.second)
      #expect(rig.prober.canaries.count { $0.worker == id } == asked + 1)
    }
    rig.prober.canaries.last { $0.worker == id }?.end(.served)
    rig.turn()
    #expect(standing(rig)[0] == "recovering")
  }

  @Test func aBusyWorkerIsNotIdle() throws {
    let rig = try rigWithCanaries()
    let routing = rig.latest.models[0].routing
    var random = Xoshiro256(seed: 1)
    let decision = RoutingDecision()
    let request = RoutingRequest(chain: UnsafeBufferPointer(start: nil, count: 0), tokens: 10)
    #expect(
      routing.select(request, bytes: 40, now: rig.kernel.time, random: &random, into: decision) == .chosen)
    let busy = decision.worker
    rig.advance(11 * second)
    #expect(rig.prober.canaries.count == 2 && !rig.prober.canaries.contains { $0.worker == busy })
    // Another got work while its canary waited.
    let other = try #require(rig.prober.canaries.first)
    rig.latest.workers.first { $0.id == other.worker }?.tally.succeeded()
    for canary in rig.prober.canaries { canary.end(.timedOut) }
    rig.turn()
    #expect(standing(rig).filter { $0 == "ejected" }.count == 1)
    #expect(rig.latest.workers.first { $0.id == other.worker }?.stateInWords.state == "ready")
  }

  @Test func anEjectedWorkerThatCannotBeAskedStaysOut() throws {
    let rig = try rigWithCanaries()
    let id = rig.latest.workers[0].id
    fail(rig, 0)
    rig.control.requestFailed(id)
    for _ in 0..<4 { rig.advance(4 * second) }
    #expect(!rig.prober.canaries.contains { $0.worker == id })
    answer(rig)
    #expect(standing(rig)[0] == "ejected")
    rig.advance(4 * second)
    rig.prober.canaries.last { $0.worker == id }?.end(.served)
    rig.turn()
    #expect(standing(rig)[0] == "recovering")
  }

  @Test func aPayloadThatIsNoObjectIsRefused() {
    var canary = CanaryConfiguration()
    for (text, isGood) in [("", true), ("{\"prompt\":\"x\"}", true), ("{", false), ("7", false)] {
      canary.payload = Array(text.utf8)
      #expect((canary.fault == nil) == isGood)
    }
  }

  @Test func whatIsAsked() {
    func text(_ question: CanaryQuestion?) -> String { String(decoding: question?.body ?? [], as: UTF8.self) }
    let chat = CanaryQuestion(payload: [], model: "a\"b", endpoints: EndpointSet(.chatCompletions))
    #expect(chat?.endpoint == .chatCompletions && text(chat).contains(#""model":"a\"b","messages""#))
    let completion = CanaryQuestion(payload: [], model: "m", endpoints: EndpointSet(.completions))
    #expect(completion?.endpoint == .completions && text(completion).contains("\"prompt\""))
    #expect(CanaryQuestion(payload: [], model: "m", endpoints: EndpointSet(.embeddings)) == nil)
    let own = CanaryQuestion(payload: Array("{\"prompt\":\"x\"}".utf8), model: "m", endpoints: [])
    #expect(own?.endpoint == .completions && text(own) == "{\"prompt\":\"x\"}")
  }
}
