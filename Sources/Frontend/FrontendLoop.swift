// The frontend on one loop: takes requests from connections, and holds what they share without locks.

internal import Base
internal import EventLoop
internal import HTTP
internal import Logging
internal import OpenAI
internal import Routing
internal import Telemetry
internal import Tenants
internal import Transport
internal import Workers

/// The application of one loop. Loop-confined.
final class FrontendLoop: ServerApplication, TimerHandler, TickHandler {
  let loop: EventLoop
  private(set) var configuration: FrontendConfiguration
  let shared: FrontendShared
  let pool: UpstreamPool
  let reports: any WorkerReports
  let routeSpanName: StaticString
  private(set) var workers = WorkerSet.empty
  private(set) var modelMetrics: [ModelMetrics] = []
  /// How the models' prompts become blocks, in their order.
  private(set) var promptRules: [PromptRules] = []
  let unknownModelMetrics: ModelMetrics
  let stages: StageGauges
  /// Ready workers that were named because their engines take no salt.
  private var namedSaltless: Set<UInt64> = []
  /// Of the key file's tenants that called this loop.
  private var tenantMetrics: [String: TenantMetrics] = [:]
  private let buckets: MetricBuckets
  private let publisher: SpanPublisher?
  /// Bounds of each span.
  let spanLimits: SpanLimits
  /// What a decision is written into; one a loop, so that deciding allocates nothing.
  let decision: RoutingDecision
  /// Prepares the prompts that are short enough to be prepared here.
  let preprocessor: Preprocessor
  /// Requests whose body is with the pool, by the ticket of their job; as many at most as the pool takes.
  private var inPool: [UInt64: InferenceExchange] = [:]
  /// Requests that wait for a worker with room; the router bounds them.
  private var waiting: [UInt64: InferenceExchange] = [:]
  private var lastTicket: UInt64 = 0
  /// Inference requests in progress on this loop.
  var openRequests = 0
  let bodyWaiters: BodyWaiters
  let steps: RequestSteps
  private var lines: LogRecordWriter
  private let log: LogOutput
  private var logsRequests = false
  /// Whether lines are written when a request's span opens and closes.
  private(set) var logsSpanEvents = false
  /// Whether a request's steps are told, and what the router did.
  private(set) var logsSteps = false
  private(set) var logsRouting = false
  private var linesQueued = false
  /// Takes request-trace records; nil when none are asked for.
  private let traces: (any RequestTraceSink)?
  /// Whether ``traces`` is there, without a look at its object.
  let recordsTraces: Bool
  private let traceSampling: TraceSampling?
  /// There where there is a tokenizer.
  let tokenizing: TokenizerMetrics?
  /// There once there is a model whose prompts are looked up.
  private(set) var routing: RouterMetrics?
  let watch: LoopWatch
  private var traceLines = ByteBuffer()
  private var text = ByteBuffer(capacity: 64)
  private let publishTimer = Timer()
  private var nextProxyComplaint: Nanoseconds = 0

  init(
    loop: EventLoop, configuration: FrontendConfiguration, shared: FrontendShared, reports: any WorkerReports,
    outputs: TelemetryOutputs, routeSpanName: StaticString, buckets: MetricBuckets,
    dial: @escaping UpstreamPool.Dial = Sockets.connect
  ) {
    self.loop = loop
    let system = loop.system
    decision = RoutingDecision { system.monotonicNanoseconds() }
    self.configuration = configuration
    self.shared = shared
    self.reports = reports
    self.routeSpanName = routeSpanName
    self.buckets = buckets
    bodyWaiters = BodyWaiters(loop: loop, countMax: configuration.bodyWaitersMax)
    steps = RequestSteps(loop: loop)
    pool = UpstreamPool(loop: loop, limits: configuration.client, dial: dial)
    stages = StageGauges(shared.registry)
    unknownModelMetrics = ModelMetrics(
      shared.registry, model: ModelMetrics.unknownModel, buckets: buckets,
      keepsExemplars: outputs.spanSink != nil)
    publisher = outputs.spanSink.map {
      SpanPublisher(sink: $0, ledger: outputs.ledger, limits: outputs.publisherLimits)
    }
    spanLimits = outputs.publisherLimits.span
    log = outputs.log
    tokenizing = configuration.tokenizer == nil ? nil : TokenizerMetrics(shared.registry)
    watch = LoopWatch(loop, registry: shared.registry)
    traces = outputs.requestTraces
    recordsTraces = outputs.requestTraces != nil
    traceSampling = outputs.requestTraces.flatMap { $0.ratio < 1 ? TraceSampling(shared.registry) : nil }
    preprocessor = Preprocessor(keepsEncoder: true, hashesTail: outputs.requestTraces != nil)
    lines = LogRecordWriter(outputs.log.configuration)
    readLogFilter()
  }

