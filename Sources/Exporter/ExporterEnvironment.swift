// The environment variables of export, one by one, with the SDK specification's rules for bad values.

import Base
import GRPC
import TLS
import Telemetry
import Transport

/// Reads variables and collects a warning for each that is ignored.
struct ExporterEnvironment {
  private let environment: [String: String]
  private let signal: ExportSignal
  private(set) var warnings: [String] = []

  init(_ environment: [String: String], _ signal: ExportSignal) {
    self.environment = environment
    self.signal = signal
  }

  /// The value of the first of `names` that is set and not empty.
  private func first(_ names: String...) -> (name: String, value: String)? {
    for name in names {
      guard let value = environment[name].map(trimmed), !value.isEmpty else { continue }
      return (name, value)
    }
    return nil
  }

  private func trimmed(_ text: String) -> String {
    var rest = text[...]
    while let last = rest.last, last == " " || last == "\t" || last == "\n" { rest.removeLast() }
    while let head = rest.first, head == " " || head == "\t" || head == "\n" { rest.removeFirst() }
    return String(rest)
  }

  // MARK: Switches

  /// Spans are sent by Dynamo's switch unless the SDK's says no; metrics and log records where they are asked for.
  var isExportOn: Bool {
    // The SDK's booleans know one true word only.
    if first(EnvironmentName.otelSDKDisabled)?.value.lowercased() == "true" { return false }
    let exporters = first("OTEL_\(signal.infix)_EXPORTER")?.value.lowercased()
    let asksForOTLP = exporters.map { $0.split(separator: ",").map { trimmed(String($0)) }.contains("otlp") }
    switch signal {
    case .traces:
      return EnvironmentName.isTrue(first(EnvironmentName.otelExportEnabled)?.value) && exporters != "none"
    case .metrics:
      return asksForOTLP ?? false
    case .logs:
      return asksForOTLP ?? EnvironmentName.isTrue(first(ExporterVariable.logsEnabled)?.value)
    }
  }

  mutating func transport() throws(ExporterConfigurationError) -> ExportTransport {
    guard let (name, value) = first(signal.variable("PROTOCOL"), EnvironmentName.otlpProtocol) else {
      return .grpc
    }
    switch value.lowercased() {
    case ExportTransport.grpc.name: return .grpc
    case ExportTransport.http.name: return .http
    case "http/json":
      throw ExporterConfigurationError(
        message: "\(name)=\(value) is not supported: use http/protobuf or grpc")
    default:
      warnings.append("\(name) has an unknown value and is ignored; grpc is used")
      return .grpc
    }
  }

  mutating func compresses() -> Bool {
    guard let (name, value) = first(signal.variable("COMPRESSION"), ExporterVariable.compression) else {
      return false
    }
    switch value.lowercased() {
    case "gzip": return true
    case "none": break
    default:
      warnings.append("\(name) has an unknown value and is ignored; \(signal.noun)s are sent uncompressed")
    }
    return false
  }

  // MARK: Endpoint

  struct Endpoint: Equatable {
    let host: String
    let port: UInt16
    let authority: String
    /// Path and query, for HTTP.
    var path: String
    /// TLS: the scheme `https`, or no scheme and no word of `INSECURE`.
    var isSecure = false
  }

