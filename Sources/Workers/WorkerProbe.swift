// Asks one worker whether it can serve, over HTTP, with a deadline for the whole.

internal import Base
internal import EventLoop
internal import HTTP
internal import OpenAI
internal import Transport

/// How a probe ended.
typealias ProbeOutcome = Result<ProbeAnswer, ProbeFailure>

/// What a probe asks beside the list of models.
struct ProbeQuestions: Sendable, Equatable {
  /// The size of its cache.
  var cache = false
  /// Where it publishes its cache's events.
  var events = false
  /// Which routes it serves, where it is an engine that says so in its OpenAPI document.
  var routes = false
}

/// Starts probes; a test plays it.
protocol WorkerProber: AnyObject {
  /// Asks `upstream`. `report` is called once, never from inside.
  func probe(
    _ upstream: Upstream, _ questions: ProbeQuestions, _ report: @escaping (ProbeOutcome) -> Void
  ) -> any ProbeInFlight
  /// Asks `upstream`, whose engine can be asked, what it makes of `samples`. `report` as above.
  func check(
    _ upstream: Upstream, engine: EngineKind, model: String, _ samples: [PromptSample],
    _ report: @escaping (PromptAgreement) -> Void
  ) -> any ProbeInFlight
  /// Has `upstream` generate a little, within `timeout`. `report` as above.
  func canary(
    _ upstream: Upstream, _ question: CanaryQuestion, timeout: Nanoseconds,
    _ report: @escaping (CanaryOutcome) -> Void
  ) -> any ProbeInFlight
  /// The worker left: nothing of it is kept.
  func forget(_ worker: UInt64)
  /// Closes everything.
  func close()
}

/// A probe under way.
protocol ProbeInFlight: AnyObject {
  /// Ends it without a report.
  func cancel()
}

/// Probes by `GET /v1/models`, then `GET /metrics`, `GET /kv_event_sources` and `GET /openapi.json`; checks prompts by ``PromptCheck``. Loop-confined.
final class HTTPWorkerProber: WorkerProber {
  private let pool: UpstreamPool
  private let timeout: Nanoseconds
  private let authorization: String?

  init(loop: EventLoop, timeout: Nanoseconds, apiKey: String?) {
    self.timeout = timeout
    authorization = apiKey.map { "Bearer \($0)" }
    var limits = ClientLimits()
    limits.connectTimeout = min(limits.connectTimeout, timeout)
    pool = UpstreamPool(loop: loop, limits: limits)
  }

  func probe(
    _ upstream: Upstream, _ questions: ProbeQuestions, _ report: @escaping (ProbeOutcome) -> Void
  ) -> any ProbeInFlight {
    let probe = WorkerProbe(
      upstream, pool: pool, authorization: authorization, questions: questions, report: report)
    probe.start(timeout: timeout)
    return probe
  }

  func check(
    _ upstream: Upstream, engine: EngineKind, model: String, _ samples: [PromptSample],
    _ report: @escaping (PromptAgreement) -> Void
  ) -> any ProbeInFlight {
    let check = PromptCheck(
      upstream, engine: engine, model: model, samples: samples, pool: pool, authorization: authorization,
      report: report)
    check.start(timeout: 4 * timeout)
    return check
  }

  func canary(
    _ upstream: Upstream, _ question: CanaryQuestion, timeout: Nanoseconds,
    _ report: @escaping (CanaryOutcome) -> Void
  ) -> any ProbeInFlight {
    let canary = WorkerCanary(pool: pool, report: report)
    canary.start(upstream, question, authorization: authorization, timeout: timeout)
    return canary
  }

  func forget(_ worker: UInt64) { pool.forget(worker) }

  func close() { pool.closeIdle() }
}

/// One probe: models, then perhaps metrics, event sources and routes.
private final class WorkerProbe: ProbeInFlight, ClientExchangeHandler, TimerHandler {
  private enum Phase { case models, metrics, events, routes, done }

  /// Bytes of an answer that are read; more than a list of models ever needs, and most of a busy vLLM's metrics.
  private static let bodyBytesMax = 4 << 20
  /// A worker that can serve does not wait longer for each of the further answers.
  private static let furtherTimeout = second

  private let upstream: Upstream
  private let pool: UpstreamPool
  private let authorization: String?
  private let questions: ProbeQuestions
  private var report: ((ProbeOutcome) -> Void)?
  private let timer = Timer()
  private var phase = Phase.models
  private var connection: UpstreamExchange?
  private var status = 0
  private var body = ByteBuffer()
  private var answer = ProbeAnswer()
  private var isNamedDynamoWorker = false

  init(
    _ upstream: Upstream, pool: UpstreamPool, authorization: String?, questions: ProbeQuestions,
    report: @escaping (ProbeOutcome) -> Void
  ) {
    self.upstream = upstream
    self.pool = pool
    self.authorization = authorization
    self.questions = questions
    self.report = report
  }

