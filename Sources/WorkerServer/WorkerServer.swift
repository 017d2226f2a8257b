// A worker as its process sees it: started, reachable, stopped. Several may live in one process.

internal import Base
internal import Engine
internal import EventLoop
internal import Glibc
internal import KVEvents
internal import Logging
internal import OpenAI
internal import Synchronization
internal import Telemetry
internal import Transport
package import Workers

/// An OpenAI-compatible server in front of one engine, on threads of its own.
package final class WorkerServer: Sendable {
  private struct Running {
    let mailbox: Mailbox
    let control: LoopBound<WorkerControl>
    let threads: [Thread]
    let address: SocketAddress
    let systemAddress: SocketAddress?
    let engine: EngineProcess?
  }

  package let configuration: WorkerConfiguration
  private let telemetry: WorkerTelemetry
  private let running = Mutex<Running?>(nil)
  /// Of a worker that registers: started anew at the same URL, it is another one.
  private let drawnID: UInt64

  /// Prepares a worker; nothing is opened yet.
  package init(configuration: WorkerConfiguration, telemetry: WorkerTelemetry) {
    var configuration = configuration
    if case .simulated = configuration.engine { configuration.threads = 1 }
    self.configuration = configuration
    self.telemetry = telemetry
    var random = Xoshiro256(seed: Machine.randomSeed())
    drawnID = DiscoveryIdentity.instanceID(using: &random)
  }

  /// Under which name and id the worker is known; the id is final once ``start()`` has been called.
  package var identity: DiscoveryIdentity { identity(port: port) }

  private func identity(port: UInt16) -> DiscoveryIdentity {
    DiscoveryIdentity(
      namespace: configuration.namespace, component: configuration.component,
      endpoint: configuration.endpoint,
      instanceID: configuration.instanceID ?? (configuration.registers ? drawnID : urlID(port)))
  }

  /// Who does not register is found by its URL, so its id is the one that a frontend makes of that.
  private func urlID(_ port: UInt16) -> UInt64 {
    (try? WorkerURL.parse(advertisedURL(port: port)).get().id) ?? drawnID
  }

  /// The port that the worker listens on; 0 before ``start()``.
  package var port: UInt16 { running.withLock { $0?.address.port ?? 0 } }

  /// The port of the system server; nil where there is none.
  package var systemPort: UInt16? { running.withLock { $0?.systemAddress?.port } }

  /// The URL under which the worker is registered.
  package var url: String { advertisedURL(port: port) }

  private func advertisedURL(port: UInt16) -> String {
    if let url = configuration.advertiseURL { return url }
    let host = configuration.reachedHost
    let scheme = configuration.advertisesHTTP2 ? "h2c" : "http"
    return host.contains(":") ? "\(scheme)://[\(host)]:\(port)" : "\(scheme)://\(host):\(port)"
  }

  /// Opens the sockets and starts the threads. Registration follows by itself when the engine is ready.
  package func start() throws(WorkerStartError) {
    let faults = faults()
    guard faults.isEmpty else { throw WorkerStartError(faults.joined(separator: "; ")) }
    let (plan, warning) = configuration.cacheEventPlan(hasLibrary: ZeroMQContext.unavailableReason == nil)
    if let warning { telemetry.logs.logger("\(LogTarget.worker)").warning("\(warning)") }
    let host = SocketAddress.resolve(host: configuration.host, port: 0).first?.host ?? configuration.host
    let publisher: OpenedCachePublisher?
    do throws(ZeroMQError) {
      let publishes = plan == .publish || plan == .relay
      publisher = publishes ? try CacheEventService.open(configuration.cacheEvents, host: host, rank: 0) : nil
    } catch {
      throw WorkerStartError("--kv-events-endpoint: \(error)")
    }
    do throws(SystemError) {
      try open { control, worker throws(SystemError) in
        control.cacheEvents = try CacheEventService(
          plan, publisher, host: host, on: worker, logger: self.telemetry.logs.logger("\(LogTarget.worker)"))
      }
    } catch {
      throw WorkerStartError("\(configuration.host):\(configuration.port): \(error)")
    }
  }

  private func faults() -> [String] {
    var faults: [String] = []
    for name in [configuration.namespace, configuration.component, configuration.endpoint]
    where !DiscoveryIdentity.isName(name) {
      faults.append("'\(name)' cannot name a namespace, component or endpoint")
    }
    switch configuration.engine {
    case .simulated(let engine): faults += engine.faults()
    case .openAI(let url, _):
      do throws(WorkerStartError) { _ = try EngineURL(url) } catch { faults.append(error.description) }
    }
    faults += configuration.cacheEvents.faults()
    if let etcd = configuration.etcd { faults += etcd.faults() }
    return faults
  }

  /// Begins the orderly end: the record is withdrawn, requests are served for the grace period, streams run on until the
  /// drain's deadline. `done` runs on a thread of the worker when its last span was handed over; then ``join()``
  /// returns. A second call shortens what the first began.
  package func stop(_ done: (@Sendable () -> Void)? = nil) {
    guard let (mailbox, control) = running.withLock({ $0.map { ($0.mailbox, $0.control) } }) else {
      done?()
      return
    }
    mailbox.submit { loop in control.open(on: loop).stop(done) }
  }

  /// Waits until the worker's threads ended, then ends the engine that it started.
  package func join() {
    guard let (threads, engine) = running.withLock({ $0.map { ($0.threads, $0.engine) } }) else { return }
    for thread in threads { thread.join() }
    engine?.stop()
  }

  static func upstream(_ url: EngineURL, _ addresses: [SocketAddress]) -> Upstream {
    Upstream(id: 1, addresses: addresses, authority: url.authority, pathPrefix: url.pathPrefix)
  }

  // MARK: Putting it together

  /// `equip` gives the control what it needs beside, once its loop is there.
  private func open(
    equip: (WorkerControl, WorkerLoop) throws(SystemError) -> Void
  ) throws(SystemError) {
    let logger = telemetry.logs.logger("\(LogTarget.worker)")
    let (listener, address) = try Sockets.listen(host: configuration.host, port: configuration.port)
    let identity = identity(port: address.port)
    let shared = WorkerShared(
      configuration: configuration, identity: identity, telemetry: telemetry,
      metrics: WorkerMetrics(
        telemetry.registry, configuration: configuration, buckets: MetricBuckets().requestDuration),
      models: ServedModelsBox(), started: Machine.monotonicNanoseconds,
      startedWallSeconds: Machine.wallNanoseconds / second)

    let loads = LoopLoads(count: configuration.threads)
    let counters = ListenerCounters()
    var workers: [WorkerLoop] = []
    for index in 0..<configuration.threads {
      let loop = try EventLoop(index: index, seed: Machine.randomSeed())
      let worker = WorkerLoop(loop: loop, shared: shared)
      worker.server = HTTPServer(
        loop: loop, application: worker, limits: configuration.serverLimits, loads: loads, counters: counters)
      workers.append(worker)
    }
    let peers = workers.compactMap { worker in
      worker.server.map { (worker.loop.mailbox, LoopBound($0, of: worker.loop)) }
    }
    for worker in workers {
      worker.server?.share(with: peers)
      try worker.server?.listen(on: listener)
    }
    let first = workers[0]
    let record = DiscoveryRecord(identity, transport: .http(advertisedURL(port: address.port)))
    var registrar: (any Registrar)?
    if let folder = configuration.discoveryFolder {
      registrar = FolderRegistrar(folder, record: record, on: first.loop, logger: logger)
    } else if let etcd = configuration.etcd {
      registrar = EtcdRegistration(etcd, record: record, on: first.loop, logger: logger)
    }
    let control = WorkerControl(
      first,
      handles: workers.map { WorkerLoopHandle(mailbox: $0.loop.mailbox, worker: LoopBound($0, of: $0.loop)) },
      loads: loads, listener: listener, registrar: registrar, logger: logger)
    try equip(control, first)
    attachEngine(to: workers, control)
    let systemAddress = try openSystemServer(on: first, control, counters)

    logger.info(
      "listening",
      metadata: [
        "address": "\(address)", "port": .stringConvertible(Int(address.port)),
        "instance_id": .stringConvertible(identity.instanceID),
        "url": "\(advertisedURL(port: address.port))",
      ])
    if let systemAddress {
      logger.info(
        "system server listening",
        metadata: ["address": "\(systemAddress)", "port": .stringConvertible(Int(systemAddress.port))])
    }
    let engine = try startEngine()
    try startThreads(workers, control, address, systemAddress, engine)
  }

  private func startEngine() throws(SystemError) -> EngineProcess? {
    guard let command = configuration.engineCommand else { return nil }
    let engine = try EngineProcess(
      command: command, arguments: configuration.engineArguments,
      logger: telemetry.logs.logger("\(LogTarget.engine)"))
    try engine.start()
    return engine
  }

  private func startThreads(
    _ workers: [WorkerLoop], _ control: WorkerControl, _ address: SocketAddress,
    _ systemAddress: SocketAddress?, _ engine: EngineProcess?
  ) throws(SystemError) {
    var threads: [Thread] = []
    for (index, worker) in workers.enumerated() {
      let handed = Handed(worker: worker, control: index == 0 ? control : nil)
      threads.append(
        try Thread(name: "worker-\(index)") {
          handed.control?.start()
          handed.worker.loop.run()
        })
    }
    let bound = LoopBound(control, of: workers[0].loop)
    let mailbox = workers[0].loop.mailbox
    running.withLock {
      $0 = Running(
        mailbox: mailbox, control: bound, threads: threads, address: address,
        systemAddress: systemAddress, engine: engine)
    }
  }

  private func attachEngine(to workers: [WorkerLoop], _ control: WorkerControl) {
    switch configuration.engine {
    case .simulated(let engine):
      let observer = control.cacheEvents?.observer(blockSize: engine.blockSize)
      for worker in workers {
        worker.backend = SimulatedBackend(engine, observer: observer, on: worker)
      }
    case .openAI(let text, let apiKey):
      guard let url = try? EngineURL(text) else { return }
      let upstream = Self.upstream(url, SocketAddress.resolve(host: url.host, port: url.port))
      let first = workers[0].loop
      let mailbox = first.mailbox
      let bound = LoopBound(control, of: first)
      for worker in workers {
        worker.backend = OpenAIBackend(
          upstream, apiKey: apiKey, limits: configuration.clientLimits, on: worker
        ) {
          mailbox.submit { loop in
            bound.open(on: loop).watcher?.look()
            bound.open(on: loop).resolveAgain()
          }
        }
      }
      let authorization = apiKey.map { Array("Bearer \($0)".utf8) } ?? []
      control.watcher = EngineWatcher(url, upstream: upstream, authorization: authorization, on: first) {
        [unowned control] result in
        switch result {
        case .success(let facts): control.engineAnswered(facts)
        case .failure(let failure): control.engineFailed(failure.reason)
        }
      }
    }
  }

  private func openSystemServer(
    on worker: WorkerLoop, _ control: WorkerControl, _ counters: ListenerCounters
  ) throws(SystemError) -> SocketAddress? {
    guard let port = configuration.systemPort else { return nil }
    let (descriptor, address) = try Sockets.listen(host: configuration.systemHost, port: port)
    let server = HTTPServer(
      loop: worker.loop, application: SystemApplication(worker), limits: configuration.serverLimits,
      loads: LoopLoads(count: 1), counters: counters)
    try server.listen(on: descriptor)
    control.systemServer = server
    return address
  }
}

/// Hands a loop and what belongs to it to its thread.
///
/// Unchecked because neither is Sendable: both are made on the starting thread, given away once before the new thread
/// runs, and used by that thread alone from then on.
private struct Handed: @unchecked Sendable {
  let worker: WorkerLoop
  let control: WorkerControl?
}
