// What tokenizing costs: Dynamo's families of template and tokenizer, on one loop.

internal import Base
internal import Prompts
internal import Telemetry
internal import Tokenizer

/// One loop's cells; there where there is a tokenizer.
final class TokenizerMetrics {
  private let template: LocalHistogram
  private let tokenize: LocalHistogram
  /// The same as `tokenize`, under the name and in the unit that Dynamo had before.
  private let latency: LocalHistogram

  init(_ registry: MetricRegistry) {
    template = LocalHistogram(registry.histogram(.templateSeconds, buckets: .stageSeconds))
    tokenize = LocalHistogram(registry.histogram(.tokenizeSeconds, buckets: .stageSeconds))
    latency = LocalHistogram(
      registry.histogram(
        .tokenizerLatency, buckets: .stageMilliseconds, labels: [("operation", "tokenize")]))
  }

  /// A prompt was rendered and encoded, or only encoded.
  func observe(_ times: PromptEncoder.Times) {
    guard times.encoded > 0 else { return }
    let rendered = times.rendered > 0 ? times.rendered : times.began
    if times.rendered > 0 { template.observe(Double(rendered - min(times.began, rendered)) / 1e9) }
    let length = times.encoded - min(rendered, times.encoded)
    tokenize.observe(Double(length) / 1e9)
    latency.observe(Double(length) / 1e6)
  }

  /// Shows the cache that all loops share.
  static func register(_ tokenizer: ModelTokenizer, on registry: MetricRegistry) {
    registry.observe(.tokenizerCacheHits, .counter) { Double(tokenizer.cacheStatistics.hits) }
    registry.observe(.tokenizerCacheMisses, .counter) { Double(tokenizer.cacheStatistics.misses) }
  }
}