  func start(timeout: Nanoseconds) {
    pool.loop.arm(timer, at: pool.loop.now + timeout, self)
    // A fresh connection: a kept one would not show that nobody listens any more.
    ask("/v1/models", fresh: true)
  }

  func cancel() {
    report = nil
    end()
  }

  private func end() {
    phase = .done
    pool.loop.cancel(timer)
    connection?.cancel()
    connection = nil
    body.release()
  }

  private func finish(_ outcome: ProbeOutcome) {
    let report = report
    self.report = nil
    end()
    report?(outcome)
  }

  private func ask(_ path: StaticString, fresh: Bool) {
    status = 0
    body.removeAll()
    connection = pool.send(to: upstream, method: .get, fresh: fresh, handler: self) { out in
      out.append("GET " as StaticString)
      out.append(upstream.pathPrefix)
      out.append(path)
      out.append(" HTTP/1.1\r\n" as StaticString)
      upstream.authority.withUnsafeBytes { out.header("host", $0) }
      if let authorization { out.header("authorization", text: authorization) }
      out.endHead()
    }
  }

  // MARK: Answers

  func responded(_ head: ResponseHead) {
    status = head.status
    if let server = head.fields.first(.server) {
      let mark: StaticString = "dynamo-worker"
      let count = mark.utf8CodeUnitCount
      if server.count >= count, server.slice(0..<count).equals(mark) { isNamedDynamoWorker = true }
    }
  }

  func received(body bytes: UnsafeRawBufferPointer) {
    guard body.count + bytes.count <= Self.bodyBytesMax else {
      // What came of metrics may be read: the families looked for stand where they stand.
      if case .models = phase {
        finish(.failure(.answer("its list of models is too long")))
      } else {
        connection?.cancel()
        connection = nil
        answered()
      }
      return
    }
    body.append(bytes)
  }

  func receivedEnd(trailers: UnsafeRawBufferPointer) {
    connection = nil
    answered()
  }

  private func answered() {
    switch phase {
    case .models: readModels()
    case .metrics:
      if status == 200 { answer.read(metrics: body.readable) }
      askFurther()
    case .events:
      // An engine without this route has no events to tell of; one that is out of sorts may have.
      switch status {
      case 200: answer.eventSources = CacheEventSource.parse(body.readable)
      case 404, 405, 501: answer.eventSources = []
      default: break
      }
      askFurther()
    case .routes:
      // As with events: one that is out of sorts is asked again.
      switch status {
      case 200: answer.endpoints = EndpointSet(openAPI: body.readable) ?? Worker.assumedEndpoints
      case 400..<500: answer.endpoints = Worker.assumedEndpoints
      default: break
      }
      askFurther()
    case .done: break
    }
  }

  func failed(_ failure: UpstreamFailure) {
    connection = nil
    switch phase {
    case .models: finish(.failure(Self.failure(failure)))
    case .metrics, .events, .routes: askFurther()
    case .done: break
    }
  }

  func timerFired(_ timer: Timer) {
    switch phase {
    case .models: finish(.failure(.silent))
    case .metrics, .events, .routes:
      connection?.cancel()
      askFurther()
    case .done: break
    }
  }

  private func readModels() {
    guard status == 200 else {
      finish(.failure(.status(status, body: body.readable)))
      return
    }
    do throws(ProbeFailure) {
      answer = try ProbeAnswer.parse(models: body.readable)
    } catch {
      finish(.failure(error))
      return
    }
    if isNamedDynamoWorker { answer.isDynamoWorker = true }
    askFurther()
  }

  /// Asks what is still to be asked, or reports what came.
  private func askFurther() {
    switch phase {
    case .models where questions.cache: ask("/metrics", as: .metrics)
    case .models where questions.events, .metrics where questions.events:
      ask("/kv_event_sources", as: .events)
    // A dynamo-worker has told of its routes already, where it knows them.
    case .models where asksRoutes, .metrics where asksRoutes, .events where asksRoutes:
      ask("/openapi.json", as: .routes)
    case .models, .metrics, .events, .routes: finish(.success(answer))
    case .done: break
    }
  }

  private var asksRoutes: Bool { questions.routes && !answer.isDynamoWorker && answer.endpoints == nil }

  private func ask(_ path: StaticString, as next: Phase) {
    phase = next
    pool.loop.arm(timer, at: pool.loop.now + Self.furtherTimeout, self)
    ask(path, fresh: false)
  }

  private static func failure(_ failure: UpstreamFailure) -> ProbeFailure {
    switch failure {
    case .connect(let error): .refused("\(error)")
    // A port that says nothing is a busy machine as often as a dead one: unlike a refusal it must happen again.
    case .connectTimeout, .silent, .busy: .silent
    case .stale, .broken: .answer("it closed the connection without an answer")
    case .malformed: .answer("it does not speak HTTP/1.1")
    case .protocolError: .answer("it does not speak HTTP/2")
    }
  }
}
