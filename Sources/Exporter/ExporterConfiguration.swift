// Where spans go and how: everything the exporter is told, and its reading from the environment.

package import Base
package import GRPC
package import HTTP
import Telemetry
package import Transport

/// The protocols of OTLP that are spoken.
package enum ExportTransport: Sendable, Equatable {
  /// OTLP/gRPC over HTTP/2.
  case grpc
  /// OTLP/HTTP with protobuf bodies over HTTP/1.1.
  case http

  /// As `OTEL_EXPORTER_OTLP_PROTOCOL` spells it.
  package var name: String {
    switch self {
    case .grpc: "grpc"
    case .http: "http/protobuf"
    }
  }

  /// As TLS names it (ALPN).
  var applicationProtocol: String {
    switch self {
    case .grpc: "h2"
    case .http: "http/1.1"
    }
  }
}

/// Where spans go that cannot be delivered.
package struct SpoolConfiguration: Sendable, Equatable {
  /// The folder; each service has a folder of its own inside.
  package var folder: String
  /// Bytes of files; past it the oldest give way.
  package var bytesMax = 256 << 20
  /// Number of files; past it the oldest give way.
  package var filesMax = 10_000
}

/// The settings of one exporter. Times in nanoseconds.
package struct ExporterConfiguration: Sendable {
  package let signal: ExportSignal
  package var host = "localhost"
  package var port: UInt16 = 4317
  package var transport = ExportTransport.grpc
  /// Whether messages are compressed with gzip.
  package var compresses = false
  /// Calls at the same time, each on a connection of its own.
  package var concurrentCalls = 1
  /// Nil where nothing is kept on disk.
  package var spool: SpoolConfiguration?
  /// TLS to the receiver; nil for plain text.
  package var security: SocketSecurity?
  /// The call's fixed head fields, of either protocol.
  package var method: GRPCMethod
  /// Bound of one call; nil leaves the bound to ``retry``.
  package var callTimeout: Nanoseconds? = 10 * second
  /// Bound of one connect.
  package var connectTimeout: Nanoseconds = 3 * second
  /// How long a span may wait for company.
  package var delay: Nanoseconds = second
  package var queue = ExportQueue.Limits()
  package var message = ExportMessageLimits()
  package var retry = RetryPolicy()
  package var http2 = HTTP2Limits()
  /// How often metrics are read and sent.
  package var metricInterval = 60 * second

  /// Bound of one message as it goes over the wire: nothing that is compressed may grow past it.
  var wireBytesMax: Int { message.bytesMax + 64 << 10 }

  /// The default endpoint, in the name of `version` of this exporter.
  package init(_ signal: ExportSignal = .traces, version: String) {
    self.signal = signal
    method = GRPCMethod(
      authority: "localhost:4317", path: signal.method, userAgent: "OTel-OTLP-Exporter-Swift/\(version)")
    // With one more frame still below the size from which malloc maps fresh pages.
    http2.outputBytes = 104 << 10
  }
}

/// What the environment asks for.
package struct ExporterSettings: Sendable {
  /// Nil when export is off.
  package var configuration: ExporterConfiguration?
  /// Lines to log at start: ignored values, older names.
  package var warnings: [String] = []
}

/// A setting that the exporter cannot follow. The message names the variable and says what to do.
package struct ExporterConfigurationError: Error, Equatable, CustomStringConvertible {
  package let message: String

  package var description: String { message }
}

extension ExporterConfiguration {
  /// Reads the tracing switches and the OpenTelemetry SDK's variables. An empty variable counts as unset.
  ///
  /// Throws for an endpoint or protocol that cannot be followed: spans must not silently go elsewhere.
  package static func from(
    environment: [String: String], version: String, signal: ExportSignal = .traces
  ) throws(ExporterConfigurationError) -> ExporterSettings {
    var reader = ExporterEnvironment(environment, signal)
    guard reader.isExportOn else { return ExporterSettings(configuration: nil, warnings: reader.warnings) }
    var configuration = ExporterConfiguration(signal, version: version)
    configuration.transport = try reader.transport()
    let endpoint = try reader.endpoint(configuration.transport)
    configuration.host = endpoint.host
    configuration.port = endpoint.port
    if endpoint.isSecure {
      configuration.security = try reader.security(host: endpoint.host, configuration.transport)
    }
    configuration.method.authority = endpoint.authority
    configuration.method.scheme = endpoint.isSecure ? "https" : "http"
    if case .http = configuration.transport { configuration.method.path = endpoint.path }
    configuration.method.metadata = reader.metadata()
    configuration.compresses = reader.compresses()
    reader.readTimes(&configuration)
    reader.readBatching(&configuration)
    reader.readBounds(&configuration)
    if signal == .metrics { configuration.metricInterval = reader.metricInterval() }
    return ExporterSettings(configuration: configuration, warnings: reader.warnings)
  }
}
