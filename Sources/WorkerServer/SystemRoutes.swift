// Everything a worker answers besides inference: models, health, metrics, version.

internal import Base
internal import Engine
internal import EventLoop
internal import HTTP
internal import JSON
internal import OpenAI
internal import Telemetry
internal import Transport
internal import Workers

/// A whole answer but for its body.
struct PlainAnswer {
  var status = 200
  var contentType: StaticString = "application/json"
  var allow: StaticString = ""
  var retryAfterSeconds: Int?

  func send(_ body: UnsafeRawBufferPointer, to exchange: any ServerExchange) {
    var fields = ByteBuffer(capacity: 128)
    fields.header("content-type", contentType)
    if allow.utf8CodeUnitCount > 0 { fields.header("allow", allow) }
    if let retryAfterSeconds { fields.header("retry-after", retryAfterSeconds) }
    exchange.respond(status: status, fields: fields.readable, body: .length(body.count))
    exchange.send(body)
    exchange.finish(trailers: UnsafeRawBufferPointer(start: nil, count: 0))
  }
}

/// Answers requests that need no engine.
struct SystemRoutes {
  let shared: WorkerShared

  private enum Route {
    case models, model(String), health, live, metrics, version, cacheEvents, inference
  }

  /// Appends the answer's body to `out`.
  func answer(_ head: RequestHead, isDraining: Bool, now: Nanoseconds, into out: inout ByteBuffer)
    -> PlainAnswer
  {
    guard let route = Self.route(head.path) else {
      return error(
        .notFound(method: head.methodText.text, path: String(head.path.text.prefix(256))), into: &out)
    }
    switch (route, head.method) {
    case (.inference, .post):
      // Only routes that the engine does not answer come here by this method.
      return error(
        .notFound(method: head.methodText.text, path: String(head.path.text.prefix(256))), into: &out)
    case (.inference, _):
      return error(.methodNotAllowed(head.methodText.text, allow: "POST"), allow: "POST", into: &out)
    case (_, .get), (_, .head): break
    default:
      return error(
        .methodNotAllowed(head.methodText.text, allow: "GET, HEAD"), allow: "GET, HEAD", into: &out)
    }
    switch route {
    case .models: return models(into: &out)
    case .model(let id): return model(id, into: &out)
    case .health: return health(isDraining: isDraining, now: now, into: &out)
    case .live: return live(now: now, into: &out)
    case .metrics:
      return metrics(MetricFormat(accept: head.fields.first(.accept)?.text ?? ""), now: now, into: &out)
    case .cacheEvents:
      CacheEventSource.write(shared.cacheEventSources.value, into: &out)
      return PlainAnswer()
    case .version, .inference:
      out.append("{\"version\":" as StaticString)
      out.append(jsonString: shared.configuration.version)
      out.append("}" as StaticString)
      return PlainAnswer()
    }
  }

  private static func route(_ path: UnsafeRawBufferPointer) -> Route? {
    if path.equals("/v1/models") { return .models }
    if path.equals("/health") || path.equals("/ready") { return .health }
    if path.equals("/live") { return .live }
    if path.equals("/metrics") { return .metrics }
    if path.equals("/version") { return .version }
    if path.equals("/kv_event_sources") { return .cacheEvents }
    if Endpoint(path: path) != nil { return .inference }
    let prefix: StaticString = "/v1/models/"
    let length = prefix.utf8CodeUnitCount
    guard path.count > length, path.slice(0..<length).equals(prefix) else { return nil }
    return .model(path.slice(length..<path.count).percentDecoded)
  }

  private func error(
    _ error: APIError, allow: StaticString = "", into out: inout ByteBuffer
  ) -> PlainAnswer {
    error.write(into: &out)
    return PlainAnswer(status: error.status, allow: allow, retryAfterSeconds: error.retryAfterSeconds)
  }

  // MARK: Models

  private func models(into out: inout ByteBuffer) -> PlainAnswer {
    let state = shared.models.value
    // An empty list would say that nothing is ever served here.
    if state.models.isEmpty { return error(state.notReadyError, into: &out) }
    out.append(state.models)
    return PlainAnswer()
  }

