// The query port: which request gets which answer.

import Base
import HTTP
import Testing

@testable import TraceStore

@Suite struct QueryRoutesTests {
  private struct Answer {
    let status: Int
    let type: String
    let body: String
  }

  private func ask(
    _ target: String, method: String = "GET", accept: String = "*/*",
    clock: @escaping () -> Nanoseconds = { 0 },
    _ store: SpanStore
  ) -> Answer? {
    let text = "\(method) \(target) HTTP/1.1\r\nhost: x\r\naccept: \(accept)\r\n\r\n"
    let routes = QueryRoutes(
      store: store, version: "1.2.3", clock: clock,
      metrics: { $1.append("metrics here\n" as StaticString) })
    var scanned = 0
    let parser = HTTP1HeadParser(limits: HTTP1Limits())
    return Array(text.utf8).withUnsafeBytes { bytes in
      guard case .head(let head, _) = parser.parseRequest(bytes, alreadyScanned: &scanned) else { return nil }
      var body = ByteBuffer()
      switch routes.answer(head, into: &body) {
      case .now(let answer):
        return Answer(status: answer.status, type: "\(answer.contentType)", body: body.text)
      case .search(let query):
        store.answer(query, into: &body)
        return Answer(status: 200, type: "application/json", body: body.text)
      }
    }
  }

