// Engines' cache events from a real publisher's sockets to the routing state of a model.

import Base
import EventLoop
import Glibc
import KVEvents
import Routing
import Synchronization
import Telemetry
import Testing

@testable import Workers

struct CacheEventSourceTests {
  private func parse(_ text: String) -> [CacheEventSource] {
    Array(text.utf8).withUnsafeBytes { CacheEventSource.parse($0) }
  }

  @Test func vLLMsAnswerIsReadByRank() {
    let sources = parse(
      #"{"1":{"endpoint":"tcp://*:5558","replay_endpoint":null,"topic":"kv"},"#
        + #""0":{"enable_kv_cache_events":true,"publisher":"zmq","endpoint":"tcp://*:5557","#
        + #""replay_endpoint":"tcp://*:6557","buffer_steps":10000,"topic":""}}"#)
    #expect(sources.map(\.rank) == [0, 1])
    #expect(sources[0].replayEndpoint == "tcp://*:6557" && sources[1].replayEndpoint == nil)
    #expect(sources[1].topic == "kv" && !sources[0].isOfBytes)
  }

  @Test(arguments: [
    "", "[]", "{}", #"{"0":null}"#, #"{"a":{"endpoint":"tcp://*:1"}}"#, #"{"-1":{"endpoint":"tcp://*:1"}}"#,
    #"{"0":{"endpoint":""}}"#, #"{"0":{"endpoint":7}}"#,
    #"{"0":{"endpoint":"tcp://*:1","enable_kv_cache_events":false}}"#,
    #"{"0":{"endpoint":"tcp://*:1","publisher":"null"}}"#,
  ])
  func whatIsNoPublisherIsLeftOut(_ text: String) {
    #expect(parse(text).isEmpty)
  }

  @Test func ranksAreBounded() {
    let entries = (0..<200).map { "\"\($0)\":{\"endpoint\":\"tcp://*:1\"}" }.joined(separator: ",")
    #expect(parse("{\(entries)}").count == CacheEventSource.ranksMax)
  }
}

struct RestartDamperTests {
  private var random = Xoshiro256(seed: 4)

  @Test mutating func aFewRestartsAreTakenAsTheyCome() {
    var damper = RestartDamper()
    for time in 1...RestartDamper.freeRestarts {
      #expect(damper.restarted(now: Nanoseconds(time), random: &random) == nil)
    }
    #expect(damper.restarted(now: 9, random: &random) != nil)
  }

  @Test mutating func restsDoubleUpToTheLongestAndDiffer() {
    var damper = RestartDamper()
    var other = RestartDamper()
    var now: Nanoseconds = 0
    var differences = 0
    for time in 1...40 {
      let rest = damper.restarted(now: now, random: &random)
      if rest != other.restarted(now: now, random: &random) { differences += 1 }
      guard time > RestartDamper.freeRestarts else { continue }
      let doublings = min(time - RestartDamper.freeRestarts - 1, 6)
      let longest = min(RestartDamper.restMin << Nanoseconds(doublings), RestartDamper.restMax)
      #expect((longest / 2...longest).contains(rest ?? 0), "restart \(time)")
      now += rest ?? 0
    }
    #expect(differences > 30)
  }

  @Test mutating func calmForgetsWhatWasBefore() {
    var damper = RestartDamper()
    for _ in 0..<RestartDamper.freeRestarts { _ = damper.restarted(now: 0, random: &random) }
    #expect(damper.restarted(now: RestartDamper.calm, random: &random) == nil)
    for _ in 1..<RestartDamper.freeRestarts {
      #expect(damper.restarted(now: RestartDamper.calm, random: &random) == nil)
    }
    let rest = damper.restarted(now: RestartDamper.calm, random: &random) ?? 0
    #expect(rest > 0)
    // Calm begins where the rest ends.
    #expect(damper.restarted(now: 2 * RestartDamper.calm + rest - 1, random: &random) != nil)
  }
}

/// Fed by a publisher in this process, unless libzmq is not there.
@Suite(.enabled(if: ZeroMQContext.unavailableReason == nil, "libzmq cannot be loaded"))
struct CacheFeedTests {
  private static let blockSize = 4

