// Batches, the books, and the export message around them.

import Base
import Protobuf
import Testing

@testable import Telemetry

private let context = SpanContext(traceID: TraceID(high: 1, low: 2), spanID: 3, flags: 1)

private func add(_ count: Int, to writer: inout SpanWriter, valueBytes: Int = 0) {
  for index in 0..<count {
    writer.begin(name: "span", context: context, kind: .internal, start: 1)
    writer.attribute("index", index)
    if valueBytes > 0 { writer.attribute("text", String(repeating: "x", count: valueBytes)) }
    writer.end(at: 2)
  }
}

@Suite struct SpanPublisherTests {
  @Test func spansWaitUntilTheirTimeHasCome() throws {
    let sink = Collector()
    let ledger = SpanLedger()
    let publisher = SpanPublisher(sink: sink, ledger: ledger)
    publisher.collect(now: 5 * second) { _ in }
    #expect(publisher.deadline == nil)
    publisher.collect(now: 10 * second) { add(2, to: &$0) }
    #expect(publisher.deadline == 10 * second + 200 * millisecond)
    publisher.collect(now: 10 * second + 100 * millisecond) { add(1, to: &$0) }
    publisher.tick(now: 10 * second + 199 * millisecond)
    #expect(sink.batches.isEmpty)
    publisher.tick(now: 10 * second + 200 * millisecond)
    #expect(sink.batches.map(\.spanCount) == [3])
    #expect(publisher.deadline == nil)
    #expect(ledger.made == 3)
    #expect(ledger.pending == 3)
    let spans = try #require(try sink.batches.first?.bytes.withUnsafeBytes { try DecodedSpan.all(in: $0) })
    #expect(spans.count == 3)
  }

  @Test func spansThatEndedBeforeLeaveWithTheirRequest() throws {
    let sink = Collector()
    let publisher = SpanPublisher(sink: sink, ledger: SpanLedger())
    var earlier = SpanWriter()
    add(2, to: &earlier)
    publisher.collect(now: 1) { batch in
      batch.append(earlier)
      add(1, to: &batch)
    }
    publisher.publish()
    let spans = try #require(try sink.batches.first?.bytes.withUnsafeBytes { try DecodedSpan.all(in: $0) })
    #expect(spans.map { $0["index"] } == [.int(0), .int(1), .int(0)])
  }

  @Test func aBatchFullOfSpansIsPublishedAtOnce() {
    let sink = Collector()
    let publisher = SpanPublisher(sink: sink, ledger: SpanLedger())
    for _ in 0..<128 {
      publisher.collect(now: 1) { add(4, to: &$0) }
    }
    #expect(sink.batches.map(\.spanCount) == [512])
    #expect(publisher.deadline == nil)
  }

  @Test func aBatchFullOfBytesIsPublishedAndNoRequestIsSplit() {
    let sink = Collector()
    let publisher = SpanPublisher(sink: sink, ledger: SpanLedger())
    for _ in 0..<5 {
      publisher.collect(now: 1) { add(5, to: &$0, valueBytes: 4_000) }
    }
    publisher.publish()
    #expect(sink.batches.map(\.spanCount) == [15, 10])
    publisher.collect(now: 1) { add(20, to: &$0, valueBytes: 4_000) }
    #expect(sink.batches.map(\.spanCount) == [15, 10, 20])
    publisher.publish()
    #expect(sink.batches.count == 3)
  }
}

@Suite struct SpanLedgerTests {
  @Test func everySpanIsSentOrDroppedForAReason() {
    let ledger = SpanLedger()
    ledger.recordMade(100)
    ledger.recordSent(40)
    for (index, reason) in SpanDropReason.allCases.enumerated() { ledger.recordDropped(index + 1, reason) }
    #expect(SpanDropReason.allCases.map { ledger.dropped($0) } == [1, 2, 3, 4, 5, 6, 7])
    #expect(ledger.dropped == 28)
    #expect(ledger.pending == 32)
    #expect(
      SpanDropReason.allCases.map(\.label) == [
        "queue_full", "too_large", "rejected", "deadline", "shutdown", "spool_full", "spool_damaged",
      ])
  }

  @Test func whatLiesInTheSpoolIsNeitherPendingNorLost() {
    let ledger = SpanLedger()
    ledger.recordMade(100)
    ledger.recordSpooled(30)
    ledger.recordRecovered(5)
    #expect(ledger.spooled == 35)
    #expect(ledger.pending == 70)
    ledger.recordUnspooled(35)
    ledger.recordSent(100)
    ledger.recordDropped(5, .rejected)
    #expect(ledger.spooled == 0)
    #expect(ledger.pending == 0)
    #expect(ledger.made + ledger.recovered == ledger.sent + ledger.dropped)
  }

  @Test func theBooksShowInMetrics() {
    let ledger = SpanLedger()
    let registry = MetricRegistry()
    registry.register(ledger)
    ledger.recordMade(3)
    ledger.recordSent(1)
    ledger.recordDropped(1, .queueFull)
    var out = ByteBuffer()
    registry.writePrometheus(into: &out)
    let text = out.text
    #expect(text.contains("\ndynamo_trace_spans_made_total 3\n"))
    #expect(text.contains("\ndynamo_trace_spans_sent_total 1\n"))
    #expect(text.contains("\ndynamo_trace_spans_dropped_total{reason=\"queue_full\"} 1\n"))
    #expect(text.contains("\ndynamo_trace_spans_dropped_total{reason=\"shutdown\"} 0\n"))
    #expect(text.contains("\ndynamo_trace_spans_pending 1\n"))
  }
}

