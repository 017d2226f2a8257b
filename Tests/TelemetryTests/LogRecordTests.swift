// Log lines: form, order, escapes, bounds.

import Base
import Foundation
import Testing

@testable import Telemetry

/// 2025-11-20T10:31:02.114503999Z
private let time: UInt64 = 1_763_634_662_114_503_999

private func line(
  _ configuration: LogConfiguration = LogConfiguration(format: .jsonl),
  _ body: (inout LogRecordWriter) -> Void
) -> String {
  var writer = LogRecordWriter(configuration)
  writer.begin(.info, target: LogTarget.http, message: "hello", at: time)
  body(&writer)
  writer.end()
  return writer.lines.text
}

private func object(_ line: String) throws -> [String: Any] {
  try #require(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
}

private func withTrace<Result>(_ id: String = "test-trace-001", _ body: (LogTrace) throws -> Result) rethrows
  -> Result
{
  var random = Xoshiro256(seed: 1)
  let context = SpanContext(traceID: TraceID(high: 0xabc, low: 0xdef), spanID: 0x123, flags: 1)
  return try withBytes(id) { id in
    try body(
      LogTrace(
        context: context, spanName: SpanName.httpRequest, requestID: UUID(using: &random), xRequestID: id))
  }
}

@Suite struct LogRecordTests {
  @Test func aSpansLinesCarryItsParentAndWhereItsTimeWent() throws {
    var writer = LogRecordWriter(LogConfiguration(format: .jsonl))
    withTrace { trace in
      writer.spanOpened(trace, parent: 0xfe, at: time)
      writer.spanClosed(trace, parent: 0, busy: 1_999_999, duration: 5_000_001, at: time)
      // A clock that stood still in between makes nobody busier than the span was long.
      writer.spanClosed(trace, parent: 0, busy: 9, duration: 5, at: time)
    }
    let lines = try writer.lines.text.split(separator: "\n").map { try object(String($0)) }
    #expect(lines.map { $0["message"] as? String } == ["SPAN_FIRST_ENTRY", "SPAN_CLOSED", "SPAN_CLOSED"])
    #expect(lines.allSatisfy { $0["target"] as? String == "request_span" })
    #expect(lines[0]["parent_id"] as? String == "00000000000000fe")
    #expect(lines[1]["parent_id"] == nil)
    #expect(lines[1]["time.busy_us"] as? Int == 1_999)
    #expect(lines[1]["time.idle_us"] as? Int == 3_000)
    #expect(lines[1]["time.duration_us"] as? Int == 4_999)
    #expect(lines[2]["time.idle_us"] as? Int == 0)
  }

