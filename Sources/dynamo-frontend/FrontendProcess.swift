// The process: settings, telemetry, workers, the frontend, the end. Thin: everything of weight is in the rooms.

import Base
import EventLoop
import Exporter
import Frontend
import Glibc
import Logging
import Routing
import Prompts
import Settings
import TLS
import Telemetry
import TraceStore
import Transport
import WorkerServer
import Workers

/// Runs dynamo-frontend from command line to exit status.
enum FrontendProcess {
  /// 0 after an orderly end, 1 when it could not start, 2 for a bad command line.
  static func run(_ arguments: [String]) -> Int32 {
    // Before any thread exists: threads inherit the mask, and signals come by descriptor.
    SignalSource.block([SIGTERM, SIGINT, SIGHUP])
    let environment = processEnvironment()
    do {
      let settings = try SettingsParser.parse(
        .frontend, arguments: arguments, environment: environment, readFile: readSmallFile)
      switch settings.request {
      case .help: return say(SettingsTable.frontend.helpText)
      case .dump: return say(SettingsTable.frontend.markdown)
      case .version: return say("dynamo-frontend \(frontendVersion)\n")
      case .run: break
      }
      switch settings.subcommand {
      case "help": return say(SettingsTable.frontend.helpText)
      case "hash-key": return APIKeys.hash()
      case "version": return say("dynamo-frontend \(frontendVersion)\n")
      case "doctor": return Doctor.run(settings, settings.effectiveEnvironment(environment))
      default: return serve(settings, arguments, environment)
      }
    } catch {
      complain("\(error)")
      return 2
    }
  }

  private static func serve(
    _ settings: SettingsValues, _ arguments: [String], _ variables: [String: String]
  ) -> Int32 {
    do {
      let environment = settings.effectiveEnvironment(variables)
      let descriptors = Machine.raiseDescriptorLimit()
      let registry = MetricRegistry(frontendPrefix: settings.string("metrics-prefix"))
      let store = try startTraceStore(settings, registry)
      defer { store?.stop() }
      let telemetry = try ServiceTelemetry(
        environment: environment, defaultName: "dynamo-frontend", version: frontendVersion,
        registry: registry, instanceID: instanceID(), archive: store, recordsRequests: true)
      defer { telemetry.shutdown(within: settings.duration("DYN_TRACE_FLUSH_TIMEOUT_SECS")) }
      let logger = telemetry.outputs.log.logger("\(LogTarget.frontend)")
      for warning in settings.warnings + FrontendConfiguration.warnings(settings) {
        logger.warning("\(warning)")
      }
      announceDefaults(settings, logger)
      store?.announce(telemetry.outputs.log.logger("\(LogTarget.traceStore)"))
      let tokenizer = try loadTokenizer(settings, logger)
      let simulated = try SimulatedWorkers(
        settings, environment: environment, tokenizer: tokenizer, archive: store)
      defer { simulated.stop() }
      let directory = try makeDirectory(
        settings, environment, simulated.urls, telemetry.outputs.log, registry, tokenizer)
      try directory.start()
      defer { directory.stop() }
      let processors = Machine.processorCount
      let handshakes = HandshakeCounters()
      let keys = APIKeys()
      let configure: @Sendable (SettingsValues) throws -> FrontendConfiguration = { settings in
        let faults =
          FrontendConfiguration.listenerFaults(settings) + FrontendConfiguration.sideFaults(settings)
          + ShortPrompts.faults(settings)
        if let fault = faults.first { throw StartError(fault) }
        var configuration = FrontendConfiguration(settings, processors: processors)
        configuration.boundConnections(descriptors: descriptors)
        configuration.tracing.hasContext = telemetry.hasTraceContext
        configuration.tracing.recordsSpans = telemetry.recordsSpans
        configuration.tracing.keep = telemetry.keep
        configuration.tracing.propagators = telemetry.propagators
        configuration.tokenizer = tokenizer
        configuration.keys = try keys.read(settings)
        if let path = settings.optionalString("worker-api-key-file") {
          configuration.workerAuthorization = Array("authorization: Bearer \(try readKey(path))\r\n".utf8)
        }
        do throws(TLSError) {
          try configuration.readCertificates(settings, counters: handshakes)
        } catch {
          throw StartError("cannot serve TLS: \(error.reason)")
        }
        return configuration
      }
      let configuration = try configure(settings)
      keys.adopt(configuration.keys)
      announceCertificate(configuration, logger)
      let sockets = try FrontendSockets.open(configuration, environment: variables)
      let administrator = Administrator(directory)
      let sides = try administrator.sides(sockets, settings)
      let frontend: Frontend
      do throws(SystemError) {
        frontend = try Frontend(
          configuration: configuration, registry: registry, workers: directory, outputs: telemetry.outputs,
          routeSpanName: settings.string("router-mode") == "kv"
            ? SpanName.kvRouteRequest : SpanName.routeRequest,
          buckets: MetricBuckets(environment: environment), sockets: sockets,
          sides: sides)
      } catch {
        throw StartError("cannot start: \(error)")
      }
      let reload = Reload(
        settings, arguments: arguments, environment: variables,
        parts: [
          // Loops read the log filter again when they take the rest.
          .log(telemetry.outputs.log, environment: variables), .workers(directory),
          .frontend(frontend.control, keys: keys, configure: configure),
        ],
        manager: sockets.manager, logger: logger, registry: registry, perform: { directory.perform($0) })
      frontend.onReload = reload.request
      administrator.reloads(by: reload)
      try frontend.run()
      return 0
    } catch {
      complain("\(error)")
      return 1
    }
  }

