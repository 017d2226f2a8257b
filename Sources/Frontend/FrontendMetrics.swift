// The frontend's metric cells: asked for once, kept, and counted into without locks.

internal import Base
internal import OpenAI
internal import Telemetry

/// Cells without a model, shared by all loops.
package final class FrontendMetrics: Sendable {
  let registry: MetricRegistry
  let requestIDsReplaced: Counter
  let baggageMembersDropped: Counter
  let retries: Counter
  let retriesRefused: Counter
  let disconnected: Gauge
  let exclusions: Counter
  let bodyMemoryWaits: Counter
  let bodyMemoryRefusals: Counter
  let slowBodies: Counter

  init(_ registry: MetricRegistry) {
    self.registry = registry
    requestIDsReplaced = registry.counter(.requestIDsReplaced)
    baggageMembersDropped = registry.counter(.baggageMembersDropped)
    retries = registry.counter(.requestRetries)
    retriesRefused = registry.counter(.retriesRefused)
    disconnected = registry.gauge(.disconnectedClients)
    exclusions = registry.counter(.workerExclusions)
    bodyMemoryWaits = registry.counter(.bodyMemoryWaits)
    bodyMemoryRefusals = registry.counter(.bodyMemoryRefusals)
    slowBodies = registry.counter(.slowBodies)
  }

  /// A prompt has no tokens although there is a tokenizer; `reason` is one of few words.
  func untokenized(_ reason: String) {
    registry.counter(.untokenizedPrompts, labels: [("reason", reason)]).add()
  }

  /// A request had no key, or one that is not known.
  func notAuthenticated(_ reason: String) {
    registry.counter(.authenticationFailures, labels: [("reason", reason)]).add()
  }

  /// A stream ended in an error because it could not be translated.
  func untranslated(_ obstacle: TranslationObstacle) {
    registry.counter(.untranslatedStreams, labels: [("reason", obstacle.rawValue)]).add()
  }

  /// A connection answered by itself, before there was a request.
  func refused(status: Int) {
    registry.counter(.httpRefusals, labels: [("status", String(status))]).add()
  }
}

/// What the sampling ratio of request-trace records said of one loop's requests.
struct TraceSampling {
  let sampled: LocalCounter
  let leftOut: LocalCounter

  init(_ registry: MetricRegistry) {
    func counter(_ decision: String) -> LocalCounter {
      LocalCounter(registry.counter(.requestTraceSampling, labels: [("decision", decision)]))
    }
    sampled = counter("sampled")
    leftOut = counter("not_sampled")
  }
}

/// How many of one loop's requests are in each stage.
struct StageGauges {
  /// Requests whose prompt is with the pool.
  let preprocessing: LocalGauge
  /// Requests that wait for a worker with room.
  let queued: LocalGauge
  /// Requests that a worker has and has not answered.
  let dispatched: LocalGauge

  init(_ registry: MetricRegistry) {
    func gauge(_ stage: String, _ phase: String) -> LocalGauge {
      LocalGauge(registry.gauge(.stageRequests, labels: [("stage", stage), ("phase", phase)]))
    }
    preprocessing = gauge("preprocess", "")
    queued = gauge("route", "")
    // Workers here do both phases of a request.
    dispatched = gauge("dispatch", "aggregated")
  }
}

/// Cells of one model on one loop. Strangers' model names never become labels: they share `unknown_model`.
final class ModelMetrics {
  static let unknownModel = "unknown_model"

  /// Cells of one endpoint and request type.
  private final class Traffic {
    let started: LocalCounter
    let succeeded: LocalCounter
    let cancelled: LocalCounter

    init(_ registry: MetricRegistry, _ model: String, _ endpoint: Endpoint, _ type: String) {
      let common = [("model", model), ("endpoint", "\(endpoint.label)"), ("request_type", type)]
      started = LocalCounter(registry.counter(.requestsStarted, labels: common))
      succeeded = LocalCounter(
        registry.counter(.requests, labels: common + [("status", "success"), ("error_type", "")]))
      cancelled = LocalCounter(registry.counter(.modelCancellations, labels: common))
    }
  }