  /// Takes a new snapshot of the workers.
  func adopt(_ set: WorkerSet) {
    guard set.generation > workers.generation else { return }
    let gone = workers.workers.filter { old in !set.workers.contains { $0.id == old.id } }
    for worker in gone { pool.forget(worker.id) }
    let known = Dictionary(modelMetrics.map { ($0.model, $0) }, uniquingKeysWith: { first, _ in first })
    modelMetrics = set.models.map { model in
      known[model.name]
        ?? ModelMetrics(
          shared.registry, model: model.name, buckets: buckets, keepsExemplars: publisher != nil,
          isRouted: model.routing.options.mode == .kv)
    }
    if routing == nil, set.models.contains(where: { $0.routing.options.mode == .kv }) {
      routing = RouterMetrics(shared.registry)
    }
    promptRules = set.models.map { $0.promptRules(configuration.tokenizer) }
    workers = set
    nameWorkersWithoutSalt()
  }

  /// Takes the newest snapshot where it is still on its way here: another loop may have said `/ready` by it.
  func catchUp() { adopt(reports.current) }

  /// Takes a new configuration and the present log filter. Requests that are under way go on with what of it they ask
  /// for later.
  func adopt(_ configuration: FrontendConfiguration) {
    if self.configuration.keys !== configuration.keys { forgetTenants(configuration.keys) }
    self.configuration = configuration
    nameWorkersWithoutSalt()
    pool.adopt(configuration.client)
    readLogFilter()
  }

  /// Says once of each worker whose engine takes no salt that it does not keep tenants' prompts apart.
  private func nameWorkersWithoutSalt() {
    guard loop.index == 0, configuration.keys != nil else { return }
    let saltless = workers.workers.filter { $0.isReady && !$0.engine.takesCacheSalt }
    for worker in saltless where !namedSaltless.contains(worker.id) {
      log.logger("\(LogTarget.frontend)").warning(
        "the engine takes no cache salt: prompts of different tenants share its cache",
        metadata: [
          "\(LogKey.workerID)": "\(worker.id)", "url": "\(worker.url)", "engine": "\(worker.engine.rawValue)",
        ])
    }
    namedSaltless = Set(saltless.map(\.id))
  }

  /// Gives up the cells of tenants that a new ring of keys does not have; what they counted stays counted.
  private func forgetTenants(_ keys: KeyRing?) {
    let known = Set(keys?.tenants ?? [])
    tenantMetrics = tenantMetrics.filter { known.contains($0.key) }
  }

  private func readLogFilter() {
    logsRequests = log.isEnabled(.info, target: LogTarget.http)
    logsSteps = log.isEnabled(.debug, target: LogTarget.http)
    logsRouting = log.isEnabled(.debug, target: LogTarget.router)
    logsSpanEvents =
      configuration.tracing.hasContext && log.configuration.logsSpanEvents
      && log.isEnabled(.info, target: LogTarget.requestSpan)
  }

  // MARK: ServerApplication

  func exchangeBegan(
    _ exchange: any ServerExchange, _ head: RequestHead, began: Nanoseconds
  ) -> any ServerExchangeHandler {
    let exchange =
      configuration.compatibility.isOff
      ? exchange : EditedExchange(exchange, head, configuration.compatibility)
    guard head.fields.contains(.contentEncoding), case .gzip = ContentCoding(head.fields) else {
      return begin(exchange, head, began: began)
    }
    let inflating = InflatingExchange(exchange, bytesMax: configuration.bodyBytesMax)
    let handler = begin(inflating, head, began: began)
    guard let refusing = handler as? any RefusingHandler else { return handler }
    inflating.begin(refusing)
    return inflating
  }

