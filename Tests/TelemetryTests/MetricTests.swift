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
    #expect(MetricFamilySnapshot.number(0) == "0")
    #expect(MetricFamilySnapshot.number(-12) == "-12")
    #expect(MetricFamilySnapshot.number(0.001) == "0.001")
    #expect(MetricFamilySnapshot.number(0.0000001) == "1e-07")
    #expect(MetricFamilySnapshot.number(1e300) == "1e+300")
    #expect(MetricFamilySnapshot.number(.infinity) == "+Inf")
    #expect(MetricFamilySnapshot.number(-.infinity) == "-Inf")
    #expect(MetricFamilySnapshot.number(.nan) == "NaN")
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
