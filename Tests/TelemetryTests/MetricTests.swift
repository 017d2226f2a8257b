// Cells, buckets and the Prometheus text.

import Base
import Testing

@testable import Telemetry

private func text(_ registry: MetricRegistry) -> String {
  var out = ByteBuffer()
  registry.writePrometheus(into: &out)
  return out.text
}

private let things = MetricDescription("test_things_total", "Things.")
private let level = MetricDescription("test_level", "Level.")
private let size = MetricDescription("test_size_bytes", "Sizes.")

@Suite struct HistogramBucketsTests {
  @Test func defaultsFollowDynamosRule() {
    let buckets = MetricBuckets()
    #expect(buckets.requestDuration.bounds == [0, 1, 2.2, 4.8, 10, 23, 49, 110, 230, 510])
    #expect(buckets.requestDuration.bounds.count == 10)
    #expect(
      buckets.inputTokens.bounds == [
        0, 50, 110, 240, 530, 1_200, 2_500, 5_500, 12_000, 27_000, 58_000, 130_000,
      ])
    #expect(buckets.outputTokens.bounds == [0, 50, 110, 250, 560, 1_300, 2_800, 6_400, 14_000, 32_000])
    #expect(buckets.timeToFirstToken.bounds.count == 18)
    #expect(buckets.timeToFirstToken.bounds.prefix(4) == [0, 0.001, 0.0023, 0.0051])
    #expect(buckets.timeToFirstToken.bounds.last == 480)
    #expect(buckets.interTokenLatency.bounds.count == 20)
    #expect(buckets.interTokenLatency.bounds.last == 80)
    #expect(buckets.warnings.isEmpty)
  }

  @Test func theEnvironmentSetsThem() {
    let buckets = MetricBuckets(environment: [
      "DYN_METRICS_TTFT_MIN": "0.01", "DYN_METRICS_TTFT_MAX": "100", "DYN_METRICS_TTFT_COUNT": "6",
      "DYN_METRICS_ITL_MIN": "",
    ])
    #expect(buckets.timeToFirstToken.bounds == [0, 0.01, 0.1, 1, 10, 100])
    #expect(buckets.interTokenLatency == MetricBuckets().interTokenLatency)
    #expect(buckets.warnings.isEmpty)
  }

  @Test(arguments: [
    ("MIN", "0"), ("MIN", "-1"), ("MIN", "600"), ("MAX", "1e99"), ("MAX", "inf"), ("MIN", "nan"),
    ("COUNT", "2"),
    ("COUNT", "1000000"), ("COUNT", "4.5"), ("COUNT", "many"),
  ]) func badBoundsAreWarnedOfAndTheDefaultHolds(_ suffix: String, _ value: String) {
    let buckets = MetricBuckets(environment: ["DYN_METRICS_REQUEST_DURATION_" + suffix: value])
    #expect(buckets.requestDuration == MetricBuckets().requestDuration)
    #expect(buckets.warnings.count == 1)
  }

  @Test func boundsThatRoundToTheSameNumberAreKeptOnce() {
    #expect(HistogramBuckets(minimum: 1, maximum: 1.1, count: 10).bounds == [0, 1, 1.1])
    #expect(HistogramBuckets(minimum: 3, maximum: 4, count: 2).bounds == [0, 3])
  }
}

