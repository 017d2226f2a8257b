// Shedding in two steps: what is refused near the process's bounds, and what goes on.

import Base
import Synchronization
import Telemetry
import TestSupport
import Testing

@testable import Frontend
@testable import Transport

struct OverloadTests {
  private static let answer = "{}"

  private func start(_ rig: FrontendRig) -> Int32 {
    let caller = rig.post(FrontendRig.chat(bytes: 20))
    #expect(!rig.upstreamRequest().isEmpty)
    return caller
  }

  @Test func pastItsBoundNewRequestsAreRefusedAndRunningOnesGoOn() throws {
    let rig = try FrontendRig { $0.requestsMax = 2 }
    let running = [start(rig), start(rig)]
    let upstream = rig.dialer.last
    let refused = rig.post(FrontendRig.chat(bytes: 20))
    let text = rig.output(refused)
    #expect(text.status == 529 && text.contains("\"code\":\"overloaded\""), "\(text)")
    #expect(text.contains("retry-after: 1\r\n") && text.contains("connection: close\r\n"))
    #expect(rig.dialer.last == upstream)
    rig.answer(Self.answer)
    #expect(rig.output(running[1]).status == 200)
    // There is room again for exactly one.
    _ = start(rig)
    #expect(rig.output(rig.post(FrontendRig.chat(bytes: 20))).status == 529)
    #expect(rig.shared.shedding.shedByRequests.load(ordering: .relaxed) == 2)
    #expect(rig.output(running[0]) == "")
  }

  /// However requests end, their places are free.
  @Test func everyEndFreesItsPlace() throws {
    let rig = try FrontendRig { $0.requestsMax = 1 }
    for _ in 0..<3 {
      rig.reset(start(rig))
      #expect(rig.output(rig.post("{")).status == 400)
      let caller = rig.connect()
      rig.send(FrontendRig.head(bodyBytes: 100), on: caller)
      rig.reset(caller)
      _ = start(rig)
      rig.answerAndClose(Self.answer)
    }
    #expect(rig.service.openRequests == 0)
  }

  @Test func memoryHasTwoStepsWithRoomBetweenInAndOut() {
    var memory = MemoryPressure(limit: 1_000)
    let readings: [(Int, Pressure)] = [
      (0, .none), (949, .none), (950, .soft), (979, .soft), (980, .hard), (960, .hard), (949, .soft),
      (901, .soft), (899, .none), (2_000, .hard), (0, .none), (979, .soft), (940, .soft), (100, .none),
    ]
    for (bytes, expected) in readings {
      memory.observe(bytes)
      #expect(memory.pressure == expected, "\(bytes)")
    }
  }

  @Test func nearTheMemorysBoundRequestsAndThenConnectionsAreRefused() throws {
    let rig = try FrontendRig { $0.memoryMax = 1_000 << 20 }
    var resident = 100 << 20
    let watch = OverloadWatch(
      rig.loop, shared: rig.shared, logger: rig.logger, resident: { resident })
    watch.begin()
    let running = start(rig)
    rig.pass(OverloadWatch.interval)
    resident = 960 << 20
    rig.pass(OverloadWatch.interval)
    let refused = rig.output(rig.post(FrontendRig.chat(bytes: 20)))
    #expect(refused.status == 529 && refused.contains("connection: close\r\n"), "\(refused)")
    // What watches the process is still answered.
    let prober = rig.connect()
    rig.send("GET /live HTTP/1.1\r\nhost: x\r\n\r\n", on: prober)
    #expect(rig.output(prober).status == 200)
    resident = 990 << 20
    rig.pass(OverloadWatch.interval)
    let closed = rig.connect()
    #expect(rig.isClosed(closed))
    rig.answer(Self.answer)
    #expect(rig.output(running).status == 200)
    resident = 100 << 20
    rig.pass(OverloadWatch.interval)
    _ = start(rig)
    withExtendedLifetime(watch) {}
  }

