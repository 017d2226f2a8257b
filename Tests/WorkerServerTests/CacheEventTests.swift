// Cache events of a worker: settings, `/kv_event_sources`, and what subscribers of a real one hear.

import Base
import Engine
import Foundation
import KVEvents
import Settings
import Testing
import Workers

@testable import WorkerServer

@Suite struct CacheEventSettingsTests {
  private func read(_ arguments: [String]) throws -> CacheEventSettings {
    let settings = try SettingsParser.parse(.worker, arguments: arguments, environment: [:])
    return try WorkerConfiguration(settings, environment: [:]).cacheEvents
  }

  private func settings(_ endpoint: String, _ replay: String = "auto") -> CacheEventSettings {
    var settings = CacheEventSettings()
    settings.endpoint = CacheEventSettings.Place(endpoint)
    settings.replayEndpoint = CacheEventSettings.Place(replay)
    return settings
  }

  @Test func theExecutablePublishesUnlessItIsTold() throws {
    #expect(try read([]).endpoint == .automatic && read([]).replayEndpoint == .automatic)
    #expect(try read(["--kv-events-endpoint", "off"]).endpoint == .off)
    #expect(CacheEventSettings().endpoint == .off)
  }

  @Test(arguments: [
    "tcp", "tcp://", "tcp://*", "tcp://:1", "tcp://*:70000", "tcp://*:x", "ipc://", "inproc://a", "5557",
  ])
  func whatIsNoAddressIsRefused(_ text: String) {
    #expect(!settings(text).faults().isEmpty)
    #expect(!settings("off", text).faults().isEmpty)
    var named = CacheEventSettings()
    named.engineEndpoint = text
    #expect(!named.faults().isEmpty)
  }

  @Test func theEnginesOwnAddressesBelongTogether() {
    var settings = CacheEventSettings()
    settings.engineReplayEndpoint = "tcp://*:5558"
    #expect(settings.faults().count == 1)
    settings.engineEndpoint = "tcp://*:5557"
    #expect(settings.faults().isEmpty)
    settings.engineEndpoint = "tcp://*:0"
    #expect(settings.faults().count == 1)
    #expect(throws: WorkerSettingsError.self) { try read(["--engine-kv-events-endpoint", "tcp://*:5557"]) }
  }

  @Test func anAddressIsChosenAsTheWorkerIsReached() {
    let automatic = settings("auto")
    #expect(automatic.publication(host: "127.0.0.1", rank: 0)?.endpoint == "tcp://127.0.0.1:*")
    #expect(automatic.publication(host: "0.0.0.0", rank: 0)?.endpoint == "tcp://*:*")
    #expect(automatic.publication(host: "::1", rank: 0)?.replayEndpoint == "tcp://[::1]:*")
    #expect(settings("off").publication(host: "127.0.0.1", rank: 0) == nil)
    #expect(settings("auto", "off").publication(host: "127.0.0.1", rank: 0)?.replayEndpoint == nil)
  }

  @Test func ranksHavePortsOfTheirOwn() {
    let fixed = settings("tcp://*:5557", "tcp://*:6557")
    #expect(fixed.publication(host: "x", rank: 3)?.endpoint == "tcp://*:5560")
    #expect(fixed.publication(host: "x", rank: 3)?.replayEndpoint == "tcp://*:6560")
    #expect(settings("tcp://*:65535").publication(host: "x", rank: 1) == nil)
    #expect(settings("tcp://*:0").publication(host: "x", rank: 2)?.endpoint == "tcp://*:*")
    let file = settings("ipc:///run/kv")
    #expect(file.publication(host: "x", rank: 0)?.replayEndpoint == "ipc:///run/kv-replay")
    #expect(file.publication(host: "x", rank: 1)?.endpoint == "ipc:///run/kv-1")
  }

  @Test func whatIsAnnouncedIsWhatVLLMWouldSay() {
    func announced(_ bound: String, _ place: String, isPublisher: Bool = true) -> String {
      CacheEventSettings.announced(bound, for: CacheEventSettings.Place(place), isPublisher: isPublisher)
    }
    #expect(announced("tcp://127.0.0.1:40001", "auto") == "tcp://*:40001")
    #expect(announced("tcp://0.0.0.0:5557", "tcp://*:5557") == "tcp://*:5557")
    #expect(announced("tcp://127.0.0.1:7", "tcp://127.0.0.1:0", isPublisher: false) == "tcp://127.0.0.1:7")
    #expect(announced("tcp://0.0.0.0:7", "tcp://*:0", isPublisher: false) == "tcp://*:7")
    #expect(announced("ipc:///run/kv", "ipc:///run/kv") == "ipc:///run/kv")
  }

