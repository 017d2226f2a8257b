// Whole workers over loopback: registration, attached engines, cancellation across processes' borders, the end.

import Base
import Engine
import Foundation
import Testing
import Workers

@testable import WorkerServer

@Suite struct LiveWorkerTests {
  private func attached(
    to engine: LiveWorker, _ edit: @escaping (inout WorkerConfiguration) -> Void = { _ in }
  ) throws
    -> LiveWorker
  {
    let worker = try LiveWorker { configuration in
      configuration.engine = .openAI(url: "http://127.0.0.1:\(engine.port)/v1/", apiKey: nil)
      edit(&configuration)
    }
    try worker.waitUntilReady()
    return worker
  }

  @Test func aWorkerRegistersServesAndLeavesNothingBehind() throws {
    let worker = try LiveWorker()
    try worker.waitUntilReady()
    let identity = worker.server.identity
    #expect(Set(worker.records) == [identity.instanceKey, identity.cardKey])
    let bytes = try #require(FileManager.default.contents(atPath: worker.store + "/" + identity.instanceKey))
    let record = try bytes.withUnsafeBytes { try DiscoveryRecord.parse($0) }
    #expect(record.transport == .http("http://127.0.0.1:\(worker.port)"))
    let answer = try BlockingClient(port: worker.port).exchange(LiveWorker.post(LiveWorker.chat()))
    #expect(answer.hasPrefix("HTTP/1.1 200"))
    worker.stop()
    #expect(worker.records.isEmpty)
    #expect(worker.spans.span("handle_payload") != nil)
    #expect(throws: POSIXError.self) { try BlockingClient(port: worker.port) }
  }

  @Test func aWorkerThatDoesNotRegisterHasTheIDOfItsURL() throws {
    let worker = try LiveWorker { $0.discoveryFolder = nil }
    let id = try WorkerURL.parse(worker.server.url).get().id
    #expect(worker.server.identity.instanceID == id)
    #expect(try worker.get("/health").contains("\"instance_id\":\(id)}"))
    worker.stop()
    let given = try LiveWorker {
      $0.discoveryFolder = nil
      $0.instanceID = 7
    }
    #expect(given.server.identity.instanceID == 7)
    given.stop()
  }

  @Test func aWorkerThatRegistersInEtcdIsAnotherOneAfterEachStart() throws {
    func id() throws -> UInt64 {
      let worker = try LiveWorker {
        $0.discoveryFolder = nil
        var etcd = EtcdSettings()
        etcd.endpoints = ["http://127.0.0.1:1"]
        $0.etcd = etcd
        $0.advertiseURL = "http://10.0.0.7:8100"
      }
      defer { worker.stop() }
      return worker.server.identity.instanceID
    }
    #expect(try id() != id())
  }

  @Test func aLoopbackURLInEtcdEarnsAWarning() {
    func warnings(_ host: String, _ url: String? = nil, etcd: Bool = true) -> Int {
      var configuration = WorkerConfiguration()
      configuration.host = host
      configuration.advertiseURL = url
      configuration.etcd = etcd ? EtcdSettings() : nil
      return configuration.warnings(passThrough: []).count
    }
    #expect(warnings("127.0.0.1") == 1 && warnings("0.0.0.0") == 1 && warnings("::1") == 1)
    #expect(warnings("0.0.0.0", "http://localhost:1") == 1 && warnings("0.0.0.0", "http://[::1]:1") == 1)
    #expect(warnings("10.0.0.7") == 0 && warnings("0.0.0.0", "http://10.0.0.7:1") == 0)
    #expect(warnings("127.0.0.1", etcd: false) == 0)
  }

  @Test func severalWorkersLiveInOneProcess() throws {
    let first = try LiveWorker()
    let second = try LiveWorker { $0.model = "other/model" }
    #expect(first.port != second.port)
    #expect(first.server.identity.instanceID != second.server.identity.instanceID)
    _ = try BlockingClient(port: first.port).exchange(LiveWorker.post(LiveWorker.chat()))
    let other = try BlockingClient(port: second.port).exchange(LiveWorker.post(LiveWorker.chat()))
    #expect(other.hasPrefix("HTTP/1.1 404"))
    first.stop()
    #expect(try second.get("/live").hasPrefix("HTTP/1.1 200"))
    #expect(first.spans.spans.count == 2)
  }

