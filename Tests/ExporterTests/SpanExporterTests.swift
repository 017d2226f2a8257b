// The whole exporter: its thread, real sockets on loopback, publishers on other threads.

import Base
import EventLoop
import GRPC
import HTTP
import Logging
import Synchronization
import Telemetry
import Testing

@testable import Exporter

/// A collector on a loop and thread of its own that answers every call OK and counts spans.
private final class LiveCollector: Sendable {
  private final class Connection: EventHandler {
    let descriptor: Int32
    let loop: EventLoop
    let owner: LiveCollector
    let collector: FakeCollector

    init(_ descriptor: Int32, _ loop: EventLoop, _ owner: LiveCollector) throws {
      self.descriptor = descriptor
      self.loop = loop
      self.owner = owner
      collector = try FakeCollector()
    }

    func ready(_ readiness: Readiness) {
      guard let room = loop.scratch.baseAddress else { return }
      while true {
        let count = loop.system.receive(descriptor, room, loop.scratch.count)
        guard count > 0 else { return }
        let bytes = Array(UnsafeRawBufferPointer(start: room, count: count))
        let reply = try? collector.exchange(bytes) { call in
          owner.add(call.message.withUnsafeBytes { spanCount($0) })
          return .ok
        }
        guard let reply, !reply.isEmpty else { continue }
        reply.withUnsafeBytes { reply in
          if let start = reply.baseAddress { _ = loop.system.send(descriptor, start, reply.count) }
        }
      }
    }
  }

  private final class Listener: EventHandler {
    let descriptor: Int32
    let loop: EventLoop
    let owner: LiveCollector
    var connections: [Connection] = []

    init(_ descriptor: Int32, _ loop: EventLoop, _ owner: LiveCollector) {
      self.descriptor = descriptor
      self.loop = loop
      self.owner = owner
    }

    func ready(_ readiness: Readiness) {
      let accepted = loop.system.accept(descriptor)
      guard accepted >= 0, let connection = try? Connection(accepted, loop, owner) else { return }
      connections.append(connection)
      _ = try? loop.register(accepted, connection)
    }
  }

  let port: UInt16
  private let spans = Mutex(0)
  private let mailbox = Mutex<Mailbox?>(nil)
  private let thread = Mutex<Thread?>(nil)
  private let listening: Int32

  var spanTotal: Int { spans.withLock { $0 } }

  func add(_ count: Int) { spans.withLock { $0 += count } }

  init() throws {
    let (descriptor, address) = try Sockets.listen(host: "127.0.0.1", port: 0)
    listening = descriptor
    port = address.port
  }

  func start() throws {
    let thread = try Thread(name: "collector") { [self] in
      guard let loop = try? EventLoop(index: 0, seed: 1) else { return }
      mailbox.withLock { $0 = loop.mailbox }
      let listener = Listener(listening, loop, self)
      _ = try? loop.registerShared(listening, listener)
      loop.run()
      for connection in listener.connections { loop.system.close(connection.descriptor) }
      loop.system.close(listening)
    }
    self.thread.withLock { $0 = thread }
  }

  func stop() {
    mailbox.withLock { $0?.submit { $0.stop() } }
    thread.withLock { $0 }?.join()
  }
}

