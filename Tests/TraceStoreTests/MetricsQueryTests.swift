// Metrics queries: intervals, functions, labels, bounds, and the JSON of their answers.

import Base
import Telemetry
import Testing

@testable import TraceStore

@Suite struct MetricsQueryTests {
  /// Seconds since 1970 of ``SampleSpan/epoch``.
  private static let epoch = SampleSpan.epoch / second

  /// Four spans: one in each of the first two seconds, two in the third; lengths of 1, 2, 4 and 3.5 ms.
  private func store() -> SpanStore {
    let store = SpanStore(seed: 1)
    let lengths: [(Double, Double, String?)] = [
      (500, 1, "a"), (1500, 2, "b"), (2500, 4, "a"), (2600, 3.5, nil),
    ]
    for (index, (start, length, model)) in lengths.enumerated() {
      let number = UInt64(index + 1)
      store.take(
        "s",
        [
          SampleSpan(
            trace: number, id: number, start: start, length: length,
            attributes: [("n", .int(1 << index)), ("x", .double(Double(index) + 0.5))]
              + (model.map { [("model", .string($0))] } ?? []))
        ])
    }
    return store
  }

  private func query(
    _ text: String, in store: SpanStore, intervals: MetricsIntervals? = nil, isInstant: Bool = false,
    budget: SearchBudget? = nil
  ) throws -> MetricsQuery {
    let start = SampleSpan.epoch
    let cut = try #require(
      intervals ?? MetricsIntervals(from: start, to: start + 3 * second, step: second))
    let parsed = try TraceQLParser.parse(Array(text.utf8))
    return try #require(MetricsQuery(parsed, cut, isInstant: isInstant, budget: budget))
  }

  /// The series of an answer: Prometheus' labels and the values.
  private func answer(_ text: String, in store: SpanStore? = nil) throws -> [String] {
    let store = store ?? self.store()
    let query = try query(text, in: store)
    var out = ByteBuffer()
    store.answer(query, into: &out)
    #expect(!query.isCut)
    return out.text.split(separator: "{\"labels\":").dropFirst().map { series in
      let values = series.split(separator: "\"value\":").dropFirst().filter { !$0.hasPrefix("{") }
      let labels = series.split(separator: "\"promLabels\":").last?.prefix { $0 != "}" } ?? ""
      return labels.replacing("\\\"", with: "'").replacing("\"", with: "") + "} "
        + values.map { String($0.prefix { $0 != "}" }) }.joined(separator: " ")
    }
  }

  @Test(arguments: [
    ("{} | rate()", ["{__name__='rate'} 0 1 1 2"]),
    ("{} | count_over_time() with (sample=true)", ["{__name__='count_over_time'} 0 1 1 2"]),
    ("{ duration > 3ms } | rate()", ["{__name__='rate'} 0 0 0 2"]),
    ("{ nestedSetParent<0 && true } | rate()", ["{__name__='rate'} 0 1 1 2"]),
    (
      "{} | rate() by(span.model)",
      ["{'span.model'='<nil>'} 0 0 0 1", "{'span.model'='a'} 0 1 0 1", "{'span.model'='b'} 0 0 1 0"]
    ),
    (
      "{ .model != nil } | count_over_time() by (.model, kind, name)",
      [
        "{'.model'='a', kind='server', name='http-request'} 0 1 0 1",
        "{'.model'='b', kind='server', name='http-request'} 0 0 1 0",
      ]
    ),
    ("{} | max_over_time(duration)", ["{__name__='max_over_time'} 0.001 0.002 0.004"]),
    ("{} | min_over_time(.n)", ["{__name__='min_over_time'} 1 2 4"]),
    ("{} | avg_over_time(span.n)", ["{__name__='avg_over_time'} 1 2 6"]),
    ("{} | sum_over_time(.x)", ["{__name__='sum_over_time'} 0.5 1.5 6"]),
    ("{} | max_over_time(.nothing)", []),
    ("{} | max_over_time(.model)", []),
    (
      "{} | histogram_over_time(duration)",
      [
        "{__bucket='0.001048576'} 0 1 0 0", "{__bucket='0.002097152'} 0 0 1 0",
        "{__bucket='0.004194304'} 0 0 0 2",
      ]
    ),
    (
      "{} | histogram_over_time(.n)",
      ["{__bucket='2'} 0 0 1 0", "{__bucket='4'} 0 0 0 1", "{__bucket='8'} 0 0 0 1"]
    ),
    (
      "{ .model = `a` } | histogram_over_time(.x) by (.model)",
      ["{'.model'='a', __bucket='0.5'} 0 1 0 0", "{'.model'='a', __bucket='4'} 0 0 0 1"]
    ),
    (
      "{} | quantile_over_time(.n, 1, .5)",
      ["{p='0.5'} 0 0 2 4", "{p='1'} 0 0 2 8"]
    ),
    ("{ status = error } | rate()", []),
  ])
  func functionsCompute(query: String, series: [String]) throws {
    #expect(try answer(query) == series)
  }

  @Test func quantilesAreInterpolatedAsTempoDoes() {
    func quantile(_ share: Double, _ buckets: (Double, Double)...) -> Double {
      MetricsSeries.quantile(share, of: buckets.map { ($0.0, $0.1) })
    }
    #expect(quantile(0.5) == 0 && quantile(0.5, (2, 0)) == 0)
    // The only value of a bucket is its end.
    #expect(quantile(0.9, (4, 1)) == 4 && quantile(0, (4, 1)) == 4)
    #expect(quantile(0.5, (2, 1), (4, 1)) == 2 && quantile(1, (2, 1), (4, 1)) == 4)
    // Half of the way between two powers of two is one and a half exponents.
    #expect(abs(quantile(0.5, (4, 4)) - 2.828427) < 1e-6)
    #expect(abs(quantile(0.75, (2, 2), (8, 2)) - 4) < 1e-9)
  }

  @Test func intervalsAreCutAsTempoCutsThem() throws {
    let cut = try #require(MetricsIntervals(from: 25 * second, to: 61 * second, step: 10 * second))
    #expect(cut.start == 10 * second && cut.count == 6 && cut.end == 70 * second)
    #expect(cut.milliseconds(0) == 20_000 && cut.milliseconds(5) == 70_000)
    // The end of an interval belongs to it, its beginning to the one before.
    #expect(cut.index(of: 10 * second) == nil && cut.index(of: 10 * second + 1) == 0)
    #expect(cut.index(of: 20 * second) == 0 && cut.index(of: 20 * second + 1) == 1)
    #expect(cut.index(of: 70 * second) == 5 && cut.index(of: 70 * second + 1) == nil)
    let instant = MetricsIntervals(from: 25 * second, to: 61 * second)
    #expect(instant.index(of: 25 * second) == 0 && instant.index(of: 61 * second) == 0)
    #expect(instant.index(of: 25 * second - 1) == nil && instant.index(of: 61 * second + 1) == nil)
    #expect(MetricsIntervals(from: 25 * second, to: 61 * second, step: 36 * second) == instant)
    #expect(MetricsIntervals(from: second, to: 2_000 * second, step: second) == nil)
    #expect(MetricsIntervals(from: second, to: 2 * second, step: 0) == nil)
    for (length, step) in [(60, 1), (3_600, 15), (86_400, 360), (1_000, 4)] as [(UInt64, UInt64)] {
      #expect(MetricsIntervals.defaultStep(from: second, to: (length + 1) * second) == step * second)
    }
  }

  @Test func theAnswerIsTempos() throws {
    let store = store()
    var range = ByteBuffer()
    store.answer(try query("{} | rate() by (span.model)", in: store), into: &range)
    let first = Self.epoch * 1_000
    let bytes = (1...4).reduce(0) {
      $0 + (store.trace(TraceID(high: 0xaabb_ccdd_eeff_0011, low: $1))?.bytes ?? 0)
    }
    #expect(
      range.text.hasPrefix(
        #"{"series":[{"labels":[{"key":"span.model","value":{"stringValue":"nil"}}],"samples":[{"timestampMs":"\#(first)","value":0},"#
      ))
    #expect(range.text.contains(#""promLabels":"{\"span.model\"=\"<nil>\"}"}"#))
    #expect(
      range.text.hasSuffix(
        #"],"metrics":{"inspectedTraces":4,"inspectedBytes":"\#(bytes)","inspectedSpans":"4","completedJobs":1,"totalJobs":1}}"#
      ))
    var instant = ByteBuffer()
    let whole = MetricsIntervals(from: SampleSpan.epoch, to: SampleSpan.epoch + 4 * second)
    store.answer(
      try query("{} | rate()", in: store, intervals: whole, isInstant: true), into: &instant)
    #expect(
      instant.text.hasPrefix(
        #"{"series":[{"labels":[{"key":"__name__","value":{"stringValue":"rate"}}],"value":1,"promLabels":"{__name__=\"rate\"}"}],"#
      ))
  }

  @Test func seriesAndNumbersAreBounded() throws {
    let store = SpanStore(seed: 1)
    for number in 1...UInt64(MetricsQuery.seriesMax + 5) {
      store.take(
        "s", [SampleSpan(trace: number, id: number, start: 500, attributes: [("n", .int(Int(number)))])])
    }
    let many = try query("{} | rate() by (.n)", in: store)
    var out = ByteBuffer()
    store.answer(many, into: &out)
    #expect(many.series.count == MetricsQuery.seriesMax && many.isCut)
    #expect(
      out.text.hasSuffix(
        #","completedJobs":0,"totalJobs":1},"status":"PARTIAL","message":"more than 100 series"}"#))

    let wide = SpanStore(seed: 1)
    // Each model has a value in each of 60 powers of two.
    for number in 1...UInt64(30) {
      wide.take(
        "s",
        (0..<60).map { power in
          SampleSpan(
            trace: number, id: UInt64(power + 1), start: 500,
            attributes: [("n", .int(1 << power)), ("model", .int(Int(number)))])
        })
    }
    let start = SampleSpan.epoch
    let long = MetricsIntervals(from: start, to: start + 900 * second, step: second)
    let cells = try query("{} | histogram_over_time(.n) by (.model)", in: wide, intervals: long)
    var answer = ByteBuffer()
    wide.answer(cells, into: &answer)
    #expect(cells.isCut && answer.text.contains("\"message\":\"more than 131072 numbers\""))
    let rows = cells.series.reduce(0) { $0 + $1.rows.count }
    #expect(rows == MetricsQuery.cellsMax / 901)

    // Quantiles are numbers too: 5 for each interval of a series, beside its rows.
    let quantiles = try query(
      "{} | quantile_over_time(.n, .1, .2, .3, .4, .5) by (.model)", in: wide, intervals: long)
    wide.answer(quantiles, into: &answer)
    let all = quantiles.series.reduce(0) { $0 + $1.rows.count + 5 }
    #expect(quantiles.isCut && all <= MetricsQuery.cellsMax / 901)
  }

  @Test func aQueryWhoseTimeIsOverSaysSo() throws {
    let store = SpanStore(seed: 1)
    let text = SampleValue.string(String(repeating: "x", count: 60_000))
    for number in 1...UInt64(20) {
      store.take("s", [SampleSpan(trace: number, start: 500, attributes: [("a", text)])])
    }
    var now: Nanoseconds = 0
    let budget = SearchBudget(second) {
      now += 2 * second
      return now
    }
    let query = try query("{} | rate()", in: store, budget: budget)
    let scan = StoreScan(query, in: store)
    while !scan.step(millisecond) {}
    #expect(query.inspectedTraces < 20)
    var out = ByteBuffer()
    query.write(into: &out)
    #expect(out.text.contains(#""status":"PARTIAL","message":"the time for one query is over""#))
  }

  @Test(arguments: [
    ("{} | rate", "expected '('"), ("{} | rate() by", "expected '('"),
    ("{} | rate() by ()", "expected an attribute or a value"),
    ("{} | quantile_over_time(duration)", "expected a quantile, as .9"),
    ("{} | quantile_over_time(duration, 2)", "a quantile lies between 0 and 1"),
    ("{} | quantile_over_time(duration, .a)", "a quantile lies between 0 and 1"),
    ("{} | rate() by (.a, .b, .c, .d, .e, .f)", "too many fields to group by"),
    ("{} | quantile_over_time(duration, .1, .2, .3, .4, .5, .6)", "too many quantiles"),
    ("{} | rate() | select(name)", "nothing can follow a metrics function here"),
    ("{} | rate() | topk(3)", "nothing can follow a metrics function here"),
    ("{} | rate() > 5", "nothing can follow a metrics function here"),
    ("{} | compare({status=error})", "'compare' is no stage that this trace store knows"),
  ])
  func whatIsNotTakenIsNamed(query: String, message: String) {
    #expect(throws: TraceQLError.self) { try TraceQLParser.parse(Array(query.utf8)) }
    do { _ = try TraceQLParser.parse(Array(query.utf8)) } catch { #expect(error.message == message) }
  }

  @Test func stagesMayStandBeforeTheFunction() throws {
    #expect(
      try answer("{} | { duration > 3ms } | count_over_time()") == ["{__name__='count_over_time'} 0 0 0 2"])
  }
}