  @Test func theSystemServerHasHealthAndMetricsOnly() throws {
    let worker = try LiveWorker {
      $0.systemHost = "127.0.0.1"
      $0.systemPort = 0
    }
    let port = try #require(worker.server.systemPort)
    func get(_ path: String) throws -> String {
      try BlockingClient(port: port).exchange("GET \(path) HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n")
    }
    #expect(try get("/health").contains("\"status\""))
    #expect(try get("/metrics").contains("dynamo_component_uptime_seconds"))
    let answer = try BlockingClient(port: port).exchange(LiveWorker.post(LiveWorker.chat()))
    #expect(answer.hasPrefix("HTTP/1.1 404"))
  }

  @Test func anAttachedEngineIsRelayedAndTraced() throws {
    let engine = try LiveWorker()
    let worker = try attached(to: engine)
    let parent = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    let options = ",\"stream\":true,\"stream_options\":{\"include_usage\":true},\"max_tokens\":7"
    let answer = try BlockingClient(port: worker.port).exchange(
      LiveWorker.post(LiveWorker.chat(options), [parent, "x-request-id: relay-1", "tracestate: a=b"]))
    #expect(answer.hasPrefix("HTTP/1.1 200"))
    #expect(answer.contains("data: [DONE]"))
    #expect(answer.components(separatedBy: "x-request-id: relay-1").count == 2)
    worker.stop()
    engine.stop()
    let generate = try #require(worker.spans.span("engine.generate"))
    #expect(generate.ints["output_tokens"] == 7 && generate.strings["finish_reason"] == "length")
    #expect(generate.doubles["ttft_ms"] != nil && generate.doubles["queue_ms"] == nil)
    // The engine is a worker itself here: its server span hangs under our engine.generate.
    let inner = try #require(engine.spans.span("handle_payload"))
    #expect(inner.parent == generate.spanID && inner.traceID == generate.traceID)
    #expect(inner.strings["x_request_id"] == "relay-1")
  }

  @Test func aWholeAnswerAndAnErrorPassUnchanged() throws {
    let engine = try LiveWorker()
    let worker = try attached(to: engine)
    let whole = try BlockingClient(port: worker.port).exchange(
      LiveWorker.post(LiveWorker.chat(",\"max_tokens\":3")))
    #expect(whole.contains("content-length") && whole.contains("\"completion_tokens\":3"))
    let bad = try BlockingClient(port: worker.port).exchange(
      LiveWorker.post(LiveWorker.chat(",\"temperature\":9")))
    #expect(bad.hasPrefix("HTTP/1.1 400") && bad.contains("temperature"))
    worker.stop()
    let spans = worker.spans.spans.filter { $0.name == "engine.generate" }
    #expect(spans.map { $0.ints["output_tokens"] } == [3, nil])
    #expect(spans[0].strings["finish_reason"] == "length")
  }