struct SpanExporterTests {
  private func exporter(port: UInt16, _ ledger: SpanLedger) -> SpanExporter {
    var configuration = ExporterConfiguration(version: "1.0")
    configuration.host = "127.0.0.1"
    configuration.port = port
    return SpanExporter(
      configuration: configuration,
      resource: TelemetryResource(serviceName: "test", serviceVersion: "1", instanceID: "id"),
      ledger: ledger, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
  }

  @Test func spansOfManyThreadsArriveAndTheBooksBalance() throws {
    let collector = try LiveCollector()
    try collector.start()
    let ledger = SpanLedger()
    let exporter = exporter(port: collector.port, ledger)
    // Published before the start: waits.
    ledger.recordMade(10)
    exporter.publish(batch(10))
    try exporter.start()
    let publishers = try (0..<2).map { index in
      try Thread(name: "publisher-\(index)") {
        for _ in 0..<100 {
          ledger.recordMade(100)
          exporter.publish(batch(100))
        }
      }
    }
    for publisher in publishers { publisher.join() }
    exporter.shutdown(within: 30 * second)
    collector.stop()
    #expect(ledger.made == 20_010)
    #expect(ledger.sent == 20_010)
    #expect(ledger.dropped == 0)
    #expect(collector.spanTotal == 20_010)
    exporter.publish(batch(3))
    #expect(ledger.dropped(.shutdown) == 3)
  }

  @Test func absentReceiverHarmsNothingAndTheEndIsQuick() throws {
    let (descriptor, address) = try Sockets.listen(host: "127.0.0.1", port: 0)
    LiveSystemCalls().close(descriptor)
    let ledger = SpanLedger()
    let exporter = exporter(port: address.port, ledger)
    try exporter.start()
    for _ in 0..<10 {
      ledger.recordMade(1_000)
      exporter.publish(batch(1_000))
    }
    exporter.shutdown(within: 30 * second)
    #expect(ledger.sent == 0)
    #expect(ledger.dropped == 10_000)
    #expect(ledger.pending == 0)
    #expect(exporter.state.lastError.contains("refused"))
  }

  /// A receiver that takes connections and says nothing: three signals one after the other would take three times as long.
  @Test func allSignalsEndWithinOneDeadline() throws {
    let (silent, address) = try Sockets.listen(host: "127.0.0.1", port: 0)
    defer { LiveSystemCalls().close(silent) }
    let registry = MetricRegistry()
    let service = try ServiceTelemetry(
      environment: [
        "OTEL_EXPORT_ENABLED": "1", "OTEL_METRICS_EXPORTER": "otlp", "OTEL_LOGS_EXPORTER": "otlp",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:\(address.port)", "DYN_LOG": "error",
      ],
      defaultName: "test", version: "1", registry: registry, instanceID: "id")
    service.outputs.ledger.recordMade(10)
    service.outputs.spanSink?.publish(batch(10))
    let limit = 2 * second
    let began = Machine.monotonicNanoseconds
    service.shutdown(within: limit)
    #expect(Machine.monotonicNanoseconds - began < 2 * limit)
    #expect(service.outputs.ledger.dropped(.shutdown) == 10)
    var out = ByteBuffer()
    registry.writePrometheus(into: &out)
    #expect(out.text.contains("dynamo_otlp_records_sent_total{signal=\"metrics\"} 0"))
    #expect(!out.text.contains("dynamo_otlp_records_dropped_total{signal=\"metrics\",reason=\"shutdown\"} 0"))
  }

  @Test func exporterThatNeverStartedBooksItsSpans() {
    let ledger = SpanLedger()
    let exporter = exporter(port: 1, ledger)
    ledger.recordMade(10)
    exporter.publish(batch(10))
    exporter.shutdown(within: second)
    exporter.shutdown(within: second)
    #expect(ledger.dropped(.shutdown) == 10)
  }

  @Test func metricsShowCallsAndResends() throws {
    let collector = try LiveCollector()
    try collector.start()
    let ledger = SpanLedger()
    let exporter = exporter(port: collector.port, ledger)
    let registry = MetricRegistry()
    exporter.register(on: registry)
    try exporter.start()
    exporter.publish(batch(10))
    exporter.shutdown(within: 30 * second)
    collector.stop()
    var out = ByteBuffer()
    registry.writePrometheus(into: &out)
    #expect(out.text.contains("dynamo_trace_export_requests_total{status=\"OK\"} 1"))
    #expect(out.text.contains("dynamo_trace_spans_resent_total 0"))
  }
}
