// `--simulate N`: workers with simulated engines inside this process, for a first try.

import Base
import EventLoop
import Exporter
import Frontend
import Logging
import Prompts
import Settings
import Telemetry
import WorkerServer

/// N worker servers on loopback ports, with telemetry of their own: their spans come from `dynamo-worker`.
final class SimulatedWorkers {
  private let workers: [WorkerServer]
  private let telemetry: ServiceTelemetry?
  /// Where they listen.
  let urls: [String]

  /// - Parameters:
  ///   - tokenizer: makes the workers' tokens as it makes the frontend's; nil counts bytes.
  ///   - archive: keeps the workers' spans in this process as well.
  init(
    _ settings: SettingsValues, environment: [String: String], tokenizer: ModelTokenizer?,
    archive: (any SpanArchive)?
  ) throws {
    let count = settings.int("simulate")
    guard count > 0 else {
      workers = []
      telemetry = nil
      urls = []
      return
    }
    var variables = environment
    // The name that was given is the frontend's.
    variables[EnvironmentName.otelServiceName] = nil
    var configuration = WorkerConfiguration()
    if let model = settings.optionalString("model-name") { configuration.model = model }
    configuration.modelIsGiven = true
    configuration.tokenizer = tokenizer
    configuration.drainTimeout = second
    // As a worker in a process of its own would, for a frontend that listens.
    let follows = settings.bool("router-kv-events") && settings.string("router-mode") == "kv"
    if follows { configuration.cacheEvents.endpoint = .automatic }
    let registry = MetricRegistry()
    let telemetry = try ServiceTelemetry(
      environment: variables, defaultName: "dynamo-worker", version: configuration.version,
      registry: registry,
      instanceID: "simulated-\(Machine.randomSeed() % 1_000_000)", archive: archive)
    let outputs = WorkerTelemetry(
      spanSink: telemetry.outputs.spanSink, ledger: telemetry.outputs.ledger, registry: registry,
      logs: telemetry.outputs.log, tracesContext: telemetry.hasTraceContext,
      propagators: telemetry.propagators, sampler: Sampler(settings), keep: telemetry.keep,
      publisherLimits: telemetry.outputs.publisherLimits)
    if follows, let problem = WorkerConfiguration.cacheEventsProblem {
      telemetry.outputs.log.logger("\(LogTarget.worker)").warning(
        "simulated workers publish no cache events: their caches are predicted",
        metadata: ["reason": "\(problem)"])
    }
    var started: [WorkerServer] = []
    for _ in 0..<count {
      let worker = WorkerServer(configuration: configuration, telemetry: outputs)
      try worker.start()
      started.append(worker)
    }
    workers = started
    self.telemetry = telemetry
    urls = started.map(\.url)
  }

  /// Stops the workers and sends their last spans.
  func stop() {
    for worker in workers { worker.stop {} }
    for worker in workers { worker.join() }
    telemetry?.shutdown(within: second)
  }
}
