// The process: settings, log, the store, signals, the end. Thin: everything of weight is in TraceStore.

import Base
import EventLoop
import Exporter
import Glibc
import Logging
import Settings
import Telemetry
import TraceStore

/// Runs dynamo-tempo from command line to exit status.
enum TempoProcess {
  /// 0 after an orderly end, 1 when it could not start, 2 for a bad command line.
  static func run(_ arguments: [String]) -> Int32 {
    // Before any thread exists: threads inherit the mask, and signals come by descriptor.
    SignalSource.block([SIGTERM, SIGINT])
    let environment = processEnvironment()
    let settings: SettingsValues
    do {
      settings = try SettingsParser.parse(
        .tempo, arguments: arguments, environment: environment, readFile: readSmallFile)
    } catch {
      complain("\(error)")
      return 2
    }
    switch (settings.request, settings.subcommand) {
    case (.help, _), (.run, "help"): return say(SettingsTable.tempo.helpText)
    case (.dump, _): return say(SettingsTable.tempo.markdown)
    case (.version, _), (.run, "version"):
      return say("dynamo-tempo \(TraceStoreConfiguration().version)\n")
    case (.run, _): break
    }
    do {
      try serve(settings, settings.effectiveEnvironment(environment))
      return 0
    } catch {
      complain("\(error)")
      return 1
    }
  }

  private static func serve(_ settings: SettingsValues, _ environment: [String: String]) throws {
    Machine.raiseDescriptorLimit()
    let logConfiguration = LogConfiguration(environment: environment)
    let writer = try LogWriter { count in
      LogOutput.droppedLine(count, configuration: logConfiguration, at: Machine.wallNanoseconds)
    }
    defer { _ = writer.stop(within: second) }
    let log = LogOutput(configuration: logConfiguration, sink: writer) { Machine.wallNanoseconds }
    let logger = log.logger("\(LogTarget.traceStore)")
    for warning in settings.warnings + logConfiguration.warnings { logger.warning("\(warning)") }
    let version = TraceStoreConfiguration().version
    let registry = MetricRegistry()
    registry.registerProcess(service: "dynamo-tempo", version: version)
    registry.observe(.logLinesDropped, .counter) { Double(writer.droppedLines) }
    let loop = try EventLoop(index: 0, seed: 0)
    let signals = try SignalSource([SIGTERM, SIGINT], on: loop) { number in
      logger.info("signal received", metadata: ["signal": "\(number == SIGTERM ? "SIGTERM" : "SIGINT")"])
      loop.stop()
    }
    let store = try TraceStoreServer(
      configuration: TraceStoreConfiguration(settings, version: version), registry: registry)
    store.announce(logger)
    withExtendedLifetime(signals) { loop.run() }
    store.stop()
  }

  private static func say(_ text: String) -> Int32 {
    print(text, terminator: text.hasSuffix("\n") ? "" : "\n")
    return 0
  }

  private static func complain(_ text: String) {
    for line in text.split(separator: "\n") {
      let line = Array("dynamo-tempo: \(line)\n".utf8)
      _ = line.withUnsafeBytes { write(2, $0.baseAddress, $0.count) }
    }
  }
}
