// What the settings say of sockets: where is listened, who may take them over, which peers are proxies.

internal import EventLoop
package import Settings
internal import Transport

extension FrontendConfiguration {
  /// Takes the settings of sockets. Entries that cannot be read are left out here; ``listenerFaults(_:)`` names them.
  mutating func readListeners(_ settings: SettingsValues) {
    // Brackets are how an IPv6 address is written beside a port; the resolver knows none.
    if host.hasPrefix("["), host.hasSuffix("]") { host = String(host.dropFirst().dropLast()) }
    listen = settings.list("listen").compactMap { ListenAddress($0) }
    unixSocketMode = UInt32(settings.string("DYN_HTTP_UNIX_SOCKET_MODE"), radix: 8) ?? 0o660
    handoverPath = settings.optionalString("handover")
    compatibility.corsOrigins = settings.list("DYN_HTTP_CORS_ORIGINS")
    compatibility.compressesAnswers = settings.bool("DYN_HTTP_GZIP")
    let proxies = Self.peers(settings, "DYN_HTTP_TRUSTED_PROXIES").ranges
    trustedProxies = TrustedProxies(
      proxies.isEmpty ? nil : proxies,
      header: ForwardedHeader(rawValue: settings.string("DYN_HTTP_FORWARDED_HEADER")) ?? .xForwardedFor)
  }

  /// Keeps callers' connections below what the limit of open files leaves: a sixteenth is for workers, files and the rest.
  package mutating func boundConnections(descriptors: Int) {
    server.connectionsMax = max(1, min(server.connectionsMax, (descriptors - descriptors / 16) / threads))
  }

  /// The peers that begin with a PROXY header; nil for none.
  static func proxyPeers(_ settings: SettingsValues) -> AddressRanges? {
    let ranges = peers(settings, "DYN_HTTP_PROXY_PROTOCOL_PEERS").ranges
    return ranges.isEmpty ? nil : ranges
  }

  private static func peers(
    _ settings: SettingsValues, _ name: String
  ) -> (ranges: AddressRanges, faults: [String]) {
    var faults: [String] = []
    let ranges = AddressRanges(settings.list(name), faults: &faults)
    return (ranges, faults.map { "\(settings.origin(name)): \($0)" })
  }

  /// Complete sentences about what the settings of sockets say wrong.
  package static func listenerFaults(_ settings: SettingsValues) -> [String] {
    var faults = settings.list("listen").filter { ListenAddress($0) == nil }.map { text in
      "\(settings.origin("listen")): '\(text)' is no HOST:PORT, [IPv6]:PORT or unix:/PATH"
    }
    let mode = settings.string("DYN_HTTP_UNIX_SOCKET_MODE")
    if UInt32(mode, radix: 8).map({ $0 > 0o777 }) ?? true {
      faults.append(
        "\(settings.origin("DYN_HTTP_UNIX_SOCKET_MODE")): '\(mode)' is no octal mode from 0 to 777")
    }
    // An abstract name is anybody's, a path that of who may write to its folder.
    if let path = settings.optionalString("handover"),
      !path.hasPrefix("/") || ListenAddress("unix:\(path)") == nil
    {
      faults.append("\(settings.origin("handover")): '\(path)' is no absolute path of up to 107 bytes")
    }
    for name in ["DYN_HTTP_PROXY_PROTOCOL_PEERS", "DYN_HTTP_TRUSTED_PROXIES"] {
      faults += peers(settings, name).faults
    }
    return faults
  }
}
