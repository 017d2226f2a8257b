// dynamo-frontend: settings, telemetry, workers and the frontend, put together.

import Base
import EventLoop
import Exporter
import Frontend
import Glibc
import Routing
import Settings
import Synchronization
import Telemetry
import Transport
import Workers

/// Temporary: static workers without probes.
final class StaticWorkers: WorkerProvider {
  let set: WorkerSet
  init(_ urls: [String], model: String) {
    let workers = urls.enumerated().map { index, url in
      let rest = url.dropFirst("http://".count)
      let parts = rest.split(separator: ":")
      let addresses = SocketAddress.resolve(host: String(parts[0]), port: UInt16(parts[1]) ?? 80)
      return Worker(
        id: UInt64(index + 1), url: url,
        upstream: Upstream(id: UInt64(index + 1), addresses: addresses, authority: String(rest)),
        source: .fixed,
        state: .ready, models: [model])
    }
    let routing = ModelRouting(options: RoutingOptions())
    routing.workersChanged(workers)
    set = WorkerSet(
      generation: 1, workers: workers,
      models: [ServedModel(name: model, workers: workers, created: 0, routing: routing)])
  }
  func connectFailed(_ worker: UInt64) {}
  func subscribe(_ mailbox: Mailbox, _ adopt: @escaping @Sendable (EventLoop, WorkerSet) -> Void) {
    let set = set
    mailbox.submit { adopt($0, set) }
  }
}

SignalSource.block([SIGTERM, SIGINT, SIGHUP])
let environment = processEnvironment()
let values: SettingsValues
do {
  values = try SettingsParser.parse(
    .frontend, arguments: Array(CommandLine.arguments.dropFirst()), environment: environment)
} catch {
  print(error)
  exit(2)
}
switch values.request {
case .help: print(SettingsTable.frontend.helpText); exit(0)
case .version: print(frontendVersion); exit(0)
case .dump: print(SettingsTable.frontend.markdown); exit(0)
case .run: break
}
Machine.raiseDescriptorLimit()
let registry = MetricRegistry()
let telemetry = try ServiceTelemetry(
  environment: environment, defaultName: "dynamo-frontend", version: frontendVersion, registry: registry,
  instanceID: "x")
var configuration = FrontendConfiguration()
configuration.host = values.string("http-host")
configuration.port = UInt16(values.int("http-port"))
configuration.threads = values.optionalInt("threads") ?? Machine.processorCount
configuration.tracing.hasContext = telemetry.hasTraceContext
configuration.tracing.recordsSpans = telemetry.recordsSpans
let workers = StaticWorkers(values.list("worker"), model: environment["BENCH_MODEL"] ?? "mock")
let frontend = try Frontend(
  configuration: configuration, registry: registry, workers: workers, outputs: telemetry.outputs,
  routeSpanName: SpanName.kvRouteRequest, buckets: MetricBuckets(environment: environment))
try frontend.run()
telemetry.shutdown(within: 5 * second)
