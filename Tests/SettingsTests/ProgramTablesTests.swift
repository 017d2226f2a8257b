// The tables of the real programs: sound, printable, and true to the command lines they must accept.

import Base
import Testing

@testable import Settings

@Suite struct ProgramTables {
  static let all: [SettingsTable] = [.frontend, .worker]

  @Test(arguments: [0, 1])
  func namesAreUniqueAndDefaultsAreValues(_ index: Int) throws {
    let table = Self.all[index]
    var flags = table.definitions.flatMap { [$0.flag].compactMap { $0 } + $0.olderFlags }
    flags += table.foreign.map(\.flag) + ["help", "version", "config", "dump"]
    #expect(Set(flags).count == flags.count)
    let variables =
      table.definitions.flatMap { [$0.environment] + $0.olderEnvironment }
      + table.foreign.compactMap(\.environment)
    #expect(Set(variables).count == variables.count)
    _ = try SettingsParser.parse(table, arguments: [], environment: [:])
  }

  @Test(arguments: [0, 1])
  func helpFitsTheLineAndNamesEverySetting(_ index: Int) {
    let table = Self.all[index]
    let help = table.helpText
    for definition in table.definitions {
      #expect(help.contains(definition.environment))
    }
    for line in help.split(separator: "\n") where line.count > 100 { Issue.record("too wide: \(line)") }
    #expect(
      table.markdown.contains("| Flag | Environment | Default |\(table.reloads ? " SIGHUP |" : "") Meaning |")
    )
  }

  @Test func frontendTakesTheWalkThroughsCommandLine() throws {
    let values = try SettingsParser.parse(
      .frontend, arguments: ["--router-mode", "kv", "--http-port=8000"],
      environment: [
        "DYN_LOGGING_JSONL": "true", "OTEL_EXPORT_ENABLED": "ON",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://localhost:4317", "OTEL_SERVICE_NAME": "dynamo-frontend",
        "HOME": "/root",
      ])
    #expect(values.string("router-mode") == "kv")
    #expect(values.bool("OTEL_EXPORT_ENABLED"))
    #expect(values.bool("DYN_LOGGING_JSONL"))
    #expect(values.string("OTEL_SERVICE_NAME") == "dynamo-frontend")
    #expect(values.duration("DYN_HTTP_KEEP_ALIVE_TIMEOUT_SECS") == 75 * second)
    #expect(values.duration("OTEL_BSP_EXPORT_TIMEOUT") == 30 * second)
    #expect(values.warnings == [])
  }

  @Test func workerTakesTheWalkThroughsCommandLine() throws {
    let values = try SettingsParser.parse(
      .worker, arguments: ["--model", "Qwen/Qwen3-0.6B", "--enforce-eager"], environment: [:])
    #expect(values.string("model") == "Qwen/Qwen3-0.6B")
    #expect(values.passThrough == ["--enforce-eager"])
    #expect(values.string("engine") == "sim")
    #expect(values.int("port") == 0)
  }

  @Test func olderWeightSetsThePrefillScale() throws {
    let values = try SettingsParser.parse(
      .frontend, arguments: ["--kv-overlap-score-weight", "2"], environment: [:])
    #expect(values.double("router-prefill-load-scale") == 2)
  }

  @Test func tlsHasDynamosNames() throws {
    let values = try SettingsParser.parse(
      .frontend, arguments: ["--tls-cert-path", "a", "--tls-client-ca-cert-path=b"],
      environment: ["DYN_TLS_KEY_PATH": "c"])
    #expect(values.string("tls-cert-path") == "a")
    #expect(values.string("tls-client-ca-cert-path") == "b")
    #expect(values.string("tls-key-path") == "c")
  }

  @Test func processEnvironmentIsRead() {
    #expect(processEnvironment()["PATH"]?.isEmpty == false)
  }
}
