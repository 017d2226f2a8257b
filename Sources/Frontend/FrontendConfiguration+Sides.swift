// What the settings say of the listeners beside the one of callers: admin and metrics.

package import EventLoop
package import Settings

extension FrontendConfiguration {
  /// Where the admin listener and that of metrics are; nil for none, and for what ``sideFaults(_:)`` names.
  static func sideAddress(_ name: String, _ settings: SettingsValues) -> ListenAddress? {
    settings.optionalString(name).flatMap { ListenAddress($0) }
  }

  /// Complete sentences about what the settings of these listeners say wrong.
  package static func sideFaults(_ settings: SettingsValues) -> [String] {
    var faults: [String] = []
    for name in ["admin-listen", "metrics-listen"] {
      guard let text = settings.optionalString(name), ListenAddress(text) == nil else { continue }
      faults.append("\(settings.origin(name)): '\(text)' is no HOST:PORT, [IPv6]:PORT or unix:/PATH")
    }
    guard let address = sideAddress("admin-listen", settings) else { return faults }
    let origin = settings.origin("admin-listen")
    if case .tcp(let host, _) = address, !isLoopback(host) {
      faults.append("\(origin): state is changed on a Unix socket or on loopback only, not on \(host)")
    }
    if case .unix(let path) = address, path.hasPrefix("/") { return faults }
    if settings.optionalString("admin-token-file") == nil { faults.append("\(origin): \(needsToken)") }
    return faults
  }

  /// Why the admin listener cannot be where `address` is, whoever opened its socket; nil when it can.
  package static func adminFault(_ address: SocketAddress, hasToken: Bool) -> String? {
    if !address.isUnix, !isLoopback(address.host) {
      return "state is changed on a Unix socket or on loopback only, not on \(address)"
    }
    return hasToken || address.unixPath?.hasPrefix("/") == true ? nil : needsToken
  }

  /// Whoever is on this machine, and a web page in its browser, reaches a port of loopback; an abstract name has no file
  /// whose mode could guard it.
  private static let needsToken =
    "a port or an abstract name needs --admin-token-file; a Unix socket's path is guarded by its file's mode"

  private static func isLoopback(_ host: String) -> Bool {
    host == "localhost" || host == "::1"
      || host.hasPrefix("127.") && host.allSatisfy { "0123456789.".contains($0) }
  }
}