  /// An engine with one HTTP port and one publisher.
  private final class Engine {
    let http: FakeWorker
    let publisher: CacheEventPublisher
    private var encoder = CacheEventEncoder()

    /// - Parameters:
    ///   - endpoint, replayEndpoint: what it says of itself instead of where its sockets are.
    ///   - ranks: entries of further ranks.
    init(
      replays: Bool = true, extra: String = "", endpoint: String? = nil, replayEndpoint: String? = nil,
      ranks: String = ""
    ) throws {
      let context = try ZeroMQContext()
      publisher = try CacheEventPublisher(
        CacheEventPublication(endpoint: "tcp://*:*", replayEndpoint: replays ? "tcp://*:*" : nil),
        context: context)
      let events = endpoint ?? Self.wildcard(publisher.boundAddress)
      let bound = publisher.boundReplayAddress.map(Self.wildcard)
      let replay = (replayEndpoint ?? bound).map { "\"" + $0 + "\"" } ?? "null"
      http = try FakeWorker([
        "/v1/models": #"{"data":[{"id":"m","owned_by":"vllm"}]}"#,
        "/metrics": "vllm:cache_config_info{block_size=\"4\",num_gpu_blocks=\"99\"} 1\n",
        "/kv_event_sources":
          #"{"0":{"endpoint":"\#(events)","replay_endpoint":\#(replay),"topic":""\#(extra)}\#(ranks)}"#,
      ])
    }

    static func wildcard(_ address: String) -> String {
      "tcp://*:" + (address.split(separator: ":").last.map(String.init) ?? "")
    }

    func publish(_ write: (inout CacheEventEncoder) -> Void) {
      write(&encoder)
      publisher.publish(&encoder, timestamp: 1)
      while publisher.readable() {}
    }

    /// Serves replays; waits for a request for a moment.
    func turn() {
      while publisher.readable() {}
      var waits = publisher.descriptors.map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
      _ = poll(&waits, nfds_t(waits.count), 10)
    }
  }

  private func followed(
    _ engine: Engine, hashesTokens: Bool = true, indexBytesMax: Int = 16 << 20, followsForeign: Bool = false,
    _ body: (WorkerDirectory, Adopter, MetricRegistry) throws -> Void
  ) throws {
    defer { engine.http.stop() }
    var configuration = WorkerDirectoryConfiguration()
    configuration.urls = ["http://127.0.0.1:\(engine.http.port)"]
    configuration.followsCacheEvents = true
    configuration.hashesTokens = hashesTokens
    configuration.followsForeignEvents = followsForeign
    configuration.routing.indexBytesMax = indexBytesMax
    let registry = MetricRegistry()
    let directory = try WorkerDirectory(
      configuration: configuration, logger: quietLogger, registry: registry)
    let adopter = try Adopter()
    directory.subscribe(adopter.mailbox) { adopter.adopt($1) }
    try directory.start()
    defer { directory.stop() }
    try body(directory, adopter, registry)
  }

  /// The overlap that the router counts on for a prompt of these tokens.
  private func overlap(
    _ model: ServedModel, _ tokens: [UInt32], seed: UInt64 = PromptBlocks.seed, served: Bool = false
  ) -> Int {
    var blocks = PromptBlocks()
    tokens.withUnsafeBufferPointer { blocks.hash(tokens: $0, blockSize: Self.blockSize, seed: seed) }
    var random = Xoshiro256(seed: 1)
    let decision = RoutingDecision()
    _ = model.routing.select(
      RoutingRequest(chain: blocks.chain, tokens: tokens.count), bytes: 0, now: 1, random: &random,
      into: decision)
    defer {
      model.routing.free(
        decision.booking, served: served, now: 1, bytes: 0, promptTokens: nil, cachedTokens: nil)
    }
    return decision.overlapBlocks
  }