  private func begin(
    _ exchange: any ServerExchange, _ head: RequestHead, began: Nanoseconds
  ) -> any ServerExchangeHandler {
    let route = Route(head)
    if configuration.hidesRouter, route.isAdministrative { return unknown(exchange, head, began: began) }
    if configuration.metricsAddress != nil, case .system(.metrics) = route {
      return unknown(exchange, head, began: began)
    }
    // An inference request admits itself, so that a refused one is traced as what it is.
    var tenancy: Tenancy?
    if configuration.keys != nil, route.needsKey(systemToo: configuration.guardsSystemRoutes) {
      do throws(APIError) {
        tenancy = try self.tenancy(head.fields)
        if route.takesWork { try enterCall(tenancy) }
      } catch {
        return ErrorExchange(service: self, exchange: exchange, head: head, began: began, error)
      }
    }
    switch route {
    case .inference(let endpoint) where endpoint.isAnthropic && !configuration.enablesAnthropic:
      return unknown(exchange, head, began: began, hint: " It needs --enable-anthropic-api.")
    case .inference(.countTokens) where configuration.tokenizer != nil:
      return countTokens(exchange, head, began: began)
    case .inference(let endpoint):
      let request = InferenceExchange(
        service: self, exchange: exchange, endpoint: endpoint, head: head, began: began)
      request.admit(head)
      return request
    case .tokenize(let route):
      let pooled = PooledExchange(service: self, exchange: exchange, tenancy: tenancy)
      guard let model = configuration.tokenizer else {
        pooled.refuse(.noTokenizer)
        return pooled
      }
      pooled.job = TokenizeJob(route: route, model: model, service: self)
      return pooled
    case .explain:
      return explain(exchange, head, tenancy)
    case .routerState:
      let pooled = PooledExchange(service: self, exchange: exchange, tenancy: tenancy)
      pooled.job = RouterStateJob(service: self)
      return pooled
    case .system(let route):
      let trace =
        configuration.tracing.tracesSystemRoutes
        ? PlainTrace(head, from: exchange, began: began, on: self) : nil
      return SystemExchange(
        service: self, exchange: exchange, route: route, head: head, trace: trace,
        models: tenancy?.models)
    case .wrongMethod(let allow) where head.method == .options:
      return OptionsExchange(
        exchange: exchange, head: head, allow: "\(allow), OPTIONS",
        cors: CORSAnswer(head.fields, allowed: configuration.compatibility.corsOrigins))
    case .wrongMethod(let allow):
      return ErrorExchange(
        service: self, exchange: exchange, head: head, began: began,
        .methodNotAllowed(head.methodText.text, allow: "\(allow), OPTIONS"))
    case .unknown:
      return unknown(exchange, head, began: began)
    }
  }

  /// The cells of the tenant that a key belongs to.
  func tenantMetrics(of key: APIKey) -> TenantMetrics {
    if let known = tenantMetrics[key.entry.tenant] { return known }
    let made = TenantMetrics(shared.registry, tenant: key.entry.tenant, index: key.tenantIndex)
    tenantMetrics[key.entry.tenant] = made
    return made
  }

  func refusedConnection(_ fault: ProxyHeaderFault) {
    // One line a second tells as much as thousands.
    guard loop.now >= nextProxyComplaint else { return }
    nextProxyComplaint = loop.now + second
    log.logger("\(LogTarget.frontend)").warning("connection closed: \(fault.text)")
  }

  func refused(_ refusal: Refusal, body: inout ByteBuffer) {
    shared.metrics.refused(status: refusal.status)
    APIError.malformedRequest(status: refusal.status, message: "\(refusal.message)")
      .write(into: &body, format: configuration.errorFormat)
  }

  func endedSlowBody() { shared.metrics.slowBodies.add() }

  func appendFields(of refusal: Refusal, to fields: inout ByteBuffer) {
    configuration.compatibility.appendUnasked(to: &fields)
  }

  // MARK: The preprocess pool

  /// A job for the request, which is expected back.
  func makeJob(_ exchange: InferenceExchange, _ request: DecodedRequest?) -> PreprocessJob {
    lastTicket += 1
    inPool[lastTicket] = exchange
    return PreprocessJob(
      ticket: lastTicket, request: request, endpoint: exchange.endpoint,
      tenant: exchange.tenancy?.name ?? [], service: self)
  }

