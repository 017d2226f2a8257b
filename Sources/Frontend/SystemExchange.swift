// The routes that the frontend answers itself: health, readiness, metrics, models, version.

internal import Base
internal import EventLoop
internal import HTTP
internal import JSON
internal import OpenAI
internal import Routing
internal import Telemetry
internal import Transport
internal import Workers

/// The version of this software.
package let frontendVersion = "0.1.0"

/// Answers one system request at once.
final class SystemExchange: ServerExchangeHandler {
  private let service: FrontendLoop
  private let exchange: any ServerExchange
  private let route: SystemRoute
  /// How metrics are written, if they are what is asked for.
  private let metricFormat: MetricFormat
  /// Its trace, where these routes are traced.
  private let trace: PlainTrace?
  private let identity: RequestIdentity
  /// The models that the caller may see; nil for all.
  private let visible: Set<String>?
  /// Metrics may name tenants.
  private let showsTenants: Bool
  private var status = 0

  init(
    service: FrontendLoop, exchange: any ServerExchange, route: SystemRoute, head: RequestHead,
    trace: PlainTrace? = nil, models: Set<String>? = nil, showsTenants: Bool = false
  ) {
    visible = models
    self.showsTenants = showsTenants
    self.service = service
    self.exchange = exchange
    self.route = route
    self.trace = trace
    identity = trace?.identity ?? RequestIdentity(head.fields, random: &service.loop.random)
    // Nothing else has a choice, and is asked for more often.
    if case .metrics = route {
      metricFormat = MetricFormat(accept: head.fields.first(.accept)?.text ?? "")
    } else {
      metricFormat = .prometheus
    }
  }

  func received(body: UnsafeRawBufferPointer) {}

  func receivedEnd() {
    var body = ByteBuffer(capacity: 1024)
    switch route {
    // Dynamo's answers: 503 while it drains, and 200 with "unhealthy" in it without workers.
    case .health: respond(service.shared.isDraining ? 503 : 200, health(&body), body)
    case .live: respond(200, live(&body), body)
    case .ready: respond(ready(&body), .json, body)
    case .metrics:
      service.shared.registry.write(
        metricFormat, into: &body, without: showsTenants ? [] : MetricDescription.ofTenants)
      respond(200, .metrics(metricFormat), body)
    case .version: respond(200, version(&body), body)
    case .models: respond(200, models(&body), body)
    case .model(let name): respond(model(name, &body), .json, body)
    case .openAPI:
      service.shared.appendOpenAPI(service.configuration, to: &body)
      respond(200, .json, body)
    case .docs:
      body.append(DocsPage.html)
      respond(200, .page, body)
    }
  }

  func drained() {}

  func ended(_ end: EndOfStream) {
    // A request that is cut before its answer has no status to tell.
    if let trace, status > 0 { trace.recordSpans(status: status, route: route.pattern, on: service) }
    status = 0
  }

  private enum ContentType {
    case json, page
    case metrics(MetricFormat)

    var text: StaticString {
      switch self {
      case .json: "application/json"
      case .page: "text/html; charset=utf-8"
      case .metrics(let format): format.contentType
      }
    }
  }

  private func respond(_ status: Int, _ type: ContentType, _ body: borrowing ByteBuffer) {
    var fields = ByteBuffer(capacity: 128)
    fields.header("content-type", type.text)
    if case .page = type { fields.header("content-security-policy", DocsPage.policy) }
    if case .metrics = type { fields.append("vary: accept\r\n" as StaticString) }
    fields.append("cache-control: no-store\r\n" as StaticString)
    identity.appendFields(trace?.context, to: &fields)
    self.status = status
    if status == 503 { fields.append("retry-after: 1\r\n" as StaticString) }
    exchange.respond(status: status, fields: fields.readable, body: .length(body.count))
    exchange.send(body.readable)
    exchange.finish(trailers: UnsafeRawBufferPointer(start: nil, count: 0))
  }

  // MARK: Answers

  private func live(_ body: inout ByteBuffer) -> ContentType {
    body.append("{\"message\":\"Service is live\",\"status\":\"live\"}\n" as StaticString)
    return .json
  }

  private func version(_ body: inout ByteBuffer) -> ContentType {
    body.append("{\"name\":\"dynamo-frontend\",\"version\":" as StaticString)
    body.append(jsonString: frontendVersion)
    body.append("}\n" as StaticString)
    return .json
  }

