// What `dynamo-bench spans` measures is real spans, and its books close.

import Base
import Exporter
import Telemetry
import TestSupport
import Testing

@testable import dynamo_bench

@Suite struct SpansTests {
  @Test func theSampleIsARequestAsTheSchemaHasIt() throws {
    var sample = SampleRequest()
    var batch = SpanWriter()
    sample.write(to: &batch, now: 1_700_000_000_000_000_000)
    sample.write(to: &batch, now: 1_700_000_001_000_000_000)
    let found = try SpanSchema().check(batch.bytes)
    #expect(found.faults == [] && found.spanCount == 2 * SampleRequest.spanCount)
  }

  @Test func theCostIsOfAllSpans() {
    let cost = SpanCostRun(requests: 20).run()
    #expect(cost.spans == 20 * SampleRequest.spanCount)
    #expect(cost.nanoseconds > 0 && cost.bytesEach > 100 && cost.instructions ?? 1 > 0)
  }

  @Test(arguments: ["none", "gzip"]) func allSpansAreDelivered(_ compression: String) throws {
    let sink = try SinkThread()
    defer { sink.stop() }
    let settings = try ExporterConfiguration.from(
      environment: [
        "OTEL_EXPORT_ENABLED": "true", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:\(sink.port)",
        "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION": compression,
      ], version: "0")
    let export = try SpanExportRun(spans: 5_000, configuration: #require(settings.configuration)).run()
    #expect(export.made >= 5_000 && export.sent == export.made && export.dropped == 0)
    #expect(export.spansPerSecond > 0)
  }

  @Test func reportsNameTheirFigures() {
    var cost = SpanCost()
    cost.spans = 4
    cost.nanoseconds = 1_000
    cost.bytes = 1_200
    var report = SpansReport(cost: cost)
    #expect(report.text.contains("250 ns") && report.text.contains("not counted"))
    #expect(report.json.contains("\"instructions_per_span\":null") && !report.json.contains("export"))
    cost.instructions = 4_000
    report = SpansReport(cost: cost, export: SpanExport(made: 9, sent: 8, dropped: 1, elapsed: second))
    #expect(report.text.contains("1,000 instructions") && report.text.contains("8 of 9 sent"))
    #expect(report.json.contains("\"export_spans_per_second\":8.0"))
  }
}