  /// The trace store inside this process; nil when it is off.
  private static func startTraceStore(
    _ settings: SettingsValues, _ registry: MetricRegistry
  ) throws -> TraceStoreServer? {
    guard settings.bool("trace-store") else { return nil }
    return try TraceStoreServer(
      configuration: TraceStoreConfiguration(settings, version: frontendVersion), registry: registry)
  }

  /// Where our default differs from Dynamo's, the log says so.
  private static func announceDefaults(_ settings: SettingsValues, _ logger: Logger) {
    let mode = settings.string("router-mode")
    if settings.isGiven("router-mode") {
      logger.info("router", metadata: ["mode": "\(mode)"])
    } else {
      logger.info(
        "router", metadata: ["mode": "\(mode)", "note": "the default here; Dynamo's is round-robin"])
    }
    if !settings.isGiven("discovery-backend") {
      logger.info("discovery", metadata: ["backend": "file", "note": "the default here; Dynamo's is etcd"])
    }
  }

  private static func announceCertificate(_ configuration: FrontendConfiguration, _ logger: Logger) {
    guard let days = configuration.certificateDaysLeft(unixSeconds: unixSeconds()) else { return }
    if days < 0 {
      logger.warning("the TLS certificate has ended", metadata: ["days_left": "\(days)"])
    } else {
      logger.info("TLS certificate", metadata: ["days_left": "\(days)"])
    }
  }

  /// The certificates that go with `https://` workers.
  static func workerSecurity(_ settings: SettingsValues) throws -> WorkerSecurityConfiguration {
    var security = WorkerSecurityConfiguration()
    security.rootsPath = settings.optionalString("DYN_WORKER_TLS_CA_PATH")
    security.handshakeTimeout = settings.duration("DYN_HTTP_TLS_HANDSHAKE_TIMEOUT_SECS")
    let certificate = settings.optionalString("DYN_WORKER_TLS_CERT_PATH")
    let key = settings.optionalString("DYN_WORKER_TLS_KEY_PATH")
    if let certificate, let key { security.identity = (certificate, key) }
    guard (certificate == nil) == (key == nil) else {
      throw StartError("DYN_WORKER_TLS_CERT_PATH and DYN_WORKER_TLS_KEY_PATH go together")
    }
    return security
  }

  /// The tokenizer of the model folder; nil when there is none, or when it asks for what is not supported.
  private static func loadTokenizer(_ settings: SettingsValues, _ logger: Logger) throws -> ModelTokenizer? {
    guard let folder = settings.optionalString("model-path") else { return nil }
    do throws(ModelTokenizerError) {
      let tokenizer = try ModelTokenizer(folder: folder, seed: Machine.randomSeed())
      logger.info(
        "tokenizer loaded: prompts are routed by tokens",
        metadata: ["folder": "\(folder)", "tokenizer": "\(tokenizer.summary)"])
      return tokenizer
    } catch {
      switch error {
      case .noFolder: throw StartError("\(settings.origin("model-path")): there is no folder \(folder)")
      case .refused(let reason):
        logger.error(
          "tokenizer refused: prompts are routed by bytes",
          metadata: ["folder": "\(folder)", "reason": "\(reason)"])
        return nil
      }
    }
  }

