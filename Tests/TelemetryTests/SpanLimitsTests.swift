// The SDK's limits: read from the environment, and held on spans, events and links.

import Base
import Testing

@testable import Telemetry

private func read(_ environment: [String: String]) -> (limits: SpanLimits, warnings: [String]) {
  var warnings: [String] = []
  let limits = SpanLimits.from(environment: environment, warnings: &warnings)
  return (limits, warnings)
}

private func span(_ limits: SpanLimits, _ write: (inout SpanWriter) -> Void) throws -> DecodedSpan {
  var writer = SpanWriter(limits: limits)
  let context = SpanContext(traceID: TraceID(high: 1, low: 2), spanID: 3, flags: 1)
  writer.begin(name: "a name that no limit cuts", context: context, kind: .server, start: 1)
  write(&writer)
  writer.end(at: 2)
  return try #require(try DecodedSpan.all(in: writer.bytes).first)
}

@Suite struct SpanLimitsTests {
  @Test func defaultsHoldWithoutVariables() {
    let (limits, warnings) = read(["OTEL_ATTRIBUTE_COUNT_LIMIT": "", "OTHER": "1"])
    #expect(limits == SpanLimits())
    #expect(warnings.isEmpty)
  }

  @Test func generalLimitsHoldWhereNoneIsSetForSpans() {
    let (limits, warnings) = read([
      "OTEL_ATTRIBUTE_COUNT_LIMIT": "10", "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "20",
      "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT": "0", "OTEL_SPAN_EVENT_COUNT_LIMIT": " 3 ",
      "OTEL_SPAN_LINK_COUNT_LIMIT": "99999999", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "7",
    ])
    #expect(warnings.isEmpty)
    #expect(limits.attributeCountMax == 20)
    #expect(limits.eventAttributeCountMax == 10)
    #expect(limits.linkAttributeCountMax == 0)
    #expect(limits.eventCountMax == 3)
    #expect(limits.linkCountMax == 65_536)
    #expect(limits.valueCharactersMax == 7)
    #expect(limits.valueBytesMax == 4_096)
    #expect(read(["OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT": "9000"]).limits.valueBytesMax == 36_000)
    #expect(read(["OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT": "900000000"]).limits.valueBytesMax == 65_536)
  }

  @Test(arguments: ["x", "-1", "1.5", "99999999999999999999"])
  func valueThatIsNoNumberIsIgnoredWithOneWarning(value: String) {
    for name in [
      "OTEL_ATTRIBUTE_COUNT_LIMIT", "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_SPAN_LINK_COUNT_LIMIT",
    ] {
      let (limits, warnings) = read([name: value])
      #expect(limits == SpanLimits())
      #expect(warnings == ["\(name) is no number from 0 and is ignored"])
    }
    // The general one takes the place of one that is ignored.
    let both = read(["OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": value, "OTEL_ATTRIBUTE_COUNT_LIMIT": "5"])
    #expect(both.limits.attributeCountMax == 5)
  }

  @Test func valuesOfAllKindsAreCutByCharacters() throws {
    let encoded = EncodedAttributes { writer in
      writer.attribute("encoded", String("ééééé"))
      writer.attribute("number", 7)
      writer.attribute("short", "ab")
    }
    var limits = SpanLimits()
    limits.valueCharactersMax = 3
    let span = try span(limits) { writer in
      writer.attribute("constant", "constant")
      writer.attribute("string", String("é😀éé"))
      Array("日本語で".utf8).withUnsafeBytes { writer.attribute("bytes", $0) }
      [UInt8]([0xff, 0x61, 0xff, 0x62]).withUnsafeBytes { writer.attribute("repaired", $0) }
      writer.attribute("array", [String("abcd"), String("ééé")])
      writer.attributes(encoded)
    }
    #expect(span.name == "a name that no limit cuts")
    #expect(span["constant"] == .text("con"))
    #expect(span["string"] == .text("é😀é"))
    #expect(span["bytes"] == .text("日本語"))
    #expect(span["repaired"] == .text("\u{fffd}a\u{fffd}"))
    #expect(span["array"] == .array([.text("abc"), .text("ééé")]))
    #expect(span["encoded"] == .text("ééé"))
    #expect(span["number"] == .int(7))
    #expect(span["short"] == .text("ab"))
  }

  @Test func encodedAttributesAreCutAndCountedOneByOne() throws {
    let encoded = EncodedAttributes { writer in for _ in 0..<4 { writer.attribute("x", "long value") } }
    var limits = SpanLimits()
    limits.valueCharactersMax = 0
    limits.attributeCountMax = 3
    let span = try span(limits) { $0.attributes(encoded) }
    #expect(span.attributes.map(\.value) == [.text(""), .text(""), .text("")])
    #expect(span.droppedAttributes == 1)
  }

  @Test func eventsAndLinksHaveCountsOfTheirOwn() throws {
    var limits = SpanLimits()
    limits.eventAttributeCountMax = 1
    limits.linkAttributeCountMax = 2
    let span = try span(limits) { writer in
      writer.beginEvent(name: "event", at: 1)
      for value in 0..<3 { writer.attribute("e", value) }
      writer.endEvent()
      writer.beginLink(to: SpanContext(traceID: TraceID(high: 1, low: 2), spanID: 4, flags: 1))
      for value in 0..<3 { writer.attribute("l", value) }
      writer.endLink()
      for value in 0..<3 { writer.attribute("s", value) }
    }
    #expect(span.events.first?.attributes.count == 1)
    #expect(span.links.first?.attributes.count == 2)
    #expect(span.attributes.count == 3)
  }
}
