// Searches in slices: what comes and goes meanwhile, what a single trace may cost, and whose turn it is.

import Base
import EventLoop
import HTTP
import Telemetry
import TestSupport
import Testing
import Transport

@testable import TraceStore

@Suite struct StoreScanTests {
  /// A clock that goes on by `step` at each look.
  private final class Clock {
    var now: Nanoseconds = 0
    var step: Nanoseconds = 0

    func look() -> Nanoseconds {
      now += step
      return now
    }
  }

  private func store(_ traces: ClosedRange<UInt64>, bytes: Int = 40_000, limits: StoreLimits = StoreLimits())
    -> SpanStore
  {
    let store = SpanStore(limits: limits, seed: 1)
    for trace in traces { add(trace, bytes, to: store) }
    return store
  }

  private func add(_ trace: UInt64, _ bytes: Int, to store: SpanStore) {
    store.take(
      "s", [SampleSpan(trace: trace, attributes: [("a", .string(String(repeating: "x", count: bytes)))])])
  }

  private func search(_ text: String, _ clock: Clock, _ length: Nanoseconds = .max) throws -> Search {
    var request = SearchRequest(.query(try TraceQLParser.parse(Array(text.utf8))))
    request.limit = 1_000
    request.budget = SearchBudget(length) { clock.look() }
    return Search(request)
  }

  @Test func tracesMayComeAndGoBetweenSlices() throws {
    var limits = StoreLimits()
    limits.bytesMax = 10 << 20
    let store = store(1...100, limits: limits)
    let clock = Clock()
    clock.step = millisecond
    let search = try search("{ span.a =~ `x*` }", clock)
    let scan = StoreScan(search, in: store)
    var slices = 1
    var next: UInt64 = 101
    while !scan.step(2 * millisecond) {
      slices += 1
      // The oldest go for these, some of them before the search has come to them.
      for _ in 0..<10 {
        add(next, 40_000, to: store)
        next += 1
      }
      #expect(store.isConsistent)
    }
    #expect(slices > 3 && next > 120)
    let found = search.hits.map(\.id.low)
    // From the newest of those that were there at the beginning, without a gap.
    #expect(found == Array((101 - UInt64(found.count)...100).reversed()))
    #expect(found.count < 100)
    #expect(!search.isCut)
  }

  @Test func theTimeOfOthersIsNotCharged() throws {
    let store = store(1...50)
    let clock = Clock()
    let search = try search("{}", clock, second)
    let scan = StoreScan(search, in: store)
    clock.step = millisecond
    while !scan.step(1) { clock.now += 10 * second }
    #expect(search.hits.count == 50 && !search.isCut)
  }

  @Test func aTraceThatTakesTooLongIsLeftOutAlone() throws {
    let store = store(1...3, bytes: 10)
    let large = SampleValue.string(String(repeating: "x", count: 4_000))
    store.take("s", (1...200).map { SampleSpan(trace: 4, id: UInt64($0), attributes: [("a", large)]) })
    store.take("s", [SampleSpan(trace: 5, attributes: [("a", .string("x"))])])
    let clock = Clock()
    clock.step = 30 * millisecond
    let search = try search("{ span.a =~ `x*` || span.a =~ `(x?y){50}` }", clock)
    _ = StoreScan(search, in: store).step()
    #expect(search.hits.map(\.id.low) == [5, 3, 2, 1])
    #expect(search.isCut)
  }

  // MARK: Turns

  private func turn(_ turns: QueryTurns) { turns.timerFired(Timer()) }

  @Test func queriesWorkByTurnsAndTooManyAreRefused() throws {
    let loop = try EventLoop(index: 0, system: FakeKernel(), seed: 1)
    defer { loop.close() }
    let store = store(1...60)
    let status = StoreStatus()
    let turns = QueryTurns(loop, status: status)
    let clock = Clock()
    clock.step = 3 * millisecond
    let count = QueryTurns.runningMax + QueryTurns.waitingMax + 2
    let exchanges = try (0..<count).map { _ in
      let exchange = RecordedAnswer(on: loop)
      exchange.handler = turns.begin(StoreScan(try search("{}", clock), in: store), for: exchange)
      return exchange
    }
    #expect(exchanges.filter { $0.status == 503 }.count == 2 && exchanges[count - 1].status == 503)
    #expect(exchanges.filter { $0.status == 0 }.count == count - 2)
    // One of those that work and one of those that wait are given up by their callers.
    for index in [1, 40] { exchanges[index].handler?.ended(.cancelled) }
    var left = 100_000
    while exchanges.filter({ $0.status == 0 }).count > 2, left > 0 {
      turn(turns)
      left -= 1
    }
    #expect(exchanges.filter { $0.status == 200 }.count == count - 4)
    #expect(exchanges[1].status == 0 && exchanges[40].status == 0)
    #expect(status.snapshot.queriesRefused == 2)
    #expect(exchanges.allSatisfy { $0.status != 200 || $0.body.hasSuffix("\"totalJobs\":1}}") })
    for exchange in exchanges { exchange.handler = nil }
  }

  @Test func aSearchThatIsQuickIsAnsweredAtOnce() throws {
    let loop = try EventLoop(index: 0, system: FakeKernel(), seed: 1)
    defer { loop.close() }
    let turns = QueryTurns(loop, status: StoreStatus())
    let exchange = RecordedAnswer(on: loop)
    _ = turns.begin(StoreScan(try search("{}", Clock()), in: store(1...5)), for: exchange)
    #expect(exchange.status == 200)
  }
}

@Suite struct AllowedHostsTests {
  private func admits(_ host: String?, _ names: [String]) -> Bool {
    guard let host else { return AllowedHosts(names).admit(nil) }
    return Array(host.utf8).withUnsafeBytes { AllowedHosts(names).admit($0) }
  }

  @Test(arguments: [
    "localhost", "localhost:3200", "LOCALHOST", "127.0.0.1:3200", "10.1.2.3", "[::1]:3200", "[fe80::1]",
    "tempo", "tempo:3200", "store.localhost:3200", "traces.internal", "tempo.default.svc",
    "tempo.default.svc.cluster.local:3200", "host.docker.internal:3200", "localhost.",
  ])
  func addressesAndLocalNamesPass(host: String) { #expect(admits(host, [])) }

  @Test(arguments: [
    "evil.example", "evil.example:3200", "127.0.0.1.evil.example", "localhost.evil.example", "1.2.3.999",
    "1.2.3", "", ".", ":3200", "evil.example.", "cluster.local", "svc.example",
  ])
  func namesThatStrangersCanOwnDoNot(host: String) { #expect(!admits(host, [])) }

  @Test func whatIsListedPasses() {
    #expect(admits("traces.example.org:443", ["Traces.Example.org"]))
    #expect(!admits("other.example.org", ["traces.example.org"]))
    #expect(admits("other.example.org", ["*"]))
    #expect(admits(nil, []))
  }
}