  /// Where messages go. The general endpoint is a base for HTTP, to which the signal's path is added; the signal's own
  /// is used as it stands (OTLP exporter specification, "Endpoint URLs for OTLP/HTTP").
  mutating func endpoint(_ transport: ExportTransport) throws(ExporterConfigurationError) -> Endpoint {
    let own = signal.variable("ENDPOINT")
    // Dynamo's older name was for spans alone.
    let set =
      signal == .traces
      ? first(own, EnvironmentName.otlpEndpoint, EnvironmentName.otelExportEndpoint)
      : first(own, EnvironmentName.otlpEndpoint)
    guard let (name, value) = set else {
      let port: UInt16 = transport == .grpc ? 4317 : 4318
      return Endpoint(
        host: "localhost", port: port, authority: "localhost:\(port)", path: "/\(signal.path)")
    }
    if name == EnvironmentName.otelExportEndpoint {
      warnings.append("\(name) is an older name; use \(EnvironmentName.otlpTracesEndpoint)")
    }
    let (isSecure, rest) = try scheme(name, value, transport)
    let defaultPort: UInt16 = transport == .grpc ? 4317 : isSecure ? 443 : 80
    var endpoint = try ExporterEnvironment.parse(
      authority: rest, name: name, value: value, defaultPort: defaultPort, path: "/\(signal.path)")
    endpoint.isSecure = isSecure
    guard case .http = transport else { return endpoint }
    let path = rest.drop { $0 != "/" && $0 != "?" && $0 != "#" }.prefix { $0 != "#" }
    guard path.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7f }) else {
      throw ExporterConfigurationError(message: "\(name)=\(value): the path must be percent-encoded")
    }
    if name == own {
      endpoint.path = path.hasPrefix("/") ? String(path) : "/\(path)"
    } else {
      let base = path.prefix { $0 != "?" }
      endpoint.path = base.hasSuffix("/") ? "\(base)\(signal.path)" : "\(base)/\(signal.path)"
    }
    return endpoint
  }

  /// Whether the endpoint asks for TLS, and what follows its scheme. Without a scheme, which gRPC alone allows, it does
  /// but for the word of `INSECURE`.
  private func scheme(
    _ name: String, _ value: String, _ transport: ExportTransport
  ) throws(ExporterConfigurationError) -> (isSecure: Bool, rest: Substring) {
    if let colon = value.firstIndex(of: ":"), value[colon...].hasPrefix("://") {
      let rest = value[colon...].dropFirst(3)
      switch value[..<colon].lowercased() {
      case "http": return (false, rest)
      case "https": return (true, rest)
      default:
        throw ExporterConfigurationError(message: "\(name)=\(value): the scheme must be http or https")
      }
    }
    if case .http = transport {
      throw ExporterConfigurationError(message: "\(name)=\(value) has no scheme; write http://\(value)")
    }
    let insecure = first(signal.variable("INSECURE"), ExporterVariable.insecure)?.value.lowercased()
    return (insecure != "true", value[...])
  }

  /// TLS to `host`, with the certificate files that are named; the machine's authorities where none are.
  func security(
    host: String, _ transport: ExportTransport
  ) throws(ExporterConfigurationError) -> SocketSecurity {
    let roots = first(signal.variable("CERTIFICATE"), ExporterVariable.certificate)
    let certificate = first(signal.variable("CLIENT_CERTIFICATE"), ExporterVariable.clientCertificate)
    let key = first(signal.variable("CLIENT_KEY"), ExporterVariable.clientKey)
    guard (certificate == nil) == (key == nil) else {
      let given = certificate ?? key
      throw ExporterConfigurationError(
        message: "\(given?.name ?? "") is given without its other half: certificate and key go together")
    }
    var identity: TLSIdentity?
    if let certificate, let key {
      identity = TLSIdentity(certificatePath: certificate.value, keyPath: key.value)
    }
    do throws(TLSError) {
      let context = try TLSContext(
        clientTrusting: roots.map { .file($0.value) } ?? .system, identity: identity,
        protocols: [transport.applicationProtocol])
      return SocketSecurity(context, serverName: host, counters: HandshakeCounters())
    } catch {
      throw ExporterConfigurationError(message: "TLS to the \(signal.noun) receiver: \(error.reason)")
    }
  }

  private static func parse(
    authority text: Substring, name: String, value: String, defaultPort: UInt16, path: String
  ) throws(ExporterConfigurationError) -> Endpoint {
    let authority = text.prefix { $0 != "/" && $0 != "?" && $0 != "#" }
    let fault = ExporterConfigurationError(message: "\(name)=\(value): no valid host and port")
    var host = authority
    var portText: Substring?
    if authority.hasPrefix("[") {
      guard let close = authority.firstIndex(of: "]") else { throw fault }
      host = authority[authority.index(after: authority.startIndex)..<close]
      let rest = authority[authority.index(after: close)...]
      if rest.hasPrefix(":") { portText = rest.dropFirst() } else if !rest.isEmpty { throw fault }
    } else if let colon = authority.firstIndex(of: ":") {
      host = authority[..<colon]
      portText = authority[authority.index(after: colon)...]
    }
    let isValid = host.utf8.allSatisfy { byte in
      byte > 0x20 && byte < 0x7f && byte != UInt8(ascii: "@") && byte != UInt8(ascii: "[")
    }
    guard !host.isEmpty, isValid else { throw fault }
    var port = defaultPort
    if let portText {
      guard let number = UInt16(portText), number > 0, !portText.hasPrefix("+") else { throw fault }
      port = number
    }
    let shown = host.contains(":") ? "[\(host)]" : "\(host)"
    return Endpoint(host: String(host), port: port, authority: "\(shown):\(port)", path: path)
  }

  // MARK: Headers

  mutating func metadata() -> [(name: String, value: String)] {
    guard let (variable, text) = first(signal.variable("HEADERS"), EnvironmentName.otlpHeaders) else {
      return []
    }
    var metadata: [(name: String, value: String)] = []
    for member in text.split(separator: ",") {
      let pair = trimmed(String(member))
      if pair.isEmpty { continue }
      guard let equals = pair.firstIndex(of: "=") else {
        warnings.append("\(variable): a member without '=' is ignored")
        continue
      }
      let name = trimmed(String(pair[..<equals])).lowercased()
      // Values can be secrets: warnings name the key alone.
      guard let value = PercentEncoding.decodeStrictly(trimmed(String(pair[pair.index(after: equals)...]))),
        GRPCMethod.isValidMetadata(name: name, value: value)
      else {
        let shown = name.utf8.allSatisfy { (0x21...0x7e).contains($0) } ? name : "?"
        warnings.append("\(variable): '\(shown)' cannot be sent and is ignored")
        continue
      }
      metadata.append((name, value))
    }
    return metadata
  }

  // MARK: Numbers

  mutating func readTimes(_ configuration: inout ExporterConfiguration) {
    if let timeout = milliseconds(signal.variable("TIMEOUT"), EnvironmentName.otlpTimeout) {
      configuration.callTimeout = timeout == 0 ? nil : timeout
    }
    let totalName =
      switch signal {
      case .traces: EnvironmentName.batchExportTimeout
      case .metrics: ExporterVariable.metricTimeout
      case .logs: ExporterVariable.logBatchTimeout
      }
    if let total = milliseconds(totalName), total > 0 { configuration.retry.total = total }
    // A user who allows a long call allows its message as long.
    if let timeout = configuration.callTimeout {
      configuration.retry.total = max(configuration.retry.total, timeout)
    }
    let delayName = signal == .logs ? ExporterVariable.logBatchDelay : EnvironmentName.batchScheduleDelay
    if signal != .metrics, let delay = milliseconds(delayName) { configuration.delay = delay }
  }

  /// How often metrics are read.
  mutating func metricInterval() -> Nanoseconds {
    if let preference = first(ExporterVariable.temporality), preference.value.lowercased() != "cumulative" {
      warnings.append("\(preference.name)=\(preference.value) is ignored; metrics are sent cumulative")
    }
    guard let interval = milliseconds(ExporterVariable.metricInterval), interval > 0 else {
      return 60 * second
    }
    return max(interval, 10 * millisecond)
  }

  mutating func readBatching(_ configuration: inout ExporterConfiguration) {
    // Metrics come all at once, and the next of them say more than those that wait.
    if signal == .metrics {
      configuration.queue.spansDue = 1
      configuration.queue.bytesMax = 4 << 20
      return
    }
    let isLogs = signal == .logs
    let queueName = isLogs ? ExporterVariable.logBatchQueueSize : EnvironmentName.batchMaxQueueSize
    let batchName = isLogs ? ExporterVariable.logBatchSize : EnvironmentName.batchMaxExportBatchSize
    if let size = count(queueName) { configuration.queue.spansMax = size }
    if let size = count(batchName) {
      if size > configuration.queue.spansMax {
        warnings.append("\(batchName) is over the queue's size and is cut to it")
      }
      configuration.queue.spansDue = min(size, configuration.queue.spansMax)
      configuration.message.spansMax = configuration.queue.spansDue
    }
    // A small queue is due before it is full: the batch that fills it would be cut.
    let dueAtLast = max(configuration.queue.spansMax / 2, min(512, configuration.queue.spansMax))
    configuration.queue.spansDue = min(configuration.queue.spansDue, dueAtLast)
  }

  /// What is ours and not OpenTelemetry's: memory, concurrency, the spool.
  mutating func readBounds(_ configuration: inout ExporterConfiguration) {
    guard signal == .traces else { return }
    if let size = count(ExporterVariable.queueMegabytes, max: 4_096) {
      configuration.queue.bytesMax = size << 20
    }
    let concurrency =
      first(ExporterVariable.concurrency, EnvironmentName.batchMaxConcurrentExports)?.name
      ?? ExporterVariable.concurrency
    if let calls = count(concurrency, max: 16) { configuration.concurrentCalls = calls }
    guard let (_, folder) = first(ExporterVariable.spoolFolder) else { return }
    var spool = SpoolConfiguration(folder: folder)
    if let size = count(ExporterVariable.spoolMegabytes, max: 1 << 20) { spool.bytesMax = size << 20 }
    configuration.spool = spool
  }

  private mutating func milliseconds(_ names: String...) -> Nanoseconds? {
    for name in names {
      guard let (_, text) = first(name) else { continue }
      // A year is more than anyone means.
      if let value = UInt64(text), value <= 31_536_000_000 { return value * millisecond }
      warnings.append("\(name) is no number of milliseconds and is ignored")
    }
    return nil
  }

  private mutating func count(_ name: String, max: Int = 16_777_216) -> Int? {
    guard let (_, text) = first(name) else { return nil }
    if let value = Int(text), (1...max).contains(value) { return value }
    warnings.append("\(name) is no number from 1 to \(max) and is ignored")
    return nil
  }
}