  @Test func theEngineDecidesWhatIsToBeDone() {
    var configuration = WorkerConfiguration()
    #expect(configuration.cacheEventPlan(hasLibrary: true).plan == .none)
    configuration.cacheEvents.endpoint = .automatic
    #expect(configuration.cacheEventPlan(hasLibrary: true).plan == .publish)
    #expect(configuration.cacheEventPlan(hasLibrary: false).plan == .none)
    var uncached = EngineConfiguration()
    uncached.prefixCaching = false
    configuration.engine = .simulated(uncached)
    #expect(configuration.cacheEventPlan(hasLibrary: true).plan == .none)
    configuration.engine = .openAI(url: "http://127.0.0.1:8000", apiKey: nil)
    #expect(configuration.cacheEventPlan(hasLibrary: true).plan == .passOn)
    // Whom the worker's callers cannot reach by the worker's own name is spoken for.
    configuration.engine = .openAI(url: "http://10.0.0.9:8000", apiKey: nil)
    #expect(configuration.cacheEventPlan(hasLibrary: true).plan == .relay)
    #expect(configuration.cacheEventPlan(hasLibrary: false).warning?.contains("libzmq") == true)
    configuration.advertiseURL = "http://10.0.0.9:9000"
    #expect(configuration.cacheEventPlan(hasLibrary: true).plan == .passOn)
    configuration.cacheEvents.endpoint = .at("tcp://*:5557")
    #expect(configuration.cacheEventPlan(hasLibrary: true).plan == .relay)
  }
}

@Suite struct CacheEventSourceTests {
  private func parse(_ text: String) -> [CacheEventSource] {
    Array(text.utf8).withUnsafeBytes { CacheEventSource.parse($0) }
  }

  @Test func vLLMsAnswerIsReadAndWritten() {
    let text = """
      {"0":{"enable_kv_cache_events":true,"publisher":"zmq","endpoint":"tcp://*:5557",\
      "replay_endpoint":"tcp://*:5558","buffer_steps":10000,"hwm":100000,"max_queue_size":100000,"topic":""},\
      "1":{"enable_kv_cache_events":true,"publisher":"zmq","endpoint":"tcp://*:5558",\
      "replay_endpoint":null,"buffer_steps":10000,"hwm":100000,"max_queue_size":100000,"topic":"kv"}}
      """
    let sources = parse(text)
    #expect(
      sources == [
        CacheEventSource(rank: 0, endpoint: "tcp://*:5557", replayEndpoint: "tcp://*:5558"),
        CacheEventSource(rank: 1, endpoint: "tcp://*:5558", replayEndpoint: nil, topic: "kv"),
      ])
    var out = ByteBuffer()
    CacheEventSource.write(sources, into: &out)
    #expect(out.text == text)
  }

  @Test(arguments: [
    "", "{", "[]", "{}", "null", "{\"detail\":\"Not Found\"}", "{\"0\":{}}",
    "{\"-1\":{\"endpoint\":\"tcp://*:1\"}}",
    "{\"x\":{\"endpoint\":\"tcp://*:1\"}}", "{\"0\":{\"endpoint\":5}}", "{\"0\":{\"endpoint\":\"\"}}",
    "{\"0\":{\"endpoint\":\"tcp://*:1\",\"enable_kv_cache_events\":false}}",
    "{\"0\":{\"endpoint\":\"tcp://*:1\",\"publisher\":\"null\"}}",
  ])
  func whatIsNoPublisherIsLeftOut(_ text: String) { #expect(parse(text).isEmpty) }

  @Test func ranksAreBounded() {
    let entries = (0..<200).map { "\"\($0)\":{\"endpoint\":\"tcp://*:\(5000 + $0)\"}" }
    #expect(parse("{\(entries.joined(separator: ","))}").count == CacheEventSource.ranksMax)
  }

  @Test func theRouteSaysWhatIsKnown() throws {
    let rig = try Rig()
    let none = rig.perform("GET", "/kv_event_sources")
    #expect(none.status == 200 && none.body == "{}" && none.fields.contains("application/json"))
    rig.worker.shared.cacheEventSources.value = [
      CacheEventSource(rank: 0, endpoint: "tcp://*:1", tokenSource: "bytes")
    ]
    let one = rig.perform("GET", "/kv_event_sources").body
    #expect(one.contains("{\"0\":{") && one.contains("\"token_source\":\"bytes\""))
    #expect(rig.perform("POST", "/kv_event_sources").status == 405)
  }
}

@Suite(.enabled(if: ZeroMQContext.unavailableReason == nil, "libzmq.so.5 is not installed"))
struct CacheEventLiveTests {
  /// Follows a worker's announced publisher of rank 0.
  private final class Listener {
    let subscriber: CacheEventSubscriber
    private(set) var batches: [CacheEventBatch] = []
    private(set) var resets = 0

