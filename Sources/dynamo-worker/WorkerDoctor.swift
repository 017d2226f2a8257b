// `dynamo-worker doctor`: every effective setting and where it came from, and what can be reached.

import Base
import EventLoop
import Exporter
import Glibc
import Settings
import WorkerServer

/// Prints the settings and checks engine, discovery and collector. Nothing is started.
enum WorkerDoctor {
  /// 0 when all that is configured can be reached, else 1.
  static func run(
    _ settings: SettingsValues, _ configuration: WorkerConfiguration, _ environment: [String: String]
  ) -> Int32 {
    print("settings:\n\(settings.reportText)\nchecks:")
    for warning in settings.warnings + configuration.warnings(passThrough: settings.passThrough) {
      print("note     \(warning)")
    }
    var isWell = engine(configuration)
    cacheEvents(configuration)
    if let path = configuration.discoveryPath {
      isWell = tell("discovery folder \(path)", configuration.discoveryProblem) && isWell
    } else if let endpoints = configuration.etcdEndpoints {
      for (url, host, port) in endpoints {
        isWell = tell("etcd \(url)", Sockets.whyUnreachable(host, port)) && isWell
      }
    } else {
      print("note     the worker registers nowhere")
    }
    return telemetry(configuration, environment) && isWell ? 0 : 1
  }

  private static func engine(_ configuration: WorkerConfiguration) -> Bool {
    guard case .openAI(let url, _) = configuration.engine else {
      print("note     the engine is simulated")
      return true
    }
    if configuration.engineCommand != nil {
      print("note     the engine at \(url) is started by the worker")
      return true
    }
    guard let (host, port) = WorkerConfiguration.engineAddress(url) else {
      return tell("engine \(url)", "not an http:// URL")
    }
    return tell("engine \(url)", Sockets.whyUnreachable(host, port))
  }

  /// libzmq is a choice: where it is absent nothing fails, unless an address was given, which is a fault of its own.
  private static func cacheEvents(_ configuration: WorkerConfiguration) {
    if case .off = configuration.cacheEvents.endpoint {
      print("note     cache events are off (--kv-events-endpoint)")
    } else if let problem = WorkerConfiguration.cacheEventsProblem {
      print("note     cache events are off: \(problem)")
    } else {
      print("ok       libzmq, for cache events")
    }
  }

  private static func telemetry(_ configuration: WorkerConfiguration, _ environment: [String: String]) -> Bool
  {
    let lines = TelemetryCheck.lines(
      environment: environment, defaultName: "dynamo-worker", version: configuration.version,
      now: Machine.wallNanoseconds)
    for line in lines { print(line.text) }
    return !lines.contains { $0.isProblem }
  }

  private static func tell(_ name: String, _ problem: String?) -> Bool {
    print(problem.map { "PROBLEM  \(name): \($0)" } ?? "ok       \(name)")
    return problem == nil
  }
}
