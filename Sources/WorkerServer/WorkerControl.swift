// The part of a worker that runs once: readiness, registration, the system server, and the orderly end. First loop only.

internal import Base
internal import Engine
internal import EventLoop
internal import Logging
internal import OpenAI
internal import Telemetry
internal import Transport
internal import Workers

/// A loop of the worker as others reach it.
struct WorkerLoopHandle: Sendable {
  let mailbox: Mailbox
  let worker: LoopBound<WorkerLoop>
}

/// Coordinates the loops. Confined to the first one.
///
///     starting -> serving -> grace -> draining -> ended
final class WorkerControl: TimerHandler {
  private enum Phase { case starting, serving, grace, draining, ended }

  private let worker: WorkerLoop
  private let handles: [WorkerLoopHandle]
  private let loads: LoopLoads
  private let listener: Int32
  private let registrar: (any Registrar)?
  private let logger: Logger
  private let timer = Timer()
  private var phase = Phase.starting
  private var drainDeadline: Nanoseconds = 0
  /// Until then the end waits for the worker's withdrawal.
  private var withdrawalDeadline: Nanoseconds = 0
  private static let withdrawalTimeout = 3 * second
  private var loopsToLeave = 0
  private var loopsToEnd = 0
  private var whenEnded: (@Sendable () -> Void)?
  private var resolving = false
  private var lastReason = ""
  var watcher: EngineWatcher?
  var cacheEvents: CacheEventService?
  var systemServer: HTTPServer?

  private var configuration: WorkerConfiguration { worker.shared.configuration }

  init(
    _ worker: WorkerLoop, handles: [WorkerLoopHandle], loads: LoopLoads, listener: Int32,
    registrar: (any Registrar)?,
    logger: Logger
  ) {
    self.worker = worker
    self.handles = handles
    self.loads = loads
    self.listener = listener
    self.registrar = registrar
    self.logger = logger
  }

  // MARK: Readiness

  /// Begins: at once, or after the simulated start-up time.
  func start() {
    if configuration.startupTime > 0 {
      worker.loop.arm(timer, at: worker.loop.now + configuration.startupTime, self)
    } else {
      serve()
    }
  }

  private func serve() {
    phase = .serving
    if let watcher {
      watcher.start()
    } else if case .simulated(let engine) = configuration.engine {
      var card = ModelCard(displayName: configuration.model)
      card.role = configuration.role
      card.migrationLimit = configuration.migrationLimit
      card.contextLength = engine.contextTokens
      card.blockSize = engine.blockSize
      card.totalBlocks = engine.blockCount
      card.sequencesMax = engine.sequencesMax
      card.batchedTokensMax = engine.batchedTokensMax
      card.endpoints = SimulatedBackend.served
      var model = ListedModel(
        id: configuration.model, created: Int(worker.shared.startedWallSeconds),
        contextTokens: engine.contextTokens, engine: EngineKind.simulated.rawValue)
      model.endpoints = SimulatedBackend.served
      becomeReady([model], card)
    }
  }

  /// An attached engine answered.
  func engineAnswered(_ facts: EngineFacts) {
    guard case .serving = phase else { return }
    var models = facts.models
    var name = configuration.model
    if !configuration.modelIsGiven, let first = models.first {
      name = first.id
    } else if !models.contains(where: { $0.id == name }) {
      if !worker.shared.models.value.isReady {
        logger.warning(
          "the engine does not list the model that it is to serve",
          metadata: ["model": "\(name)", "listed": "\(models.map(\.id).prefix(8).joined(separator: ", "))"])
      }
      models.append(
        ListedModel(id: name, created: models[0].created, contextTokens: models[0].contextTokens))
    }
    var card = ModelCard(displayName: name)
    card.role = configuration.role
    card.migrationLimit = configuration.migrationLimit
    card.contextLength = models.first { $0.id == name }?.contextTokens
    for index in models.indices where models[index].endpoints == nil {
      models[index].endpoints = facts.endpoints ?? Worker.assumedEndpoints
    }
    card.endpoints = models.first { $0.id == name }?.endpoints
    card.blockSize = facts.blockSize
    card.totalBlocks = facts.totalBlocks
    if let blocks = facts.totalBlocks { worker.shared.metrics.totalBlocks.set(blocks) }
    cacheEvents?.engineAnswered(facts.cacheEvents)
    becomeReady(models, card)
  }

  /// An attached engine is not there.
  func engineFailed(_ reason: String) {
    guard case .serving = phase else { return }
    cacheEvents?.engineFailed()
    if lastReason != reason {
      lastReason = reason
      logger.warning("engine is not ready", metadata: ["reason": "\(reason)"])
    }
    var state = worker.shared.models.value
    state.isReady = false
    state.reason = reason
    worker.shared.models.value = state
    registrar?.withdraw()
    resolveAgain()
  }