  private func model(_ id: String, into out: inout ByteBuffer) -> PlainAnswer {
    let state = shared.models.value
    if state.models.isEmpty { return error(state.notReadyError, into: &out) }
    guard let model = state.models.first(where: { $0.id == id }) else {
      return error(.modelNotFound(id), into: &out)
    }
    out.append(model)
    return PlainAnswer()
  }

  // MARK: Health

  /// Dynamo's form: 503 until the endpoint is ready, and again while draining.
  private func health(isDraining: Bool, now: Nanoseconds, into out: inout ByteBuffer) -> PlainAnswer {
    let models = shared.models.value
    let isReady = models.isReady && !isDraining
    out.append("{\"status\":" as StaticString)
    out.append(isReady ? "\"ready\"" as StaticString : "\"notready\"")
    appendUptime(now, to: &out)
    out.append(",\"endpoints\":{" as StaticString)
    out.append(jsonString: shared.configuration.endpoint)
    out.append(isReady ? ":\"ready\"}" as StaticString : ":\"notready\"}")
    if !isReady {
      out.append(",\"reason\":" as StaticString)
      out.append(jsonString: isDraining ? "draining" : models.reason)
    }
    out.append(",\"instances\":[{\"namespace\":" as StaticString)
    out.append(jsonString: shared.identity.namespace)
    out.append(",\"component\":" as StaticString)
    out.append(jsonString: shared.identity.component)
    out.append(",\"endpoint\":" as StaticString)
    out.append(jsonString: shared.identity.endpoint)
    out.append(",\"instance_id\":" as StaticString)
    out.append(decimal: shared.identity.instanceID)
    out.append("}]}" as StaticString)
    return PlainAnswer(status: isReady ? 200 : 503)
  }

  private func live(now: Nanoseconds, into out: inout ByteBuffer) -> PlainAnswer {
    out.append("{\"message\":\"Service is live\",\"status\":\"live\"" as StaticString)
    appendUptime(now, to: &out)
    out.append(UInt8(ascii: "}"))
    return PlainAnswer()
  }

  private func appendUptime(_ now: Nanoseconds, to out: inout ByteBuffer) {
    let uptime = now > shared.started ? now - shared.started : 0
    out.append(",\"uptime\":{\"secs\":" as StaticString)
    out.append(decimal: uptime / second)
    out.append(",\"nanos\":" as StaticString)
    out.append(decimal: uptime % second)
    out.append(UInt8(ascii: "}"))
  }

  // MARK: Metrics

  private func metrics(
    _ format: MetricFormat, now: Nanoseconds, into out: inout ByteBuffer
  ) -> PlainAnswer {
    shared.metrics.uptime.set(now > shared.started ? Double(now - shared.started) / 1e9 : 0)
    shared.telemetry.registry.write(format, into: &out) { out in
      guard case .simulated(let engine) = shared.configuration.engine else { return }
      // vLLM's own way to say it, so that a router that knows vLLM learns the simulated cache too.
      out.append("# HELP vllm:cache_config_info The cache of the simulated engine.\n" as StaticString)
      out.append("# TYPE vllm:cache_config_info gauge\nvllm:cache_config_info{block_size=\"" as StaticString)
      out.append(decimal: engine.blockSize)
      out.append("\",num_gpu_blocks=\"" as StaticString)
      out.append(decimal: engine.blockCount)
      out.append("\"} 1\n" as StaticString)
    }
    return PlainAnswer(contentType: format.contentType)
  }
}

/// The application of the system server (`DYN_SYSTEM_PORT`): health and metrics only.
final class SystemApplication: ServerApplication {
  private let worker: WorkerLoop
  private let routes: SystemRoutes

  init(_ worker: WorkerLoop) {
    self.worker = worker
    routes = SystemRoutes(shared: worker.shared)
  }

  func exchangeBegan(
    _ exchange: any ServerExchange, _ head: RequestHead, began: Nanoseconds
  ) -> any ServerExchangeHandler {
    var body = ByteBuffer(capacity: 1_024)
    let answer = routes.answer(head, isDraining: worker.isDraining, now: worker.loop.now, into: &body)
    answer.send(body.readable, to: exchange)
    return IgnoredRequest.shared
  }

  func refused(_ refusal: Refusal, body: inout ByteBuffer) {
    APIError.malformedRequest(status: refusal.status, message: "\(refusal.message)").write(into: &body)
  }
}