@Suite struct TelemetryResourceTests {
  private func decode(_ bytes: UnsafeRawBufferPointer) throws
    -> (attributes: [DecodedAttribute], scope: [String], spans: [DecodedSpan])
  {
    var attributes: [DecodedAttribute] = []
    var scope: [String] = []
    var spans: [DecodedSpan] = []
    var request = ProtobufReader(bytes)
    let resourceSpans = try #require(try request.next())
    #expect(resourceSpans.number == 1)
    #expect(try request.next() == nil)
    var reader = ProtobufReader(try #require(resourceSpans.bytes))
    while let field = try reader.next() {
      var inner = ProtobufReader(try #require(field.bytes))
      while let item = try inner.next() {
        let bytes = try #require(item.bytes)
        switch (field.number, item.number) {
        case (1, 1): attributes.append(try DecodedAttribute(bytes))
        case (2, 1):
          var names = ProtobufReader(bytes)
          while let name = try names.next() { scope.append(name.bytes?.text ?? "") }
        case (2, 2): spans.append(try DecodedSpan(bytes))
        default: Issue.record("unknown field \(field.number).\(item.number)")
        }
      }
    }
    return (attributes, scope, spans)
  }

  @Test func batchesBecomeOneMessageOfTheForetoldSize() throws {
    let resource = TelemetryResource(
      serviceName: "dynamo-frontend", serviceVersion: "1.2.3", instanceID: "c0ffee", extra: [("zone", "a")])
    var writer = SpanWriter()
    var batches: [SpanBatch] = []
    for count in [1, 3, 200] {
      add(count, to: &writer)
      batches.append(SpanBatch(bytes: writer.take(), spanCount: count))
    }
    var out = ByteBuffer()
    resource.appendExportRequestHead(spanBytes: batches.reduce(0) { $0 + $1.bytes.count }, to: &out)
    for batch in batches { batch.bytes.withUnsafeBytes { out.append($0) } }
    #expect(out.count == resource.exportRequestBytes(spanBytes: batches.reduce(0) { $0 + $1.bytes.count }))
    let message = try decode(out.readable)
    #expect(message.spans.count == 204)
    #expect(message.scope == ["dynamo-frontend", "1.2.3"])
    #expect(
      message.attributes == [
        DecodedAttribute("service.name", .text("dynamo-frontend")),
        DecodedAttribute("service.version", .text("1.2.3")),
        DecodedAttribute("service.instance.id", .text("c0ffee")),
        DecodedAttribute("telemetry.sdk.name", .text("opentelemetry")),
        DecodedAttribute("telemetry.sdk.language", .text("swift")),
        DecodedAttribute("telemetry.sdk.version", .text("1.2.3")), DecodedAttribute("zone", .text("a")),
      ])
  }

  @Test(arguments: [
    ([:], "dynamo-frontend"), (["OTEL_SERVICE_NAME": "", "OTEL_RESOURCE_ATTRIBUTES": ""], "dynamo-frontend"),
    (["OTEL_SERVICE_NAME": "a"], "a"), (["OTEL_RESOURCE_ATTRIBUTES": "service.name=b"], "b"),
    (["OTEL_SERVICE_NAME": "a", "OTEL_RESOURCE_ATTRIBUTES": "service.name=b"], "a"),
  ]) func theServicesNameFollowsTheEnvironment(_ environment: [String: String], _ name: String) {
    let resource = TelemetryResource(
      environment: environment, defaultName: "dynamo-frontend", version: "1", instanceID: "i")
    #expect(resource.attributes.filter { $0.key == "service.name" }.map(\.value) == [name])
  }

  @Test func resourceAttributesAreDecodedAndOursWin() {
    let resource = TelemetryResource(
      environment: [
        "OTEL_RESOURCE_ATTRIBUTES": " zone = eu%2Dwest , host.name=h%C3%A9 , telemetry.sdk.name=fake,x=1,x=2,"
      ], defaultName: "d", version: "1", instanceID: "i")
    let extra = resource.attributes.dropFirst(6)
    #expect(extra.map(\.key) == ["zone", "host.name", "x"])
    #expect(extra.map(\.value) == ["eu-west", "hé", "2"])
    #expect(resource.attributes.filter { $0.key == "telemetry.sdk.name" }.map(\.value) == ["opentelemetry"])
  }

  @Test(arguments: [
    "a", "a=1,b", "=1", "a=%", "a=%4", "a=%zz", "a=%ff", String(repeating: "a=1,", count: 5_000),
  ])
  func attributesThatCannotBeReadAreDiscardedWhole(_ text: String) {
    #expect(TelemetryResource.parse(attributes: text) == nil)
  }
}