  let model: String
  /// The model's name as spans carry it.
  let nameAttribute: EncodedAttributes
  /// The same by OpenTelemetry's name.
  let requestModelAttribute: EncodedAttributes
  private let registry: MetricRegistry
  private let migrationBuckets: HistogramBuckets
  /// Indexed by endpoint and type; made when first needed, so that /metrics shows what there was.
  private var traffic = [Traffic?](repeating: nil, count: 2 * Endpoint.allCases.count)
  private let active: LocalGauge
  private let inflight: LocalGauge
  private let queued: LocalGauge
  private let duration: LocalHistogram
  private let timeToFirstToken: LocalHistogram
  private let interTokenLatency: LocalHistogram
  private let inputTokens: LocalHistogram
  private let outputTokens: LocalHistogram
  private let cachedTokens: LocalHistogram
  private let outputTotal: LocalCounter
  private let hitRate: LocalHistogram
  private let embeddingBuckets: HistogramBuckets
  private let preprocessing: LocalHistogram
  private let routing: LocalHistogram
  private let dispatching: LocalHistogram

  /// - Parameters:
  ///   - keepsExemplars: makes room for ``exemplify(_:_:at:)``.
  ///   - isRouted: the KV router places its requests, so its families count them too.
  init(
    _ registry: MetricRegistry, model: String, buckets: MetricBuckets, keepsExemplars: Bool,
    isRouted: Bool = false
  ) {
    self.registry = registry
    self.model = model
    migrationBuckets = buckets.timeToFirstToken
    embeddingBuckets = buckets.embeddingLatency
    nameAttribute = EncodedAttributes { $0.attribute(AttributeName.model, model) }
    requestModelAttribute = EncodedAttributes { $0.attribute(AttributeName.genAIRequestModel, model) }
    let labels = [("model", model)]
    active = LocalGauge(registry.gauge(.activeRequests, labels: labels))
    inflight = LocalGauge(registry.gauge(.inflightRequests, labels: labels))
    queued = LocalGauge(registry.gauge(.queuedRequests, labels: labels))
    /// `router` is the KV router's family of the same figure.
    func histogram(
      _ metric: MetricDescription, _ buckets: HistogramBuckets, router: MetricDescription? = nil,
      keepsExemplars: Bool = false
    ) -> LocalHistogram {
      let total = isRouted ? router.map { registry.histogram($0, buckets: buckets) } : nil
      return LocalHistogram(
        registry.histogram(metric, buckets: buckets, labels: labels), and: total,
        keepsExemplars: keepsExemplars)
    }
    duration = histogram(.requestDuration, buckets.requestDuration, keepsExemplars: keepsExemplars)
    timeToFirstToken = histogram(
      .timeToFirstToken, buckets.timeToFirstToken, router: .routerTimeToFirstToken,
      keepsExemplars: keepsExemplars)
    interTokenLatency = histogram(
      .interTokenLatency, buckets.interTokenLatency, router: .routerInterTokenLatency,
      keepsExemplars: keepsExemplars)
    inputTokens = histogram(.inputSequenceTokens, buckets.inputTokens, router: .routerInputTokens)
    outputTokens = histogram(.outputSequenceTokens, buckets.outputTokens, router: .routerOutputTokens)
    cachedTokens = histogram(.cachedTokens, buckets.inputTokens)
    outputTotal = LocalCounter(registry.counter(.outputTokens, labels: labels))
    hitRate = LocalHistogram(registry.histogram(.routerKVHitRate, buckets: .ratio))
    func stage(_ name: String) -> LocalHistogram {
      LocalHistogram(registry.histogram(.stageDuration, buckets: .stageSeconds, labels: [("stage", name)]))
    }
    preprocessing = stage("preprocess")
    routing = stage("route")
    dispatching = stage("dispatch")
  }

  /// A request for this model is in hand, and waits for the first byte of its answer.
  func entered() {
    active.add(1)
    inflight.add(1)
    queued.add(1)
  }

  /// Its answer begins, or it ends without one; before ``left()``.
  func answered() { queued.add(-1) }

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

