// One loop of a worker: takes requests, hands them to their handlers, gathers spans and log lines.

internal import Base
internal import EventLoop
internal import HTTP
internal import OpenAI
internal import Telemetry
internal import Transport
internal import Workers

/// What all loops of a worker share.
struct WorkerShared: Sendable {
  let configuration: WorkerConfiguration
  let identity: DiscoveryIdentity
  let telemetry: WorkerTelemetry
  let metrics: WorkerMetrics
  let models: ServedModelsBox
  /// Monotonic time of the start.
  let started: Nanoseconds
  /// Wall-clock seconds of the start: when the models were "created".
  let startedWallSeconds: UInt64
  /// Where cache events can be had.
  var cacheEventSources = CacheEventSourcesBox()
}

/// The application of one loop's server. Loop-confined.
final class WorkerLoop: ServerApplication, TimerHandler {
  let loop: EventLoop
  let shared: WorkerShared
  /// Set once, before the first request.
  var backend: (any EngineBackend)?
  var server: HTTPServer?
  /// Where responses are put together; nothing in it outlives a call.
  var scratch = ByteBuffer(capacity: 4_096)
  /// Bytes of request bodies held now.
  var bodyBytes = 0
  private(set) var isDraining = false

  private let publisher: SpanPublisher?
  private let publishTimer = Timer()
  private var lines: LogRecordWriter
  private let system: SystemRoutes

  init(loop: EventLoop, shared: WorkerShared) {
    self.loop = loop
    self.shared = shared
    publisher = shared.telemetry.spanSink.map {
      SpanPublisher(sink: $0, ledger: shared.telemetry.ledger, limits: shared.telemetry.publisherLimits)
    }
    lines = LogRecordWriter(shared.telemetry.logs.configuration)
    system = SystemRoutes(shared: shared)
  }

  // MARK: Requests

  func exchangeBegan(
    _ exchange: any ServerExchange, _ head: RequestHead, began: Nanoseconds
  ) -> any ServerExchangeHandler {
    if let endpoint = inferenceEndpoint(head) {
      return InferenceExchange(exchange, head, endpoint: endpoint, began: began, on: self)
    }
    scratch.removeAll()
    if let answer = cacheReset(head) {
      answer.send(scratch.readable, to: exchange)
      return IgnoredRequest.shared
    }
    let answer = system.answer(head, isDraining: isDraining, now: loop.now, into: &scratch)
    answer.send(scratch.readable, to: exchange)
    return IgnoredRequest.shared
  }

  /// vLLM's `POST /reset_prefix_cache`, where it is allowed: 409 while a request uses a block.
  private func cacheReset(_ head: RequestHead) -> PlainAnswer? {
    guard shared.configuration.allowsCacheReset, case .post = head.method,
      head.path.equals("/reset_prefix_cache"), let backend = backend as? SimulatedBackend
    else { return nil }
    if backend.resetPrefixCache() {
      scratch.append("{}" as StaticString)
      return PlainAnswer()
    }
    let error = APIError(
      status: 409, code: "cache_in_use", param: nil, message: "The cache cannot be reset while requests run.")
    error.write(into: &scratch)
    return PlainAnswer(status: error.status)
  }

  func refused(_ refusal: Refusal, body: inout ByteBuffer) {
    shared.metrics.countError(.invalidMessage)
    APIError.malformedRequest(status: refusal.status, message: "\(refusal.message)").write(into: &body)
  }

  private func inferenceEndpoint(_ head: RequestHead) -> Endpoint? {
    guard case .post = head.method, let endpoint = Endpoint(path: head.path) else { return nil }
    // Without an engine at the moment the answer is that, whatever is asked.
    return backend?.endpoints.contains(endpoint) ?? true ? endpoint : nil
  }

  // MARK: Spans and lines

  /// True where lines are written when a request's span opens and closes.
  var logsSpanEvents: Bool {
    shared.telemetry.tracesContext && shared.telemetry.logs.configuration.logsSpanEvents
  }

  /// True where spans are made.
  var recordsSpans: Bool { publisher != nil }

  /// Lets `write` write the spans of one finished request.
  func writeSpans(_ write: (inout SpanWriter) -> Void) {
    guard let publisher else { return }
    publisher.collect(now: loop.now, write)
    if let deadline = publisher.deadline, !publishTimer.isArmed { loop.arm(publishTimer, at: deadline, self) }
  }

  func timerFired(_ timer: Timer) {
    guard let publisher else { return }
    publisher.tick(now: loop.now)
    if let deadline = publisher.deadline { loop.arm(publishTimer, at: deadline, self) }
  }

  /// Lets `write` write one line about `target`, when lines of `level` are wanted.
  func log(_ level: LogLevel, target: StaticString, _ write: (inout LogRecordWriter) -> Void) {
    guard shared.telemetry.logs.isEnabled(level, target: target) else { return }
    write(&lines)
    lines.flush(to: shared.telemetry.logs.sink)
  }

  // MARK: The end

  /// Stops keeping connections; requests in hand go on.
  func drain() {
    isDraining = true
    server?.drain()
  }

  /// Cuts what is left and hands the last spans over; the loop ends after this.
  func finish() {
    server?.cutAll()
    backend?.close()
    publisher?.publish()
    // The engine and the server hold this loop as it holds them.
    backend = nil
    server = nil
    loop.stop()
  }
}

/// The handler of a request that was answered on sight.
final class IgnoredRequest: ServerExchangeHandler {
  // One object without state serves every loop.
  nonisolated(unsafe) static let shared = IgnoredRequest()

  func received(body: UnsafeRawBufferPointer) {}
  func receivedEnd() {}
  func drained() {}
  func ended(_ end: EndOfStream) {}
}