  /// Turns the publisher's replies until `wanted`; fails after 60 s.
  private func wait(_ engine: Engine, _ what: Comment, _ wanted: () -> Bool) throws {
    let end = Machine.monotonicNanoseconds + 60 * second
    while !wanted() {
      try #require(Machine.monotonicNanoseconds < end, what)
      engine.turn()
    }
  }

  private static let prompt: [UInt32] = Array(1...12)

  @Test func whatTheEngineStoresAndRemovesIsCounted() throws {
    let engine = try Engine()
    // Before anybody listens: the replay tells of it.
    engine.publish { $0.stored(hashes: [1, 2], parent: nil, tokens: Array(1...8), blockSize: 4) }
    try followed(engine) { _, adopter, registry in
      let model = try adopter.wait { $0.hasReadyWorker }.models[0]
      try wait(engine, "the replay came") { overlap(model, Self.prompt) == 2 }
      #expect(model.routing.loads[0].cacheSource == .events)
      engine.publish { $0.stored(hashes: [3], parent: 2, tokens: Array(9...12), blockSize: 4) }
      try wait(engine, "a further block came") { overlap(model, Self.prompt) == 3 }
      engine.publish { $0.removed(hashes: [2, 3]) }
      try wait(engine, "two blocks are gone") { overlap(model, Self.prompt) == 1 }
      engine.publish { $0.cleared() }
      try wait(engine, "all is gone") { overlap(model, Self.prompt) == 0 }
      var page = ByteBuffer()
      registry.writePrometheus(into: &page)
      #expect(page.text.contains("dynamo_frontend_kv_event_source{"))
      #expect(!page.text.contains("fault=\"block_not_found\"} 1"))
    }
  }

  @Test func aSaltHoldsForTheBlocksBehindTheOneThatNamesIt() throws {
    let engine = try Engine()
    engine.publish {
      $0.stored(hashes: [1], parent: nil, tokens: Array(1...4), blockSize: 4, salt: "tenant")
      $0.stored(hashes: [2], parent: 1, tokens: Array(5...8), blockSize: 4)
    }
    let seed = Array("tenant".utf8).withUnsafeBytes {
      PromptBlocks.seed(adapter: UnsafeRawBufferPointer(start: nil, count: 0), salt: $0)
    }
    try followed(engine) { _, adopter, _ in
      let model = try adopter.wait { $0.hasReadyWorker }.models[0]
      try wait(engine, "the salted blocks came") { overlap(model, Self.prompt, seed: seed) == 2 }
      #expect(overlap(model, Self.prompt) == 0)
    }
  }

  @Test func blocksOfAnotherSizeAreNotCountedOn() throws {
    let engine = try Engine()
    engine.publish { $0.stored(hashes: [1], parent: nil, tokens: Array(1...8), blockSize: 8) }
    try followed(engine) { _, adopter, registry in
      let model = try adopter.wait { $0.hasReadyWorker }.models[0]
      try wait(engine, "it was noticed") {
        var page = ByteBuffer()
        registry.writePrometheus(into: &page)
        return page.text.contains("reason=\"block_size\"} 0")
      }
      #expect(model.routing.loads[0].cacheSource == .predicted)
      #expect(overlap(model, Self.prompt) == 0)
    }
  }

