// OTLP's JSON: it stands for the same spans as the protobuf, and what is none is refused.

import Base
import Telemetry
import Testing

@testable import TraceStore

@Suite struct OTLPJSONTests {
  private func ingest(_ json: String, into store: SpanStore) throws -> SpanStore.Ingested {
    var message = ByteBuffer()
    let bytes = Array(json.utf8)
    try bytes.withUnsafeBytes { try OTLPJSON.transcode($0, into: &message) }
    return try store.ingest(message.readable, now: 1)
  }

  private func span(_ more: String = "") -> String {
    """
    {"traceId":"AABBccddeeff00110000000000000001","spanId":"0000000000000001"\(more.isEmpty ? "" : ",")\(more)}
    """
  }

  private func request(_ spans: String) -> String {
    """
    {"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"dynamo"}}]},\
    "scopeSpans":[{"scope":{"name":"n","version":"1"},"spans":[\(spans)]}]}]}
    """
  }

  @Test func aSpanReadsBackAsItWasSent() throws {
    let store = SpanStore(seed: 1)
    let more = #"""
      "parentSpanId":"00000000000000ff","name":"caf\u00e9 \"q\"","kind":2,"startTimeUnixNano":"1767225600000000000",
      "endTimeUnixNano":1767225600500000000,"traceState":"a=b","flags":257,"unknownKey":{"x":[1,2]},"links":null,
      "attributes":[{"key":"s","value":{"stringValue":"v"}},{"key":"i","value":{"intValue":"-42"}},
      {"key":"j","value":{"intValue":7}},{"key":"d","value":{"doubleValue":1.5}},{"key":"n","value":{"doubleValue":"NaN"}},
      {"key":"b","value":{"boolValue":true}},{"key":"y","value":{"bytesValue":"AQL/"}},{"key":"e","value":{}},
      {"key":"l","value":{"arrayValue":{"values":[{"intValue":"1"},{"stringValue":"x"}]}}},
      {"key":"m","value":{"kvlistValue":{"values":[{"key":"k","value":{"boolValue":false}}]}}}],
      "events":[{"timeUnixNano":"1767225600100000000","name":"first_token"}],
      "status":{"code":2,"message":"broken"}
      """#
    #expect(try ingest(request(span(more)), into: store).stored == 1)
    let trace = try #require(store.trace(TraceID(high: 0xaabb_ccdd_eeff_0011, low: 1)))
    let text = written { $0.append(traceV1: trace) }
    for part in [
      #""spanId":"AAAAAAAAAAE=""#, #""parentSpanId":"AAAAAAAAAP8=""#, #""name":"café \"q\"""#,
      #""kind":"SPAN_KIND_SERVER""#, #""startTimeUnixNano":"1767225600000000000""#,
      #""endTimeUnixNano":"1767225600500000000""#, #""traceState":"a=b""#,
      #"{"key":"i","value":{"intValue":"-42"}}"#, #"{"key":"j","value":{"intValue":"7"}}"#,
      #"{"key":"d","value":{"doubleValue":1.5}}"#, #"{"key":"n","value":{"doubleValue":"NaN"}}"#,
      #"{"key":"b","value":{"boolValue":true}}"#, #"{"key":"y","value":{"bytesValue":"AQL/"}}"#,
      #""values":[{"intValue":"1"},{"stringValue":"x"}]"#, #"{"key":"k","value":{"boolValue":false}}"#,
      #""events":[{"timeUnixNano":"1767225600100000000","name":"first_token"}]"#,
      #""status":{"message":"broken","code":"STATUS_CODE_ERROR"},"flags":257}"#, #"{"stringValue":"dynamo"}"#,
      #""scope":{"name":"n","version":"1"}"#,
    ] { #expect(text.contains(part), "\(part) in \(text)") }
  }

  @Test(arguments: [
    "", "[]", "{", "null", #"{"resourceSpans":{}}"#, #"{"resourceSpans":[1]}"#, #"{"resourceSpans":[]} x"#,
    #"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"abc"}]}]}]}"#,
    #"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"zz"}]}]}]}"#,
    #"{"resourceSpans":[{"scopeSpans":[{"spans":[{"kind":"SPAN_KIND_SERVER"}]}]}]}"#,
    #"{"resourceSpans":[{"resource":{"attributes":[{"key":"a","value":{"intValue":"1.5"}}]}}]}"#,
    #"{"resourceSpans":[{"resource":{"attributes":[{"key":"a","value":{"boolValue":"true"}}]}}]}"#,
    #"{"resourceSpans":[{"resource":{"attributes":[{"key":"a","value":{"bytesValue":"!"}}]}}]}"#,
  ])
  func whatIsNoRequestIsRefused(json: String) {
    #expect(throws: IngestError.malformed) { try ingest(json, into: SpanStore(seed: 1)) }
  }

  @Test func idsAndDepthAreJudgedAsInProtobuf() {
    let store = SpanStore(seed: 1)
    #expect(throws: IngestError.traceID) {
      try ingest(request(#"{"traceId":"00","spanId":"0000000000000001"}"#), into: store)
    }
    #expect(throws: IngestError.spanID) {
      try ingest(request(#"{"traceId":"aabbccddeeff00110000000000000001"}"#), into: store)
    }
    func nested(_ depth: Int) -> String {
      let open = String(repeating: #"{"arrayValue":{"values":["#, count: depth)
      let close = String(repeating: "]}}", count: depth)
      return request(span(#""attributes":[{"key":"a","value":\#(open)\#(close)}]"#))
    }
    #expect(throws: Never.self) { try ingest(nested(5), into: store) }
    for depth in [OTLPCheck.depthMax + 2, 60, 5_000] {
      #expect(throws: IngestError.tooDeep) { try ingest(nested(depth), into: store) }
    }
    #expect(store.spanCount == 1)
  }

  @Test func messagesAreBounded() {
    func error(messages: Int) -> IngestError? {
      // One is the request itself.
      let json = Array((#"{"resourceSpans":["# + String(repeating: "{},", count: messages - 2) + "{}]}").utf8)
      var out = ByteBuffer()
      do {
        try json.withUnsafeBytes { try OTLPJSON.transcode($0, into: &out, messagesMax: 100) }
        return nil
      } catch {
        return error as? IngestError
      }
    }
    #expect(error(messages: 100) == nil)
    #expect(error(messages: 101) == .tooMany)
  }

  @Test func anEmptyRequestIsTaken() throws {
    #expect(try ingest("{}", into: SpanStore(seed: 1)).stored == 0)
    #expect(try ingest(#"{"resourceSpans":[]}"#, into: SpanStore(seed: 1)).stored == 0)
  }

  @Test func aRequestThatEndsAnywhereIsRefused() {
    let whole = Array(request(span(#""name":"a","attributes":[]"#)).utf8)
    for end in 0..<whole.count {
      var out = ByteBuffer()
      #expect(throws: IngestError.self) {
        try whole[..<end].withUnsafeBytes { try OTLPJSON.transcode($0, into: &out) }
      }
    }
  }
}
