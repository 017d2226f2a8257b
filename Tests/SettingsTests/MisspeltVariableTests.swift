// Misspelt environment variables are told once each, with the name that was meant.

import Testing

@testable import Settings

@Suite struct MisspeltVariableTests {
  private func warnings(_ environment: [String: String], _ table: SettingsTable = .frontend) throws
    -> [String]
  {
    try SettingsParser.parse(table, arguments: [], environment: environment).warnings
  }

  @Test(arguments: [
    ("DYN_HTTP_PROT", "DYN_HTTP_PORT"), ("OTEL_EXPORT_ENABLE", "OTEL_EXPORT_ENABLED"),
    ("OTEL_EXPORTER_OTLP_ENDPOINTS", "OTEL_EXPORTER_OTLP_ENDPOINT"),
    ("OTEL_EXPORTER_OTLP_TRACE_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"),
    ("DYN_LOGING_JSONL", "DYN_LOGGING_JSONL"), ("DYN_METRICS_TTFT_MAXX", "DYN_METRICS_TTFT_MAX"),
  ])
  func theNameThatWasMeantIsTold(name: String, meant: String) throws {
    let told = "environment variable \(name) is not known (did you mean \(meant)?)"
    #expect(try warnings([name: "secret value"]) == [told])
    #expect(try warnings([name: ""]) == [])
  }

  @Test(arguments: [
    "DYN_KVBM_CPU_CACHE_GB", "OTEL_SOMETHING_ELSE", "DYNHTTP_PORT", "PATH", "dyn_http_port",
    // Known to the specification, or to another of our programs.
    "OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_LOGS_CLIENT_KEY", "DYN_ENGINE_URL", "DYN_METRICS_ITL_COUNT",
    "DYN_SYSTEM_PORT", "DYN_TRACE_STORE_FILE",
  ])
  func namesOfOthersAreNotTold(name: String) throws { #expect(try warnings([name: "1"]) == []) }

  @Test func everyNameThatAProgramKnowsIsKnown() throws {
    let tables = [SettingsTable.frontend, .worker, .tempo]
    for name in tables.flatMap({ $0.definitions.map(\.environment) }) {
      for table in tables {
        #expect(MisspeltVariables.warnings(in: [name: "x"], of: table) == [], "\(name) in \(table.program)")
      }
    }
  }

  @Test func manyAreTold() throws {
    var environment: [String: String] = [:]
    for letter in "ABCDEFGHIJKL" { environment["DYN_HTTP_PORT\(letter)"] = "1" }
    let told = try warnings(environment)
    #expect(told.count == MisspeltVariables.toldMax + 1)
    #expect(told.last == "4 more environment variables are not known")
    // Past the bound the rest is not looked at.
    for number in 0..<1_000 { environment["DYN_HTTP_PORT\(number % 10)\(number)"] = "1" }
    #expect(try warnings(environment).count <= MisspeltVariables.toldMax + 1)
  }
}
