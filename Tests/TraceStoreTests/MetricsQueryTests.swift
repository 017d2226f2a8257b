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
    #expect(answer.text.components(of: "__bucket") == 2 * (MetricsQuery.cellsMax / 901))

    // Quantiles are numbers too: 5 for each interval of a series, beside its rows.
    let quantiles = try query(
      "{} | quantile_over_time(.n, .1, .2, .3, .4, .5) by (.model)", in: wide, intervals: long)
    answer.removeAll()
    wide.answer(quantiles, into: &answer)
    #expect(quantiles.isCut)
    // Each series of five has at least one row of its own.
    #expect(answer.text.components(of: "promLabels") / 5 * 6 <= MetricsQuery.cellsMax / 901)
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
    (
      "{} | rate() | select(name)",
      "nothing but topk(), bottomk() and a comparison can follow a metrics function"
    ),
    ("{} | rate() | topk(0)", "topk() takes at least 1"),
    ("{} | rate() | bottomk(x)", "expected a whole number"),
    ("{} | rate() > `a`", "expected a number"),
    ("{} | rate() }", "nothing can follow a metrics function here"),
    ("{} | rate()" + String(repeating: " > 1", count: 9), "too many stages"),
    ("{} | compare(status=error)", "expected the spans to compare, as compare({ status = error })"),
    ("{} | compare({}, 0)", "compare() shows 1 to 50 values"),
    ("{} | compare({}, 51)", "compare() shows 1 to 50 values"),
    ("{} | compare({}, 5, 1)", "compare() takes a start and a later end, in nanoseconds since 1970"),
    ("{} | compare({}, 5, 2, 1)", "compare() takes a start and a later end, in nanoseconds since 1970"),
    ("{} | compare({}, 5, 1, 2, 3)", "expected ')'"),
    ("{} | compare({}) by (name)", "nothing can follow a metrics function here"),
  ])
  func whatIsNotTakenIsNamed(query: String, message: String) {
    #expect(throws: TraceQLError.self) { try TraceQLParser.parse(Array(query.utf8)) }
    do { _ = try TraceQLParser.parse(Array(query.utf8)) } catch { #expect(error.message == message) }
  }

  // MARK: Stages

  @Test(arguments: [
    (
      "{} | count_over_time() by(span.model) | topk(1)",
      // Of equal numbers, in the last interval, the one whose labels come first.
      ["{'span.model'='<nil>'} 0 1", "{'span.model'='a'} 1", "{'span.model'='b'} 1"]
    ),
    (
      "{} | count_over_time() by(span.model) | bottomk(2)",
      ["{'span.model'='<nil>'} 0 0 0 1", "{'span.model'='a'} 0 0", "{'span.model'='b'} 0 0"]
    ),
    ("{} | count_over_time() by(span.model) | topk(3) > 5", []),
    ("{} | count_over_time() > 1", ["{__name__='count_over_time'} 2"]),
    ("{} | max_over_time(duration) >= 2ms", ["{__name__='max_over_time'} 0.002 0.004"]),
    ("{} | max_over_time(duration) < 2ms", ["{__name__='max_over_time'} 0.001"]),
    ("{} | sum_over_time(.x) != 1.5 | topk(9)", ["{__name__='sum_over_time'} 0.5 6"]),
    ("{} | quantile_over_time(.n, 1, .5) | topk(1) > 0", ["{p='0.5'} 2", "{p='1'} 8"]),
  ])
  func stagesLeaveAPartOfTheSeries(query: String, series: [String]) throws {
    #expect(try answer(query) == series)
  }

  // MARK: Comparison

  @Test func compareCountsValuesOfBothSides() throws {
    let lines = try answer("{} | compare({ duration > 3ms }, 1)")
    func of(_ name: String) -> [String] { lines.filter { $0.contains(name) } }
    #expect(
      of("span.model") == [
        "{__meta_error='__too_many_values__', 'span.model'='<nil>'} ",
        "{__meta_type='baseline', 'span.model'='a'} 0 1 0 0",
        "{__meta_type='baseline_total', 'span.model'='<nil>'} 0 1 1 0",
        "{__meta_type='selection', 'span.model'='a'} 0 0 0 1",
        "{__meta_type='selection_total', 'span.model'='<nil>'} 0 0 0 1",
      ])
    #expect(
      of("resource.service.name") == [
        "{__meta_type='baseline', 'resource.service.name'='s'} 0 1 1 0",
        "{__meta_type='baseline_total', 'resource.service.name'='<nil>'} 0 1 1 0",
        "{__meta_type='selection', 'resource.service.name'='s'} 0 0 0 2",
        "{__meta_type='selection_total', 'resource.service.name'='<nil>'} 0 0 0 2",
      ])
    #expect(of("kind=").count == 4 && of("duration").isEmpty && of("trace:id").isEmpty)
  }

  @Test func compareSelectsWithinAWindow() throws {
    let start = SampleSpan.epoch + second
    let lines = try answer("{} | compare({}, 5, \(start), \(start + second))")
    #expect(
      lines.filter { $0.contains(" kind=") } == [
        "{__meta_type='baseline', kind='server'} 0 1 0 2",
        "{__meta_type='baseline_total', kind='<nil>'} 0 1 0 2",
        "{__meta_type='selection', kind='server'} 0 0 1 0",
        "{__meta_type='selection_total', kind='<nil>'} 0 0 1 0",
      ])
  }

  @Test func compareIsBoundedByValuesAttributesAndNumbers() throws {
    let store = SpanStore(seed: 1)
    for number in 1...UInt64(60) {
      let many = (0..<300).map { ("k\($0)", SampleValue.int(1)) }
      store.take(
        "s",
        [
          SampleSpan(
            trace: number, id: number, start: 500,
            attributes: [("id", .string("v\(number)"))] + (number == 1 ? many : []))
        ])
    }
    let start = SampleSpan.epoch
    let one = try #require(MetricsIntervals(from: start, to: start + second, step: second))
    let query = try query("{} | compare({ status = error }, 2)", in: store, intervals: one)
    var out = ByteBuffer()
    store.answer(query, into: &out)
    #expect(!query.isCut && out.text.components(of: "\"span.id\"") == 4, "two values, the total, the note")
    #expect(out.text.contains("\"value\":60"), "the total counts all")
    #expect(out.text.components(of: "baseline_total") == 2 * ComparedSpans.attributesMax)

    let long = try #require(MetricsIntervals(from: start, to: start + 900 * second, step: second))
    let cut = try self.query("{} | compare({}, 50)", in: store, intervals: long)
    out.removeAll()
    store.answer(cut, into: &out)
    #expect(cut.isCut && out.text.contains("more than 131072 numbers"))
  }

  // MARK: Turns

  @Test func anAnswerIsMadeReadyInTurnsAndChargedAlike() throws {
    let store = self.store()
    let start = SampleSpan.epoch
    let long = try #require(MetricsIntervals(from: start, to: start + 900 * second, step: second))
    let text = "{} | quantile_over_time(.n, .1, .2, .3, .4, .5) by (.model) | topk(7)"
    var whole = ByteBuffer()
    store.answer(try query(text, in: store, intervals: long), into: &whole)

    func bounded(_ room: AnswerRoom) throws -> MetricsQuery {
      try #require(
        MetricsQuery(
          try TraceQLParser.parse(Array(text.utf8)), long, isInstant: false,
          budget: SearchBudget(second) { 0 }, room: room))
    }
    let room = AnswerRoom(1 << 20)
    let query = try bounded(room)
    let scan = StoreScan(query, in: store)
    var turns = 1
    while !scan.step(millisecond) { turns += 1 }
    // 15 series of 901 numbers: computed, chosen from and written, 4,096 at a time.
    #expect(turns >= 3 * 4)
    let taken = (1 << 20) - room.bytesLeft
    #expect(taken > 100_000)
    var out = ByteBuffer()
    query.write(into: &out)
    #expect(out.text == whole.text && room.bytesLeft == 1 << 20)

    let small = AnswerRoom(taken / 2)
    do {
      let cut = try bounded(small)
      while !StoreScan(cut, in: store).step() {}
      #expect(cut.isCut && small.bytesLeft < taken / 2)
      out.removeAll()
      cut.write(into: &out)
      #expect(out.text.contains("the answer is too large beside those that are under way"))
      // One that nobody waits for any more gives its bytes back too.
      let left = try bounded(small)
      while !StoreScan(left, in: store).step() {}
    }
    #expect(small.bytesLeft == taken / 2)
  }

  @Test func stagesMayStandBeforeTheFunction() throws {
    #expect(
      try answer("{} | { duration > 3ms } | count_over_time()") == ["{__name__='count_over_time'} 0 0 0 2"])
  }
}

extension String {
  fileprivate func components(of part: String) -> Int {
    split(separator: part, omittingEmptySubsequences: false).count - 1
  }
}
