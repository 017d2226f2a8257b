// The tracing switches and the SDK's variables, value by value.

import Base
import GRPC
import TestSupport
import Testing
import Transport

@testable import Exporter

private func settings(_ environment: [String: String]) throws -> ExporterSettings {
  try ExporterConfiguration.from(
    environment: environment.merging(["OTEL_EXPORT_ENABLED": "true"]) { mine, _ in mine }, version: "1.0")
}

private func configuration(_ environment: [String: String]) throws -> ExporterConfiguration {
  try #require(try settings(environment).configuration)
}

struct ExporterConfigurationTests {
  @Test(arguments: ["1", "true", "TRUE", "on", "yes", "Yes"])
  func exportIsOn(value: String) throws {
    #expect(try settings(["OTEL_EXPORT_ENABLED": value]).configuration != nil)
  }

  @Test(arguments: ["", "0", "false", "off", "no", "enabled"])
  func exportIsOff(value: String) throws {
    #expect(try settings(["OTEL_EXPORT_ENABLED": value]).configuration == nil)
  }

  @Test func exportIsOffWithoutTheSwitchAndWhereTheSDKIs() throws {
    #expect(try ExporterConfiguration.from(environment: [:], version: "1").configuration == nil)
    #expect(try settings(["OTEL_SDK_DISABLED": "true"]).configuration == nil)
    #expect(try settings(["OTEL_SDK_DISABLED": "1"]).configuration != nil)
    #expect(try settings(["OTEL_TRACES_EXPORTER": "none"]).configuration == nil)
    // What would be refused does not matter while export is off.
    #expect(
      try settings(["OTEL_EXPORT_ENABLED": "0", "OTEL_EXPORTER_OTLP_ENDPOINT": "https://x"]).configuration
        == nil)
  }

  @Test func defaultsHold() throws {
    let configuration = try configuration([:])
    #expect(configuration.host == "localhost")
    #expect(configuration.port == 4317)
    #expect(configuration.method.authority == "localhost:4317")
    #expect(configuration.callTimeout == 10 * second)
    #expect(configuration.delay == second)
    #expect(configuration.queue.spansMax == 65_536)
    #expect(configuration.queue.bytesMax == 16 << 20)
    #expect(configuration.queue.spansDue == 2_048)
    #expect(configuration.method.userAgent == "OTel-OTLP-Exporter-Swift/1.0")
    #expect(try settings([:]).warnings.isEmpty)
  }

  @Test func endpointsFollowTheirOrder() throws {
    var environment = ["OTEL_EXPORT_ENDPOINT": "http://c:3"]
    let old = try settings(environment)
    #expect(old.configuration?.host == "c")
    #expect(old.warnings.count == 1)
    environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://b:2"
    #expect(try configuration(environment).host == "b")
    environment["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] = "http://a:1"
    #expect(try configuration(environment).host == "a")
    environment["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] = ""
    #expect(try configuration(environment).host == "b")
  }

  @Test(arguments: [
    ("http://tempo:4317", "tempo", 4317, "tempo:4317"), ("http://tempo", "tempo", 4317, "tempo:4317"),
    ("HTTP://tempo:14317/ignored/path?x", "tempo", 14317, "tempo:14317"),
    ("http://127.0.0.1:65535/", "127.0.0.1", 65535, "127.0.0.1:65535"),
    ("http://[::1]:4317", "::1", 4317, "[::1]:4317"), ("http://[fe80::1]", "fe80::1", 4317, "[fe80::1]:4317"),
    ("  http://tempo:4317 ", "tempo", 4317, "tempo:4317"),
  ])
  func endpointIsRead(url: String, host: String, port: UInt16, authority: String) throws {
    let configuration = try configuration(["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": url])
    #expect(configuration.host == host)
    #expect(configuration.port == port)
    #expect(configuration.method.authority == authority)
  }

  @Test(arguments: [
    "ftp://tempo:4317", "http://", "http://:4317", "https://", "https://:4317",
    "http://tempo:0", "http://tempo:65536", "http://tempo:x", "http://tempo:+1", "http://[::1",
    "http://[::1]x",
    "http://user@tempo:4317", "http://a b:4317", "http://tempo:", "unix:///run/otlp.sock",
  ])
  func endpointThatCannotBeFollowedIsRefusedByName(url: String) {
    let error = #expect(throws: ExporterConfigurationError.self) {
      try settings(["OTEL_EXPORTER_OTLP_ENDPOINT": url])
    }
    #expect(error?.message.contains("OTEL_EXPORTER_OTLP_ENDPOINT=\(url)") == true)
  }

  @Test func endpointWithoutASchemeNeedsTheWordInsecure() throws {
    let environment = ["OTEL_EXPORTER_OTLP_ENDPOINT": "tempo:4317", "OTEL_EXPORTER_OTLP_INSECURE": "true"]
    #expect(try configuration(environment).host == "tempo")
    #expect(try configuration(environment).security == nil)
  }

  @Test(arguments: ["https://tempo:4317", "HTTPS://tempo", "tempo:4317", "tempo"])
  func tlsIsSpokenWhereTheSchemeSaysSoOrIsMissing(url: String) throws {
    let configuration = try configuration(["OTEL_EXPORTER_OTLP_ENDPOINT": url])
    #expect(configuration.security?.serverName == "tempo")
    #expect(configuration.method.authority == "tempo:4317")
  }

  @Test func certificateFilesOfTracesWinAndBadOnesAreNamed() throws {
    let authority = try TestAuthority()
    let own = try authority.issue { $0.isForClients = true }
    var environment = [
      "OTEL_EXPORTER_OTLP_ENDPOINT": "https://tempo:4317", "OTEL_EXPORTER_OTLP_CERTIFICATE": "/no/such",
      "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE": authority.path,
      "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": own.certificate, "OTEL_EXPORTER_OTLP_CLIENT_KEY": own.key,
    ]
    #expect(try configuration(environment).security != nil)
    func message() -> String? {
      #expect(throws: ExporterConfigurationError.self) { try settings(environment) }?.message
    }
    environment["OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY"] = authority.path
    #expect(message() == "TLS to the span receiver: \(authority.path): holds no private key in PEM form")
    environment["OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY"] = nil
    environment["OTEL_EXPORTER_OTLP_CLIENT_KEY"] = nil
    #expect(message()?.hasPrefix("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE is given without") == true)
    environment["OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"] = nil
    environment["OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE"] = nil
    #expect(message() == "TLS to the span receiver: /no/such: No such file or directory")
    // Nobody asks for them in plain text.
    environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://tempo:4317"
    #expect(try configuration(environment).security == nil)
  }

  @Test func protocolThatIsNotSpokenIsRefused() {
    #expect(throws: ExporterConfigurationError.self) {
      try settings(["OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"])
    }
  }

  @Test(arguments: ["http/protobuf", "HTTP/protobuf"])
  func httpHasItsOwnEndpoint(value: String) throws {
    let configuration = try configuration(["OTEL_EXPORTER_OTLP_PROTOCOL": value])
    #expect(configuration.transport == .http)
    #expect(configuration.method.authority == "localhost:4318")
    #expect(configuration.method.path == "/v1/traces")
  }

  @Test(arguments: [
    ("http://c:4318", "/v1/traces", 4318), ("http://c:4318/", "/v1/traces", 4318),
    ("http://c/base", "/base/v1/traces", 80), ("http://c/base/", "/base/v1/traces", 80),
    ("http://[::1]:4318/a/b?x=1#f", "/a/b/v1/traces", 4318),
  ])
  func generalEndpointIsABaseForHTTP(url: String, path: String, port: UInt16) throws {
    let configuration = try configuration([
      "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf", "OTEL_EXPORTER_OTLP_ENDPOINT": url,
    ])
    #expect(configuration.method.path == path)
    #expect(configuration.port == port)
  }

  @Test(arguments: [
    ("http://c:4318", "/"), ("http://c:4318/", "/"), ("http://c/v1/traces", "/v1/traces"),
    ("http://c/any/where/?k=v#f", "/any/where/?k=v"), ("http://c?k=v", "/?k=v"),
  ])
  func endpointOfTracesIsUsedAsItStandsForHTTP(url: String, path: String) throws {
    let configuration = try configuration([
      "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": url,
    ])
    #expect(configuration.method.path == path)
  }

  @Test func httpsOfHTTPHasItsOwnPort() throws {
    let configuration = try configuration([
      "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf", "OTEL_EXPORTER_OTLP_ENDPOINT": "https://c/base",
    ])
    #expect(configuration.security?.serverName == "c")
    #expect(configuration.port == 443)
    #expect(configuration.method.path == "/base/v1/traces")
    #expect(configuration.method.scheme == "https")
  }

  @Test(arguments: ["c:4318", "http://c/a b", "http://c/\u{e4}"])
  func endpointThatHTTPCannotFollowIsRefused(url: String) {
    #expect(throws: ExporterConfigurationError.self) {
      try settings(["OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf", "OTEL_EXPORTER_OTLP_ENDPOINT": url])
    }
  }

  @Test func protocolOfTracesWinsAndUnknownOnesAreIgnored() throws {
    let environment = [
      "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc",
    ]
    #expect(try settings(environment).warnings.isEmpty)
    let unknown = try settings(["OTEL_EXPORTER_OTLP_PROTOCOL": "carrier-pigeon"])
    #expect(unknown.configuration != nil)
    #expect(unknown.warnings.count == 1)
  }

  @Test func headersAreDecodedAndLowered() throws {
    let configuration = try configuration([
      "OTEL_EXPORTER_OTLP_HEADERS": "X-Scope-OrgID = tenant%201 ,, authorization=Bearer%20a%3Db"
    ])
    #expect(configuration.method.metadata.map { $0.name } == ["x-scope-orgid", "authorization"])
    #expect(configuration.method.metadata.map { $0.value } == ["tenant 1", "Bearer a=b"])
  }

  @Test func badHeadersAreIgnoredWithoutTheirValues() throws {
    let settings = try settings([
      "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "good=1,noequals,bad=%zz,line=secret%0Abreak,te=x,=v",
      "OTEL_EXPORTER_OTLP_HEADERS": "other=1",
    ])
    #expect(settings.configuration?.method.metadata.map { $0.name } == ["good"])
    #expect(settings.warnings.count == 5)
    #expect(!settings.warnings.contains { $0.contains("secret") })
  }

  @Test func timesAreRead() throws {
    let configuration = try configuration([
      "OTEL_EXPORTER_OTLP_TIMEOUT": "2500", "OTEL_BSP_SCHEDULE_DELAY": "200",
      "OTEL_BSP_EXPORT_TIMEOUT": "7000",
    ])
    #expect(configuration.callTimeout == 2_500 * millisecond)
    #expect(configuration.delay == 200 * millisecond)
    #expect(configuration.retry.total == 7 * second)
    let traces = ["OTEL_EXPORTER_OTLP_TIMEOUT": "1", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT": "60000"]
    #expect(try self.configurationOf(traces).callTimeout == 60 * second)
    #expect(try self.configurationOf(traces).retry.total == 60 * second)
    #expect(try self.configurationOf(["OTEL_EXPORTER_OTLP_TIMEOUT": "0"]).callTimeout == nil)
  }

  private func configurationOf(_ environment: [String: String]) throws -> ExporterConfiguration {
    try configuration(environment)
  }

  @Test func batchingIsRead() throws {
    let configuration = try configuration([
      "OTEL_BSP_MAX_QUEUE_SIZE": "300", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "100",
    ])
    #expect(configuration.queue.spansMax == 300)
    #expect(configuration.queue.spansDue == 100)
    #expect(configuration.message.spansMax == 100)
    let small = try self.configurationOf(["OTEL_BSP_MAX_QUEUE_SIZE": "100"])
    #expect(small.queue.spansDue == 100)
    let crossed = try settings(["OTEL_BSP_MAX_QUEUE_SIZE": "100", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "200"])
    #expect(crossed.configuration?.queue.spansDue == 100)
    #expect(crossed.warnings.count == 1)
  }

  @Test(arguments: [
    "OTEL_BSP_MAX_QUEUE_SIZE", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "OTEL_BSP_SCHEDULE_DELAY",
    "OTEL_BSP_EXPORT_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT",
  ])
  func badNumbersAreIgnoredWithAWarning(name: String) throws {
    for value in ["x", "-1", "1.5", "99999999999999999999"] {
      let settings = try settings([name: value])
      #expect(settings.warnings.count == 1)
      #expect(settings.configuration?.queue.spansMax == 65_536)
      #expect(settings.configuration?.callTimeout == 10 * second)
    }
  }

  @Test(arguments: [("gzip", true), ("GZIP", true), ("none", false), ("", false)])
  func compressionIsRead(value: String, isOn: Bool) throws {
    let read = try settings(["OTEL_EXPORTER_OTLP_COMPRESSION": value])
    #expect(read.configuration?.compresses == isOn)
    #expect(read.warnings.isEmpty)
    let traces = try configuration([
      "OTEL_EXPORTER_OTLP_COMPRESSION": "none", "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION": value,
    ])
    #expect(traces.compresses == isOn)
  }

  @Test func unknownCompressionIsIgnoredWithAWarning() throws {
    let read = try settings(["OTEL_EXPORTER_OTLP_COMPRESSION": "zstd"])
    #expect(read.configuration?.compresses == false)
    #expect(read.warnings.count == 1)
  }

  @Test func boundsOfOurOwnAreRead() throws {
    let configuration = try configuration([
      "DYN_TRACE_QUEUE_MB": "8", "DYN_TRACE_EXPORT_CONCURRENCY": "3", "DYN_TRACE_SPOOL_DIR": "/var/spool/x",
      "DYN_TRACE_SPOOL_MB": "5",
    ])
    #expect(configuration.queue.bytesMax == 8 << 20)
    #expect(configuration.concurrentCalls == 3)
    #expect(configuration.spool == SpoolConfiguration(folder: "/var/spool/x", bytesMax: 5 << 20))
    #expect(try self.configurationOf(["DYN_TRACE_SPOOL_MB": "5"]).spool == nil)
    let bad = try settings(["DYN_TRACE_EXPORT_CONCURRENCY": "17", "DYN_TRACE_QUEUE_MB": "0"])
    #expect(bad.warnings.count == 2)
    #expect(bad.configuration?.concurrentCalls == 1)
    // Other SDKs' name; our own goes before it.
    let other = try settings(["OTEL_BSP_MAX_CONCURRENT_EXPORTS": "4"])
    #expect(other.configuration?.concurrentCalls == 4)
    let both = try settings(["OTEL_BSP_MAX_CONCURRENT_EXPORTS": "4", "DYN_TRACE_EXPORT_CONCURRENCY": "2"])
    #expect(both.configuration?.concurrentCalls == 2)
    let none = try settings(["OTEL_BSP_MAX_CONCURRENT_EXPORTS": "none"])
    #expect(none.configuration?.concurrentCalls == 1)
    #expect(none.warnings.contains { $0.hasPrefix("OTEL_BSP_MAX_CONCURRENT_EXPORTS ") })
  }
}

