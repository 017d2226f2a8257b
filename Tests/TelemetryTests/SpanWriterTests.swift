// Span bytes, judged by reading them back.

import Base
import Testing

@testable import Telemetry

private let trace = TraceID(high: 0x0af7_6519_16cd_43dd, low: 0x8448_eb21_1c80_319c)
private let context = SpanContext(traceID: trace, spanID: 0xb7ad_6b71_6920_3331, flags: 0x03)

@Suite struct SpanWriterTests {
  /// Writes one span by `body` and reads it back.
  private func span(
    limits: SpanLimits = SpanLimits(), parent: UInt64 = 0, isRemote: Bool = false, state: String = "",
    status: SpanStatus = .unset, message: String = "", _ body: (inout SpanWriter) -> Void
  ) throws -> DecodedSpan {
    var writer = SpanWriter(limits: limits)
    withBytes(state) {
      writer.begin(
        name: SpanName.httpRequest, context: context, parent: parent, parentIsRemote: isRemote, kind: .server,
        start: 1_700_000_000_000_000_001, traceState: $0)
    }
    body(&writer)
    withBytes(message) { writer.end(at: 1_700_000_000_000_000_999, status: status, message: $0) }
    #expect(writer.spanCount == 1)
    return try #require(try DecodedSpan.all(in: writer.bytes).first)
  }