  /// Freed memory stays with the allocator, and resident, until it is told to give it back.
  @Test func pressureEndsWhenOnlyFreedMemoryIsResident() throws {
    let rig = try FrontendRig { $0.memoryMax = 1_000 << 20 }
    var resident = 960 << 20
    var returns = 0
    let watch = OverloadWatch(
      rig.loop, shared: rig.shared, logger: rig.logger, resident: { resident }, returnFree: { returns += 1 })
    watch.begin()
    for _ in 0..<4 { rig.pass(OverloadWatch.interval) }
    #expect(rig.shared.shedding.pressure == .soft && returns == 1)
    for _ in 0..<4 { rig.pass(OverloadWatch.interval) }
    #expect(returns == 2)
    resident = 100 << 20
    for _ in 0..<8 { rig.pass(OverloadWatch.interval) }
    #expect(rig.shared.shedding.pressure == .none && returns == 2)
    withExtendedLifetime(watch) {}
  }

  /// However many are refused, a second has one line.
  @Test func refusalsAreSaidOnceASecond() throws {
    let rig = try FrontendRig { $0.requestsMax = 1 }
    let watch = OverloadWatch(rig.loop, shared: rig.shared, logger: rig.logger, resident: { nil })
    watch.begin()
    _ = start(rig)
    for round in 1...3 {
      for _ in 0..<5 { #expect(rig.output(rig.post(FrontendRig.chat(bytes: 20))).status == 529) }
      rig.pass(OverloadWatch.interval)
      rig.pass(OverloadWatch.interval)
      let lines = rig.lines.lines.filter { $0.contains("some were refused") }
      #expect(
        lines.count == round && lines.last?.contains("\"requests_over_limit\":\"5\"") == true, "\(lines)")
    }
    withExtendedLifetime(watch) {}
  }

  @Test func nearTheBoundOfConnectionsNoneIsKept() throws {
    let rig = try FrontendRig { $0.server.connectionsMax = 20 }
    for _ in 0..<18 { _ = rig.connect() }
    let last = start(rig)
    rig.answer(Self.answer)
    let text = rig.output(last)
    #expect(text.status == 200 && text.contains("connection: close\r\n") && rig.isClosed(last), "\(text)")
    // At the bound itself they are closed at once, and counted.
    for _ in 0..<2 { _ = rig.connect() }
    #expect(rig.isClosed(rig.connect()))
    #expect(rig.shared.listenerCounters.refusedByLimit.load(ordering: .relaxed) == 1)
  }
}

extension OverloadTests {
  @Test(arguments: [(2, 1), (10, 9), (19, 18), (1_000, 950)])
  func nearTheBoundIsFarFromNothing(most: Int, near: Int) throws {
    let rig = try FrontendRig { $0.server.connectionsMax = most }
    rig.shared.loads.connections(0, near - 1)
    #expect(!rig.service.isShortOfConnections)
    rig.shared.loads.connections(0, 1)
    #expect(rig.service.isShortOfConnections)
    rig.shared.loads.connections(0, -near)
  }
}

struct FairAcceptTests {
  /// A storm of connects, all accepted by one loop, is shared out evenly before any of them has sent a byte.
  @Test func aStormIsSharedOut() {
    let loads = LoopLoads(count: 4)
    for _ in 0..<400 { loads.connections(loads.leastBusy(preferred: 2), 1) }
    #expect((0..<4).map { loads.connections(of: $0) } == [100, 100, 100, 100])
  }

  @Test func aLoopWithRequestsGetsFewer() {
    let loads = LoopLoads(count: 2)
    loads.requests(0, 1)
    for _ in 0..<10 { loads.connections(loads.leastBusy(preferred: 0), 1) }
    #expect(loads.connections(of: 1) == 10)
    // Who is as busy as any keeps what it accepted.
    loads.requests(0, -1)
    loads.connections(0, 10)
    #expect(loads.leastBusy(preferred: 1) == 1 && loads.leastBusy(preferred: 0) == 0)
  }
}