/// Variables of export that no other room reads.
enum ExporterVariable {
  static let insecure = "OTEL_EXPORTER_OTLP_INSECURE"
  static let certificate = "OTEL_EXPORTER_OTLP_CERTIFICATE"
  static let clientCertificate = "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"
  static let clientKey = "OTEL_EXPORTER_OTLP_CLIENT_KEY"
  static let compression = "OTEL_EXPORTER_OTLP_COMPRESSION"
  static let queueMegabytes = "DYN_TRACE_QUEUE_MB"
  static let concurrency = "DYN_TRACE_EXPORT_CONCURRENCY"
  static let spoolFolder = "DYN_TRACE_SPOOL_DIR"
  static let spoolMegabytes = "DYN_TRACE_SPOOL_MB"
  /// Dynamo's switch for log records.
  static let logsEnabled = "OTEL_EXPORT_LOGS_ENABLED"
  static let metricInterval = "OTEL_METRIC_EXPORT_INTERVAL"
  static let metricTimeout = "OTEL_METRIC_EXPORT_TIMEOUT"
  static let temporality = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE"
  static let logBatchDelay = "OTEL_BLRP_SCHEDULE_DELAY"
  static let logBatchTimeout = "OTEL_BLRP_EXPORT_TIMEOUT"
  static let logBatchQueueSize = "OTEL_BLRP_MAX_QUEUE_SIZE"
  static let logBatchSize = "OTEL_BLRP_MAX_EXPORT_BATCH_SIZE"
}
