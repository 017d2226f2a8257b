// The environment variables of export, one by one, with the SDK specification's rules for bad values.

import Base
import GRPC
import TLS
import Telemetry
import Transport

/// Reads variables and collects a warning for each that is ignored.
struct ExporterEnvironment {
  private let environment: [String: String]
  private(set) var warnings: [String] = []

  init(_ environment: [String: String]) { self.environment = environment }

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

  var isExportOn: Bool {
    guard EnvironmentName.isTrue(first(EnvironmentName.otelExportEnabled)?.value) else { return false }
    // The SDK's booleans know one true word only.
    if first(EnvironmentName.otelSDKDisabled)?.value.lowercased() == "true" { return false }
    return first(ExporterVariable.tracesExporter)?.value.lowercased() != "none"
  }

  mutating func checkProtocol() throws(ExporterConfigurationError) {
    let names = (EnvironmentName.otlpTracesProtocol, EnvironmentName.otlpProtocol)
    guard let (name, value) = first(names.0, names.1) else { return }
    switch value.lowercased() {
    case "grpc": break
    case "http/protobuf", "http/json":
      throw ExporterConfigurationError(
        message: "\(name)=\(value) is not supported yet: use grpc and the receiver's gRPC port (4317)")
    default:
      warnings.append("\(name) has an unknown value and is ignored; grpc is used")
    }
  }

  mutating func noteCompression() {
    let names = (ExporterVariable.tracesCompression, ExporterVariable.compression)
    guard let (name, value) = first(names.0, names.1), value.lowercased() != "none" else { return }
    warnings.append("\(name)=\(value) is not supported yet; spans are sent uncompressed")
  }

  // MARK: Endpoint

  struct Endpoint: Equatable {
    let host: String
    let port: UInt16
    let authority: String
    /// TLS: the scheme `https`, or no scheme and no word of `INSECURE`.
    var isSecure = false
  }

  mutating func endpoint() throws(ExporterConfigurationError) -> Endpoint {
    let set = first(
      EnvironmentName.otlpTracesEndpoint, EnvironmentName.otlpEndpoint, EnvironmentName.otelExportEndpoint)
    guard let (name, value) = set else {
      return Endpoint(host: "localhost", port: 4317, authority: "localhost:4317")
    }
    if name == EnvironmentName.otelExportEndpoint {
      warnings.append("\(name) is an older name; use \(EnvironmentName.otlpTracesEndpoint)")
    }
    var rest = value[...]
    var isSecure = false
    if let colon = rest.firstIndex(of: ":"), rest[colon...].hasPrefix("://") {
      switch rest[..<colon].lowercased() {
      case "http": break
      case "https": isSecure = true
      default:
        throw ExporterConfigurationError(message: "\(name)=\(value): the scheme must be http or https")
      }
      rest = rest[colon...].dropFirst(3)
    } else {
      let insecure = first(ExporterVariable.tracesInsecure, ExporterVariable.insecure)
      isSecure = insecure?.value.lowercased() != "true"
    }
    var endpoint = try ExporterEnvironment.parse(authority: rest, name: name, value: value)
    endpoint.isSecure = isSecure
    return endpoint
  }

  /// TLS to `host`, with the certificate files that are named; the machine's authorities where none are.
  func security(host: String) throws(ExporterConfigurationError) -> SocketSecurity {
    let roots = first(ExporterVariable.tracesCertificate, ExporterVariable.certificate)
    let certificate = first(ExporterVariable.tracesClientCertificate, ExporterVariable.clientCertificate)
    let key = first(ExporterVariable.tracesClientKey, ExporterVariable.clientKey)
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
        clientTrusting: roots.map { .file($0.value) } ?? .system, identity: identity, protocols: ["h2"])
      return SocketSecurity(context, serverName: host, counters: HandshakeCounters())
    } catch {
      throw ExporterConfigurationError(message: "TLS to the span receiver: \(error.reason)")
    }
  }

  private static func parse(
    authority text: Substring, name: String, value: String
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
    var port: UInt16 = 4317
    if let portText {
      guard let number = UInt16(portText), number > 0, !portText.hasPrefix("+") else { throw fault }
      port = number
    }
    let shown = host.contains(":") ? "[\(host)]" : "\(host)"
    return Endpoint(host: String(host), port: port, authority: "\(shown):\(port)")
  }

  // MARK: Headers

  mutating func metadata() -> [(name: String, value: String)] {
    guard let (variable, text) = first(EnvironmentName.otlpTracesHeaders, EnvironmentName.otlpHeaders) else {
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
    if let timeout = milliseconds(EnvironmentName.otlpTracesTimeout, EnvironmentName.otlpTimeout) {
      configuration.callTimeout = timeout == 0 ? nil : timeout
    }
    if let total = milliseconds(EnvironmentName.batchExportTimeout), total > 0 {
      configuration.retry.total = total
    }
    // A user who allows a long call allows its message as long.
    if let timeout = configuration.callTimeout {
      configuration.retry.total = max(configuration.retry.total, timeout)
    }
    if let delay = milliseconds(EnvironmentName.batchScheduleDelay) { configuration.delay = delay }
  }

  mutating func readBatching(_ configuration: inout ExporterConfiguration) {
    if let size = count(EnvironmentName.batchMaxQueueSize) { configuration.queue.spansMax = size }
    if let size = count(EnvironmentName.batchMaxExportBatchSize) {
      if size > configuration.queue.spansMax {
        warnings.append(
          "\(EnvironmentName.batchMaxExportBatchSize) is over the queue's size and is cut to it")
      }
      configuration.queue.spansDue = min(size, configuration.queue.spansMax)
      configuration.message.spansMax = configuration.queue.spansDue
    }
    // A small queue is due before it is full: the batch that fills it would be cut.
    let dueAtLast = max(configuration.queue.spansMax / 2, min(512, configuration.queue.spansMax))
    configuration.queue.spansDue = min(configuration.queue.spansDue, dueAtLast)
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

  private mutating func count(_ name: String) -> Int? {
    guard let (_, text) = first(name) else { return nil }
    if let value = Int(text), value > 0, value <= 10_000_000 { return value }
    warnings.append("\(name) is no number above 0 and is ignored")
    return nil
  }
}

/// Variables of export that no other room reads.
enum ExporterVariable {
  static let tracesExporter = "OTEL_TRACES_EXPORTER"
  static let insecure = "OTEL_EXPORTER_OTLP_INSECURE"
  static let tracesInsecure = "OTEL_EXPORTER_OTLP_TRACES_INSECURE"
  static let certificate = "OTEL_EXPORTER_OTLP_CERTIFICATE"
  static let tracesCertificate = "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE"
  static let clientCertificate = "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"
  static let tracesClientCertificate = "OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE"
  static let clientKey = "OTEL_EXPORTER_OTLP_CLIENT_KEY"
  static let tracesClientKey = "OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY"
  static let compression = "OTEL_EXPORTER_OTLP_COMPRESSION"
  static let tracesCompression = "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION"
}
