// The store as a process holds it: spans of this process come in without a socket, and the books stay right.

import Base
import Synchronization
import Telemetry
import Testing

@testable import TraceStore

@Suite struct TraceStoreServerTests {
  private static func server(_ registry: MetricRegistry = MetricRegistry()) throws -> TraceStoreServer {
    var configuration = TraceStoreConfiguration()
    (configuration.httpPort, configuration.otlpGRPCPort, configuration.otlpHTTPPort) = (0, 0, 0)
    return try TraceStoreServer(configuration: configuration, registry: registry)
  }

  private func batch(_ spans: [SampleSpan]) -> SpanBatch {
    var out = ByteBuffer()
    for span in spans { span.write(into: &out) }
    return SpanBatch(bytes: FrozenBytes(out), spanCount: spans.count)
  }

  private let resource = TelemetryResource(serviceName: "frontend", serviceVersion: "1", instanceID: "i")

  @Test func batchesOfThisProcessAreStoredAndCountedAsSent() throws {
    let registry = MetricRegistry()
    let server = try Self.server(registry)
    let ledger = SpanLedger()
    let sink = server.sink(resource: resource, ledger: ledger)
    ledger.recordMade(3)
    sink.publish(batch([SampleSpan(id: 1), SampleSpan(id: 2)]))
    sink.publish(batch([SampleSpan(id: 3)]))
    // The thread takes in what came before its end.
    server.stop()
    #expect(ledger.sent == 3)
    #expect(ledger.pending == 0)
    var metrics = ByteBuffer()
    registry.writePrometheus(into: &metrics)
    #expect(metrics.text.contains("dynamo_trace_store_spans_stored_total 3\n"))
    #expect(metrics.text.contains("dynamo_trace_store_messages_total{protocol=\"process\"} 2\n"))
  }

  @Test func spansThatComeTooLateOrCannotBeReadAreCountedAsDropped() throws {
    let server = try Self.server()
    let ledger = SpanLedger()
    let sink = server.sink(resource: resource, ledger: ledger)
    sink.publish(batch([SampleSpan(trace: 0, traceHigh: 0)]))
    server.stop()
    sink.publish(batch([SampleSpan()]))
    #expect(ledger.dropped(.rejected) == 1)
    #expect(ledger.dropped(.shutdown) == 1)
    server.stop()
  }

  @Test func whereAnExporterKeepsTheBooksTheStoreCountsNothing() throws {
    let server = try Self.server()
    let counted = SpanLedger()
    let tee = SpanTee(
      server.sink(resource: resource, ledger: counted), server.sink(resource: resource, ledger: nil))
    tee.publish(batch([SampleSpan()]))
    server.stop()
    #expect(counted.sent == 1)
  }

  @Test func itsOwnAddressIsKnownUnderEachName() throws {
    let server = try Self.server()
    defer { server.stop() }
    #expect(server.receives(host: "127.0.0.1", port: server.otlpGRPCPort))
    #expect(server.receives(host: "localhost", port: server.otlpHTTPPort))
    #expect(!server.receives(host: "127.0.0.1", port: server.queryPort))
    #expect(!server.receives(host: "192.0.2.1", port: server.otlpGRPCPort))
  }

  @Test func aPortThatIsTakenIsNamed() throws {
    let server = try Self.server()
    defer { server.stop() }
    var configuration = TraceStoreConfiguration()
    (configuration.httpPort, configuration.otlpGRPCPort, configuration.otlpHTTPPort) = (
      0, server.otlpGRPCPort, 0
    )
    #expect {
      try TraceStoreServer(configuration: configuration, registry: MetricRegistry())
    } throws: {
      "\($0)".contains("cannot listen on 127.0.0.1:\(server.otlpGRPCPort)")
    }
  }
}