  @Test func theEnginesNameForTheModelIsTakenUnlessOneIsGiven() throws {
    let engine = try LiveWorker()
    let unnamed = try attached(to: engine) { $0.model = "ignored" }
    #expect(try unnamed.get("/v1/models").contains("test/model"))
    #expect(try !unnamed.get("/v1/models").contains("ignored"))
    let named = try attached(to: engine) {
      $0.model = "alias"
      $0.modelIsGiven = true
    }
    #expect(try named.get("/v1/models").contains("alias"))
    let card = try #require(
      FileManager.default.contents(atPath: named.store + "/" + named.server.identity.cardKey))
    let parsed = try card.withUnsafeBytes { try ModelCard.parse($0) }
    #expect(parsed.displayName == "alias" && parsed.blockSize == 16 && parsed.totalBlocks == 16_384)
  }

  @Test func aCallerThatLeavesFreesTheEngineBehindTheRelay() throws {
    let engine = try LiveWorker { configuration in
      var slow = EngineConfiguration()
      slow.speedupRatio = 1
      configuration.engine = .simulated(slow)
    }
    let worker = try attached(to: engine)
    let client = try BlockingClient(port: worker.port)
    client.send(LiveWorker.post(LiveWorker.chat(",\"stream\":true,\"max_tokens\":100000")))
    #expect(client.read(until: "\"content\":\" ").contains("200 OK"))
    client.closeNow()
    // Both hear of it: the stop has nothing to wait for.
    worker.stop()
    engine.stop()
    #expect(worker.spans.span("engine.generate")?.bools["cancelled"] == true)
    #expect(engine.spans.span("engine.generate")?.bools["cancelled"] == true)
    #expect(engine.spans.span("handle_payload")?.strings["request.outcome"] == "cancelled")
  }

  @Test func anEngineThatIsGoneIsAnswered503() throws {
    let engine = try LiveWorker()
    let worker = try attached(to: engine)
    #expect(worker.records.count == 2)
    engine.stop()
    let answer = try BlockingClient(port: worker.port).exchange(LiveWorker.post(LiveWorker.chat()))
    #expect(answer.hasPrefix("HTTP/1.1 503") && answer.contains("engine_unavailable"))
    worker.stop()
    #expect(worker.spans.span("engine.generate")?.strings["error_kind"] == "cannot_connect")
    #expect(worker.spans.span("handle_payload")?.status == 2)
  }

  @Test func anUnreachableEngineKeepsTheWorkerUnready() throws {
    let worker = try LiveWorker { $0.engine = .openAI(url: "http://127.0.0.1:1", apiKey: nil) }
    #expect(try worker.get("/health").hasPrefix("HTTP/1.1 503"))
    #expect(try worker.get("/v1/models").hasPrefix("HTTP/1.1 503"))
    let answer = try BlockingClient(port: worker.port).exchange(LiveWorker.post(LiveWorker.chat()))
    #expect(answer.hasPrefix("HTTP/1.1 503") && answer.contains("retry-after: 1"))
    #expect(worker.records.isEmpty)
  }

  @Test func streamsRunToTheirEndWhileDraining() throws {
    let worker = try LiveWorker { configuration in
      var engine = EngineConfiguration()
      engine.speedupRatio = 4
      configuration.engine = .simulated(engine)
    }
    let client = try BlockingClient(port: worker.port)
    client.send(LiveWorker.post(LiveWorker.chat(",\"stream\":true,\"max_tokens\":60"), close: false))
    let first = client.read(until: "\"content\":\"")
    worker.beginStop()
    let rest = client.read()
    worker.waitUntilStopped()
    #expect((first + rest).contains("data: [DONE]"))
    #expect(worker.spans.span("handle_payload")?.strings["request.outcome"] == "success")
  }

  @Test func theDrainsDeadlineCutsAndSaysSo() throws {
    let worker = try LiveWorker { configuration in
      var engine = EngineConfiguration()
      engine.speedupRatio = 1
      configuration.engine = .simulated(engine)
      configuration.drainTimeout = 0
    }
    let client = try BlockingClient(port: worker.port)
    client.send(LiveWorker.post(LiveWorker.chat(",\"stream\":true,\"max_tokens\":100000"), close: false))
    _ = client.read(until: "\"content\":\" ")
    worker.stop()
    #expect(worker.spans.span("handle_payload") != nil)
    #expect(worker.spans.span("engine.generate")?.bools["cancelled"] == true)
    #expect(worker.lines.lines.contains { $0.contains("cut at the drain's deadline") })
  }

  @Test func whatCannotWorkIsRefusedAtTheStart() throws {
    #expect(throws: WorkerStartError.self) {
      try LiveWorker { $0.engine = .openAI(url: "ftp://x", apiKey: nil) }
    }
    #expect(throws: WorkerStartError.self) { try LiveWorker { $0.namespace = "../up" } }
    let first = try LiveWorker()
    #expect(throws: WorkerStartError.self) { try LiveWorker { $0.port = first.port } }
  }
}