@Suite struct MetricRegistryTests {
  @Test func theSameLabelsGiveTheSameCell() {
    let registry = MetricRegistry()
    registry.counter(things, labels: [("model", "a")]).add()
    registry.counter(things, labels: [("model", "a")]).add(2)
    registry.counter(things, labels: [("model", "b")]).add(5)
    #expect(
      text(registry) == """
        # HELP test_things_total Things.
        # TYPE test_things_total counter
        test_things_total{model="a"} 3
        test_things_total{model="b"} 5

        """)
  }

  @Test func gaugesGoUpAndDown() {
    let registry = MetricRegistry()
    let gauge = registry.gauge(level)
    gauge.add(5)
    gauge.add(-7)
    #expect(text(registry).hasSuffix("\ntest_level -2\n"))
    gauge.set(0.125)
    #expect(text(registry).hasSuffix("\ntest_level 0.125\n"))
    gauge.set(3)
    #expect(gauge.value == 3)
  }

  @Test func histogramsCountCumulativelyAndAgreeWithThemselves() {
    let registry = MetricRegistry()
    let histogram = registry.histogram(
      size, buckets: HistogramBuckets([0, 0.5, 10]), labels: [("model", "m")])
    for value in [-1, 0, 0.5, 0.6, 10, 11] { histogram.observe(value) }
    histogram.observe(2, count: 3)
    histogram.observe(2, count: 0)
    histogram.observe(.nan)
    #expect(
      text(registry) == """
        # HELP test_size_bytes Sizes.
        # TYPE test_size_bytes histogram
        test_size_bytes_bucket{model="m",le="0"} 2
        test_size_bytes_bucket{model="m",le="0.5"} 3
        test_size_bytes_bucket{model="m",le="10"} 8
        test_size_bytes_bucket{model="m",le="+Inf"} 9
        test_size_bytes_sum{model="m"} 27.1
        test_size_bytes_count{model="m"} 9

        """)
  }

  @Test func loopsSharesOfAHistogramAddUp() {
    let shared = MetricRegistry().histogram(size, buckets: HistogramBuckets([1, 2]))
    let first = LocalHistogram(shared)
    do {
      let second = LocalHistogram(shared)
      first.observe(1)
      second.observe(5, count: 4)
      second.observe(.nan)
      shared.observe(2)
      #expect(shared.sum == 23)
      #expect((0...2).map { shared.bucketCount($0) } == [1, 1, 4])
    }
    // The second is gone, and what it observed stays.
    first.observe(2)
    #expect(shared.sum == 25)
    #expect((0...2).map { shared.bucketCount($0) } == [1, 2, 4])
  }

  @Test func aShareOfTwoHistogramsCountsInBoth() {
    let registry = MetricRegistry()
    let buckets = HistogramBuckets([1, 2])
    let all = registry.histogram(MetricDescription("test_all", "Help."), buckets: buckets)
    let one = registry.histogram(size, buckets: buckets, labels: [("model", "a")])
    let other = LocalHistogram(registry.histogram(size, buckets: buckets, labels: [("model", "b")]), and: all)
    do {
      let share = LocalHistogram(one, and: all)
      share.observe(1)
      other.observe(2, count: 3)
      #expect(one.sum == 1 && all.sum == 7)
      #expect((0...2).map { all.bucketCount($0) } == [1, 3, 0])
    }
    #expect(one.sum == 1 && all.sum == 7)
  }

  @Test func loopsSharesOfCountersAndGaugesAddUp() {
    let registry = MetricRegistry()
    let counter = registry.counter(MetricDescription("test_total", "Help."))
    let gauge = registry.gauge(MetricDescription("test", "Help."))
    do {
      let counts = LocalCounter(counter)
      let level = LocalGauge(gauge)
      counts.add()
      counts.add(4)
      level.add(3)
      level.add(-1)
      counter.add()
      gauge.add(1)
      #expect(counter.value == 6)
      #expect(gauge.value == 3)
    }
    #expect(counter.value == 6)
    #expect(gauge.value == 3)
  }

  @Test func namesAndLabelsAreEscaped() {
    let registry = MetricRegistry()
    registry.counter(
      MetricDescription("test_escapes_total", "One \\ and\ntwo."),
      labels: [("model", "a\"b\\c\nd"), ("other", "é{},")]
    ).add()
    #expect(
      text(registry) == """
        # HELP test_escapes_total One \\\\ and\\ntwo.
        # TYPE test_escapes_total counter
        test_escapes_total{model="a\\"b\\\\c\\nd",other="é{},"} 1

        """)
    #expect(MetricRegistry.render([("k", String(repeating: "é", count: 200))]).utf8.count == 256 + 4)
    #expect(!MetricRegistry.isName("") && !MetricRegistry.isName("1a") && !MetricRegistry.isName("a-b"))
    #expect(MetricRegistry.isName("_A1z"))
  }

  @Test func numbersAreWrittenAsPrometheusReadsThem() {
    #expect(MetricText.number(0) == "0")
    #expect(MetricText.number(-12) == "-12")
    #expect(MetricText.number(0.001) == "0.001")
    #expect(MetricText.number(0.0000001) == "1e-07")
    #expect(MetricText.number(1e300) == "1e+300")
    #expect(MetricText.number(.infinity) == "+Inf")
    #expect(MetricText.number(-.infinity) == "-Inf")
    #expect(MetricText.number(.nan) == "NaN")
  }

  @Test func seriesPastTheBoundShareOneAndAreCounted() {
    let registry = MetricRegistry(seriesMax: 3)
    for model in 0..<10 { registry.counter(things, labels: [("model", "m\(model)")]).add() }
    let text = text(registry)
    #expect(text.contains("\ntest_things_total{model=\"m2\"} 1\n"))
    #expect(!text.contains("m3"))
    #expect(text.contains("\ntest_things_total{model=\"_other\"} 7\n"))
    #expect(text.contains("\ndynamo_metrics_series_overflow_total{family=\"test_things_total\"} 7\n"))
  }

  @Test func callbacksAreReadAtEachScrapeAndBounded() {
    let registry = MetricRegistry(seriesMax: 2)
    let ledger = SpanLedger()
    registry.observe(things, .counter, labels: [("a", "b")]) { Double(ledger.made) }
    registry.collect(level, .gauge) { samples in
      for worker in 0..<5 { samples.add(Double(worker), labels: [("worker_id", "\(worker)")]) }
    }
    ledger.recordMade(4)
    #expect(text(registry).contains("\ntest_things_total{a=\"b\"} 4\n"))
    ledger.recordMade(1)
    let text = text(registry)
    #expect(text.contains("\ntest_things_total{a=\"b\"} 5\n"))
    #expect(text.contains("test_level{worker_id=\"1\"} 1\n"))
    #expect(!text.contains("test_level{worker_id=\"2\"}"))
  }

  @Test func familiesAreSortedAndEmptyOnesLeftOut() {
    let registry = MetricRegistry()
    registry.collect(size, .gauge) { _ in }
    registry.counter(things).add()
    registry.gauge(level).set(1)
    let lines = text(registry).split(separator: "\n").filter { $0.hasPrefix("# TYPE") }
    #expect(lines == ["# TYPE test_level gauge", "# TYPE test_things_total counter"])
  }

  @Test func thePrefixOfTheFrontendsFamiliesCanBeReplaced() {
    let registry = MetricRegistry(frontendPrefix: "mine")
    registry.counter(.outputTokens, labels: [("model", "m")]).add(3)
    registry.counter(.componentRequests).add()
    let text = text(registry)
    #expect(text.contains("\nmine_output_tokens_total{model=\"m\"} 3\n"))
    #expect(text.contains("\ndynamo_component_requests_total 1\n"))
  }

  @Test func cellsCountFromAllThreads() async {
    let registry = MetricRegistry()
    let counter = registry.counter(things)
    let gauge = registry.gauge(level)
    let histogram = registry.histogram(size, buckets: HistogramBuckets([1]))
    await withTaskGroup(of: Void.self) { group in
      for _ in 0..<4 {
        group.addTask {
          for _ in 0..<1_000 {
            counter.add()
            gauge.add(1)
            histogram.observe(0.5)
          }
        }
      }
    }
    #expect(counter.value == 4_000)
    #expect(gauge.value == 4_000)
    #expect(histogram.sum == 2_000)
  }
}