  @Test func identityTimesKindAndFlagsReadBack() throws {
    let span = try span(parent: 0x00f0_67aa_0ba9_02b7, isRemote: true, state: "a=1,b=2") { _ in }
    #expect(
      span.traceID == [
        0x0a, 0xf7, 0x65, 0x19, 0x16, 0xcd, 0x43, 0xdd, 0x84, 0x48, 0xeb, 0x21, 0x1c, 0x80, 0x31, 0x9c,
      ])
    #expect(span.spanID == [0xb7, 0xad, 0x6b, 0x71, 0x69, 0x20, 0x33, 0x31])
    #expect(span.parentID == [0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7])
    #expect(span.traceState == "a=1,b=2")
    #expect(span.name == "http-request")
    #expect(span.kind == 2)
    #expect(span.start == 1_700_000_000_000_000_001)
    #expect(span.end == 1_700_000_000_000_000_999)
    #expect(span.flags == 0x303)
    #expect(span.statusCode == nil)
  }

  @Test func aLocalParentIsNotRemoteAndARootHasNone() throws {
    let root = try span { _ in }
    #expect(root.flags == 0x103)
    #expect(root.parentID.isEmpty)
    #expect(root.traceState.isEmpty)
    #expect(try span(parent: 1) { _ in }.flags == 0x103)
  }

  @Test func attributesKeepTheirTypes() throws {
    let span = try span { writer in
      writer.attribute("constant", "POST" as StaticString)
      writer.attribute("literal", "picks the constant")
      withBytes("/v1/chat") { writer.attribute("bytes", $0) }
      writer.attribute("string", String("héllo"))
      writer.attribute("int", 812)
      writer.attribute("negative", -5)
      writer.attribute("large", Int.max)
      writer.attribute("double", 12.5)
      writer.attribute("yes", true)
      writer.attribute("no", false)
      writer.attribute("empty", "")
      writer.attribute("id", id: 1 << 53)
      writer.attribute("foreign", id: 1 << 53 + 1)
    }
    let expected: [DecodedAttribute] = [
      DecodedAttribute("constant", .text("POST")), DecodedAttribute("literal", .text("picks the constant")),
      DecodedAttribute("bytes", .text("/v1/chat")), DecodedAttribute("string", .text("héllo")),
      DecodedAttribute("int", .int(812)), DecodedAttribute("negative", .int(-5)),
      DecodedAttribute("large", .int(.max)), DecodedAttribute("double", .double(12.5)),
      DecodedAttribute("yes", .bool(true)), DecodedAttribute("no", .bool(false)),
      DecodedAttribute("empty", .text("")), DecodedAttribute("id", .int(1 << 53)),
      DecodedAttribute("foreign", .text("9007199254740993")),
    ]
    #expect(span.attributes == expected)
  }

  @Test func textOfEveryLengthNearALengthBytesEdgeReadsBack() throws {
    for count in [0, 1, 7, 8, 100, 110, 115, 116, 117, 120, 121, 122, 127, 128, 129, 1_000, 4_096] {
      let text = String(repeating: "x", count: count)
      let span = try span { writer in withBytes(text) { writer.attribute("key", $0) } }
      #expect(span["key"] == .text(text))
    }
  }

  @Test func arraysKeepTheirOrderAndTypes() throws {
    let span = try span { writer in
      let numbers = [3, -1, 1 << 40]
      writer.attribute("ints", count: 3) { numbers[$0] }
      writer.attribute("doubles", count: 2, fractions: { $0 == 0 ? 0.5 : -2 })
      writer.attribute("texts", ["a", "", "é"])
      writer.attribute("none", count: 0) { $0 }
      writer.attribute("after", 1)
    }
    #expect(span["ints"] == .array([.int(3), .int(-1), .int(1 << 40)]))
    #expect(span["doubles"] == .array([.double(0.5), .double(-2)]))
    #expect(span["texts"] == .array([.text("a"), .text(""), .text("é")]))
    #expect(span["none"] == .array([]))
    #expect(span["after"] == .int(1))
  }

  @Test func attributesEncodedOnceReadAsIfWrittenHere() throws {
    let encoded = EncodedAttributes { writer in
      writer.attribute("model", String("m"))
      writer.attribute("size", 16)
    }
    let span = try span { writer in
      writer.attribute("before", 1)
      writer.attributes(encoded)
      let start = writer.runStart
      writer.attribute("id", String(repeating: "x", count: 300))
      let run = writer.run(since: start)
      writer.attributes(repeating: run)
      writer.attribute("after", 2)
    }
    let id = DecodedAttribute("id", .text(String(repeating: "x", count: 300)))
    let expected: [DecodedAttribute] = [
      DecodedAttribute("before", .int(1)), DecodedAttribute("model", .text("m")),
      DecodedAttribute("size", .int(16)), id, id, DecodedAttribute("after", .int(2)),
    ]
    #expect(span.attributes == expected)
  }

  @Test func encodedAttributesCountAgainstTheBoundAsAWhole() throws {
    let encoded = EncodedAttributes { writer in for value in 0..<3 { writer.attribute("x", value) } }
    var limits = SpanLimits()
    limits.attributeCountMax = 4
    let span = try span(limits: limits) { writer in
      writer.attributes(encoded)
      writer.attributes(encoded)
      writer.attribute("last", 1)
    }
    #expect(span.attributes.count == 4)
    #expect(span["last"] == .int(1))
    #expect(span.droppedAttributes == 3)
  }

  @Test func longArraysAreCut() throws {
    var limits = SpanLimits()
    limits.elementCountMax = 3
    let span = try span(limits: limits) { $0.attribute("ints", count: 10) { $0 } }
    #expect(span["ints"] == .array([.int(0), .int(1), .int(2)]))
  }

  @Test func invalidUTF8IsRepairedSoThatTheMessageStaysReadable() throws {
    let span = try span { writer in
      [UInt8]([0x61, 0xff, 0x62]).withUnsafeBytes { writer.attribute("bytes", $0) }
    }
    #expect(span["bytes"] == .text("a\u{fffd}b"))
  }

  @Test func aNameOfOtherCharactersIsRepairedToo() throws {
    var writer = SpanWriter()
    [UInt8]([0x47, 0xff]).withUnsafeBytes {
      writer.begin(name: $0, context: context, kind: .client, start: 1)
    }
    writer.end(at: 2)
    let span = try #require(try DecodedSpan.all(in: writer.bytes).first)
    #expect(span.name == "G\u{fffd}")
    #expect(span.kind == 3)
  }

  @Test func valuesAreCutOnACharactersEdge() throws {
    var limits = SpanLimits()
    limits.valueBytesMax = 5
    // Each é takes two bytes; the fifth byte is the first half of the third one.
    let span = try span(limits: limits) { writer in
      withBytes("ééé") { writer.attribute("bytes", $0) }
      writer.attribute("string", String("ééé"))
      withBytes("abcdefgh") { writer.attribute("ascii", $0) }
      withBytes("a😀b") { writer.attribute("four", $0) }
      withBytes("ab😀") { writer.attribute("cut", $0) }
    }
    #expect(span["bytes"] == .text("éé"))
    #expect(span["string"] == .text("éé"))
    #expect(span["ascii"] == .text("abcde"))
    #expect(span["four"] == .text("a😀"))
    #expect(span["cut"] == .text("ab"))
  }

  @Test func statusCarriesItsMessage() throws {
    let failed = try span(status: .error, message: "upstream closed") { _ in }
    #expect(failed.statusCode == 2)
    #expect(failed.statusMessage == "upstream closed")
    #expect(try span(status: .ok) { _ in }.statusCode == 1)
    #expect(try span(status: .error, message: "é") { _ in }.statusMessage == "é")
    var writer = SpanWriter()
    writer.begin(name: "x", context: context, kind: .internal, start: 1)
    writer.end(at: 2, status: .error, message: "constant")
    #expect(try DecodedSpan.all(in: writer.bytes).first?.statusMessage == "constant")
  }

  @Test func eventsAndLinksOwnTheAttributesBetween() throws {
    let other = SpanContext(traceID: TraceID(high: 1, low: 2), spanID: 3, flags: 1)
    let span = try span { writer in
      writer.attribute("before", 1)
      writer.event(name: SpanEventName.firstToken, at: 42)
      writer.beginEvent(name: SpanEventName.retry, at: 43)
      writer.attribute("attempt", 2)
      writer.endEvent()
      writer.link(to: other)
      writer.beginLink(to: other, isRemote: true)
      writer.attribute("why", "migration" as StaticString)
      writer.endLink()
      writer.attribute("after", 2)
    }
    #expect(span.attributes.map(\.key) == ["before", "after"])
    #expect(span.events.map(\.name) == ["first_token", "retry"])
    #expect(span.events.map(\.time) == [42, 43])
    #expect(span.events.last?.attributes == [DecodedAttribute("attempt", .int(2))])
    #expect(span.links.map(\.flags) == [0x101, 0x301])
    #expect(span.links.first?.traceID == [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2])
    #expect(span.links.first?.spanID == [0, 0, 0, 0, 0, 0, 0, 3])
    #expect(span.links.last?.attributes == [DecodedAttribute("why", .text("migration"))])
  }

  @Test func whatIsPastABoundIsLeftOutAndCounted() throws {
    var limits = SpanLimits()
    limits.attributeCountMax = 2
    limits.eventAttributeCountMax = 2
    limits.linkAttributeCountMax = 2
    limits.eventCountMax = 1
    limits.linkCountMax = 1
    let span = try span(limits: limits) { writer in
      for value in 0..<2 { writer.attribute("kept", value) }
      writer.beginEvent(name: "kept", at: 1)
      for value in 0..<5 { writer.attribute("x", value) }
      writer.endEvent()
      writer.beginEvent(name: "lost", at: 2)
      writer.attribute("lost with its event", 1)
      writer.endEvent()
      writer.beginLink(to: context)
      for value in 0..<3 { writer.attribute("y", value) }
      writer.endLink()
      writer.link(to: context)
      writer.attribute("lost", ["a", "b"])
      writer.attribute("lost", "text")
      writer.attribute("lost", 1.5)
    }
    #expect(span.attributes.count == 2)
    #expect(span.droppedAttributes == 3)
    #expect(span.events.count == 1)
    #expect(span.events.first?.attributes.count == 2)
    #expect(span.events.first?.droppedAttributes == 3)
    #expect(span.droppedEvents == 1)
    #expect(span.links.count == 1)
    #expect(span.links.first?.droppedAttributes == 1)
    #expect(span.droppedLinks == 1)
  }

  @Test func aSpanStopsGrowingAtItsByteBound() throws {
    var limits = SpanLimits()
    limits.spanBytesMax = 10_000
    let text = String(repeating: "x", count: 4_000)
    let span = try span(limits: limits) { writer in
      for _ in 0..<10 { withBytes(text) { writer.attribute("large", $0) } }
      writer.event(name: "late", at: 1)
    }
    #expect(span.attributes.count == 3)
    #expect(span.droppedAttributes == 7)
    #expect(span.droppedEvents == 1)
  }

  @Test func spansFollowOneAnotherAndAnAbandonedOneLeavesNoTrace() throws {
    var writer = SpanWriter(capacity: 16)
    for index in 0..<3 {
      writer.begin(name: "kept", context: context, kind: .internal, start: 1)
      writer.attribute("index", index)
      writer.end(at: 2)
      writer.begin(name: "abandoned", context: context, kind: .internal, start: 1)
      writer.beginEvent(name: "open", at: 1)
      writer.abandon()
    }
    #expect(writer.spanCount == 3)
    let spans = try DecodedSpan.all(in: writer.bytes)
    #expect(spans.map(\.name) == ["kept", "kept", "kept"])
    #expect(spans.compactMap { $0["index"] } == [.int(0), .int(1), .int(2)])
    writer.removeAll()
    #expect(writer.spanCount == 0 && writer.bytes.isEmpty)
    writer.release()
    writer.begin(name: "again", context: context, kind: .internal, start: 1)
    writer.end(at: 2)
    #expect(try DecodedSpan.all(in: writer.bytes).map(\.name) == ["again"])
  }

  @Test func whatComesOutsideASpanIsIgnored() {
    var writer = SpanWriter()
    writer.attribute("lost", 1)
    writer.event(name: "lost", at: 1)
    writer.link(to: context)
    writer.end(at: 2)
    writer.abandon()
    #expect(writer.bytes.isEmpty)
    #expect(writer.spanCount == 0)
  }

  @Test func anEventLeftOpenIsClosedWithItsSpan() throws {
    let span = try span { writer in
      writer.beginEvent(name: "open", at: 1)
      writer.attribute("inside", 1)
    }
    #expect(span.events.first?.attributes.count == 1)
    #expect(span.attributes.isEmpty)
  }
}
