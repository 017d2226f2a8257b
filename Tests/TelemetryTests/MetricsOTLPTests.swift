// The registry as OTLP metrics, read back field by field.

import Base
import Protobuf
import Testing

@testable import Telemetry

/// One data point: number or histogram.
private struct Point {
  var attributes: [DecodedAttribute] = []
  var started: UInt64?
  var time: UInt64?
  var value: Double?
  var count: UInt64?
  var sum: Double?
  var counts: [UInt64] = []
  var bounds: [Double] = []
  var exemplars: [(time: UInt64, value: Double, span: [UInt8], trace: [UInt8])] = []

  init(_ bytes: UnsafeRawBufferPointer, isHistogram: Bool) throws {
    var reader = ProtobufReader(bytes)
    while let field = try reader.next() {
      switch (field.number, field.value) {
      case (2, .fixed64(let value)): started = value
      case (3, .fixed64(let value)): time = value
      case (4, .fixed64(let value)):
        if isHistogram { count = value } else { self.value = Double(bitPattern: value) }
      case (5, .fixed64(let value)): sum = Double(bitPattern: value)
      case (6, .bytes(let packed)): counts = words(packed)
      case (7, .bytes(let packed)) where isHistogram: bounds = words(packed).map { Double(bitPattern: $0) }
      case (8, .bytes(let exemplar)): exemplars.append(try Self.exemplar(exemplar))
      case (7, .bytes(let attribute)), (9, .bytes(let attribute)):
        attributes.append(try DecodedAttribute(attribute))
      default: Issue.record("field \(field.number)")
      }
    }
  }

  private static func exemplar(
    _ bytes: UnsafeRawBufferPointer
  ) throws -> (time: UInt64, value: Double, span: [UInt8], trace: [UInt8]) {
    var found = (time: UInt64(0), value: 0.0, span: [UInt8](), trace: [UInt8]())
    var reader = ProtobufReader(bytes)
    while let field = try reader.next() {
      switch (field.number, field.value) {
      case (2, .fixed64(let value)): found.time = value
      case (3, .fixed64(let value)): found.value = Double(bitPattern: value)
      case (4, .bytes(let id)): found.span = Array(id)
      case (5, .bytes(let id)): found.trace = Array(id)
      default: Issue.record("exemplar field \(field.number)")
      }
    }
    return found
  }
}

private func words(_ packed: UnsafeRawBufferPointer) -> [UInt64] {
  stride(from: 0, to: packed.count, by: 8).map { packed.loadUnaligned(fromByteOffset: $0, as: UInt64.self) }
}

private struct Metric {
  var name = ""
  var help = ""
  var unit = ""
  var kind = 0
  var points: [Point] = []
  var temporality: UInt64?
  var isMonotonic = false

  init(_ bytes: UnsafeRawBufferPointer) throws {
    var reader = ProtobufReader(bytes)
    while let field = try reader.next() {
      switch field.number {
      case 1: name = field.bytes?.text ?? ""
      case 2: help = field.bytes?.text ?? ""
      case 3: unit = field.bytes?.text ?? ""
      default:
        kind = field.number
        guard let data = field.bytes else { continue }
        var inner = ProtobufReader(data)
        while let field = try inner.next() {
          if field.number == 1, let point = field.bytes {
            points.append(try Point(point, isHistogram: kind == 9))
          }
          if field.number == 2 { temporality = field.varint }
          if field.number == 3 { isMonotonic = field.varint == 1 }
        }
      }
    }
  }

  static func all(_ registry: MetricRegistry) throws -> [Metric] {
    var out = ByteBuffer()
    let count = registry.writeOTLP(into: &out, started: 100, now: 200)
    var metrics: [Metric] = []
    var reader = ProtobufReader(out.readable)
    while let field = try reader.next() {
      #expect(field.number == 2)
      if let bytes = field.bytes { metrics.append(try Metric(bytes)) }
    }
    #expect(metrics.count == count)
    return metrics
  }
}