  /// Shows a request whose spans are kept in the buckets that it fell into. At its end, so that no token pays for it;
  /// of its waits between tokens the longest
  /// is shown, at the time of the last token.
  func exemplify(_ span: SpanContext, _ times: RequestTimes, longestGap: Nanoseconds, ended: Nanoseconds) {
    func show(_ histogram: LocalHistogram, _ value: Nanoseconds, at instant: Nanoseconds) {
      histogram.exemplify(Exemplar(span, value: Double(value) / 1e9, time: times.wallTime(instant)))
    }
    show(duration, ended - times.began, at: ended)
    if times.firstToken > 0 {
      show(timeToFirstToken, times.firstToken - times.began, at: times.firstToken)
    }
    if longestGap > 0 { show(interTokenLatency, longestGap, at: times.lastToken) }
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

  /// No worker had room for a request.
  func rejected(_ endpoint: Endpoint) {
    registry.counter(
      .modelRejections, labels: [("model", model), ("endpoint", "\(endpoint.label)")]
    ).add()
  }

  /// The router's queue refused a request.
  func pushedBack(_ reason: String) {
    registry.counter(
      .routerQueueBackpressure,
      labels: [
        ("model", model), ("worker_type", "decode"), ("policy_class", "default"), ("reason", reason),
      ]
    ).add()
  }

  /// A worker was chosen that is expected to have `overlap` of the prompt's `count` blocks; without blocks there is
  /// nothing to expect.
  func placed(overlap: Int, of count: Int) {
    if count > 0 { hitRate.observe(Double(overlap) / Double(count)) }
  }

  /// Embeddings were made in that time.
  func embedded(in length: Nanoseconds) {
    registry.histogram(.embeddingLatency, buckets: embeddingBuckets, labels: [("model", model)])
      .observe(Double(length) / 1e9)
  }

  /// What moves to another worker: a request before its answer begins, or a running stream.
  enum Migrating: String {
    case new = "new_request"
    case ongoing = "ongoing_request"
  }

  /// A request goes to another worker.
  func moved(_ kind: Migrating) {
    registry.counter(
      .modelMigrations, labels: [("model", model), ("migration_type", kind.rawValue)]
    ).add()
  }

  /// A stream would have moved, and was too long to.
  func sequenceTooLong() { registry.counter(.modelMigrationTooLong, labels: [("model", model)]).add() }

  /// A request that went to another worker had its next token, or ended, that long after.
  func migrated(in length: Nanoseconds, _ kind: Migrating, outcome: RequestOutcome) {
    let ending =
      switch outcome {
      case .success: "success"
      case .cancelled: "cancelled"
      default: "failure"
      }
    registry.histogram(
      .modelMigrationDuration, buckets: migrationBuckets,
      labels: [("model", model), ("migration_type", kind.rawValue), ("outcome", ending)]
    ).observe(Double(length) / 1e9)
  }

  /// How long a request that has ended was in each stage that it came to.
  func staged(_ times: RequestTimes, ended: Nanoseconds, isRetried: Bool) {
    guard times.preprocessed > 0 else { return }
    // With each selection the times begin anew: those that are left are of the last one.
    if !isRetried { observe(preprocessing, from: times.preparing, to: times.preprocessed) }
    guard times.selected > 0 else { return }
    observe(routing, from: times.preprocessed, to: times.selected)
    observe(dispatching, from: times.selected, to: times.firstToken > 0 ? times.firstToken : ended)
  }

  private func observe(_ histogram: LocalHistogram, from: Nanoseconds, to: Nanoseconds) {
    // The loop's clock stands still within a wake-up, so that an end by it may lie before a start by the system's.
    histogram.observe(Double(to - min(from, to)) / 1e9)
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

  private func cells(_ endpoint: Endpoint, _ stream: Bool) -> Traffic {
    let index = Int(endpoint.rawValue) * 2 + (stream ? 1 : 0)
    if let cells = traffic[index] { return cells }
    let cells = Traffic(registry, model, endpoint, stream ? "stream" : "unary")
    traffic[index] = cells
    return cells
  }
}
