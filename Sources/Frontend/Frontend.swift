// The frontend as a whole: loops, threads, listener, and the way down.

internal import Base
package import EventLoop
internal import HTTP
internal import Logging
internal import Synchronization
package import Telemetry
internal import Transport
package import Workers
internal import Glibc

/// Gives the frontend its workers.
package protocol WorkerProvider: WorkerReports {
  /// Calls `adopt` on the loop behind `mailbox` with each new snapshot, beginning with the present one.
  func subscribe(_ mailbox: Mailbox, _ adopt: @escaping @Sendable (EventLoop, WorkerSet) -> Void)
}

/// One running frontend.
///
/// ```
/// serving ──signal──▶ grace (ready says no) ──▶ draining (no new connections) ──all done or deadline──▶ stopped
/// ```
package final class Frontend {
  package let shared: FrontendShared
  private let loops: [EventLoop]
  private let services: [FrontendLoop]
  private let servers: [HTTPServer]
  private let sockets: FrontendSockets
  private let logger: Logger
  private let overload: OverloadWatch
  /// The servers of the listeners beside the one of callers, on the first loop.
  private let sides: [(listener: SideListener, server: HTTPServer)]
  private var threads: [Thread] = []
  private var drain: Drain?
  private let startPages = StartPages()
  private var handover: HandoverHost?
  private var succession: Succession?
  private var listensStill = true
  /// Unix sockets' files are another process's: the one before this, until it said "taken", or the one after.
  private var leavesFiles: Bool
  private var startFailure: Takeover.Failure?
  /// Called on the first loop when SIGHUP asks to read the configuration again.
  package var onReload: () -> Void = {}

  /// Prepares the loops; nothing is served before ``run()``.
  package init(
    configuration: FrontendConfiguration, registry: MetricRegistry, workers: any WorkerProvider,
    outputs: TelemetryOutputs, routeSpanName: StaticString, buckets: MetricBuckets, sockets: FrontendSockets,
    sides: [SideListener] = []
  ) throws(SystemError) {
    self.sockets = sockets
    leavesFiles = sockets.takeover != nil
    logger = outputs.log.logger("\(LogTarget.frontend)")
    shared = try FrontendShared(configuration: configuration, registry: registry)
    var loops: [EventLoop] = []
    for index in 0..<configuration.threads {
      let loop = try EventLoop(index: index, seed: Machine.randomSeed())
      loop.wakeupInterval = configuration.wakeupInterval
      loops.append(loop)
    }
    self.loops = loops
    overload = OverloadWatch(loops[0], shared: shared, logger: logger)
    let shared = shared
    services = loops.map { loop in
      FrontendLoop(
        loop: loop, configuration: configuration, shared: shared, reports: workers, outputs: outputs,
        routeSpanName: routeSpanName, buckets: buckets)
    }
    servers = zip(loops, services).map { loop, service in
      HTTPServer(
        loop: loop, application: service, limits: configuration.server, loads: shared.loads,
        counters: shared.listenerCounters, security: configuration.security)
    }
    self.sides = Self.serve(sides, services[0], logger)
    let peers = servers.map { ($0.loop.mailbox, LoopBound($0, of: $0.loop)) }
    for server in servers { server.share(with: peers) }
    for service in services {
      let bound = LoopBound(service, of: service.loop)
      workers.subscribe(service.loop.mailbox) { loop, set in bound.open(on: loop).adopt(set) }
    }
    registerGauges()
    for service in services { service.watch.begin() }
    shared.shedding.register(on: shared.registry)
    overload.begin()
    if let tokenizer = configuration.tokenizer { TokenizerMetrics.register(tokenizer, on: shared.registry) }
    if let security = configuration.security { registerHandshakes(security.counters) }
  }

  /// Servers without a part in the callers' numbers and bounds: they answer when those are reached.
  private static func serve(
    _ sides: [SideListener], _ service: FrontendLoop, _ logger: Logger
  ) -> [(listener: SideListener, server: HTTPServer)] {
    sides.map { side in
      var limits = service.configuration.server
      limits.connectionsMax = 256
      limits.multiplexed = nil
      limits.proxyPeers = nil
      let server = HTTPServer(
        loop: service.loop, application: AdminApplication(service, side, logger: logger), limits: limits,
        loads: LoopLoads(count: 1), counters: ListenerCounters())
      return (side, server)
    }
  }

  private func registerHandshakes(_ counters: HandshakeCounters) {
    let shared = shared
    shared.registry.collect(.tlsHandshakes, .counter) { counters.add(to: &$0, peer: "client") }
    shared.registry.collect(.tlsResumptions, .counter) { counters.addResumed(to: &$0, peer: "client") }
    shared.registry.observe(.tlsCertificateEnd, .gauge) { Double(shared.certificateEnd) }
  }

  private func registerGauges() {
    let shared = shared
    shared.registry.observe(.openConnections, .gauge) { Double(shared.loads.openConnections) }
    shared.registry.observe(.acceptedConnections, .counter) {
      Double(shared.listenerCounters.accepted.load(ordering: .relaxed))
    }
    shared.registry.observe(.bodyMemory, .gauge) { Double(shared.bodyMemoryInUse) }
    shared.registry.observe(.preprocessWaiting, .gauge) { Double(shared.pool.waitingCount) }
    shared.registry.observe(.preprocessRefusals, .counter) { Double(shared.pool.refusedCount) }
    shared.registry.observe(.heldAnswerBytes, .gauge) { Double(HeldAnswers.process.inUse) }
    shared.registry.observe(.gzipRefusals, .counter) { Double(HeldAnswers.process.refusals) }
    shared.registry.observe(.refusedConnections, .counter) {
      Double(shared.listenerCounters.refusedByLimit.load(ordering: .relaxed))
    }
    shared.registry.observe(.badProxyHeaders, .counter) {
      Double(shared.listenerCounters.badProxyHeaders.load(ordering: .relaxed))
    }
    shared.registry.observe(.acceptErrors, .counter) {
      Double(shared.listenerCounters.acceptErrors.load(ordering: .relaxed))
    }
  }

  /// Serves on the calling thread and `threads - 1` others until a signal ends it, or a process that takes over. SIGTERM
  /// and SIGINT drain; a second one ends the process at once with status 70.
  ///
  /// Throws ``Takeover/Failure`` when the process before could not be taken over; nothing was served then.
  package func run() throws {
    let main = loops[0]
    let signals = try SignalSource([SIGTERM, SIGINT, SIGHUP], on: main) { [unowned self] number in
      received(number)
    }
    try shared.pool.start(
      threads: PreprocessLimits.threads(besideLoops: loops.count), name: "preprocess")
    succession = sockets.takeover.map { takeover in
      Succession(
        takeover, loop: main, readiness: { [unowned self] in services[0].handoverReadiness },
        done: { [unowned self] failure in succeeded(failure) })
    }
    if let succession { succession.begin() } else { startListening() }
    for index in 1..<max(1, loops.count) {
      let loop = LoopRunner(loops[index])
      threads.append(try Thread(name: "loop-\(index)") { loop.run() })
    }
    let watchdog = Watchdog(
      sockets.manager, loop: main, beats: services.map(\.watch.beat), logger: logger)
    watchdog?.begin()
    main.run()
    withExtendedLifetime((signals, watchdog)) {}
    for thread in threads { thread.join() }
    shared.pool.stop()
    for service in services { service.flush() }
    if let startFailure { throw startFailure }
  }

  // MARK: Listening and handing over

  /// Begins to accept, on every loop by itself.
  private func startListening() {
    let listeners = sockets.listeners
    let logger = logger
    for server in servers {
      onLoop(server) { server in
        for listener in listeners {
          do throws(SystemError) {
            try server.listen(on: listener.descriptor)
          } catch {
            logger.error("a loop cannot listen", metadata: ["reason": "\(error)"])
          }
        }
      }
    }
    for side in sides {
      for listener in side.listener.listeners {
        do throws(SystemError) {
          try side.server.listen(on: listener.descriptor)
          logger.info(
            "listening", metadata: ["address": "\(listener.address)", "for": "\(side.listener.name)"])
        } catch {
          logger.error("a loop cannot listen", metadata: ["reason": "\(error)"])
        }
      }
    }
    for listener in listeners {
      logger.info(
        "listening",
        metadata: [
          "address": "\(listener.address)", "threads": "\(loops.count)",
          "scheme": services[0].configuration.security == nil ? "http" : "https",
        ])
    }
    sockets.takeover?.serves()
    offerSockets()
    sockets.manager?.ready("serving on " + listeners.map { "\($0.address)" }.joined(separator: ", "))
    startPages.release(on: loops[0])
  }

  private func succeeded(_ failure: Takeover.Failure?) {
    guard let failure else {
      logger.info("took the listening sockets over from the process before")
      leavesFiles = false
      return startListening()
    }
    startFailure = failure
    stopLoops()
  }

  /// Waits for the process that comes next.
  private func offerSockets() {
    guard let path = sockets.handoverPath else { return }
    do throws(SystemError) {
      handover = try HandoverHost(
        path: path, loop: loops[0], listeners: sockets.listeners + sockets.admin + sockets.metrics,
        logger: logger,
        readiness: { [unowned self] in services[0].handoverReadiness },
        taken: { [unowned self] in retire() })
    } catch {
      logger.error("the sockets cannot be handed over", metadata: ["path": "\(path)", "reason": "\(error)"])
    }
  }

  /// Another process serves on the sockets.
  private func retire() {
    guard drain == nil else { return }
    shared.beginDraining()
    logger.info(
      "handed the listening sockets over",
      metadata: [
        "open_requests": "\(shared.loads.openRequests)",
        "open_connections": "\(shared.loads.openConnections)",
      ])
    sockets.manager?.stopping("another process serves on; open connections end")
    let drain = Drain(frontend: self, loop: loops[0])
    self.drain = drain
    drain.retire()
  }

  /// What changes this frontend while it runs.
  package var control: FrontendControl {
    FrontendControl(
      shared: shared,
      loops: zip(services, servers).map { service, server in
        FrontendControl.Loop(
          mailbox: service.loop.mailbox, service: LoopBound(service, of: service.loop),
          server: LoopBound(server, of: server.loop))
      })
  }

  private func received(_ signal: Int32) {
    if signal == SIGHUP {
      onReload()
      return
    }
    if let drain {
      if drain.hasten() { return }
      logger.warning("stopping at once: second signal")
      _exit(70)
    }
    succession?.cancel()
    if handover?.close() == true { leavesFiles = true }
    shared.beginDraining()
    logger.info(
      "draining", metadata: ["signal": "\(signal)", "open_requests": "\(shared.loads.openRequests)"])
    sockets.manager?.stopping("draining \(shared.loads.openRequests) open requests")
    let drain = Drain(frontend: self, loop: loops[0])
    self.drain = drain
    drain.begin(after: services[0].configuration.gracePeriod)
  }

  func stopAccepting() {
    shared.beginRefusing()
    if listensStill, !leavesFiles { for listener in sockets.listeners { listener.removeFile() } }
    leaveSockets { $0.drain() }
  }

  /// Leaves the sockets to the process that took them over.
  func retireServers() {
    leavesFiles = true
    for side in sides { onLoop(side.server) { $0.drain() } }
    leaveSockets { $0.retire() }
  }

  private func leaveSockets(_ leave: @escaping @Sendable (HTTPServer) -> Void) {
    handover?.close()
    // The last loop to leave closes the sockets: before that their numbers must not be given to others.
    let remaining = Countdown(servers.count)
    let listeners = listensStill ? sockets.listeners : []
    listensStill = false
    for server in servers {
      onLoop(server) { server in
        leave(server)
        if remaining.decrement() == 0 { for listener in listeners { _ = close(listener.descriptor) } }
      }
    }
  }

  func announceCut() {
    for server in servers { onLoop(server) { $0.announceCut() } }
  }

  func cutOpenRequests() {
    logger.warning("drain deadline passed", metadata: ["cut_requests": "\(shared.loads.openRequests)"])
    for server in servers { onLoop(server) { $0.cutAll() } }
  }

  func stopLoops() {
    if !leavesFiles {
      for side in sides { for listener in side.listener.listeners { listener.removeFile() } }
    }
    for loop in loops { loop.mailbox.submit { $0.stop() } }
  }

  var drainTimeout: Nanoseconds { services[0].configuration.drainTimeout }

  private func onLoop(_ server: HTTPServer, _ work: @escaping @Sendable (HTTPServer) -> Void) {
    let bound = LoopBound(server, of: server.loop)
    server.loop.mailbox.submit { loop in work(bound.open(on: loop)) }
  }
}

/// Counts loops that still have something to do.
private final class Countdown: Sendable {
  private let left: Atomic<Int>

  init(_ count: Int) { left = Atomic(count) }

  func decrement() -> Int { left.subtract(1, ordering: .acquiringAndReleasing).newValue }
}

/// Takes a loop to the thread that runs it. Unchecked: nothing touches the loop between the hand-over and `run`.
private struct LoopRunner: @unchecked Sendable {
  private let loop: EventLoop

  init(_ loop: EventLoop) { self.loop = loop }

  func run() { loop.run() }
}
