// The listener's TLS: certificate, key and callers' authority, read from the files that the settings name.

internal import Base
package import Settings
package import TLS
package import Transport

extension FrontendConfiguration {
  /// Reads the files, as at start so on each SIGHUP. Without `tls-cert-path` the listener speaks plain text.
  ///
  /// Throws ``TLSError`` of kind `file`, whose reason names the setting or the file at fault.
  package mutating func readCertificates(
    _ settings: SettingsValues, counters: HandshakeCounters
  ) throws(TLSError) {
    let roots = settings.optionalString("tls-client-ca-cert-path")
    switch (settings.optionalString("tls-cert-path"), settings.optionalString("tls-key-path")) {
    case (let certificate?, let key?):
      let context = try TLSContext(
        server: TLSIdentity(certificatePath: certificate, keyPath: key), clientRoots: roots,
        protocols: server.multiplexed == nil ? ["http/1.1"] : ["h2", "http/1.1"])
      security = SocketSecurity(
        context, counters: counters, timeout: settings.duration("DYN_HTTP_TLS_HANDSHAKE_TIMEOUT_SECS"))
    case (nil, nil):
      guard roots == nil else {
        throw TLSError(.file, "--tls-client-ca-cert-path asks for TLS, which needs --tls-cert-path too")
      }
      security = nil
    case (nil, _): throw TLSError(.file, "--tls-key-path is given, and --tls-cert-path is not")
    case (_, nil): throw TLSError(.file, "--tls-cert-path is given, and --tls-key-path is not")
    }
  }

  /// Days until the certificate that is served ends, negative once it has, at this time in seconds since the Unix epoch;
  /// nil without TLS.
  package func certificateDaysLeft(unixSeconds now: Int) -> Int? {
    guard let end = security?.context.certificateEnd else { return nil }
    let left = end - now
    return left >= 0 ? left / 86_400 : -(-left / 86_400) - 1
  }
}
