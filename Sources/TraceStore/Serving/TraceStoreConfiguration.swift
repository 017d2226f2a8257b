// What the store is told: where to listen and how much to keep.

internal import Base
package import Settings

/// The configuration of one trace store.
package struct TraceStoreConfiguration: Sendable {
  /// Address of all three ports.
  package var host = "127.0.0.1"
  /// Tempo's query API and the page.
  package var httpPort: UInt16 = 3200
  package var otlpGRPCPort: UInt16 = 4317
  package var otlpHTTPPort: UInt16 = 4318
  package var limits = StoreLimits()
  /// Keeps what was taken in over a restart; nil keeps it in memory only.
  package var file: String?
  /// Names beside addresses and local ones that the query port answers to.
  package var allowedHosts: [String] = []
  /// Told on `/api/status/buildinfo`.
  package var version = "0.1.0"

  /// The defaults.
  package init() {}

  /// Reads the settings that dynamo-frontend and dynamo-tempo share.
  package init(_ settings: SettingsValues, version: String) {
    host = settings.string("trace-store-host")
    httpPort = UInt16(clamping: settings.int("trace-store-http-port"))
    otlpGRPCPort = UInt16(clamping: settings.int("trace-store-otlp-grpc-port"))
    otlpHTTPPort = UInt16(clamping: settings.int("trace-store-otlp-http-port"))
    limits.bytesMax = settings.int("trace-store-memory-mb") << 20
    limits.ageMax = settings.duration("trace-store-max-age")
    file = settings.optionalString("trace-store-file")
    allowedHosts = settings.list("trace-store-allowed-hosts")
    self.version = version
  }
}
