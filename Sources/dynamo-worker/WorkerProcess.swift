// The process: settings, telemetry, the worker, signals, the end. Thin: everything of weight is in WorkerServer.

import Base
import EventLoop
import Exporter
import Glibc
import Logging
import Prompts
import Settings
import Telemetry
import WorkerServer
import Workers

/// Runs dynamo-worker from command line to exit status.
enum WorkerProcess {
  /// 0 after an orderly end, 1 when it could not start, 2 for a bad command line.
  static func run(_ arguments: [String]) -> Int32 {
    // Before any thread exists: threads inherit the mask, and signals come by descriptor.
    SignalSource.block([SIGTERM, SIGINT])
    let environment = processEnvironment()
    let settings: SettingsValues
    let configuration: WorkerConfiguration
    do {
      settings = try SettingsParser.parse(
        .worker, arguments: arguments, environment: environment, readFile: readSmallFile)
      switch settings.request {
      case .help: return say(SettingsTable.worker.helpText)
      case .dump: return say(SettingsTable.worker.markdown)
      case .version: return say("dynamo-worker \(WorkerConfiguration().version)\n")
      case .run: break
      }
      configuration = try WorkerConfiguration(settings, environment: environment)
      if settings.subcommand == "doctor" {
        return WorkerDoctor.run(settings, configuration, settings.effectiveEnvironment(environment))
      }
    } catch {
      complain("\(error)")
      return 2
    }
    do {
      try serve(configuration, settings, settings.effectiveEnvironment(environment))
      return 0
    } catch {
      complain("\(error)")
      return 1
    }
  }

  private static func serve(
    _ configuration: WorkerConfiguration, _ settings: SettingsValues, _ environment: [String: String]
  ) throws {
    Machine.raiseDescriptorLimit()
    var random = Xoshiro256(seed: Machine.randomSeed())
    var id = ByteBuffer(capacity: 36)
    id.append(UUID(using: &random))
    let registry = MetricRegistry()
    let service = try ServiceTelemetry(
      environment: environment, defaultName: "dynamo-worker", version: configuration.version,
      registry: registry,
      instanceID: id.text)
    defer { service.shutdown(within: settings.duration("DYN_TRACE_FLUSH_TIMEOUT_SECS")) }
    let logger = service.outputs.log.logger("\(LogTarget.worker)")
    for warning in settings.warnings + configuration.warnings(passThrough: settings.passThrough) {
      logger.warning("\(warning)")
    }
    var configuration = configuration
    configuration.tokenizer = tokenizer(configuration, settings, logger)
    let worker = WorkerServer(
      configuration: configuration,
      telemetry: WorkerTelemetry(
        spanSink: service.outputs.spanSink, ledger: service.outputs.ledger, registry: registry,
        logs: service.outputs.log, tracesContext: service.hasTraceContext,
        propagators: service.propagators, trust: trust(settings, logger),
        sampler: Sampler(
          named: settings.optionalString("OTEL_TRACES_SAMPLER"),
          argument: settings.optionalDouble("OTEL_TRACES_SAMPLER_ARG"),
          ratio: settings.optionalDouble("OTEL_TRACES_SAMPLE_RATIO")), keep: service.keep,
        publisherLimits: service.outputs.publisherLimits))
    try worker.start()
    try waitForEnd(of: worker, logger)
    worker.join()
  }

  /// Whose trace context is believed. A worker that does not believe its frontend cuts each trace in two.
  private static func trust(_ settings: SettingsValues, _ logger: Logger) -> CallerTrust {
    var faults: [String] = []
    let trust = CallerTrust(
      settings.string("DYN_TRACE_TRUST"), peers: settings.list("DYN_TRACE_TRUSTED_PEERS"), faults: &faults)
    for fault in faults { logger.warning("DYN_TRACE_TRUSTED_PEERS: \(fault)") }
    if let warning = trust.workerWarning { logger.warning("\(warning)") }
    return trust
  }

  /// The tokenizer of the model's folder, for a simulated engine; nil where it cannot be had, and then the log says why.
  private static func tokenizer(
    _ configuration: WorkerConfiguration, _ settings: SettingsValues, _ logger: Logger
  ) -> ModelTokenizer? {
    guard case .simulated = configuration.engine, let folder = settings.optionalString("model-path") else {
      return nil
    }
    do throws(ModelTokenizerError) {
      let tokenizer = try ModelTokenizer(folder: folder, seed: Machine.randomSeed())
      logger.info(
        "tokenizer loaded: the simulated engine counts tokens",
        metadata: ["folder": "\(folder)", "tokenizer": "\(tokenizer.summary)"])
      return tokenizer
    } catch {
      let reason =
        switch error {
        case .noFolder: "there is no such folder"
        case .refused(let reason): reason
        }
      logger.warning(
        "no tokenizer: the simulated engine counts bytes",
        metadata: ["folder": "\(folder)", "reason": "\(reason)"])
      return nil
    }
  }

  /// Returns when a signal was followed by an orderly end, or a second one cut it short.
  private static func waitForEnd(of worker: WorkerServer, _ logger: Logger) throws {
    let loop = try EventLoop(index: 0, seed: 0)
    let mailbox = loop.mailbox
    let signals = try SignalSource([SIGTERM, SIGINT], on: loop) { number in
      logger.info("signal received", metadata: ["signal": "\(number == SIGTERM ? "SIGTERM" : "SIGINT")"])
      worker.stop { mailbox.submit { $0.stop() } }
    }
    withExtendedLifetime(signals) { loop.run() }
  }

  private static func say(_ text: String) -> Int32 {
    print(text, terminator: text.hasSuffix("\n") ? "" : "\n")
    return 0
  }

  private static func complain(_ text: String) {
    for line in text.split(separator: "\n") {
      let line = Array("dynamo-worker: \(line)\n".utf8)
      _ = line.withUnsafeBytes { write(2, $0.baseAddress, $0.count) }
    }
  }
}