  /// 200 only when at least one worker can serve and the server is not stopping.
  private func ready(_ body: inout ByteBuffer) -> Int {
    let set = service.workers
    let readyCount = set.workers.count { $0.takesRequests }
    if service.shared.isDraining {
      body.append("{\"status\":\"draining\"}\n" as StaticString)
      return 503
    }
    guard service.isReady else {
      body.append("{\"status\":\"no_workers\"}\n" as StaticString)
      return 503
    }
    body.append("{\"status\":\"ready\",\"workers\":" as StaticString)
    body.append(decimal: readyCount)
    body.append("}\n" as StaticString)
    return 200
  }

  /// Dynamo's shape: status, endpoints, instances; with what is known of each worker.
  private func health(_ body: inout ByteBuffer) -> ContentType {
    let set = service.workers
    body.append("{\"status\":" as StaticString)
    if service.shared.isDraining {
      body.append("\"draining\"" as StaticString)
    } else if set.hasReadyWorker {
      body.append("\"healthy\"" as StaticString)
    } else {
      body.append("\"unhealthy\"" as StaticString)
    }
    body.append(",\"endpoints\":[" as StaticString)
    if set.hasReadyWorker { body.append("\"dyn://dynamo.backend.generate\"" as StaticString) }
    body.append("],\"instances\":[" as StaticString)
    // A worker of several models is counted by its events in all of them or in none.
    var caches: [UInt64: (CacheSource, CacheSourceReason)] = [:]
    for model in set.pools {
      for load in model.routing.loads { caches[load.worker] = (load.cacheSource, load.cacheReason) }
    }
    var isFirst = true
    for worker in set.workers {
      if !isFirst { body.append(UInt8(ascii: ",")) }
      isFirst = false
      append(worker, caches[worker.id] ?? (.predicted, .noFeed), to: &body)
    }
    body.append("]}\n" as StaticString)
    return .json
  }

  private func append(
    _ worker: Worker, _ cache: (source: CacheSource, reason: CacheSourceReason), to body: inout ByteBuffer
  ) {
    body.append(
      worker.role == .prefill
        ? "{\"namespace\":\"dynamo\",\"component\":\"prefill\",\"endpoint\":\"generate\",\"instance_id\":"
          as StaticString
        : "{\"namespace\":\"dynamo\",\"component\":\"backend\",\"endpoint\":\"generate\",\"instance_id\":")
    body.append(decimal: worker.id)
    body.append(",\"transport\":{\"http\":" as StaticString)
    body.append(jsonString: worker.url)
    body.append("},\"source\":" as StaticString)
    body.append(jsonString: worker.source.label)
    body.append(",\"state\":" as StaticString)
    let (state, reason) = worker.stateInWords
    body.append(jsonString: state)
    if let reason {
      body.append(",\"reason\":" as StaticString)
      body.append(jsonString: reason)
    }
    body.append(",\"cache_source\":" as StaticString)
    body.append(jsonString: cache.source.label)
    body.append(",\"cache_reason\":" as StaticString)
    body.append(jsonString: cache.reason.label)
    body.append(",\"block_size\":" as StaticString)
    body.append(decimal: worker.blockSize)
    body.append(",\"total_blocks\":" as StaticString)
    body.append(decimal: worker.totalBlocks)
    body.append(",\"engine\":" as StaticString)
    body.append(jsonString: worker.engine.rawValue)
    body.append(",\"role\":" as StaticString)
    body.append(jsonString: worker.role.label)
    body.append(",\"tokens\":" as StaticString)
    body.append(jsonString: worker.prompts.label)
    body.append(",\"endpoints\":" as StaticString)
    body.append(worker.endpoints)
    body.append(",\"models\":[" as StaticString)
    for (index, model) in worker.models.enumerated() {
      if index > 0 { body.append(UInt8(ascii: ",")) }
      body.append(jsonString: model)
    }
    body.append("]}" as StaticString)
  }

  private func models(_ body: inout ByteBuffer) -> ContentType {
    let served = service.workers.models.filter { !$0.workers.isEmpty && sees($0.name) }
    body.append(served.map { ListedModel(id: $0.name, created: $0.created) })
    return .json
  }

  private func sees(_ model: String) -> Bool { visible?.contains(model) ?? true }

  private func model(_ name: String, _ body: inout ByteBuffer) -> Int {
    if sees(name), let model = service.workers.models.first(where: { $0.name == name && !$0.workers.isEmpty })
    {
      body.append(ListedModel(id: model.name, created: model.created))
      return 200
    }
    APIError.modelNotFound(name).write(into: &body, format: service.configuration.errorFormat)
    return 404
  }
}