  @Test func aJSONLineHasDynamosKeysThenTheRestSorted() {
    let text = line { writer in
      writer.field("status", 200)
      writer.field("model", "m" as StaticString)
      writer.field("elapsed_ms", milliseconds: 1_234_567_890)
      writer.field("ratio", 0.25)
      writer.field("retried", false)
      writer.field("mode", "kv" as StaticString)
    }
    #expect(
      text == """
        {"time":"2025-11-20T10:31:02.114503Z","level":"INFO","target":"dynamo_frontend::http",\
        "message":"hello","elapsed_ms":1234.567,"mode":"kv","model":"m","ratio":0.250,"retried":false,\
        "status":200}

        """)
  }

  @Test func aReadableLineIsForPeople() {
    let text = line(LogConfiguration()) { writer in
      writer.field("key", "value" as StaticString)
      withBytes("two words") { writer.field("text", $0) }
      withBytes("a=b") { writer.field("uri", $0) }
      withBytes("") { writer.field("void", $0) }
    }
    #expect(
      text
        == "2025-11-20T10:31:02.114503Z  INFO dynamo_frontend::http: hello key=value text=\"two words\" uri=\"a=b\" void=\"\"\n"
    )
  }

  @Test(arguments: [
    (LogLevel.error, "ERROR"), (.warn, " WARN"), (.info, " INFO"), (.debug, "DEBUG"), (.trace, "TRACE"),
  ]) func levelsStandInFivePlaces(_ level: LogLevel, _ text: String) {
    var writer = LogRecordWriter(LogConfiguration())
    writer.begin(level, target: "t", message: "m", at: time)
    writer.end()
    #expect(writer.lines.text == "2025-11-20T10:31:02.114503Z \(text) t: m\n")
  }

  @Test func textOfAnyKindStaysOneValidLine() throws {
    var bytes: [UInt8] = Array(UInt8.min...UInt8.max)
    bytes += Array("é😀\u{85}\"\\\n".utf8)
    let text = line { writer in bytes.withUnsafeBytes { writer.field("value", $0) } }
    #expect(text.utf8.filter { $0 == 0x0a }.count == 1)
    let value = try #require(try object(text)["value"] as? String)
    #expect(value == String(decoding: bytes, as: UTF8.self))
    // Neither a terminal nor a line reader sees a control character.
    #expect(!text.dropLast().unicodeScalars.contains { $0.value < 0x20 || (0x7f...0x9f).contains($0.value) })
    let readable = line(LogConfiguration()) { writer in bytes.withUnsafeBytes { writer.field("value", $0) } }
    #expect(
      !readable.dropLast().unicodeScalars.contains { $0.value < 0x20 || (0x7f...0x9f).contains($0.value) })
  }

  @Test func everyByteAtEveryPlaceIsJudgedLikeOneByOne() {
    for position in 0..<17 {
      for byte in UInt8.min...UInt8.max {
        var bytes = [UInt8](repeating: UInt8(ascii: "a"), count: 17)
        bytes[position] = byte
        let plain = byte >= 0x20 && byte < 0x7f && byte != UInt8(ascii: "\"") && byte != UInt8(ascii: "\\")
        #expect(bytes.withUnsafeBytes { LogText.isPlain($0) } == plain)
        #expect(bytes.prefix(7).withUnsafeBytes { LogText.isPlain($0) } == (plain || position >= 7))
      }
    }
  }

  @Test func numbersAreNumbersAndLargeIDsAreText() throws {
    let text = line { writer in
      writer.field("a", 1 << 53)
      writer.field("b", 1 << 53 + 1)
      writer.field("c", -5)
      writer.field("d", id: UInt64.max)
      writer.field("e", id: 7)
      writer.field("f", hex: 0xabc)
      writer.field("g", Double.nan)
    }
    #expect(
      text.hasSuffix(
        #""a":9007199254740992,"b":"9007199254740993","c":-5,"d":"18446744073709551615","e":7,"f":"0000000000000abc","g":0}"#
          + "\n"))
    _ = try object(text)
  }

  @Test func valuesAndLinesAreBounded() throws {
    let long = String(repeating: "é", count: 5_000)
    let text = line { writer in
      for _ in 0..<20 { withBytes(long) { writer.field("value", $0) } }
    }
    #expect(text.utf8.count < LogRecordWriter.lineBytesMax + 2 * LogRecordWriter.valueBytesMax)
    #expect(text.hasSuffix(",\"truncated\":true}\n"))
    let value = line { writer in withBytes("a" + long) { writer.field("value", $0) } }
    #expect(try (object(value)["value"] as? String) == "a" + String(repeating: "é", count: 511))
    let many = line { writer in for _ in 0..<100 { writer.field("n", 1) } }
    #expect(many.contains("\"truncated\":true"))
  }

  @Test func theIdentityOfARequestComesInOrderWhereverItIsGiven() throws {
    let text = withTrace { trace in
      line { writer in
        writer.trace(trace)
        writer.field("attempt", 1)
        writer.field("worker_id", 5)
      }
    }
    let keys = ["attempt", "request_id", "span_id", "span_name", "trace_id", "worker_id", "x_request_id"]
    let places = keys.compactMap { text.range(of: "\"\($0)\":")?.lowerBound }
    #expect(places.count == keys.count && places == places.sorted())
    #expect(text.contains("\"trace_id\":\"0000000000000abc0000000000000def\""))
    #expect(text.contains("\"span_id\":\"0000000000000123\""))
    #expect(try object(text)["request_id"] as? String != nil)
  }

  @Test func linesGatherAndAreHandedOverTogether() {
    var writer = LogRecordWriter(LogConfiguration())
    let sink = Collector()
    writer.flush(to: sink)
    for index in 0..<3 {
      writer.begin(.info, target: "t", message: "m", at: time)
      writer.field("index", index)
      writer.end()
    }
    writer.flush(to: sink)
    #expect(sink.text.split(separator: "\n").map { $0.suffix(7) } == ["index=0", "index=1", "index=2"])
    #expect(writer.lines.isEmpty)
  }

  @Test(arguments: [
    (UInt64(0), 0, "1970-01-01T00:00:00.000000Z"),
    (951_782_400_000_000_000, 0, "2000-02-29T00:00:00.000000Z"),
    (951_868_799_999_999_999, 0, "2000-02-29T23:59:59.999999Z"),
    (1_735_689_599_000_001_000, 0, "2024-12-31T23:59:59.000001Z"),
    (4_107_542_400_000_000_000, 0, "2100-03-01T00:00:00.000000Z"),
    (1_735_689_600_000_000_000, 19_800, "2025-01-01T05:30:00.000000+05:30"),
    (1_735_689_600_000_000_000, -28_800, "2024-12-31T16:00:00.000000-08:00"),
    (0, -3_600, "1969-12-31T23:00:00.000000-01:00"),
  ]) func timesAreCivil(_ time: UInt64, _ offset: Int, _ text: String) {
    let east: UTCOffset = { _ in offset }
    var clock = LogClock(utcOffset: offset == 0 ? nil : east)
    var out = ByteBuffer()
    clock.append(time, to: &out)
    clock.append(time, to: &out)
    #expect(out.text == text + text)
  }

  @Test func everyDayOfFourCenturiesFollowsTheOneBefore() {
    var clock = LogClock(utcOffset: nil)
    var previous = ""
    for day in 0..<146_097 {
      var out = ByteBuffer()
      clock.append(UInt64(day) * 86_400_000_000_000, to: &out)
      let text = out.text
      #expect(text > previous)
      previous = text
    }
    #expect(previous == "2369-12-31T00:00:00.000000Z")
  }
}

