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
  private let listener: Int32
  /// Where the frontend listens.
  package let address: SocketAddress
  private let logger: Logger
  private let overload: OverloadWatch
  private var threads: [Thread] = []
  private var drainBegan: Nanoseconds?
  /// Called on the first loop when SIGHUP asks to read the configuration again.
  package var onReload: () -> Void = {}

  /// Binds the listening socket and prepares the loops; nothing is served before ``run()``.
  package init(
    configuration: FrontendConfiguration, registry: MetricRegistry, workers: any WorkerProvider,
    outputs: TelemetryOutputs, routeSpanName: StaticString, buckets: MetricBuckets
  ) throws(SystemError) {
    logger = outputs.log.logger("\(LogTarget.frontend)")
    shared = try FrontendShared(configuration: configuration, registry: registry)
    (listener, address) = try Sockets.listen(
      host: configuration.host, port: configuration.port, backlog: configuration.backlog)
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
    let peers = servers.map { ($0.loop.mailbox, LoopBound($0, of: $0.loop)) }
    for server in servers {
      server.share(with: peers)
      try server.listen(on: listener)
    }
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

  private func registerHandshakes(_ counters: HandshakeCounters) {
    let shared = shared
    shared.registry.collect(.tlsHandshakes, .counter) { counters.add(to: &$0, peer: "client") }
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
    shared.registry.observe(.refusedConnections, .counter) {
      Double(shared.listenerCounters.refusedByLimit.load(ordering: .relaxed))
    }
    shared.registry.observe(.acceptErrors, .counter) {
      Double(shared.listenerCounters.acceptErrors.load(ordering: .relaxed))
    }
  }

  /// Serves on the calling thread and `threads - 1` others until a signal ends it. SIGTERM and SIGINT drain; a second
  /// one ends the process at once with status 70.
  package func run() throws(SystemError) {
    let main = loops[0]
    let signals = try SignalSource([SIGTERM, SIGINT, SIGHUP], on: main) { [unowned self] number in
      received(number)
    }
    try shared.pool.start(
      threads: PreprocessLimits.threads(besideLoops: loops.count), name: "preprocess")
    for index in 1..<max(1, loops.count) {
      let loop = LoopRunner(loops[index])
      threads.append(try Thread(name: "loop-\(index)") { loop.run() })
    }
    logger.info(
      "listening",
      metadata: [
        "address": "\(address)", "threads": "\(loops.count)",
        "scheme": services[0].configuration.security == nil ? "http" : "https",
      ])
    Machine.releaseStartPages()
    main.run()
    withExtendedLifetime(signals) {}
    for thread in threads { thread.join() }
    shared.pool.stop()
    for service in services { service.flush() }
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
    guard drainBegan == nil else {
      logger.warning("stopping at once: second signal")
      _exit(70)
    }
    drainBegan = loops[0].now
    shared.beginDraining()
    logger.info(
      "draining", metadata: ["signal": "\(signal)", "open_requests": "\(shared.loads.openRequests)"])
    let drain = Drain(frontend: self, loop: loops[0])
    drain.begin(after: services[0].configuration.gracePeriod)
  }

  fileprivate func stopAccepting() {
    shared.beginRefusing()
    // The last loop to leave closes the listener: before that its number must not be given to another socket.
    let remaining = Countdown(servers.count)
    let listener = listener
    for server in servers {
      onLoop(server) { server in
        server.drain()
        if remaining.decrement() == 0 { _ = close(listener) }
      }
    }
  }

  fileprivate func announceCut() {
    for server in servers { onLoop(server) { $0.announceCut() } }
  }

  fileprivate func cutOpenRequests() {
    logger.warning("drain deadline passed", metadata: ["cut_requests": "\(shared.loads.openRequests)"])
    for server in servers { onLoop(server) { $0.cutAll() } }
  }

  fileprivate func stopLoops() {
    for loop in loops { loop.mailbox.submit { $0.stop() } }
  }

  fileprivate var drainTimeout: Nanoseconds { services[0].configuration.drainTimeout }

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

/// Walks a frontend down: grace, refusal, waiting for open requests, the cut, the stop.
private final class Drain: TimerHandler {
  private enum Step { case grace, waiting, lastWords, cut }

  /// How long callers have to take the in-band error of a stream that is cut.
  private static let lastWordsTime = 100 * millisecond

  private let frontend: Frontend
  private let loop: EventLoop
  private let timer = Timer()
  private var step = Step.grace
  private var deadline: Nanoseconds = 0

  init(frontend: Frontend, loop: EventLoop) {
    self.frontend = frontend
    self.loop = loop
  }

  func begin(after grace: Nanoseconds) { loop.arm(timer, at: loop.now + grace, self) }

  func timerFired(_ timer: Timer) {
    if case .grace = step {
      frontend.stopAccepting()
      deadline = loop.now + frontend.drainTimeout
      step = .waiting
    } else if frontend.shared.loads.openRequests == 0 {
      frontend.stopLoops()
      return
    } else if loop.now >= deadline {
      passDeadline()
    }
    loop.arm(timer, at: loop.now + 10 * millisecond, self)
  }

  private func passDeadline() {
    switch step {
    case .waiting:
      frontend.announceCut()
      deadline = loop.now + Self.lastWordsTime
      step = .lastWords
    case .lastWords:
      // Streams that could be told are finished by now; what is left has a caller that does not read.
      frontend.cutOpenRequests()
      step = .cut
    case .grace, .cut:
      break
    }
  }
}
