// The answers' JSON and protobuf, compared with what Tempo 3.0.3 was seen to answer.

import Base
import JSON
import Protobuf
import Telemetry
import Testing

@testable import TraceStore

@Suite struct AnswerTests {
  private let id = TraceID(high: 0xaabb_ccdd_eeff_0011, low: 1)

  private func query(_ text: String) throws -> SearchRequest {
    SearchRequest(.query(try TraceQLParser.parse(Array(text.utf8))))
  }

  @Test func aTraceReadsAsTempoWritesIt() {
    let store = SpanStore(seed: 1)
    store.take(
      "dynamo-frontend",
      [
        SampleSpan(
          id: 0x1122_3344_5566_7788, kind: 2, start: 0, length: 1.5,
          attributes: [
            ("s", .string("a\"b")), ("i", .int(-200)), ("d", .double(12.5)), ("w", .double(3)),
            ("b", .bool(false)),
            ("l", .list([.int(1), .string("x")])), ("m", .pairs([("k", .bool(true))])), ("y", .bytes([255])),
          ],
          events: [("first_token", at: 1, [("n", .int(1))])], links: [0x99], status: (2, "bad"))
      ])
    store.take(
      "dynamo-worker", [SampleSpan(id: 2, parent: 0x1122_3344_5566_7788, name: "handle_payload", kind: 1)])
    let first =
      #"{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"dynamo-frontend"}}]},"#
      + #""scopeSpans":[{"scope":{"name":"sample","version":"1.0"},"spans":[{"traceId":"qrvM3e7/ABEAAAAAAAAAAQ==","#
      + #""spanId":"ESIzRFVmd4g=","name":"http-request","kind":"SPAN_KIND_SERVER","#
      + #""startTimeUnixNano":"1767225600000000000","endTimeUnixNano":"1767225600001500000","#
      + #""attributes":[{"key":"s","value":{"stringValue":"a\"b"}},{"key":"i","value":{"intValue":"-200"}},"#
      + #"{"key":"d","value":{"doubleValue":12.5}},{"key":"w","value":{"doubleValue":3}},"#
      + #"{"key":"b","value":{"boolValue":false}},"#
      + #"{"key":"l","value":{"arrayValue":{"values":[{"intValue":"1"},{"stringValue":"x"}]}}},"#
      + #"{"key":"m","value":{"kvlistValue":{"values":[{"key":"k","value":{"boolValue":true}}]}}},"#
      + #"{"key":"y","value":{"bytesValue":"/w=="}}],"#
      + #""events":[{"timeUnixNano":"1767225600001000000","name":"first_token","#
      + #""attributes":[{"key":"n","value":{"intValue":"1"}}]}],"#
      + #""links":[{"traceId":"AAAAAAAAAAAAAAAAAAAAmQ==","spanId":"AAAAAAAAAJk="}],"#
      + #""status":{"message":"bad","code":"STATUS_CODE_ERROR"}}]}]}"#
    let second =
      #"{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"dynamo-worker"}}]},"#
      + #""scopeSpans":[{"scope":{"name":"sample","version":"1.0"},"spans":[{"traceId":"qrvM3e7/ABEAAAAAAAAAAQ==","#
      + #""spanId":"AAAAAAAAAAI=","parentSpanId":"ESIzRFVmd4g=","name":"handle_payload","kind":"SPAN_KIND_INTERNAL","#
      + #""startTimeUnixNano":"1767225600000000000","endTimeUnixNano":"1767225600010000000","status":{}}]}]}"#
    let trace = store.trace(id)
    #expect(
      trace.map { trace in written { $0.append(traceV1: trace) } } == #"{"batches":[\#(first),\#(second)]}"#)
    #expect(
      written { $0.append(traceV2: trace) }
        == #"{"trace":{"resourceSpans":[\#(first),\#(second)]},"metrics":{"inspectedBytes":"\#(trace?.bytes ?? 0)"}}"#
    )
    #expect(written { $0.append(traceV2: nil) } == #"{"trace":{},"metrics":{}}"#)
  }

  @Test func theProtobufAnswerIsWhatWasSentAndCanBeSentAgain() throws {
    let store = sampleStore()
    let trace = try #require(store.trace(id))
    var v1 = ByteBuffer()
    v1.append(protobufTrace: trace)
    // tempopb.Trace and ExportTraceServiceRequest have the same layout.
    let copy = SpanStore(seed: 2)
    #expect(copy.take(v1.bytes) == .success(.init(stored: 4, refused: 0)))
    let again = try #require(copy.trace(id))
    #expect(written { $0.append(traceV1: again) } == written { $0.append(traceV1: trace) })

    var v2 = ByteBuffer()
    v2.append(protobufTraceByID: trace)
    #expect(OTLP.bytes(in: v2.readable, field: 1)?.equals(v1.readable) == true)
    v2.removeAll()
    v2.append(protobufTraceByID: nil)
    #expect(v2.bytes == [0x0a, 0, 0x12, 0])
  }

  @Test func aSearchReadsAsTempoWritesIt() throws {
    let store = sampleStore()
    let text = written { [request = try query(#"{ .x_request_id = "broken-1" && status = error }"#)] in
      store.writeSearch(request, into: &$0)
    }
    let spanset =
      #"{"spans":[{"spanID":"0000000000000001","startTimeUnixNano":"1767225601000000000","durationNanos":"3000000","#
      + #""attributes":[{"key":"x_request_id","value":{"stringValue":"broken-1"}},"#
      + #"{"key":"status","value":{"stringValue":"error"}}]}],"matched":1}"#
    #expect(
      text.hasPrefix(
        #"{"traces":[{"traceID":"aabbccddeeff00110000000000000002","rootServiceName":"dynamo-frontend","#
          + #""rootTraceName":"POST /v1/chat/completions","startTimeUnixNano":"1767225601000000000","durationMs":3,"#
          + #""spanSet":\#(spanset),"spanSets":[\#(spanset)],"#
          + #""serviceStats":{"dynamo-frontend":{"spanCount":1,"errorCount":1}}}],"metrics":{"inspectedTraces":2,"#
      ))
    #expect(text.hasSuffix(#","completedJobs":1,"totalJobs":1}}"#))
  }

  @Test func aSearchByTagsHasNoSpanSets() throws {
    let store = sampleStore()
    let tags = try TagQuery(logfmt: Array("x_request_id=broken-1".utf8))
    let text = written { store.writeSearch(SearchRequest(.tags(tags)), into: &$0) }
    #expect(text.contains(#""durationMs":3}],"#))
    #expect(!text.contains("spanSet"))
    let none = try TagQuery(logfmt: Array("x_request_id=other".utf8))
    #expect(
      written { store.writeSearch(SearchRequest(.tags(none)), into: &$0) }.hasPrefix(
        #"{"traces":[],"metrics""#))
  }

  @Test func aTraceWithoutItsRootSaysSo() throws {
    let store = SpanStore(seed: 1)
    store.take("s", [SampleSpan(trace: 0xabc, traceHigh: 0, id: 2, parent: 1, length: 0)])
    let text = written { [request = try query("{}")] in store.writeSearch(request, into: &$0) }
    #expect(
      text.hasPrefix(
        #"{"traces":[{"traceID":"abc","rootServiceName":"\u003croot span not yet received\u003e","#
          + #""startTimeUnixNano":"1767225600000000000","spanSet":"#))
  }

  @Test func selectShowsFieldsAndSpansAreBounded() throws {
    let store = sampleStore()
    var request = try query(
      "{ kind = server } | select(name, resource.service.name, span.http.response.status_code)")
    request.spansPerSpanset = 1
    let text = written { store.writeSearch(request, into: &$0) }
    #expect(text.contains(#""name":"POST /v1/chat/completions","startTimeUnixNano""#))
    #expect(text.contains(#"{"key":"kind","value":{"stringValue":"server"}},{"key":"service.name","value":"#))
    #expect(text.contains(#"{"key":"http.response.status_code","value":{"intValue":"200"}}"#))
    #expect(text.contains(#""matched":2}"#))
    #expect(!text.contains(#""spanID":"0000000000000004""#))
  }

  @Test func anAnswerIsBoundedByBytesAndSaysThatItWasCut() throws {
    let store = SpanStore(seed: 1)
    for trace in 1...20 { store.take("s", [SampleSpan(trace: UInt64(trace))]) }
    var request = try query("{}")
    let whole = written { store.writeSearch(request, into: &$0) }
    #expect(whole.hasSuffix(#""completedJobs":1,"totalJobs":1}}"#))
    for bytesMax in [0, 1_000, whole.utf8.count / 2] {
      request.answerBytesMax = bytesMax
      let cut = written { store.writeSearch(request, into: &$0) }
      #expect(cut.hasSuffix(#""completedJobs":0,"totalJobs":1}}"#))
      // The numbers at the end are not among the bytes that are bounded.
      #expect(cut.utf8.count <= bytesMax + 150)
      #expect(Array(cut.utf8).withUnsafeBytes { try? JSONValue.parse($0) } != nil)
    }
  }

  @Test func answersUnderWayShareTheirBytes() throws {
    let store = SpanStore(seed: 1)
    for trace in 1...20 { store.take("s", [SampleSpan(trace: UInt64(trace))]) }
    var request = try query("{}")
    let whole = written { store.writeSearch(request, into: &$0) }
    let room = AnswerRoom(whole.utf8.count)
    request.room = room
    var searches = [store.search(request), store.search(request)]
    #expect(searches[0].hits.count == 20 && !searches[0].isCut)
    #expect(searches[1].hits.count < 3 && searches[1].isCut)
    // An answer that was written holds nothing more.
    let text = written { searches[0].write(into: &$0) }
    #expect(text == whole && searches[0].hits.isEmpty)
    #expect(store.search(request).hits.count > 15)
    // Nor does one that nobody waits for.
    searches = []
    #expect(room.bytesLeft == whole.utf8.count)
  }

  @Test func everyAnswerIsJSON() throws {
    let store = sampleStore()
    store.take(
      "bad \u{1} \"name\"",
      [
        SampleSpan(
          trace: 3, name: "</script>\u{0}",
          attributes: [("n", .double(.nan)), ("i", .double(-.infinity)), ("", .string(""))])
      ])
    var texts = [
      written { store.writeTagNames(TagRequest(), scope: nil, into: &$0) },
      written { store.writeScopedTagNames(TagRequest(), scope: nil, into: &$0) },
      written { store.writeTagValues(Array("name".utf8), TagRequest(), into: &$0) },
      written { [request = try query("{}")] in store.writeSearch(request, into: &$0) },
    ]
    for low in 1...3 as ClosedRange<UInt64> {
      let trace = store.trace(TraceID(high: id.high, low: low))
      texts.append(written { $0.append(traceV2: trace) })
      if let trace { texts.append(written { $0.append(traceV1: trace) }) }
    }
    for text in texts {
      let value = Array(text.utf8).withUnsafeBytes { try? JSONValue.parse($0) }
      #expect(value != nil, "\(text)")
    }
    #expect(texts[6].contains("bad") == false)
    #expect(
      texts.last?.contains(#"{"doubleValue":"NaN"}},{"key":"i","value":{"doubleValue":"-Infinity"}}"#) == true
    )
  }
}

@Suite struct TagAnswerTests {
  private let store = sampleStore()

  private func values(_ name: String, _ request: TagRequest = TagRequest()) throws -> String {
    var out = ByteBuffer()
    try store.writeTypedTagValues(Array(name.utf8), request, into: &out)
    return out.text
  }

  @Test func namesOfTheFirstVersion() {
    #expect(
      written { store.writeTagNames(TagRequest(), scope: nil, into: &$0) }
        == #"{"tagNames":["cached","finish","http.response.status_code","index","model","service.name","ttft_ms","#
        + #""x_request_id"],"metrics":{}}"#)
    #expect(
      written { store.writeTagNames(TagRequest(), scope: "resource", into: &$0) }
        == #"{"tagNames":["service.name"],"metrics":{}}"#)
  }

  @Test func namesOfTheSecondVersionByScope() {
    let text = written { store.writeScopedTagNames(TagRequest(), scope: nil, into: &$0) }
    #expect(
      text.hasPrefix(
        #"{"scopes":[{"name":"resource","tags":["service.name"]},{"name":"span","tags":["cached","finish","#
          + #""http.response.status_code","model","ttft_ms","x_request_id"]},{"name":"event","tags":["index"]},"#
          + #"{"name":"intrinsic","tags":["duration","#))
    #expect(text.hasSuffix(#"]}],"metrics":{}}"#))
    var early = TagRequest()
    early.range = 1...2
    #expect(
      written { store.writeScopedTagNames(early, scope: "span", into: &$0) } == #"{"scopes":[],"metrics":{}}"#
    )
  }

  @Test func valuesOfTheFirstVersion() {
    func values(_ name: String) -> String {
      written { store.writeTagValues(Array(name.utf8), TagRequest(), into: &$0) }
    }
    #expect(
      values("service.name").hasPrefix(
        #"{"tagValues":["dynamo-frontend","dynamo-worker"],"metrics":{"inspectedBytes":""#))
    #expect(values("nothing").hasPrefix(#"{"tagValues":[],"#))
    #expect(
      values("name").hasPrefix(#"{"tagValues":["POST /v1/chat/completions","handle_payload","http-request","#)
    )
  }

  @Test func valuesOfTheSecondVersionWithTheirTypes() throws {
    #expect(
      try values("resource.service.name").hasPrefix(
        #"{"tagValues":[{"type":"string","value":"dynamo-frontend"},{"type":"string","value":"dynamo-worker"}],"#
      ))
    #expect(
      try values("span.http.response.status_code").hasPrefix(
        #"{"tagValues":[{"type":"int","value":"200"},{"type":"int","value":"502"}],"#))
    #expect(
      try values("status").hasPrefix(
        #"{"tagValues":[{"type":"keyword","value":"error"},{"type":"keyword","value":"ok"},"#))
    #expect(
      try values(".finish").hasPrefix(
        #"{"tagValues":[{"type":"string","value":"length"},{"type":"string","value":"stop"}]"#))
    #expect(try values("duration") == #"{"tagValues":[],"metrics":{}}"#)
    #expect(throws: TraceQLError.self) { try values("service.name") }
    var filtered = TagRequest()
    filtered.query = try TraceQLParser.parse(Array("{ status = error }".utf8))
    #expect(
      try values("span.x_request_id", filtered).hasPrefix(
        #"{"tagValues":[{"type":"string","value":"broken-1"}],"#))
  }

  @Test func listsAreBounded() throws {
    let store = SpanStore(seed: 1)
    for trace in 1...50 { store.take("s\(trace)", [SampleSpan(trace: UInt64(trace))]) }
    var request = TagRequest()
    request.limit = 3
    var out = ByteBuffer()
    try store.writeTypedTagValues(Array("resource.service.name".utf8), request, into: &out)
    #expect(out.text.split(separator: "\"type\"").count == 4)
  }
}