  @Test(arguments: [
    ("/api/echo", 200, "text/plain; charset=utf-8", "echo"),
    ("/ready", 200, "text/plain; charset=utf-8", "ready\n"),
    ("/metrics", 200, "text/plain; version=0.0.4; charset=utf-8", "metrics here\n"),
    ("/nothing", 404, "text/plain; charset=utf-8", "404 page not found\n"),
    ("/api/", 404, "text/plain; charset=utf-8", "404 page not found\n"),
    ("/api/traces/", 404, "text/plain; charset=utf-8", "404 page not found\n"),
    ("/api/traces/abc", 404, "text/plain; charset=utf-8", ""),
    ("/api/v2/traces/abc", 200, "application/json", #"{"trace":{},"metrics":{}}"#),
    (
      "/api/search?q=%7B%7D%7Crate()", 400, "text/plain; charset=utf-8",
      "metrics queries are answered at /api/metrics/query_range\n"
    ),
    (
      "/api/status/buildinfo", 200, "application/json",
      #"{"version":"v3.0.3","revision":"1.2.3","branch":"dynamo-tempo","buildUser":"","buildDate":"","goVersion":""}"#
    ),
  ])
  func pathsHaveTheirAnswers(target: String, status: Int, type: String, body: String) {
    let answer = ask(target, sampleStore())
    #expect(answer?.status == status)
    #expect(answer?.type == type)
    #expect(answer?.body == body)
  }

  @Test(arguments: [
    ("limit=0", "invalid limit: must be a whole number of at least 1"),
    ("spss=-1", "invalid spss: must be a whole number of at least 0"),
    ("start=1", "please provide non-zero values for http parameters start and end"),
    ("start=9&end=8", "http parameter start must be before end. received start=9 end=8"),
    ("minDuration=5", "invalid minDuration: must be a duration such as 100ms or 1.5s"),
    ("minDuration=5s&maxDuration=1s", "invalid maxDuration: must be greater than minDuration"),
    ("tags=a", "invalid tags: tags must be key=value pairs"),
    ("q=%7B", "invalid TraceQL query: parse error at col 2: expected an attribute or a value"),
  ])
  func aBadParameterIsNamed(query: String, message: String) {
    let answer = ask("/api/search?\(query)", sampleStore())
    #expect(answer?.status == 400)
    #expect(answer?.body == message + "\n")
  }

  @Test(arguments: [
    ("", "q is missing: a query looks like { status = error } | rate()"),
    ("q=%7B%7D", "please provide start and end, with start before end"),
    ("q=%7B%7D&start=2&end=1", "please provide start and end, with start before end"),
    ("q=%7B%7D&start=1&end=2", "not a metrics query, as { } | rate()"),
    ("q=%7B%7D%7Crate()&start=x&end=2", "invalid start: must be a Unix time in seconds or nanoseconds"),
    ("q=%7B%7D%7Crate()&start=1&end=-2", "invalid end: must be a Unix time in seconds or nanoseconds"),
    (
      "q=%7B%7D%7Crate()&start=1&end=18446744073709551615",
      "invalid end: must be a Unix time in seconds or nanoseconds"
    ),
    ("q=%7B%7D%7Crate()&start=1&end=9&step=x", "invalid step: must be a duration such as 100ms or 1.5s"),
    ("q=%7B%7D%7Crate()&start=1&end=9&step=1us", "invalid step: must be a duration of at least 1ms"),
    ("q=%7B%7D%7Crate()&start=1&end=9&step=1ms", "more than 1000 points for each series: use a larger step"),
    ("q=%7B&start=1&end=9", "invalid TraceQL query: parse error at col 2: expected an attribute or a value"),
  ])
  func aBadParameterOfAMetricsQueryIsNamed(query: String, message: String) {
    let answer = ask("/api/metrics/query_range?\(query)", sampleStore())
    #expect(answer?.status == 400)
    #expect(answer?.body == message + "\n")
  }

  @Test(arguments: [
    "start=1767225600&end=1767225660&step=30s", "start=1767225600.5&end=1767225660&step=30",
    "start=1767225600000000000&end=1767225660000000000&step=30s",
  ])
  func metricsAreAnswered(times: String) {
    let range = ask("/api/metrics/query_range?q=%7B%7D%7Crate()&\(times)", sampleStore())
    #expect(range?.status == 200 && range?.type == "application/json")
    #expect(range?.body.contains(#"{"timestampMs":"1767225630000","value":0.1"#) == true)
    let instant = ask("/api/metrics/query?q=%7B%7D%7Ccount_over_time()&\(times)", sampleStore())
    #expect(instant?.body.contains("\"value\":\(times.contains(".5") ? 1 : 5),") == true)
  }

  @Test(arguments: [
    ("q=%7B+status+%3D+error+%7D", 1), ("tags=service.name%3Ddynamo-worker", 1), ("", 2), ("limit=1", 1),
    ("minDuration=50ms", 1), ("maxDuration=50ms&tags=", 1), ("start=1767225600&end=1767225600", 1),
    ("start=1767225600&end=1767225601", 2), ("start=1&end=2", 0), ("q=%7B%7D&tags=x%3D1", 2),
  ])
  func searchesFindTheirTraces(query: String, count: Int) {
    let answer = ask("/api/search?\(query)", sampleStore())
    #expect(answer?.status == 200)
    #expect(answer?.body.split(separator: "\"traceID\"", omittingEmptySubsequences: false).count == count + 1)
  }

  @Test func aSearchIsBoundedWhateverItAsksFor() {
    let store = SpanStore(seed: 1)
    for trace in 1...1_010 { store.take("s", [SampleSpan(trace: UInt64(trace))]) }
    store.take("t", (1...1_010).map { SampleSpan(trace: 5_000, id: UInt64($0)) })
    func count(_ query: String, _ word: String) -> Int? {
      (ask("/api/search?\(query)", store)?.body.split(separator: word, omittingEmptySubsequences: false).count)
        .map { $0 - 1 }
    }
    #expect(count("limit=99999999", "\"traceID\"") == 1_000)
    // Each span is in `spanSet` and in `spanSets`.
    for spans in ["0", "1001", "99999999"] {
      #expect(count("limit=1&spss=\(spans)", "\"spanID\"") == 2_000)
    }
  }

  @Test func aSearchEndsByTheClock() {
    let store = SpanStore(seed: 1)
    let value = SampleValue.string(String(repeating: "x", count: 100_000))
    for trace in 1...20 { store.take("s", [SampleSpan(trace: UInt64(trace), attributes: [("a", value)])]) }
    var now: Nanoseconds = 0
    let late: () -> Nanoseconds = {
      now += 10 * second
      return now
    }
    let all = ask("/api/search", store)?.body ?? ""
    #expect(all.hasSuffix(#""completedJobs":1,"totalJobs":1}}"#))
    let cut = ask("/api/search", clock: late, store)?.body ?? ""
    #expect(cut.hasSuffix(#""completedJobs":0,"totalJobs":1}}"#))
    #expect(cut.utf8.count < all.utf8.count)
    // Values are what was found so far.
    #expect(ask("/api/search/tag/a/values", clock: late, store)?.status == 200)
  }

  @Test func aTraceComesInProtobufWhereAskedFor() {
    let store = sampleStore()
    let id = "aabbccddeeff00110000000000000001"
    let types = ["application/protobuf", "text/html, application/protobuf;q=0.9"]
    for accept in types {
      #expect(ask("/api/traces/\(id)", accept: accept, store)?.type == "application/protobuf")
      #expect(ask("/api/v2/traces/\(id)", accept: accept, store)?.type == "application/protobuf")
    }
    #expect(
      ask("/api/traces/\(id)", accept: "application/json", store)?.body.hasPrefix("{\"batches\":[") == true)
    #expect(ask("/api/traces/\(id.uppercased())", store)?.status == 200)
    #expect(ask("/api/traces/\(id)x", store)?.status == 400)
  }