@Suite struct MetricFormatTests {
  /// What Prometheus 2.43 and 3.5 send, and others' wishes.
  @Test(arguments: [
    (
      "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
      true
    ),
    (
      "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
      true
    ),
    ("Application/OpenMetrics-Text", true),
    ("application/openmetrics-text; version=\"1.0.0\" ; charset=utf-8", true),
    ("application/openmetrics-text;version=2.0.0", false),
    ("application/openmetrics-text;q=0", false),
    ("application/openmetrics-text;q=nonsense", false),
    ("application/openmetrics-text;q=0.3,text/plain", false),
    ("text/plain;version=0.0.4", false), ("*/*", false), ("", false), (";;,,;=", false),
  ]) func theScraperChooses(_ accept: String, _ isOpen: Bool) {
    let format = MetricFormat(accept: accept)
    #expect(format.contentType.description.hasPrefix("application/openmetrics-text") == isOpen)
  }

  private func open(_ registry: MetricRegistry) -> String {
    var out = ByteBuffer()
    registry.write(.openMetrics, into: &out)
    return out.text
  }

  @Test func countersAreNamedWithoutTheirSuffixAndUnitsAreTold() {
    let registry = MetricRegistry()
    registry.counter(MetricDescription("test_wait_seconds_total", "A \"wait\".")).add(3)
    registry.gauge(level).set(2)
    #expect(
      open(registry) == """
        # HELP test_level Level.
        # TYPE test_level gauge
        test_level 2
        # HELP test_wait_seconds A \\"wait\\".
        # TYPE test_wait_seconds counter
        # UNIT test_wait_seconds seconds
        test_wait_seconds_total 3
        # EOF

        """)
  }

  @Test func whatIsAddedStandsBeforeTheEnd() {
    var out = ByteBuffer()
    MetricRegistry().write(.openMetrics, into: &out) { $0.append("more 1\n" as StaticString) }
    #expect(out.text == "more 1\n# EOF\n")
  }

  @Test func bucketsAreSpeltInOneWayAndCarryTheirLatestExemplar() {
    let registry = MetricRegistry()
    let shared = registry.histogram(size, buckets: HistogramBuckets([0, 0.25, 1, 130_000, 2_500_000]))
    let first = LocalHistogram(shared, keepsExemplars: true)
    let second = LocalHistogram(shared, keepsExemplars: true)
    let old = SpanContext(traceID: TraceID(high: 1, low: 2), spanID: 3, flags: 1)
    let new = SpanContext(traceID: TraceID(high: 0xab, low: 0xcd), spanID: 0xef, flags: 1)
    first.observe(0.5)
    second.observe(0.75)
    second.exemplify(Exemplar(new, value: 0.75, time: 1_700_000_000_042_000_000))
    first.exemplify(Exemplar(old, value: 0.5, time: 1_600_000_000_000_000_000))
    #expect(
      open(registry) == """
        # HELP test_size_bytes Sizes.
        # TYPE test_size_bytes histogram
        # UNIT test_size_bytes bytes
        test_size_bytes_bucket{le="0.0"} 0
        test_size_bytes_bucket{le="0.25"} 0
        test_size_bytes_bucket{le="1.0"} 2 # {trace_id="00000000000000ab00000000000000cd",span_id="00000000000000ef"} 0.75 1700000000.042
        test_size_bytes_bucket{le="130000.0"} 2
        test_size_bytes_bucket{le="2.5e+06"} 2
        test_size_bytes_bucket{le="+Inf"} 2
        test_size_bytes_sum 1.25
        test_size_bytes_count 2
        # EOF

        """)
    #expect(!text(registry).contains("trace_id"), "the older format knows no exemplars")
  }

  @Test func withoutRoomForThemThereAreNone() {
    let shared = MetricRegistry().histogram(size, buckets: HistogramBuckets([1]))
    let share = LocalHistogram(shared)
    share.exemplify(
      Exemplar(SpanContext(traceID: TraceID(high: 1, low: 2), spanID: 3, flags: 1), value: 0.5, time: 1))
    #expect(shared.exemplar(0) == nil)
  }

  @Test func aReaderNeverSeesHalfOfAnExemplar() async {
    let slots = ExemplarSlots(bucketCount: 1)
    let rounds = 20_000
    await withTaskGroup(of: Bool.self) { group in
      group.addTask {
        for number in 1...UInt64(rounds) {
          let span = SpanContext(traceID: TraceID(high: number, low: number), spanID: number, flags: 1)
          slots.put(Exemplar(span, value: Double(number), time: number), bucket: 0)
        }
        return true
      }
      group.addTask {
        for _ in 0..<rounds {
          guard let seen = slots.exemplar(0) else { continue }
          let number = seen.time
          guard seen.traceID == TraceID(high: number, low: number), seen.spanID == number,
            seen.value == Double(number)
          else { return false }
        }
        return true
      }
      for await isWhole in group { #expect(isWhole) }
    }
    #expect(slots.exemplar(0)?.time == UInt64(rounds))
  }
}
