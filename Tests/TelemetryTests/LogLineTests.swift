// JSON lines as OTLP log records and as readable, coloured text.

import Base
import Protobuf
import Testing

@testable import Telemetry

private struct Record {
  var time: UInt64?
  var observed: UInt64?
  var severity: UInt64?
  var level = ""
  var body = ""
  var trace: [UInt8] = []
  var span: [UInt8] = []
  var attributes: [DecodedAttribute] = []

  init?(_ line: String) throws {
    var out = ByteBuffer()
    var line = line
    guard line.withUTF8({ out.append(logRecordOf: UnsafeRawBufferPointer($0), observed: 7) }) else {
      let left = out.count
      #expect(left == 0)
      return nil
    }
    var outer = ProtobufReader(out.readable)
    guard let entry = try outer.next(), entry.number == 2, let bytes = entry.bytes else { return nil }
    #expect(try outer.next() == nil)
    var reader = ProtobufReader(bytes)
    while let field = try reader.next() {
      switch (field.number, field.value) {
      case (1, .fixed64(let value)): time = value
      case (2, .varint(let value)): severity = value
      case (3, .bytes(let text)): level = text.text
      case (5, .bytes(let value)):
        if case .text(let text) = try DecodedAttribute.value(value) { body = text }
      case (6, .bytes(let attribute)): attributes.append(try DecodedAttribute(attribute))
      case (9, .bytes(let id)): trace = Array(id)
      case (10, .bytes(let id)): span = Array(id)
      case (11, .fixed64(let value)): observed = value
      default: Issue.record("field \(field.number)")
      }
    }
  }
}

/// A line as the writer makes it.
private func written(_ format: LogFormat, at time: UInt64, offset: Int? = nil) -> String {
  var zone: UTCOffset?
  if let offset { zone = { _ in offset } }
  var writer = LogRecordWriter(LogConfiguration(format: format, utcOffset: zone))
  let odd = "two words=\"x\"\n\u{1b}[31mé"
  let plain = "plain"
  writer.begin(.warn, target: "a::b", message: "something happened", at: time)
  writer.field("bare", plain)
  writer.field("count", 3)
  writer.field("flag", true)
  writer.field("large", id: .max)
  writer.field("odd", odd)
  writer.field("part", 0.5)
  writer.field("span_id", hex: 0xef)
  writer.field("trace_id", TraceID(high: 1, low: 2))
  writer.end()
  return writer.lines.text
}

@Suite struct LogLineOTLPTests {
  @Test func everyPartOfALineFindsItsPlace() throws {
    let time: UInt64 = 1_763_634_662_114_503_000
    let line = String(written(.jsonl, at: time).dropLast())
    let record = try #require(try Record(line))
    #expect(record.time == time && record.observed == 7)
    #expect(record.severity == 13 && record.level == "WARN" && record.body == "something happened")
    #expect(record.trace == [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2])
    #expect(record.span == [0, 0, 0, 0, 0, 0, 0, 0xef])
    #expect(
      record.attributes == [
        DecodedAttribute("target", .text("a::b")), DecodedAttribute("bare", .text("plain")),
        DecodedAttribute("count", .int(3)), DecodedAttribute("flag", .bool(true)),
        DecodedAttribute("large", .text("18446744073709551615")),
        DecodedAttribute("odd", .text("two words=\"x\"\n\u{1b}[31mé")),
        DecodedAttribute("part", .double(0.5)),
      ])
  }

  @Test(
    arguments: [
      0, 951_782_399_000_001_000, 951_782_400_000_000_000, 1_709_164_800_999_999_000,
      4_102_444_799_000_000_000,
    ] as [UInt64]) func timesAreReadBackInEveryZone(_ time: UInt64) throws
  {
    for offset in [nil, 0, 3_600, -34_200, 49_500] as [Int?] where offset ?? 0 >= 0 || time > 0 {
      let record = try #require(try Record(String(written(.jsonl, at: time, offset: offset).dropLast())))
      #expect(record.time == time, "offset \(offset ?? 0)")
    }
  }

  @Test(arguments: [
    "", "x", "{}", "[]", #"{"message":1}"#, #"{"message":"a"} {}"#, #"{"message":"a""#, "not json at all",
  ]) func whatIsNoLineOfOursIsRefused(_ line: String) throws {
    #expect(try Record(line) == nil)
  }

  @Test func idsOfAnotherFormAreAttributes() throws {
    let record = try #require(
      try Record(#"{"time":"never","level":"LOUD","message":"m","trace_id":"xyz","span_id":"0102"}"#))
    #expect(record.time == nil && record.severity == nil && record.level == "LOUD")
    #expect(record.trace.isEmpty && record.span.isEmpty)
    #expect(
      record.attributes == [
        DecodedAttribute("trace_id", .text("xyz")), DecodedAttribute("span_id", .text("0102")),
      ])
  }
}

@Suite struct ReadableLineTests {
  private func readable(_ line: String, coloured: Bool) -> String {
    var out = ByteBuffer()
    var line = line
    line.withUTF8 { out.append(readable: UnsafeRawBufferPointer($0), coloured: coloured) }
    return out.text
  }

  @Test func itIsWhatTheWriterMakesOfTheSameLine() {
    let json = String(written(.jsonl, at: 1_763_634_662_114_503_000).dropLast())
    let text = String(written(.readable, at: 1_763_634_662_114_503_000).dropLast())
    #expect(readable(json, coloured: false) == text)
  }

  @Test func coloursLeaveTheTextAsItIs() {
    let json = String(written(.jsonl, at: 1_763_634_662_114_503_000).dropLast())
    let text = readable(json, coloured: true)
    #expect(text.contains("\u{1b}[33mWARN\u{1b}[0m"))
    #expect(text.contains("\u{1b}[2mcount\u{1b}[0m=3"))
    #expect(
      text.replacing("\u{1b}[33m", with: "").replacing("\u{1b}[2m", with: "").replacing("\u{1b}[0m", with: "")
        == readable(json, coloured: false), "and a caller's text brings none of its own")
  }

  @Test(arguments: ["", "x", "{", #"{"time":"t""#, #"{"a":1}x"#]) func otherTextGoesInAsItIs(_ line: String) {
    #expect(readable(line, coloured: true) == line)
  }

  @Test func coloursAreForTerminalsThatWantThem() {
    #expect(LogConfiguration.wantsColours(environment: [:]))
    #expect(LogConfiguration.wantsColours(environment: ["NO_COLOR": "", "TERM": "xterm"]))
    #expect(!LogConfiguration.wantsColours(environment: ["NO_COLOR": "1"]))
    #expect(!LogConfiguration.wantsColours(environment: ["TERM": "dumb"]))
    #expect(!LogConfiguration.wantsColours(environment: ["DYN_SDK_DISABLE_ANSI_LOGGING": "yes"]))
  }

  @Test func linesAreJSONInsideWhereTheyBecomeSomethingElseLater() {
    var configuration = LogConfiguration(format: .readable)
    #expect(!configuration.rendersLater)
    configuration.isExported = true
    #expect(configuration.rendersLater)
    var writer = LogRecordWriter(configuration)
    writer.begin(.info, target: "t", message: "m", at: 0)
    writer.end()
    #expect(writer.lines.text.hasPrefix("{\"time\":"))
    configuration.format = .jsonl
    #expect(!configuration.rendersLater)
  }
}