  @Test func valuesOfATagNameThatNeedsEscapes() {
    let store = SpanStore(seed: 1)
    store.take("s", [SampleSpan(attributes: [("a b/c", .string("v"))])])
    #expect(ask("/api/search/tag/a%20b%2Fc/values", store)?.body.hasPrefix(#"{"tagValues":["v"]"#) == true)
    #expect(
      ask("/api/v2/search/tag/span.%22a%20b%2Fc%22/values", store)?.body.hasPrefix(
        #"{"tagValues":[{"type":"string","value":"v"}]"#)
        == true)
  }

  @Test func valuesAreNarrowedDownByAQueryThatIsComplete() {
    let store = sampleStore()
    let path = "/api/v2/search/tag/span.x_request_id/values"
    #expect(ask("\(path)?q=%7Bstatus%3Derror%7D", store)?.body.contains("test-trace-001") == false)
    #expect(ask("\(path)?q=%7Bstatus%3D", store)?.body.contains("test-trace-001") == true)
  }

  @Test func onlyReadingIsAllowed() {
    #expect(ask("/api/search", method: "POST", sampleStore())?.status == 405)
    #expect(ask("/", method: "DELETE", sampleStore())?.status == 405)
    #expect(ask("/api/search", method: "HEAD", sampleStore())?.status == 200)
  }

  @Test func permalinksGiveThePage() {
    for target in ["/", "/trace/abc", "/request/a%2Fb?service=x"] {
      let answer = ask(target, sampleStore())
      #expect(answer?.type == "text/html; charset=utf-8")
      #expect(answer?.body.hasPrefix("<!doctype html>") == true)
    }
    #expect(ask("/trace", sampleStore())?.status == 404)
  }

  @Test func theStoresStateIsTold() {
    let text = ask("/status", sampleStore())?.body ?? ""
    #expect(text.hasPrefix(#"{"version":"1.2.3","traces":2,"spans":5,"bytes":"#))
    #expect(text.hasSuffix(#""spansStored":5,"spansRefused":0,"tracesEvicted":0}"#))
  }
}

@Suite struct QueryParametersTests {
  private func parameters(_ text: String) -> QueryParameters {
    Array(text.utf8).withUnsafeBytes { QueryParameters($0) }
  }

  @Test func escapesAndBlanksAreDecoded() {
    let given = parameters("a=1+2&b=%7B%7d&c=%zz%4&&=x&d&e=f=g&a=second")
    #expect(given.text("a") == "1 2")
    #expect(given.text("b") == "{}")
    #expect(given.text("c") == "%zz%4")
    #expect(given.text("d") == nil)
    #expect(given.text("e") == "f=g")
    #expect(given.text("z") == nil)
  }

  @Test func timesFarAwayDoNotOverflow() throws {
    let range = try #require(try parameters("start=1&end=9223372036854775807").range())
    #expect(range.upperBound > 1 << 62)
  }
}