    init(_ worker: LiveWorker) throws {
      let source = try source(of: worker)
      let events = CacheEventEndpoint.events(of: source.endpoint, host: "127.0.0.1", rank: 0)
      var subscription = CacheEventSubscription(
        events: try #require(events))
      subscription.replay = source.replayEndpoint.flatMap {
        CacheEventEndpoint.replay(of: $0, host: "127.0.0.1", rank: 0)
      }
      subscriber = try CacheEventSubscriber(subscription, context: try ZeroMQContext())
    }

    var events: [CacheEvent] { batches.flatMap(\.events) }

    /// Waits on the descriptors until something is so; false after 20 s.
    func wait(until isDone: () throws -> Bool) rethrows -> Bool {
      let end = Self.now + 20 * second
      while try !isDone() {
        guard Self.now < end else { return false }
        subscriber.readable(now: CacheFeedTime(monotonic: Self.now, wallSeconds: 0)) { action in
          switch action {
          case .apply(let batch): batches.append(batch)
          case .forgetAll: resets += 1
          case .requestReplay: break
          }
        }
        if subscriber.deadline == 0 { continue }
        var waits = subscriber.descriptors.map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
        _ = poll(&waits, nfds_t(waits.count), 50)
      }
      return true
    }

    private static var now: Nanoseconds {
      var time = timespec()
      clock_gettime(CLOCK_MONOTONIC, &time)
      return UInt64(time.tv_sec) * second + UInt64(time.tv_nsec)
    }
  }

  private func ask(_ worker: LiveWorker, _ more: String = "") throws -> String {
    try BlockingClient(port: worker.port).exchange(LiveWorker.post(LiveWorker.chat(more)))
  }

  /// The canonical prompt of ``LiveWorker/chat(_:)`` in words of four bytes, as many as fill blocks.
  private var words: [UInt32] {
    let bytes = Array("{\"role\":\"user\",\"content\":\"Hello there\"}".utf8)
    return (0..<bytes.count / 4).map { index in
      (0..<4).reduce(0) { $0 | UInt32(bytes[index * 4 + $1]) << (8 * UInt32($1)) }
    }
  }

  private func simulated(_ endpoint: CacheEventSettings.Place = .automatic) throws -> LiveWorker {
    let worker = try LiveWorker {
      var engine = EngineConfiguration()
      engine.speedupRatio = 0
      engine.blockSize = 4
      $0.engine = .simulated(engine)
      $0.cacheEvents.endpoint = endpoint
    }
    try worker.waitUntilReady()
    return worker
  }

  @Test func aSimulatedWorkerPublishesAndReplays() throws {
    let worker = try simulated()
    #expect(try ask(worker, ",\"max_tokens\":1").contains("\"cached_tokens\":0"))
    // Published before anybody listened: comes by replay.
    let listener = try Listener(worker)
    #expect(listener.wait { listener.events.count == 1 })
    let first = try #require(listener.batches.first)
    #expect(Array(first.tokens) == Array(words.prefix(first.hashes.count * 4)))
    #expect(first.hashes.count == words.count / 4)
    // A cached prompt is silent; a salt makes it another.
    #expect(try ask(worker, ",\"max_tokens\":1").contains("\"cached_tokens\":8"))
    _ = try ask(worker, ",\"max_tokens\":1,\"cache_salt\":\"tenant\"")
    #expect(listener.wait { listener.events.count == 2 })
    let salted = try #require(listener.batches.last)
    #expect(salted.tokens == first.tokens && salted.hashes != first.hashes)
    #expect(salted.text(at: salted.events[0].salt) == "tenant")
    let metrics = try worker.get("/metrics")
    #expect(metrics.contains("dynamo_component_kv_events_total"))
    #expect(worker.lines.lines.contains { $0.contains("publishing cache events") })
  }

  @Test func nothingIsAnnouncedWhenItIsOff() throws {
    let worker = try simulated(.off)
    #expect(try worker.get("/kv_event_sources").hasSuffix("{}"))
  }

  @Test func anAttachedEnginesEventsArePublishedAgain() throws {
    let engine = try simulated()
    let relay = try LiveWorker {
      $0.engine = .openAI(url: "http://127.0.0.1:\(engine.port)", apiKey: nil)
      $0.cacheEvents.endpoint = .at("tcp://127.0.0.1:0")
      $0.drainTimeout = second
    }
    try relay.waitUntilReady()
    _ = try ask(engine, ",\"max_tokens\":1")
    let listener = try Listener(relay)
    #expect(listener.wait { listener.events.count == 1 })
    _ = try ask(relay, ",\"max_tokens\":1,\"cache_salt\":\"tenant\"")
    #expect(listener.wait { listener.events.count == 2 })
    #expect(listener.batches.allSatisfy { $0.tokens == Array(words.prefix(8)) })
  }

  @Test func anEngineOnThisMachineSpeaksForItself() throws {
    let engine = try simulated()
    let worker = try LiveWorker {
      $0.engine = .openAI(url: "http://127.0.0.1:\(engine.port)", apiKey: nil)
      $0.cacheEvents.endpoint = .automatic
    }
    try worker.waitUntilReady()
    #expect(try source(of: worker) == source(of: engine))
  }

  @Test func anAddressThatIsTakenEndsTheStart() throws {
    let first = try simulated()
    let source = try source(of: first)
    #expect(throws: WorkerStartError.self) { try simulated(.at(source.endpoint)) }
  }
}

/// The first publisher that a worker announces.
private func source(of worker: LiveWorker) throws -> CacheEventSource {
  let answer = try worker.get("/kv_event_sources")
  let body = Array(try #require(answer.components(separatedBy: "\r\n\r\n").last).utf8)
  let sources = body.withUnsafeBytes { CacheEventSource.parse($0) }
  return try #require(sources.first)
}