@Suite struct MetricsOTLPTests {
  @Test func countersAreCumulativeSumsAndGaugesAreNot() throws {
    let registry = MetricRegistry()
    registry.counter(
      MetricDescription("test_wait_seconds_total", "Waits."),
      labels: [("model", "a\"b\\c\nd,e=\"f"), ("x", "")]
    ).add(3)
    registry.observe(MetricDescription("test_level_bytes", "Level."), .gauge) { 2.5 }
    let metrics = try Metric.all(registry)
    #expect(metrics.map(\.name) == ["test_level_bytes", "test_wait_seconds_total"])
    let gauge = metrics[0]
    #expect(gauge.kind == 5 && gauge.unit == "By" && gauge.help == "Level." && gauge.temporality == nil)
    #expect(gauge.points.map(\.value) == [2.5])
    #expect(gauge.points[0].time == 200 && gauge.points[0].started == nil)
    let sum = metrics[1]
    #expect(sum.kind == 7 && sum.unit == "s" && sum.temporality == 2 && sum.isMonotonic)
    #expect(sum.points[0].value == 3 && sum.points[0].started == 100 && sum.points[0].time == 200)
    #expect(
      sum.points[0].attributes == [
        DecodedAttribute("model", .text("a\"b\\c\nd,e=\"f")), DecodedAttribute("x", .text("")),
      ])
  }

  @Test func histogramsHaveBoundsOneBucketMoreAndExemplars() throws {
    let registry = MetricRegistry()
    let shared = registry.histogram(
      MetricDescription("test_seconds", "Times."), buckets: HistogramBuckets([0.5, 1]))
    let share = LocalHistogram(shared, keepsExemplars: true)
    share.observe(0.5)
    share.observe(0.75, count: 2)
    share.observe(3)
    let span = SpanContext(traceID: TraceID(high: 1, low: 2), spanID: 3, flags: 1)
    share.exemplify(Exemplar(span, value: 3, time: 150))
    let metric = try #require(try Metric.all(registry).first)
    #expect(metric.kind == 9 && metric.unit == "s" && metric.temporality == 2)
    let point = metric.points[0]
    #expect(point.counts == [1, 2, 1] && point.bounds == [0.5, 1])
    #expect(point.count == 4 && point.sum == 5 && point.started == 100 && point.time == 200)
    #expect(point.exemplars.count == 1)
    #expect(point.exemplars[0].time == 150 && point.exemplars[0].value == 3)
    #expect(point.exemplars[0].span == [0, 0, 0, 0, 0, 0, 0, 3])
    #expect(point.exemplars[0].trace == [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2])
  }

  @Test func theLargestFamilyFitsItsMessages() throws {
    let registry = MetricRegistry()
    let buckets = HistogramBuckets((0..<200).map(Double.init))
    let label = String(repeating: "x", count: 250)
    let span = SpanContext(traceID: TraceID(high: 1, low: 2), spanID: 3, flags: 1)
    var shares: [LocalHistogram] = []
    for number in 0..<100 {
      let labels = (0..<5).map { ("label\($0)", "\(label)\(number)") }
      let share = LocalHistogram(
        registry.histogram(MetricDescription("test_seconds", "Times."), buckets: buckets, labels: labels),
        keepsExemplars: true)
      for bucket in 0...200 { share.exemplify(Exemplar(span, value: Double(bucket), time: 1)) }
      shares.append(share)
    }
    let metrics = try Metric.all(registry)
    #expect(metrics.count == 4)
    #expect(metrics.map(\.points.count) == [32, 32, 32, 4])
    #expect(metrics.allSatisfy { $0.name == "test_seconds" })
    withExtendedLifetime(shares) {}
  }

  @Test func aFamilyWithoutSeriesIsLeftOut() throws {
    let registry = MetricRegistry()
    registry.collect(MetricDescription("test_none", "None."), .gauge) { _ in }
    #expect(try Metric.all(registry).isEmpty)
  }
}