  /// The pool did not take it.
  func forget(_ job: PreprocessJob) { inPool[job.ticket] = nil }

  /// A job is home. Its request may have ended on the way: then its memory is all that is left to give back.
  func returned(_ job: PreprocessJob) {
    if let exchange = inPool.removeValue(forKey: job.ticket), exchange.preprocessed(job) { return }
    releaseBodyMemory(job.bodyMemory)
  }

  /// Gives memory of request bodies back and lets those that wait for some try again.
  func releaseBodyMemory(_ count: Int) {
    guard count > 0 else { return }
    shared.releaseBodyMemory(count)
    bodyWaiters.memoryWasFreed()
  }

  // MARK: The router's queue

  /// Takes a request that waits for room, under the name that is returned.
  func expect(_ exchange: InferenceExchange) -> UInt64 {
    lastTicket += 1
    waiting[lastTicket] = exchange
    exchange.queueKey = lastTicket
    return lastTicket
  }

  /// There is room for one of them, which may have ended.
  func roomWasFound(_ key: UInt64) { waiting.removeValue(forKey: key)?.roomWasFound() }

  func forgetWaiter(_ key: UInt64) { waiting[key] = nil }

  // MARK: What requests hand over

  /// Lets `write` write the spans of a finished request, all of them at once.
  func publishSpans(_ write: (inout SpanWriter) -> Void) {
    publisher?.collect(now: loop.now, write)
    awaitPublishing()
  }

  /// Lends the text of a UUID.
  func withText(_ uuid: UUID, _ body: (UnsafeRawBufferPointer) -> Void) {
    text.removeAll()
    text.append(uuid)
    body(text.readable)
  }

  /// Lends the URL that a worker is asked by.
  func withURL(of worker: ReadyWorker, _ endpoint: Endpoint, _ body: (UnsafeRawBufferPointer) -> Void) {
    text.removeAll()
    text.append(worker.facts.url)
    text.append(endpoint.path)
    body(text.readable)
  }

  /// True where callers come by TLS.
  var isSecure: Bool { configuration.security != nil }

  /// Writes the line of a finished request.
  func log(_ record: AccessRecord, model: String, at wall: UInt64) {
    guard logsRequests else { return }
    var record = record
    var model = model
    model.withUTF8 { bytes in
      record.model = UnsafeRawBufferPointer(bytes)
      lines.access(record, at: wall)
    }
    queueLines()
  }

  /// Lets `write` write a line.
  func log(_ write: (inout LogRecordWriter) -> Void) {
    write(&lines)
    queueLines()
  }

  /// Whether the request of that id is to have a record; counts what is decided.
  func recordsTrace(of requestID: UUID) -> Bool {
    let isRecorded = traces?.records(requestID) ?? false
    if let traceSampling { (isRecorded ? traceSampling.sampled : traceSampling.leftOut).add() }
    return isRecorded
  }

  /// Writes a request-trace record.
  func record(_ record: RequestTraceRecord) {
    traceLines.append(record)
    queueLines()
  }

  private func queueLines() {
    guard !linesQueued else { return }
    linesQueued = true
    loop.atEndOfTick(self)
  }

  func endOfTick() {
    linesQueued = false
    lines.flush(to: log.sink)
    flushTraces()
  }

  private func flushTraces() {
    guard !traceLines.isEmpty else { return }
    traces?.write(traceLines.readable)
    // Records of long prompts are large.
    if traceLines.capacity > 65_536 { traceLines.release() } else { traceLines.removeAll() }
  }

  private func awaitPublishing() {
    if let deadline = publisher?.deadline, !publishTimer.isArmed {
      loop.arm(publishTimer, at: deadline, self)
    }
  }

  func timerFired(_ timer: Timer) {
    publisher?.tick(now: loop.now)
    awaitPublishing()
  }

  /// Hands over everything that waits; the loop is about to end.
  func flush() {
    steps.endOfTick()
    publisher?.publish()
    lines.flush(to: log.sink)
    flushTraces()
    pool.closeIdle()
  }
}