  @Test func aCacheThatFindsNoMemoryIsPredictedUntilItIsCleared() throws {
    let engine = try Engine()
    engine.publish { $0.stored(hashes: [1], parent: nil, tokens: Array(1...4), blockSize: 4) }
    try followed(engine, indexBytesMax: 64 << 10) { _, adopter, registry in
      let model = try adopter.wait { $0.hasReadyWorker }.models[0]
      try wait(engine, "the first block came") { overlap(model, Self.prompt) == 1 }
      func source() -> String {
        var page = ByteBuffer()
        registry.writePrometheus(into: &page)
        return page.text.split(separator: "\n").first { $0.hasPrefix("dynamo_frontend_kv_event_source{") }
          .map { $0.drop { $0 != "," }.description } ?? ""
      }
      for group in 0..<40 as Range<UInt64> {
        let hashes = (0..<250).map { 1_000 + group * 250 + $0 as UInt64 }
        let tokens = (0..<1_000).map { UInt32($0) + UInt32(group) * 1_000 }
        engine.publish { $0.stored(hashes: hashes, parent: nil, tokens: tokens, blockSize: 4) }
      }
      try wait(engine, "it is full") { source().contains("reason=\"overflow\"} 0") }
      #expect(model.routing.statistics.eventBlocks == 0)
      engine.publish { $0.cleared() }
      engine.publish { $0.stored(hashes: [1, 2], parent: nil, tokens: Array(1...8), blockSize: 4) }
      try wait(engine, "events count again") { source().contains("reason=\"feed_live\"} 1") }
      // What came behind the clear may be taken one turn later.
      try wait(engine, "the new blocks are known") { overlap(model, Self.prompt) == 2 }
    }
  }

  @Test func blocksThatWereStoredBeforeTheFeedBeganAreCountedAsPredicted() throws {
    // The engine has no replay: what was stored before is not told.
    let engine = try Engine(replays: false)
    engine.publish { $0.stored(hashes: [1], parent: nil, tokens: Array(1...4), blockSize: 4) }
    try followed(engine) { _, adopter, registry in
      let model = try adopter.wait { $0.hasReadyWorker }.models[0]
      try wait(engine, "it listens, late") {
        engine.publish { $0.stored(hashes: [9], parent: 8, tokens: Array(90...93), blockSize: 4) }
        var page = ByteBuffer()
        registry.writePrometheus(into: &page)
        return page.text.contains("reason=\"feed_gap\"} 1")
      }
      #expect(model.routing.loads[0].cacheSource == .events)
      #expect(overlap(model, Self.prompt, served: true) == 0)
      // It was sent there, so it is cached there, although no event will ever say so.
      #expect(overlap(model, Self.prompt) == 3)
    }
  }

  @Test func behindABatchThatCannotBeReadNothingIsClaimedAndPredictionsCount() throws {
    let socket = try ZeroMQSocket(.publish, context: try ZeroMQContext())
    try socket.bind("tcp://*:*")
    var encoder = CacheEventEncoder()
    var stored = ByteBuffer()
    encoder.stored(hashes: [1, 2], parent: nil, tokens: Array(1...8), blockSize: 4)
    encoder.finish(timestamp: 1, rank: 0, into: &stored)
    var sequence: UInt64 = 0
    func say(_ payload: [UInt8]) {
      let number = withUnsafeBytes(of: sequence.bigEndian) { Array($0) }
      sequence += 1
      _ = try? socket.send(message: [[], number, payload])
    }
    let engine = try Engine(replays: false, endpoint: Engine.wildcard(socket.boundAddress))
    try followed(engine) { _, adopter, registry in
      let model = try adopter.wait { $0.hasReadyWorker }.models[0]
      try wait(engine, "the blocks are known") {
        say(stored.bytes)
        return model.routing.statistics.eventBlocks == 2
      }
      say([0xc1])
      try wait(engine, "they are forgotten") { model.routing.statistics.eventBlocks == 0 }
      try wait(engine, "it is said") { model.routing.loads[0].cacheReason == .feedGap }
      #expect(count("dynamo_frontend_kv_event_malformed_total", registry) == 1)
      #expect(overlap(model, Self.prompt, served: true) == 0)
      #expect(overlap(model, Self.prompt) == 3)
    }
  }