struct SignalConfigurationTests {
  private func settings(_ signal: ExportSignal, _ environment: [String: String]) throws -> ExporterSettings {
    try ExporterConfiguration.from(environment: environment, version: "1.0", signal: signal)
  }

  @Test(arguments: [ExportSignal.metrics, .logs]) func withoutBeingAskedForTheyAreOff(_ signal: ExportSignal)
    throws
  {
    for environment in [
      [:], ["OTEL_EXPORT_ENABLED": "true"], ["OTEL_\(signal.infix)_EXPORTER": "console"],
      ["OTEL_\(signal.infix)_EXPORTER": "none"],
      ["OTEL_\(signal.infix)_EXPORTER": "otlp", "OTEL_SDK_DISABLED": "true"],
    ] { #expect(try settings(signal, environment).configuration == nil, "\(environment)") }
    for value in ["otlp", "OTLP", "console, otlp"] {
      #expect(try settings(signal, ["OTEL_\(signal.infix)_EXPORTER": value]).configuration != nil)
    }
  }

  @Test func dynamosSwitchIsForLogsAlone() throws {
    let environment = ["OTEL_EXPORT_LOGS_ENABLED": "on"]
    #expect(try settings(.logs, environment).configuration != nil)
    #expect(try settings(.metrics, environment).configuration == nil)
    #expect(
      try settings(.logs, environment.merging(["OTEL_LOGS_EXPORTER": "none"]) { $1 }).configuration == nil)
  }

