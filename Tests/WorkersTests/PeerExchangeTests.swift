// Two directories over the same workers that tell each other what they book, over real sockets.

import Base
import EventLoop
import Glibc
import KVEvents
import Routing
import Telemetry
import Testing

@testable import Workers

@Suite(.enabled(if: ZeroMQContext.unavailableReason == nil, "libzmq cannot be loaded"))
struct PeerExchangeTests {
  /// One frontend's directory, and what it serves.
  private final class Side {
    let registry = MetricRegistry()
    let directory: WorkerDirectory
    let adopter: Adopter

    init(_ urls: [String], address: String, peers: [String], lease: Nanoseconds = 60 * second) throws {
      var configuration = WorkerDirectoryConfiguration()
      configuration.urls = urls
      configuration.routing.sharesLoad = true
      var settings = PeerExchangeSettings(address: address, peers: peers)
      settings.lease = lease
      configuration.peers = settings
      directory = try WorkerDirectory(configuration: configuration, logger: quietLogger, registry: registry)
      let adopter = try Adopter()
      self.adopter = adopter
      directory.subscribe(adopter.mailbox) { adopter.adopt($1) }
      try directory.start()
    }

    func model() throws -> ServedModel {
      try adopter.wait { $0.workers.count == 2 && $0.workers.allSatisfy(\.isReady) }.models[0]
    }

    var metrics: String {
      var page = ByteBuffer()
      registry.writePrometheus(into: &page)
      return page.text
    }
  }

  private static let chain: [UInt64] = (1...8).map { XXH3.hash16($0, 0, seed: 7) }

  private func select(_ model: ServedModel, _ chain: [UInt64], tokens: Int, on worker: UInt64? = nil)
    -> RoutingDecision
  {
    let decision = RoutingDecision()
    var random = Xoshiro256(seed: 1)
    chain.withUnsafeBufferPointer {
      var request = RoutingRequest(chain: $0, tokens: tokens)
      request.named = worker
      #expect(
        model.routing.select(
          request, bytes: 0, now: Machine.monotonicNanoseconds, random: &random, into: decision) == .chosen)
    }
    return decision
  }

  private func end(_ model: ServedModel, _ decision: RoutingDecision) {
    model.routing.free(
      decision.booking, served: true, now: Machine.monotonicNanoseconds, bytes: 0, promptTokens: nil,
      cachedTokens: nil)
  }

  private func wait(_ what: Comment, _ wanted: () -> Bool) throws {
    let end = Machine.monotonicNanoseconds + 60 * second
    while !wanted() {
      try #require(Machine.monotonicNanoseconds < end, what)
      usleep(2_000)
    }
  }

  private func peers(_ model: ServedModel, _ worker: UInt64) -> PeerLoad {
    model.routing.loads.first { $0.worker == worker }?.peers ?? PeerLoad()
  }

  @Test func eachSideWeighsWhatTheOtherBooked() throws {
    let engines = [
      try FakeWorker(["/v1/models": #"{"data":[{"id":"m"}]}"#]),
      try FakeWorker(["/v1/models": #"{"data":[{"id":"m"}]}"#]),
    ]
    defer { for engine in engines { engine.stop() } }
    let urls = engines.map { "http://127.0.0.1:\($0.port)" }
    let folder = "/tmp/peers-\(UInt64.random(in: 0...UInt64.max))"
    mkdir(folder, 0o700)
    defer {
      for name in ["a", "b"] { unlink("\(folder)/\(name)") }
      rmdir(folder)
    }
    // One list for both: each passes over its own address.
    let list = ["ipc://\(folder)/a", "ipc://\(folder)/b"]
    let a = try Side(urls, address: list[0], peers: list)
    defer { a.directory.stop() }
    let b = try Side(urls, address: list[1], peers: list, lease: 300 * millisecond)
    var isRunning = true
    defer { if isRunning { b.directory.stop() } }
    let (mine, its) = (try a.model(), try b.model())
    let ids = mine.workers.map(\.facts.id)
    let decision = select(mine, Self.chain, tokens: 500, on: ids[0])
    try wait("the other side heard of the booking") { peers(its, ids[0]).prefillTokens == 500 }
    #expect(peers(its, ids[0]).requests == 1 && peers(its, ids[0]).blocks == 8)
    #expect(peers(mine, ids[0]) == PeerLoad())
    // Without the other's load the two are alike.
    for _ in 0..<8 {
      let choice = select(its, [], tokens: 16)
      #expect(choice.worker == ids[1])
      end(its, choice)
    }
    end(mine, decision)
    try wait("and of its end") { peers(its, ids[0]) == PeerLoad() }
    // And the prompt is known to be there.
    try wait("the prompt was told of") {
      let choice = select(its, Self.chain, tokens: 128)
      defer { end(its, choice) }
      return choice.overlapBlocks == 8 && choice.worker == ids[0]
    }
    try wait("metrics tell of it") { b.metrics.contains("dynamo_frontend_peer_up{peer=\"\(list[0])\"} 1") }
    #expect(b.metrics.contains("dynamo_frontend_peer_listening 1"))
    #expect(b.metrics.contains("dynamo_frontend_peer_active_blocks{worker_id=\"\(ids[0])\"} 0"))
    // A side that goes leaves nothing behind for longer than its lease, whatever it had booked.
    let last = select(mine, [], tokens: 700, on: ids[1])
    try wait("it was heard once more") { peers(its, ids[1]).prefillTokens == 700 }
    a.directory.stop()
    try wait("its load was dropped") { peers(its, ids[1]) == PeerLoad() }
    end(mine, last)
    isRunning = false
    b.directory.stop()
    #expect(b.metrics.contains("dynamo_frontend_peer_dropped_total{reason=\"malformed\"} 0"))
  }

  @Test(arguments: [
    (["nonsense"], second), (["tcp://h:1"], 20 * millisecond),
    ((0...PeerExchangeSettings.peersMax).map { "tcp://h:\($0 + 1)" }, second),
  ])
  func whatCannotBeIsRefusedAtStart(_ peers: [String], _ lease: Nanoseconds) {
    var configuration = WorkerDirectoryConfiguration()
    var settings = PeerExchangeSettings(address: "tcp://127.0.0.1:*", peers: peers)
    settings.lease = lease
    configuration.peers = settings
    #expect(throws: WorkerDirectoryError.self) {
      try WorkerDirectory(configuration: configuration, logger: quietLogger, registry: MetricRegistry())
    }
  }
}