  @Test(arguments: [(false, ""), (true, #","token_source":"bytes""#)])
  func eventsInAnotherUnitAreNotFollowed(_ hashesTokens: Bool, _ extra: String) throws {
    let engine = try Engine(extra: extra)
    engine.publish { $0.stored(hashes: [1], parent: nil, tokens: Array(1...4), blockSize: 4) }
    try followed(engine, hashesTokens: hashesTokens) { _, adopter, registry in
      let model = try adopter.wait { $0.workers.first.map { !$0.eventSources.isEmpty } ?? false }.models[0]
      var page = ByteBuffer()
      registry.writePrometheus(into: &page)
      #expect(!page.text.contains("dynamo_frontend_kv_event_batches_total{"))
      #expect(model.routing.loads[0].cacheSource == .predicted)
      try wait(engine, "it is said why") { model.routing.loads[0].cacheReason == .otherUnit }
    }
  }

  @Test func afterAnOverflowTheRankThatIsClearedTakesOnlyItsOwnBlocks() throws {
    let publisher = try CacheEventPublisher(
      CacheEventPublication(endpoint: "tcp://*:*"), context: try ZeroMQContext())
    var encoder = CacheEventEncoder()
    func publish(_ write: (inout CacheEventEncoder) -> Void) {
      write(&encoder)
      publisher.publish(&encoder, timestamp: 1)
      _ = publisher.readable()
    }
    let endpoint = Engine.wildcard(publisher.boundAddress)
    let engine = try Engine(ranks: #","1":{"endpoint":"\#(endpoint)","replay_endpoint":null}"#)
    engine.publish { $0.stored(hashes: [1, 2], parent: nil, tokens: Array(1...8), blockSize: 4) }
    try followed(engine, indexBytesMax: 64 << 10) { _, adopter, _ in
      let model = try adopter.wait { $0.hasReadyWorker }.models[0]
      try wait(engine, "both ranks are heard") {
        publish { $0.stored(hashes: [8], parent: nil, tokens: Array(101...104), blockSize: 4) }
        return overlap(model, Self.prompt) == 2 && overlap(model, Array(101...104)) == 1
      }
      for group in 0..<40 as Range<UInt64> {
        let hashes = (0..<250).map { 1_000 + group * 250 + $0 as UInt64 }
        let tokens = (0..<1_000).map { 1_000 + UInt32($0) + UInt32(group) * 1_000 }
        publish { $0.stored(hashes: hashes, parent: nil, tokens: tokens, blockSize: 4) }
      }
      try wait(engine, "it is full") { model.routing.loads[0].cacheReason == .overflow }
      #expect(model.routing.statistics.eventBlocks == 0)
      publish { $0.cleared() }
      // The first rank says nothing of them again.
      try wait(engine, "the first rank's blocks are known still") { overlap(model, Self.prompt) == 2 }
      #expect(model.routing.loads[0].cacheSource == .events)
      #expect(overlap(model, Array(101...104)) == 0)
    }
  }

  @Test func aRankThatIsClearedOrRestartsTakesOnlyItsOwnBlocks() throws {
    let context = try ZeroMQContext()
    var publisher: CacheEventPublisher? = try CacheEventPublisher(
      CacheEventPublication(endpoint: "tcp://*:*"), context: context)
    let endpoint = Engine.wildcard(try #require(publisher).boundAddress)
    var encoder = CacheEventEncoder()
    /// The second rank has no replay: it speaks until it is heard.
    func publish(_ write: (inout CacheEventEncoder) -> Void) {
      write(&encoder)
      publisher?.publish(&encoder, timestamp: 1)
      _ = publisher?.readable()
    }
    let engine = try Engine(ranks: #","1":{"endpoint":"\#(endpoint)","replay_endpoint":null}"#)
    engine.publish { $0.stored(hashes: [1, 2], parent: nil, tokens: Array(1...8), blockSize: 4) }
    let other: [UInt32] = Array(101...112)
    try followed(engine) { _, adopter, _ in
      let model = try adopter.wait { $0.hasReadyWorker }.models[0]
      try wait(engine, "both ranks are heard") {
        // It holds the first rank's first block as well, under the same hash.
        publish {
          $0.stored(hashes: [1], parent: nil, tokens: Array(1...4), blockSize: 4)
          $0.stored(hashes: [8, 9], parent: nil, tokens: Array(101...108), blockSize: 4)
        }
        return overlap(model, Self.prompt) == 2 && overlap(model, other) == 2
      }
      publish { $0.cleared() }
      try wait(engine, "the second rank's are gone") { overlap(model, other) == 0 }
      #expect(overlap(model, Self.prompt) == 2)
      publish { $0.stored(hashes: [8], parent: nil, tokens: Array(101...104), blockSize: 4) }
      try wait(engine, "they come again") { overlap(model, other) == 1 }
      publisher = nil
      try wait(engine, "the port is free again") {
        publisher = try? CacheEventPublisher(CacheEventPublication(endpoint: endpoint), context: context)
        return publisher != nil
      }
      try wait(engine, "the second rank is another one") {
        publish { $0.stored(hashes: [7], parent: nil, tokens: Array(201...204), blockSize: 4) }
        return overlap(model, other) == 0 && overlap(model, Array(201...204)) == 1
      }
      #expect(overlap(model, Self.prompt) == 2)
    }
  }

  /// The value of a worker's counter.
  private func count(_ name: String, _ registry: MetricRegistry) -> Int {
    var page = ByteBuffer()
    registry.writePrometheus(into: &page)
    let line = page.text.split(separator: "\n").first { $0.hasPrefix(name + "{") }
    return line.flatMap { $0.split(separator: " ").last }.flatMap { Int($0) } ?? 0
  }

  @Test func afterARestAFeedIsWholeOnlyWhenItWasHeardFromTheBeginning() throws {
    let socket = try ZeroMQSocket(.publish, context: try ZeroMQContext())
    try socket.bind("tcp://*:*")
    func say(_ payload: [UInt8]) throws {
      _ = try socket.send(message: [[], [UInt8](repeating: 0, count: 8), payload])
    }
    var encoder = CacheEventEncoder()
    var batch = ByteBuffer()
    encoder.stored(hashes: [1], parent: nil, tokens: Array(1...4), blockSize: 4)
    encoder.finish(timestamp: 1, rank: 0, into: &batch)
    let stored = batch.bytes
    let engine = try Engine(replays: false, endpoint: Engine.wildcard(socket.boundAddress))
    try followed(engine) { _, adopter, registry in
      let model = try adopter.wait { $0.hasReadyWorker }.models[0]
      try wait(engine, "it is left alone") {
        _ = try? say(stored)
        return count("dynamo_frontend_kv_event_rests_total", registry) > 0
      }
      // That it listens again shows in what it cannot read.
      try wait(engine, "it is listened to again") {
        _ = try? say([0xc1])
        return count("dynamo_frontend_kv_event_malformed_total", registry) > 0
      }
      try wait(engine, "part of its cache is unknown") { model.routing.loads[0].cacheReason == .feedGap }
      try say(stored)
      try wait(engine, "an engine's first message is heard") {
        model.routing.loads[0].cacheReason == .feedLive
      }
      #expect(overlap(model, Self.prompt) == 1)
    }
  }

  @Test func aFeedThatBeginsAnewAllTheTimeIsLeftAloneForAWhile() throws {
    let socket = try ZeroMQSocket(.publish, context: try ZeroMQContext())
    try socket.bind("tcp://*:*")
    func say(_ sequence: UInt64, _ tokens: ClosedRange<UInt32>) throws {
      var encoder = CacheEventEncoder()
      var payload = ByteBuffer()
      encoder.stored(hashes: [1], parent: nil, tokens: Array(tokens), blockSize: 4)
      encoder.finish(timestamp: 1, rank: 0, into: &payload)
      let number = withUnsafeBytes(of: sequence.bigEndian) { Array($0) }
      _ = try socket.send(message: [[], number, payload.bytes])
    }
    let engine = try Engine(replays: false, endpoint: Engine.wildcard(socket.boundAddress))
    try followed(engine) { _, adopter, registry in
      let model = try adopter.wait { $0.hasReadyWorker }.models[0]
      let (resets, rests) = ("dynamo_frontend_kv_event_resets_total", "dynamo_frontend_kv_event_rests_total")
      // Each of these is the first message of another engine.
      try wait(engine, "it is left alone") {
        _ = try? say(0, 1...4)
        return count(rests, registry) > 0
      }
      #expect(model.routing.loads[0].cacheReason == .feedResting)
      #expect(overlap(model, Self.prompt) == 0)
      for _ in 0..<100 { try say(0, 1...4) }
      // However long that took: beyond the first ones each takes a rest.
      #expect(count(resets, registry) == RestartDamper.freeRestarts + count(rests, registry))
      // From now on it is one engine, with another block.
      var sequence: UInt64 = 0
      try wait(engine, "it is listened to again") {
        sequence += 1
        _ = try? say(sequence, 101...104)
        return overlap(model, Array(101...104)) == 1
      }
      #expect(model.routing.loads[0].cacheSource == .events)
      let before = count(rests, registry)
      try wait(engine, "it stays so") {
        sequence += 1
        _ = try? say(sequence, 101...104)
        return sequence > 100
      }
      #expect(overlap(model, Array(101...104)) == 1 && count(rests, registry) == before)
    }
  }

  @Test(arguments: [
    // A port that this process would have to listen on, another machine's, a file.
    ("tcp://127.0.0.1:5557", String?.none), ("tcp://somewhere:5557", nil), ("ipc:///run/kv", nil),
    ("inproc://kv", nil), ("tcp://*:5557", "tcp://192.0.2.1:5558"), ("tcp://*:5557", "ipc:///run/kv"),
  ])
  func anEngineElsewhereThanItsWorkerIsNotFollowed(_ endpoint: String, _ replay: String?) throws {
    let engine = try Engine(endpoint: endpoint, replayEndpoint: replay)
    try followed(engine) { _, adopter, registry in
      let model = try adopter.wait { $0.workers.first.map { !$0.eventSources.isEmpty } ?? false }.models[0]
      try wait(engine, "it is said why") { model.routing.loads[0].cacheReason == .foreignEndpoint }
      #expect(model.routing.loads[0].cacheSource == .predicted)
      var page = ByteBuffer()
      registry.writePrometheus(into: &page)
      #expect(!page.text.contains("dynamo_frontend_kv_event_batches_total{"))
    }
  }

  @Test func anEngineElsewhereIsFollowedWhereThatIsAllowed() throws {
    let path = "ipc:///tmp/kv-events-\(Machine.randomSeed())"
    defer { unlink(String(path.dropFirst("ipc://".count))) }
    let context = try ZeroMQContext()
    let publisher = try CacheEventPublisher(
      CacheEventPublication(endpoint: "tcp://*:*", replayEndpoint: path), context: context)
    var encoder = CacheEventEncoder()
    encoder.stored(hashes: [1, 2], parent: nil, tokens: Array(1...8), blockSize: 4)
    publisher.publish(&encoder, timestamp: 1)
    let engine = try Engine(replays: false, replayEndpoint: path)
    try followed(engine, followsForeign: true) { _, adopter, _ in
      let model = try adopter.wait { $0.hasReadyWorker }.models[0]
      try wait(engine, "the replay came") {
        while publisher.readable() {}
        return overlap(model, Self.prompt) == 2
      }
    }
  }

  @Test func anAddressOfTheWorkersNameIsItsOwn() throws {
    let engine = try Engine()
    let replay = try #require(engine.publisher.boundReplayAddress?.split(separator: ":").last)
    let named = try Engine(replays: false, replayEndpoint: "tcp://127.0.0.1:\(replay)")
    defer { engine.http.stop() }
    engine.publish { $0.stored(hashes: [1], parent: nil, tokens: Array(1...4), blockSize: 4) }
    try followed(named) { _, adopter, _ in
      let model = try adopter.wait { $0.hasReadyWorker }.models[0]
      try wait(engine, "the replay came") { overlap(model, Self.prompt) == 1 }
    }
  }
}