  @Test func eachHasItsOwnVariablesAndPaths() throws {
    let environment = [
      "OTEL_METRICS_EXPORTER": "otlp", "OTEL_LOGS_EXPORTER": "otlp",
      "OTEL_EXPORTER_OTLP_ENDPOINT": "http://all:1/base/",
      "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://metrics:2/mine",
      "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf", "OTEL_EXPORTER_OTLP_LOGS_PROTOCOL": "grpc",
      "OTEL_EXPORTER_OTLP_HEADERS": "a=1", "OTEL_EXPORTER_OTLP_METRICS_HEADERS": "b=2",
      "OTEL_EXPORTER_OTLP_LOGS_COMPRESSION": "gzip", "OTEL_EXPORTER_OTLP_METRICS_TIMEOUT": "7",
      "OTEL_EXPORT_ENDPOINT": "http://spans:9",
    ]
    let metrics = try #require(try settings(.metrics, environment).configuration)
    #expect(metrics.host == "metrics" && metrics.port == 2 && metrics.method.path == "/mine")
    #expect(metrics.transport == .http && metrics.callTimeout == 7 * millisecond)
    #expect(metrics.method.metadata.map(\.name) == ["b"] && !metrics.compresses)
    let logs = try #require(try settings(.logs, environment).configuration)
    #expect(logs.host == "all" && logs.transport == .grpc && logs.compresses)
    #expect(logs.method.path == "/opentelemetry.proto.collector.logs.v1.LogsService/Export")
    #expect(logs.method.metadata.map(\.name) == ["a"])
    var http = environment
    http["OTEL_EXPORTER_OTLP_LOGS_PROTOCOL"] = nil
    #expect(try settings(.logs, http).configuration?.method.path == "/base/v1/logs")
  }

