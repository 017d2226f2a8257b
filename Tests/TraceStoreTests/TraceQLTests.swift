// TraceQL: what is understood, what is refused and with which words, and which spans match.

import Base
import Telemetry
import Testing

@testable import TraceStore

@Suite struct TraceQLTests {
  /// The queries of Tempo's documents and of Grafana's search form that this store takes.
  static let queries: [(String, [UInt64])] = [
    ("{}", [2, 1]),
    ("{ }", [2, 1]),
    ("", [2, 1]),
    ("{true}", [2, 1]),
    (#"{ .x_request_id = "test-trace-001" }"#, [1]),
    (#"{ span.x_request_id =~ "test-.*" }"#, [1]),
    (#"{ span.x_request_id !~ "test-.*" }"#, [2]),
    (#"{resource.service.name="dynamo-frontend"}"#, [2, 1]),
    (#"{ resource.service.name = "dynamo-worker" }"#, [1]),
    (#"{ .service.name = "dynamo-worker" && name = "handle_payload" }"#, [1]),
    (#"{ resource.service.name =~ "dynamo-worker|other" }"#, [1]),
    (#"{ resource.service.name = "dynamo-frontend" && name = "http-request" && kind = server }"#, []),
    (#"{ name = "http-request" && kind = internal }"#, [1]),
    ("{ duration > 5ms }", [1]),
    ("{ duration < 5ms }", [2]),
    ("{ duration >= 3ms && duration <= 0.003s }", [2]),
    ("{ 5ms < duration }", [1]),
    ("{ status = error }", [2]),
    ("{ status != error }", [1]),
    ("{ status = ok }", [1]),
    ("{ statusMessage = \"no worker\" }", [2]),
    ("{ span.http.response.status_code = 200 }", [1]),
    ("{ span.http.response.status_code >= 500 }", [2]),
    (#"{ span.http.response.status_code = "200" }"#, []),
    ("{ span.http.response.status_code != 200 }", [2]),
    ("{ .ttft_ms > 12 && .ttft_ms < 12.75 }", [1]),
    ("{ .cached }", [1]),
    ("{ .cached = true }", [1]),
    ("{ .cached = false }", []),
    ("{ .nothing = nil && status = error }", [2]),
    ("{ .model != nil }", [1]),
    ("{ !(status = error) }", [1]),
    ("{ status = error || .cached }", [2, 1]),
    (#"{ .finish = "length" }"#, [1]),
    (#"{ .finish != "length" }"#, []),
    (#"{ .finish =~ "st.p" }"#, [1]),
    (#"{ rootName = "POST /v1/chat/completions" && traceDuration > 50ms }"#, [1]),
    (#"{ trace:rootService = "dynamo-frontend" && trace:duration < 50ms }"#, [2]),
    (#"{ rootServiceName = "dynamo-frontend" }"#, [2, 1]),
    (#"{ trace:id = "aabbccddeeff00110000000000000001" }"#, [1]),
    (#"{ span:id = "0000000000000004" }"#, [1]),
    (#"{ event:name = "first_token" && event.index = 0 }"#, [1]),
    ("{ event:timeSinceStart > 12ms }", [1]),
    (#"{ link:spanID = "000000000000004d" }"#, [1]),
    (#"{ instrumentation:name = "sample" && status = error }"#, [2]),
    (#"{ kind = server } >> { name = "handle_payload" }"#, [1]),
    (#"{ name = "handle_payload" } << { kind = server }"#, [1]),
    (#"{ status = error } || { name = "handle_payload" }"#, [2, 1]),
    (#"{ status = error } && { name = "handle_payload" }"#, []),
    (#"({ kind = client } > { kind = server }) && { name = "http-request" }"#, [1]),
    ("{ kind = server } | select(span.http.response.status_code, resource.service.name)", [2, 1]),
    ("{} | count() > 2", [1]),
    ("{} | avg(duration) > 50ms", [1]),
    ("{} | max(.ttft_ms) = 12.5", [1]),
    ("{ kind = server } | { status = error }", [2]),
    ("{} | count() > 2 | select(name)", [1]),
    ("{ status = error } with (most_recent=true)", [2]),
    ("{ 1 = 1 }", [2, 1]),
    ("{ name = rootName }", [2, 1]),
    (#"{ span."x_request_id" = "broken-1" }"#, [2]),
    ("{ .x_request_id = `broken-1` }", [2]),
    ("{ .ttft_ms * 2 = 25 }", [1]),
    ("{ .ttft_ms + 1.5 > 13.9 && .ttft_ms - 0.5 < 12.1 }", [1]),
    ("{ 100 - .ttft_ms / 2 ^ 2 = 96.875 }", [1]),
    ("{ (.ttft_ms + 0.5) * 2 = 26 }", [1]),
    ("{ 26 = 2 * (.ttft_ms + 0.5) }", [1]),
    ("{ (2 + 3) * 2 = 10 && (status = error || false) }", [2]),
    ("{ span.http.response.status_code % 100 = 2 }", [2]),
    ("{ -.ttft_ms < -12 }", [1]),
    ("{ - .ttft_ms < - 12 }", [1]),
    ("{ .ttft_ms -1 > 11 }", [1]),
    ("{ .ttft_ms > 14-2 && .ttft_ms < 2*7 && .ttft_ms > 24/2 && 13%5 = 3 }", [1]),
    ("{ duration > 1s-995ms }", [1]),
    ("{ duration > -5ms && duration > 5000µs && .ttft_ms > 1e-3 && -(2) = -2 }", [1]),
    ("{} | count() > -1", [2, 1]),
    ("{} | min(.ttft_ms) > -1.5", [1]),
    ("{ duration * 2 > 15ms && duration - 1ms < 2s }", [1]),
    ("{ .ttft_ms / 0 > 0 }", []),
    ("{ .x_request_id + 1 > 0 }", []),
    ("{ .nothing + 1 = 1 }", []),
    ("{ traceDuration - duration > 1ms && name = `http-request` }", [1]),
    ("{ nestedSetParent < 0 && status = error && true }", [2]),
    ("{ nestedSetParent >= 0 && name = rootName }", []),
  ]

  @Test(arguments: queries)
  func queriesFindTheirTraces(query: String, traces: [UInt64]) {
    #expect(found(query, in: sampleStore()) == traces)
  }

  @Test(
    arguments: [
      (#"{ name = "http-request" } >> {}"#, [3, 4]),
      (#"{ name = "http-request" } > {}"#, [3]),
      (#"{ name = "handle_payload" } << {}"#, [1, 2, 3]),
      (#"{ name = "handle_payload" } < {}"#, [3]),
      ("{ kind = server } && { kind = client }", [1, 3, 4]),
      ("{ kind = client } || { kind = internal }", [2, 3]),
      ("{ duration > 94ms }", [1, 2, 3]),
    ] as [(String, [UInt64])])
  func queriesMatchTheirSpans(query: String, ids: [UInt64]) {
    #expect(spans(query, in: sampleStore()) == ids)
  }

  @Test(
    arguments: [
      ("{ parent.k = 1 }", [2, 3]), ("{ parent.span.k = 1 && name = `b` }", [3]), ("{ parent.k > 1 }", [4]),
      ("{ parent.resource.service.name = `s` }", [2, 3, 4]), ("{ parent.resource.k = 1 }", []),
      // Nothing is known of the parent of a root, nor of one that has not come.
      ("{ parent.k = nil }", [1, 5]), ("{ parent.k * 2 = 4 }", [4]), ("{ parent.span.\"k\" != 1 }", [4]),
      ("{ .parent = 7 }", [5]),
    ] as [(String, [UInt64])])
  func attributesOfTheParent(query: String, ids: [UInt64]) {
    let store = SpanStore(seed: 1)
    store.take(
      "s",
      [
        SampleSpan(id: 1, name: "root", attributes: [("k", .int(1))]),
        SampleSpan(id: 2, parent: 1, name: "a", attributes: [("k", .int(2))]),
        SampleSpan(id: 3, parent: 1, name: "b"), SampleSpan(id: 4, parent: 2, name: "b"),
        SampleSpan(id: 5, parent: 99, name: "orphan", attributes: [("parent", .int(7))]),
      ])
    #expect(spans(query, in: store) == ids)
  }

  @Test func siblingsShareAParentAndAreNotOneself() {
    let store = SpanStore(seed: 1)
    store.take(
      "s",
      [
        SampleSpan(id: 1, name: "root"), SampleSpan(id: 2, parent: 1, name: "a"),
        SampleSpan(id: 3, parent: 1, name: "b"), SampleSpan(id: 4, parent: 2, name: "b"),
      ])
    #expect(spans(#"{ name = "a" } ~ {}"#, in: store) == [3])
    #expect(spans(#"{ name = "b" } ~ { name = "b" }"#, in: store) == [])
  }

  @Test func parentsInACircleEndTheSearchToo() {
    let store = SpanStore(seed: 1)
    store.take(
      "s",
      [
        SampleSpan(id: 1, parent: 3, name: "a"), SampleSpan(id: 2, parent: 1, name: "b"),
        SampleSpan(id: 3, parent: 2, name: "c"), SampleSpan(id: 4, parent: 4, name: "d"),
      ])
    #expect(spans(#"{ name = "a" } >> {}"#, in: store) == [1, 2, 3])
    #expect(spans(#"{ name = "d" } >> {}"#, in: store) == [4])
    #expect(spans(#"{ name = "a" } << {}"#, in: store) == [1, 2, 3])
  }

  static let refusals: [(String, Int, String)] = [
    ("{", 1, "expected an attribute or a value"),
    ("}", 0, "expected '{'; a query looks like { resource.service.name = \"dynamo-frontend\" }"),
    ("{ .a = }", 7, "expected an attribute or a value"),
    ("{ .a = 1", 8, "expected '}'"),
    ("{ foo = 1 }", 2, "unknown name 'foo'; attributes begin with a scope or a dot, as .foo"),
    ("{ .a = \"x }", 7, "a string is not closed"),
    ("{ .a =~ 1 }", 8, "a regular expression must be a string"),
    ("{ .a =~ \"(\" }", 8, "regular expression: a group is not closed"),
    ("{ . = 1 }", 2, "an attribute's name is missing"),
    ("{ duration > 5parsecs }", 13, "no number or duration: 5parsecs"),
    (
      "{} | rate() | count() > 1", 14,
      "nothing but topk(), bottomk() and a comparison can follow a metrics function"
    ),
    ("{} | by(.a)", 7, "'by' is no stage that this trace store knows"),
    ("{} extra", 3, "expected '|' or the end of the query"),
    ("{ .a + 1 }", 9, "expected a comparison"),
    ("{ (.a + 1) }", 11, "expected a comparison"),
    ("{ (.a + 1) && true }", 11, "expected a comparison"),
    ("{ .a + = 2 }", 7, "expected an attribute or a value"),
    ("{ .a * (1 + 2 > 3 }", 14, "expected ')'"),
    ("{ parent. = 1 }", 2, "an attribute's name is missing"),
  ]

  @Test(arguments: refusals)
  func aBadQueryIsRefusedWithItsPlaceAndReason(query: String, position: Int, message: String) {
    #expect(throws: TraceQLError(position: position, message: message)) {
      try TraceQLParser.parse(Array(query.utf8))
    }
  }

  /// Every beginning of every query is parsed or refused; none stops the process.
  @Test func everyBeginningOfAQueryHasAnAnswer() {
    let store = sampleStore()
    for (query, _) in Self.queries {
      for count in 0...query.utf8.count {
        let text = Array(query.utf8.prefix(count))
        if let parsed = try? TraceQLParser.parse(text) { _ = store.search(SearchRequest(.query(parsed))) }
      }
    }
  }

  @Test func depthAndLengthAreBounded() {
    let deep = "{" + String(repeating: "(", count: 5_000) + "true"
    #expect(throws: TraceQLError.self) { try TraceQLParser.parse(Array(deep.utf8)) }
    let negations = "{" + String(repeating: "!", count: 5_000) + ".a}"
    #expect(throws: TraceQLError.self) { try TraceQLParser.parse(Array(negations.utf8)) }
    let chain = String(repeating: "{}||", count: 1_000) + "{}"
    #expect(throws: TraceQLError.self) { try TraceQLParser.parse(Array(chain.utf8)) }
    let long = "{ .a = \"" + String(repeating: "x", count: 10_000) + "\" }"
    #expect(throws: TraceQLError(position: 8_192, message: "the query is too long")) {
      try TraceQLParser.parse(Array(long.utf8))
    }
  }

  @Test(
    arguments: [
      ("1h", 3_600_000_000_000), ("1h30m", 5_400_000_000_000), ("2.5ms", 2_500_000), ("10us", 10_000),
      ("10µs", 10_000), ("7ns", 7), ("-1s", -1_000_000_000),
    ] as [(String, Int64)])
  func durationsAreReadAsGoWritesThem(text: String, nanoseconds: Int64) {
    #expect(TraceQLLexer.duration(Array(text.utf8)[...]) == nanoseconds)
  }

  @Test(arguments: ["", "5", "s", "5 s", "1h5", "..s", "99999999999h"])
  func whatIsNoDurationIsNone(text: String) {
    #expect(TraceQLLexer.duration(Array(text.utf8)[...]) == nil)
  }
}

@Suite struct TagQueryTests {
  private func found(_ tags: String, _ change: (inout TagQuery) -> Void = { _ in }) -> [UInt64]? {
    guard var query = try? TagQuery(logfmt: Array(tags.utf8)) else { return nil }
    change(&query)
    return sampleStore().search(SearchRequest(.tags(query))).hits.map(\.id.low)
  }

  @Test(
    arguments: [
      ("", [2, 1]),
      ("service.name=dynamo-worker", [1]),
      ("name=handle_payload", [1]),
      ("x_request_id=test-trace-001", [1]),
      ("x_request_id=test-trace", []),
      ("X_request_id=test-trace-001", []),
      ("x_request_id=\"test-trace-001\" service.name=dynamo-worker", [1]),
      ("http.response.status_code=502", [2]),
      ("cached=true ttft_ms=12.5", [1]),
      ("finish=length", [1]),
      ("status=error", [2]),
      ("root.service.name=dynamo-frontend", [2, 1]),
      ("a=\"\\\"\"", []),
    ] as [(String, [UInt64])])
  func tagsMustAllOccurInTheTrace(tags: String, traces: [UInt64]) { #expect(found(tags) == traces) }

  @Test(arguments: ["a", "=b", "a=\"b", "a=1 b"])
  func whatIsNoLogfmtIsRefused(tags: String) { #expect(found(tags) == nil) }

  @Test func theTracesLengthIsBounded() {
    #expect(found("") { $0.durationMin = 50_000_000 } == [1])
    #expect(found("") { $0.durationMax = 50_000_000 } == [2])
  }
}
