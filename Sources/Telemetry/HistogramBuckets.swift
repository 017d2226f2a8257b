// Upper bounds of histogram buckets, by Dynamo's rule (reference/dynamo.md section 4.2).

internal import Glibc

/// The finite upper bounds of a histogram, ascending.
package struct HistogramBuckets: Sendable, Equatable {
  package let bounds: [Double]

  /// Uses `bounds` as they are; they must ascend.
  package init(_ bounds: [Double]) {
    assert(zip(bounds, bounds.dropFirst()).allSatisfy { $0 < $1 }, "bounds ascend")
    self.bounds = bounds
  }

  /// Dynamo's rule: 0, then `count - 1` bounds at equal ratios from `minimum` to `maximum`, each rounded to
  /// two significant figures. Equal neighbours after rounding are kept once.
  package init(minimum: Double, maximum: Double, count: Int) {
    var bounds = [0.0]
    let steps = count - 1
    for step in 0..<max(steps, 0) {
      let share = steps > 1 ? Double(step) / Double(steps - 1) : 0
      let bound = HistogramBuckets.rounded(minimum * pow(maximum / minimum, share))
      if let last = bounds.last, bound > last { bounds.append(bound) }
    }
    self.bounds = bounds
  }

  /// `value`, above 0, with two significant figures, as the double nearest to that decimal number.
  private static func rounded(_ value: Double) -> Double {
    let exponent = Int(floor(log10(value)))
    var scale = 1.0
    for _ in 0..<abs(exponent - 1) { scale *= 10 }
    return exponent < 1 ? (value * scale).rounded() / scale : (value / scale).rounded() * scale
  }

  /// 10 µs to 10 s, for stages of a request.
  package static let stageSeconds = HistogramBuckets([
    0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
    0.5,
    1, 2.5, 10,
  ])

  /// The same in milliseconds.
  package static let stageMilliseconds = HistogramBuckets([
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 10_000,
  ])

  /// 100 ns to 10 ms, for waits on a lock.
  package static let lockSeconds = HistogramBuckets([
    0.0000001, 0.000001, 0.00001, 0.0001, 0.001, 0.01,
  ])

  /// 500 ns to 100 ms, in milliseconds, for steps of a decision.
  package static let overheadMilliseconds = HistogramBuckets([
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 100,
  ])

  /// Numbers of blocks.
  package static let powersOfTwo = HistogramBuckets((0...13).map { Double(1 << $0) })

  /// Differences, as shares of the whole.
  package static let drift = HistogramBuckets([0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1])

  /// Shares from 0 to 1.
  package static let ratio = HistogramBuckets([0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1])
}

/// The buckets of the metrics whose bounds an operator can set with `DYN_METRICS_*_{MIN,MAX,COUNT}`.
package struct MetricBuckets: Sendable {
  package let requestDuration: HistogramBuckets
  package let inputTokens: HistogramBuckets
  package let outputTokens: HistogramBuckets
  package let timeToFirstToken: HistogramBuckets
  package let interTokenLatency: HistogramBuckets
  package let embeddingLatency: HistogramBuckets
  /// What was wrong with the environment, one message each; the default was used there.
  package let warnings: [String]

  /// Most buckets that COUNT may ask for.
  private static let countMax = 200

  /// Reads Dynamo's variables from `environment`, with Dynamo's defaults.
  package init(environment: [String: String] = [:]) {
    var warnings: [String] = []
    func read(_ prefix: String, _ minimum: Double, _ maximum: Double, _ count: Int) -> HistogramBuckets {
      let fallback = HistogramBuckets(minimum: minimum, maximum: maximum, count: count)
      func value(_ suffix: String, _ fallback: Double) -> Double? {
        guard let text = environment[prefix + suffix], !text.isEmpty else { return fallback }
        return Double(text)
      }
      guard let low = value("MIN", minimum), let high = value("MAX", maximum),
        let number = value("COUNT", Double(count)), low > 0, high > low, high < 1e15,
        number >= 3, number <= Double(MetricBuckets.countMax), number == number.rounded()
      else {
        let range = "0 < MIN < MAX and 3 to \(MetricBuckets.countMax) buckets"
        warnings.append("\(prefix)MIN, MAX and COUNT need \(range)")
        return fallback
      }
      return HistogramBuckets(minimum: low, maximum: high, count: Int(number))
    }
    requestDuration = read(EnvironmentName.metricsRequestDuration, 1, 512, 10)
    inputTokens = read(EnvironmentName.metricsInputSequence, 50, 128_000, 12)
    outputTokens = read(EnvironmentName.metricsOutputSequence, 50, 32_000, 10)
    timeToFirstToken = read(EnvironmentName.metricsTTFT, 0.001, 480, 18)
    embeddingLatency = read(EnvironmentName.metricsEmbeddingLatency, 0.001, 10, 14)
    interTokenLatency = read(EnvironmentName.metricsITL, 0.001, 80, 20)
    self.warnings = warnings
  }
}
