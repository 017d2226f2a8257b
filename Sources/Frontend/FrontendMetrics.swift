// The frontend's metric cells: asked for once, kept, and counted into without locks.

internal import Base
internal import OpenAI
internal import Telemetry

/// Cells without a model, shared by all loops.
package final class FrontendMetrics: Sendable {
  let registry: MetricRegistry
  let requestIDsReplaced: Counter
  let retries: Counter
  let disconnected: Gauge
  let exclusions: Counter
  let bodyMemoryWaits: Counter
  let bodyMemoryRefusals: Counter

  init(_ registry: MetricRegistry) {
    self.registry = registry
    requestIDsReplaced = registry.counter(.requestIDsReplaced)
    retries = registry.counter(.requestRetries)
    disconnected = registry.gauge(.disconnectedClients)
    exclusions = registry.counter(.workerExclusions)
    bodyMemoryWaits = registry.counter(.bodyMemoryWaits)
    bodyMemoryRefusals = registry.counter(.bodyMemoryRefusals)
  }

  /// A connection answered by itself, before there was a request.
  func refused(status: Int) {
    registry.counter(.httpRefusals, labels: [("status", String(status))]).add()
  }
}

/// Cells of one model on one loop. Strangers' model names never become labels: they share `unknown_model`.
final class ModelMetrics {
  static let unknownModel = "unknown_model"

  /// Cells of one endpoint and request type.
  private struct Traffic {
    let started: Counter
    let succeeded: Counter
    let cancelled: Counter

    init(_ registry: MetricRegistry, _ model: String, _ endpoint: Endpoint, _ type: String) {
      let common = [("model", model), ("endpoint", "\(endpoint.label)"), ("request_type", type)]
      started = registry.counter(.requestsStarted, labels: common)
      succeeded = registry.counter(.requests, labels: common + [("status", "success"), ("error_type", "")])
      cancelled = registry.counter(.modelCancellations, labels: common)
    }
  }

  let model: String
  private let registry: MetricRegistry
  /// Indexed by endpoint and type; made when first needed, so that /metrics shows what there was.
  private var traffic: [Traffic?] = [nil, nil, nil, nil]
  private let active: Gauge
  private let inflight: Gauge
  private let duration: Histogram
  private let timeToFirstToken: Histogram
  private let interTokenLatency: LocalHistogram
  private let inputTokens: Histogram
  private let outputTokens: Histogram
  private let cachedTokens: Histogram
  private let outputTotal: Counter

  init(_ registry: MetricRegistry, model: String, buckets: MetricBuckets) {
    self.registry = registry
    self.model = model
    let labels = [("model", model)]
    active = registry.gauge(.activeRequests, labels: labels)
    inflight = registry.gauge(.inflightRequests, labels: labels)
    duration = registry.histogram(.requestDuration, buckets: buckets.requestDuration, labels: labels)
    timeToFirstToken = registry.histogram(
      .timeToFirstToken, buckets: buckets.timeToFirstToken, labels: labels)
    interTokenLatency = LocalHistogram(
      registry.histogram(.interTokenLatency, buckets: buckets.interTokenLatency, labels: labels))
    inputTokens = registry.histogram(.inputSequenceTokens, buckets: buckets.inputTokens, labels: labels)
    outputTokens = registry.histogram(.outputSequenceTokens, buckets: buckets.outputTokens, labels: labels)
    cachedTokens = registry.histogram(.cachedTokens, buckets: buckets.inputTokens, labels: labels)
    outputTotal = registry.counter(.outputTokens, labels: labels)
  }

  /// A request for this model is in hand.
  func entered() {
    active.add(1)
    inflight.add(1)
  }

  /// It no longer is.
  func left() {
    active.add(-1)
    inflight.add(-1)
  }

  func firstToken(after wait: Nanoseconds) { timeToFirstToken.observe(Double(wait) / 1e9) }

  /// `count` tokens came `gap` after the one before.
  func tokens(after gap: Nanoseconds, count: Int) {
    interTokenLatency.observe(Double(gap) / 1e9, count: count)
  }

  func started(_ endpoint: Endpoint, stream: Bool) { cells(endpoint, stream).started.add() }

  /// Counts a request's end; `errorType` is Dynamo's class, empty for success.
  func finished(_ endpoint: Endpoint, stream: Bool, errorType: String) {
    let cells = cells(endpoint, stream)
    if errorType.isEmpty {
      cells.succeeded.add()
      return
    }
    if errorType == "cancelled" { cells.cancelled.add() }
    registry.counter(
      .requests,
      labels: [
        ("model", model), ("endpoint", "\(endpoint.label)"), ("request_type", stream ? "stream" : "unary"),
        ("status", "error"), ("error_type", errorType),
      ]
    ).add()
  }

  func measured(duration length: Nanoseconds, input: Int?, output: Int?, cached: Int?) {
    duration.observe(Double(length) / 1e9)
    if let input { inputTokens.observe(Double(input)) }
    if let cached { cachedTokens.observe(Double(cached)) }
    if let output {
      outputTokens.observe(Double(output))
      outputTotal.add(output)
    }
  }

  /// Shows what this loop gathered on `/metrics`.
  func flush() { interTokenLatency.flush() }

  private func cells(_ endpoint: Endpoint, _ stream: Bool) -> Traffic {
    let index = Int(endpoint.rawValue) * 2 + (stream ? 1 : 0)
    if let cells = traffic[index] { return cells }
    let cells = Traffic(registry, model, endpoint, stream ? "stream" : "unary")
    traffic[index] = cells
    return cells
  }
}