  private func becomeReady(_ models: [ListedModel], _ card: ModelCard) {
    let wasReady = worker.shared.models.value.isReady
    lastReason = ""
    var models = models
    if configuration.role != .aggregated {
      for index in models.indices { models[index].workerType = configuration.role.rawValue }
    }
    worker.shared.models.value = ServedModels(models: models, isReady: true, reason: "")
    registrar?.register(card)
    if !wasReady { logger.info("ready", metadata: ["model": "\(card.displayName)"]) }
  }

  /// Looks the engine's name up again, off the loop, because that may block.
  func resolveAgain() {
    guard case .openAI(let text, _) = configuration.engine, !resolving, watcher != nil,
      let url = try? EngineURL(text)
    else { return }
    resolving = true
    let bound = LoopBound(self, of: worker.loop)
    let mailbox = worker.loop.mailbox
    let looked = try? Thread(name: "resolver") {
      let addresses = SocketAddress.resolve(host: url.host, port: url.port)
      mailbox.submit { loop in bound.open(on: loop).resolved(url, addresses) }
    }
    if looked == nil { resolving = false }
  }

  private func resolved(_ url: EngineURL, _ addresses: [SocketAddress]) {
    resolving = false
    guard let watcher, !addresses.isEmpty, addresses != watcher.upstream.addresses else { return }
    let upstream = WorkerServer.upstream(url, addresses)
    watcher.upstream = upstream
    for handle in handles {
      let worker = handle.worker
      handle.mailbox.submit { loop in
        (worker.open(on: loop).backend as? OpenAIBackend)?.upstream = upstream
      }
    }
  }

  // MARK: The end

  /// Withdraws, serves on for the grace period, drains, ends; `done` runs on this loop's thread as its last act. A
  /// second call cuts what is left at once.
  func stop(_ done: (@Sendable () -> Void)?) {
    if let done { whenEnded = done }
    switch phase {
    case .starting, .serving:
      phase = .grace
      logger.info("stopping", metadata: ["open_requests": .stringConvertible(loads.openRequests)])
      var state = worker.shared.models.value
      state.isReady = false
      state.reason = "draining"
      worker.shared.models.value = state
      registrar?.withdraw()
      withdrawalDeadline = worker.loop.now + Self.withdrawalTimeout
      watcher?.close()
      if configuration.drainGrace > 0 {
        worker.loop.arm(timer, at: worker.loop.now + configuration.drainGrace, self)
      } else {
        drain()
      }
    case .grace: drain()
    case .draining: end()
    case .ended: break
    }
  }

  func timerFired(_ timer: Timer) {
    switch phase {
    case .starting: serve()
    case .grace: drain()
    case .draining: endWhenIdle()
    case .serving, .ended: break
    }
  }

  private func drain() {
    phase = .draining
    drainDeadline = worker.loop.now + configuration.drainTimeout
    loopsToLeave = handles.count
    let control = LoopBound(self, of: worker.loop)
    let mailbox = worker.loop.mailbox
    for handle in handles {
      let worker = handle.worker
      handle.mailbox.submit { loop in
        worker.open(on: loop).drain()
        mailbox.submit { loop in control.open(on: loop).loopLeftListener() }
      }
    }
  }

  private func loopLeftListener() {
    loopsToLeave -= 1
    guard loopsToLeave == 0 else { return }
    worker.loop.system.close(listener)
    endWhenIdle()
  }

  private func endWhenIdle() {
    let isWithdrawn = registrar?.isWithdrawn ?? true || worker.loop.now >= withdrawalDeadline
    if (loads.openRequests == 0 && isWithdrawn) || worker.loop.now >= drainDeadline {
      end()
    } else {
      worker.loop.arm(timer, at: worker.loop.now + 10 * millisecond, self)
    }
  }

  private func end() {
    if case .ended = phase { return }
    phase = .ended
    worker.loop.cancel(timer)
    if loads.openRequests > 0 {
      logger.warning(
        "requests were cut at the drain's deadline",
        metadata: ["count": .stringConvertible(loads.openRequests)])
    }
    loopsToEnd = handles.count - 1
    let control = LoopBound(self, of: worker.loop)
    let mailbox = worker.loop.mailbox
    for handle in handles.dropFirst() {
      let worker = handle.worker
      handle.mailbox.submit { loop in
        worker.open(on: loop).finish()
        mailbox.submit { loop in control.open(on: loop).loopEnded() }
      }
    }
    if loopsToEnd == 0 { finish() }
  }

  private func loopEnded() {
    loopsToEnd -= 1
    if loopsToEnd == 0 { finish() }
  }

  private func finish() {
    systemServer?.drain()
    systemServer?.cutAll()
    cacheEvents?.close()
    registrar?.close()
    worker.finish()
    logger.info("stopped")
    whenEnded?()
    whenEnded = nil
  }
}