  private static func makeDirectory(
    _ settings: SettingsValues, _ environment: [String: String], _ simulated: [String], _ log: LogOutput,
    _ registry: MetricRegistry, _ tokenizer: ModelTokenizer?
  ) throws -> WorkerDirectory {
    var configuration = WorkerDirectoryConfiguration()
    configuration.hashesTokens = tokenizer != nil
    configuration.followsCacheEvents =
      settings.bool("router-kv-events") && settings.string("router-mode") == "kv"
    configuration.followsForeignEvents = settings.bool("follow-foreign-kv-events")
    if let tokenizer, settings.string("router-mode") == "kv" {
      configuration.promptSamples = { tokenizer.samples($0, model: $1) }
    }
    configuration.urls = settings.list("worker")
    configuration.prefillURLs = settings.list("prefill-worker")
    configuration.simulatedURLs = simulated
    try chooseDiscovery(settings, environment, &configuration)
    configuration.namespace = settings.optionalString("namespace")
    configuration.namespacePrefix = settings.optionalString("namespace-prefix")
    configuration.modelName = settings.optionalString("model-name")
    configuration.blockSizeOverride = settings.optionalInt("kv-cache-block-size")
    if let path = settings.optionalString("worker-api-key-file") { configuration.apiKey = try readKey(path) }
    configuration.routing = RoutingOptions(settings, blockSize: 16)
    configuration.security = try workerSecurity(settings)
    configuration.outliers = OutlierRules(settings)
    configuration.canary = CanaryConfiguration(settings)
    try readPeers(settings, &configuration)
    return try WorkerDirectory(
      configuration: configuration, logger: log.logger("\(LogTarget.workers)"), registry: registry)
  }

  /// How load is exchanged with other frontends, where it is.
  static func readPeers(
    _ settings: SettingsValues, _ configuration: inout WorkerDirectoryConfiguration
  ) throws {
    guard settings.bool("router-replica-sync") else { return }
    let others = settings.list("router-replica-sync-peers")
    guard let address = settings.optionalString("router-replica-sync-address"), !others.isEmpty else {
      throw StartError(
        "--router-replica-sync needs --router-replica-sync-address and --router-replica-sync-peers")
    }
    var peers = PeerExchangeSettings(address: address, peers: others)
    peers.lease = settings.duration("DYN_ROUTER_REPLICA_SYNC_LEASE_SECS")
    peers.interval = settings.duration("DYN_ROUTER_REPLICA_SYNC_INTERVAL_MS")
    configuration.peers = peers
    configuration.routing.sharesLoad = true
  }

  private static func chooseDiscovery(
    _ settings: SettingsValues, _ environment: [String: String],
    _ configuration: inout WorkerDirectoryConfiguration
  ) throws {
    let environment = settings.effectiveEnvironment(environment)
    var faults: [String] = []
    switch settings.string("discovery-backend") {
    case "file": configuration.discoveryFolder = DiscoveryFolder.resolve(environment: environment)
    case "etcd":
      let etcd = EtcdSettings(environment: environment)
      faults = etcd.faults()
      configuration.etcd = etcd
    case "kubernetes":
      let kubernetes = KubernetesSettings(environment: environment)
      faults = kubernetes.faults()
      configuration.kubernetes = kubernetes
    default: break
    }
    guard faults.isEmpty else { throw StartError(faults.joined(separator: "\n")) }
  }

  private static func instanceID() -> String {
    var random = Xoshiro256(seed: Machine.randomSeed())
    var text = ByteBuffer(capacity: 36)
    text.append(UUID(using: &random))
    return text.text
  }

  static func readKey(_ path: String) throws -> String {
    switch readSmallFile(path) {
    case .text(let text):
      let key = text.split(whereSeparator: { $0 == "\n" || $0 == "\r" }).first.map(String.init) ?? ""
      guard !key.isEmpty else { throw StartError("worker key file \(path) is empty") }
      return key
    case .failed(let reason): throw StartError("worker key file \(path): \(reason)")
    }
  }

  static func say(_ text: String) -> Int32 {
    print(text, terminator: text.hasSuffix("\n") ? "" : "\n")
    return 0
  }

  private static func complain(_ text: String) {
    for line in text.split(separator: "\n") {
      let line = Array("dynamo-frontend: \(line)\n".utf8)
      _ = line.withUnsafeBytes { write(2, $0.baseAddress, $0.count) }
    }
  }
}

/// The wall clock, in seconds since the Unix epoch.
func unixSeconds() -> Int { time(nil) }

/// Why the frontend cannot start.
struct StartError: Error, CustomStringConvertible {
  let description: String

  init(_ description: String) { self.description = description }
}

extension WorkerDirectory: WorkerProvider {}