  @Test func dynamosOlderEndpointIsForSpansAlone() throws {
    let environment = ["OTEL_METRICS_EXPORTER": "otlp", "OTEL_EXPORT_ENDPOINT": "http://spans:9"]
    let metrics = try settings(.metrics, environment)
    #expect(metrics.configuration?.host == "localhost" && metrics.warnings.isEmpty)
  }

  @Test func metricsAreReadAsOftenAsIsAskedFor() throws {
    func read(_ more: [String: String]) throws -> ExporterSettings {
      try settings(.metrics, more.merging(["OTEL_METRICS_EXPORTER": "otlp"]) { $1 })
    }
    #expect(try read([:]).configuration?.metricInterval == 60 * second)
    #expect(try read([:]).configuration?.retry.total == 30 * second)
    let own = try read(["OTEL_METRIC_EXPORT_INTERVAL": "250", "OTEL_METRIC_EXPORT_TIMEOUT": "20000"])
    #expect(own.configuration?.metricInterval == 250 * millisecond)
    #expect(own.configuration?.retry.total == 20 * second)
    let bad = try read([
      "OTEL_METRIC_EXPORT_INTERVAL": "soon", "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "delta",
    ])
    #expect(bad.configuration?.metricInterval == 60 * second && bad.warnings.count == 2)
    #expect(try read(["OTEL_METRIC_EXPORT_INTERVAL": "0"]).configuration?.metricInterval == 60 * second)
  }

  @Test func logRecordsAreGatheredByTheirOwnVariables() throws {
    let environment = [
      "OTEL_LOGS_EXPORTER": "otlp", "OTEL_BLRP_SCHEDULE_DELAY": "40", "OTEL_BLRP_MAX_QUEUE_SIZE": "100",
      "OTEL_BLRP_MAX_EXPORT_BATCH_SIZE": "10", "OTEL_BLRP_EXPORT_TIMEOUT": "5000",
      "OTEL_BSP_SCHEDULE_DELAY": "9",
      "OTEL_EXPORTER_OTLP_LOGS_TIMEOUT": "100", "DYN_TRACE_SPOOL_DIR": "/spool",
    ]
    let logs = try #require(try settings(.logs, environment).configuration)
    #expect(logs.delay == 40 * millisecond && logs.queue.spansMax == 100 && logs.message.spansMax == 10)
    #expect(logs.retry.total == 5 * second)
    #expect(logs.spool == nil, "the spool is for spans")
  }
}
