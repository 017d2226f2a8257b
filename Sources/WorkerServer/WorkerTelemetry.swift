// What a worker is given to tell the world: span sink, books, metrics, logs. Several workers may live in one process,
// each with its own.

internal import Base
package import Telemetry
package import Workers

/// The telemetry of one service.
package struct WorkerTelemetry: Sendable {
  /// Where finished spans go; nil makes none.
  package let spanSink: (any SpanSink)?
  package let ledger: SpanLedger
  package let registry: MetricRegistry
  package let logs: LogOutput
  /// Trace context is taken from requests and passed on, even where no span is made.
  package let tracesContext: Bool
  /// Formats of the headers that carry traces.
  package let propagators: Propagators
  /// Whose trace context becomes the parent.
  package let trust: CallerTrust
  /// Which requests are recorded.
  package let sampler: Sampler
  /// What is kept although the sampler said no.
  package let keep: TraceKeep
  /// How long finished spans may wait on a loop.
  package let publisherLimits: SpanPublisher.Limits

  package init(
    spanSink: (any SpanSink)?, ledger: SpanLedger, registry: MetricRegistry, logs: LogOutput,
    tracesContext: Bool, propagators: Propagators = Propagators(), trust: CallerTrust = .always,
    sampler: Sampler = .parentBasedAlwaysOn, keep: TraceKeep = .none,
    publisherLimits: SpanPublisher.Limits = SpanPublisher.Limits()
  ) {
    self.spanSink = spanSink
    self.ledger = ledger
    self.registry = registry
    self.logs = logs
    self.tracesContext = tracesContext
    self.propagators = propagators
    self.trust = trust
    self.sampler = sampler
    self.keep = keep
    self.publisherLimits = publisherLimits
  }
}

extension CallerTrust {
  /// What a worker's log says of it at the start; nil where every frontend is believed. A setting that was meant for a
  /// frontend, as in a file of variables that both programs read, cuts each trace in two without any other sign.
  package var workerWarning: String? {
    switch self {
    case .always: nil
    case .never:
      "DYN_TRACE_TRUST=never: this worker's spans begin traces of their own and link to the frontend's"
    case .peers:
      "DYN_TRACE_TRUST=trusted-peers: this worker's spans begin traces of their own and link to the frontend's, "
        + "unless DYN_TRACE_TRUSTED_PEERS names the frontend's address"
    }
  }
}

/// The worker's cells of Dynamo's `dynamo_component_*` families, looked up once.
final class WorkerMetrics: Sendable {
  /// Why a request failed, as the label `error_type` says it.
  enum ErrorType: String, CaseIterable {
    case deserialization, invalidMessage = "invalid_message", responseStream = "response_stream", generate
  }

  let requests: Counter
  let requestBytes: Counter
  let responseBytes: Counter
  let cancellations: Counter
  let baggageMembersDropped: Counter
  let duration: Histogram
  let inflight: Gauge
  let cacheUsage: Gauge
  let cacheHitRate: Gauge
  let totalBlocks: Gauge
  let cacheEventBatches: Counter
  let cacheEvents: Counter
  let cacheEventReplays: Counter
  let cacheEventReplaysRefused: Counter
  /// Of the attached engine's feed, when it is relayed.
  let cacheEventResets: Counter
  let cacheEventsMissed: Counter
  /// Brought up to date when it is asked for.
  let uptime: Gauge
  private let errors: [Counter]

  init(_ registry: MetricRegistry, configuration: WorkerConfiguration, buckets: HistogramBuckets) {
    let labels = [
      ("dynamo_namespace", configuration.namespace), ("dynamo_component", configuration.component),
      ("dynamo_endpoint", configuration.endpoint), ("model", configuration.model),
    ]
    requests = registry.counter(.componentRequests, labels: labels)
    requestBytes = registry.counter(.componentRequestBytes, labels: labels)
    responseBytes = registry.counter(.componentResponseBytes, labels: labels)
    baggageMembersDropped = registry.counter(.baggageMembersDropped)
    cancellations = registry.counter(.componentCancellations, labels: labels)
    duration = registry.histogram(.componentRequestDuration, buckets: buckets, labels: labels)
    inflight = registry.gauge(.componentInflightRequests, labels: labels)
    cacheUsage = registry.gauge(.componentCacheUsage, labels: labels)
    cacheHitRate = registry.gauge(.componentKVCacheHitRate, labels: labels)
    totalBlocks = registry.gauge(.componentTotalBlocks, labels: labels)
    cacheEventBatches = registry.counter(.componentCacheEventBatches, labels: labels)
    cacheEvents = registry.counter(.componentCacheEvents, labels: labels)
    cacheEventReplays = registry.counter(.componentCacheEventReplays, labels: labels)
    cacheEventReplaysRefused = registry.counter(.componentCacheEventReplaysRefused, labels: labels)
    cacheEventResets = registry.counter(.componentCacheEventResets, labels: labels)
    cacheEventsMissed = registry.counter(.componentCacheEventsMissed, labels: labels)
    uptime = registry.gauge(.componentUptime, labels: labels)
    errors = ErrorType.allCases.map {
      registry.counter(.componentErrors, labels: labels + [("error_type", $0.rawValue)])
    }
  }

  func countError(_ type: ErrorType) {
    if let index = ErrorType.allCases.firstIndex(of: type) { errors[index].add() }
  }
}
