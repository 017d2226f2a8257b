// Watches an attached engine from the first loop: which models it lists, whether it answers, where its name points.

internal import Base
internal import EventLoop
internal import HTTP
internal import JSON
internal import OpenAI
internal import Transport
internal import Workers

/// What the watcher learned of the engine; nil where the engine does not say.
struct EngineFacts: Sendable, Equatable {
  var models: [ListedModel] = []
  var blockSize: Int?
  var totalBlocks: Int?
  /// The routes that it serves; nil when it does not say.
  var endpoints: EndpointSet?
  /// Where it publishes cache events; empty when it does not, or does not say.
  var cacheEvents: [CacheEventSource] = []
}

/// Asks `GET /v1/models` again and again, and once it is answered `GET /metrics` for the size of the cache and
/// `GET /kv_event_sources` for the publishers of its events; `GET /openapi.json`, which vLLM and SGLang have, for its routes.
final class EngineWatcher: TimerHandler, ClientExchangeHandler {
  private enum Question { case models, metrics, routes, cacheEvents }

  private let loop: EventLoop
  private let url: EngineURL
  private let authorization: [UInt8]
  private let pool: UpstreamPool
  private let changed: (Result<EngineFacts, EngineFailure>) -> Void
  private let timer = Timer()
  private var question = Question.models
  private var connection: UpstreamExchange?
  private var status = 0
  private var body = ByteBuffer()
  private var facts = EngineFacts()
  private var hasAskedForCache = false
  private var failures = 0
  private var isClosed = false
  /// Where the engine is; set by whoever resolves its name.
  var upstream: Upstream

  /// Why the engine is taken for gone.
  struct EngineFailure: Error { let reason: String }

  /// How often an engine that answers is asked, and one that does not.
  private static let calmInterval = 10 * second
  private static let eagerInterval = 500 * millisecond
  /// Failures in a row after which an engine that had answered is taken for gone.
  private static let failuresMax = 3
  private static let bodyBytesMax = 4 << 20

  /// `changed` hears of every answer, and of failures when they count.
  init(
    _ url: EngineURL, upstream: Upstream, authorization: [UInt8], on loop: EventLoop,
    changed: @escaping (Result<EngineFacts, EngineFailure>) -> Void
  ) {
    self.loop = loop
    self.url = url
    self.upstream = upstream
    self.authorization = authorization
    self.changed = changed
    var limits = ClientLimits()
    limits.silenceTimeout = 5 * second
    pool = UpstreamPool(loop: loop, limits: limits)
  }

  func start() { ask(.models) }

  /// The engine failed a request: look now.
  func look() {
    guard connection == nil, !isClosed else { return }
    loop.arm(timer, at: loop.now, self)
  }

  func close() {
    isClosed = true
    loop.cancel(timer)
    connection?.cancel()
    connection = nil
    pool.closeIdle()
  }

  func timerFired(_ timer: Timer) { ask(.models) }

  private func ask(_ question: Question) {
    guard connection == nil, !isClosed else { return }
    self.question = question
    status = 0
    body.removeAll()
    let path: StaticString
    switch question {
    case .models: path = "/v1/models"
    case .metrics: path = "/metrics"
    case .routes: path = "/openapi.json"
    case .cacheEvents: path = "/kv_event_sources"
    }
    connection = pool.send(to: upstream, method: .get, handler: self) { out in
      out.append("GET " as StaticString)
      out.append(upstream.pathPrefix)
      out.append(path)
      out.append(" HTTP/1.1\r\n" as StaticString)
      upstream.authority.withUnsafeBytes { out.header("host", $0) }
      if !authorization.isEmpty { authorization.withUnsafeBytes { out.header("authorization", $0) } }
      out.endHead()
    }
  }

  // MARK: Answers

  func responded(_ head: ResponseHead) { status = head.status }

  func received(body bytes: UnsafeRawBufferPointer) {
    if body.count + bytes.count <= Self.bodyBytesMax { body.append(bytes) }
  }

  func receivedEnd(trailers: UnsafeRawBufferPointer) {
    connection = nil
    guard !isClosed else { return }
    switch question {
    case .models: readModels()
    case .metrics:
      if status == 200 { readCache() }
      ask(.routes)
    case .routes:
      facts.endpoints = status == 200 ? EndpointSet(openAPI: body.readable) : nil
      ask(.cacheEvents)
    case .cacheEvents:
      // Engines that do not know the question answer 404, or something that is no such object.
      facts.cacheEvents = status == 200 ? CacheEventSource.parse(body.readable) : []
      tell()
    }
  }

  func failed(_ failure: UpstreamFailure) {
    connection = nil
    guard !isClosed else { return }
    switch question {
    case .models: countFailure("the engine does not answer: \(failure)")
    case .metrics: ask(.routes)
    case .routes: ask(.cacheEvents)
    case .cacheEvents: tell()
    }
  }

  private func readModels() {
    guard status == 200 else {
      countFailure("the engine answered GET /v1/models with \(status)")
      return
    }
    let answer: JSONValue
    do throws(JSONError) {
      answer = try JSONValue.parse(body.readable)
    } catch {
      countFailure("the engine's list of models is not JSON")
      return
    }
    guard let models = ListedModel.list(from: answer), !models.isEmpty else {
      countFailure("the engine lists no model")
      return
    }
    failures = 0
    facts.models = models
    if hasAskedForCache {
      tell()
    } else {
      hasAskedForCache = true
      ask(.metrics)
    }
  }

  /// vLLM tells of its cache in the labels of `vllm:cache_config_info`.
  private func readCache() {
    let text = body.text
    guard let line = text.split(separator: "\n").first(where: { $0.hasPrefix("vllm:cache_config_info{") })
    else {
      return
    }
    facts.blockSize = Self.label("block_size", in: line)
    facts.totalBlocks = Self.label("num_gpu_blocks", in: line)
  }

  private static func label(_ name: String, in line: Substring) -> Int? {
    for part in line.split(whereSeparator: { $0 == "{" || $0 == "," || $0 == "}" })
    where part.hasPrefix("\(name)=\"") && part.hasSuffix("\"") {
      return Int(part.dropFirst(name.count + 2).dropLast())
    }
    return nil
  }

  private func tell() {
    changed(.success(facts))
    if !isClosed { loop.arm(timer, at: loop.now + Self.calmInterval, self) }
  }

  private func countFailure(_ reason: String) {
    failures += 1
    hasAskedForCache = false
    // The first answer is waited for; later a single slip is forgiven.
    if facts.models.isEmpty || failures >= Self.failuresMax {
      changed(.failure(EngineFailure(reason: reason)))
    }
    loop.arm(timer, at: loop.now + Self.eagerInterval, self)
  }
}