@Suite struct AccessLineTests {
  private func both(_ record: AccessRecord) -> (fast: String, plain: String) {
    var fast = LogRecordWriter(LogConfiguration(format: .jsonl))
    fast.access(record, at: time)
    var plain = LogRecordWriter(LogConfiguration(format: .jsonl))
    plain.accessFields(record, .info, LogTarget.http, time)
    return (fast.lines.text, plain.lines.text)
  }

  @Test func theFastWayEqualsTheOtherForEveryMixOfFields() throws {
    try withTrace { trace in
      try withBytes("/v1/chat/completions") { uri in
        for mix in 0..<512 {
          var record = AccessRecord(trace: trace)
          record.status = 200
          record.elapsed = 1_000_999 * UInt64(mix)
          record.attempts = 1 + mix % 3
          if mix & 1 != 0 { record.uri = uri }
          if mix & 2 != 0 { record.method = uri.slice(0..<3) }
          if mix & 4 != 0 { record.model = uri.slice(4..<9) }
          if mix & 8 != 0 {
            record.endpoint = "chat_completions"
            record.requestType = "stream"
          }
          if mix & 16 != 0 { record.workerID = 7_587_888_160_958 }
          if mix & 32 != 0 {
            record.timeToFirstToken = 12_345_678
            record.averageInterTokenLatency = 9_999
          }
          if mix & 64 != 0 {
            record.inputTokens = 812
            record.outputTokens = 0
            record.cachedTokens = 640
          }
          if mix & 128 != 0 { record.trace.context = nil }
          if mix & 256 != 0 {
            record.errorType = "internal"
            record.outcome = .workerDisconnected
            record.status = 502
            record.trace.xRequestID = uri.slice(0..<0)
          }
          let (fast, plain) = both(record)
          #expect(fast == plain)
          _ = try object(fast)
        }
      }
    }
  }

  @Test func textThatNeedsEscapesTakesTheOtherWay() throws {
    try withTrace("a\"b") { trace in
      var record = AccessRecord(trace: trace)
      record.workerID = .max
      let (fast, plain) = both(record)
      #expect(fast == plain)
      let object = try object(fast)
      #expect(object["x_request_id"] as? String == "a\"b")
      #expect(object["worker_id"] as? String == "18446744073709551615")
    }
    try withBytes(String(repeating: "m", count: 3_000)) { model in
      try withTrace { trace in
        var record = AccessRecord(trace: trace)
        record.model = model
        let model = try object(both(record).fast)["model"] as? String
        #expect(model?.count == 1_024)
      }
    }
  }

  @Test func aReadableAccessLineExistsToo() {
    withTrace { trace in
      var writer = LogRecordWriter(LogConfiguration())
      writer.access(AccessRecord(trace: trace), at: time)
      #expect(
        writer.lines.text.contains("dynamo_frontend::http: request completed attempts=1 elapsed_ms=0.000"))
      #expect(writer.lines.text.hasSuffix(" x_request_id=test-trace-001\n"))
    }
  }
}
