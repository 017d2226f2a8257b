// Why TLS failed: a class fit for a metric's label, and OpenSSL's own words, bounded.

internal import COpenSSL
internal import Glibc

/// A failure of a context, a handshake or a connection.
package struct TLSError: Error, Sendable, Equatable, CustomStringConvertible {
  /// The class of a failure. The raw values are label values of metrics.
  package enum Kind: String, Sendable, CaseIterable {
    /// A certificate, key or CA file cannot be used.
    case file
    /// The peer's certificate was not accepted here: authority, name, dates, purpose.
    case certificate = "bad_certificate"
    /// The peer sent no certificate although one is required.
    case noCertificate = "no_certificate"
    /// The peer ended it with an alert: it did not accept our certificate, our versions, or our lack of a certificate.
    case alert
    /// No common version, cipher or group.
    case noCommonParameters = "no_common_parameters"
    /// No common application protocol (ALPN, RFC 7301).
    case applicationProtocol = "no_application_protocol"
    /// The peer sent an HTTP request in plain text.
    case plainHTTP = "plain_http"
    /// The peer speaks something else than TLS.
    case notTLS = "not_tls"
    /// The handshake took too long.
    case timedOut = "timeout"
    /// The peer left before the handshake was complete.
    case closed
    /// The connection ended without close_notify: bytes may be missing (RFC 8446 section 6.1).
    case truncated
    /// A message that breaks the protocol, or a record that does not authenticate.
    case protocolFault = "protocol"
    /// The library could not do its part, for want of memory.
    case library
  }

  package let kind: Kind
  /// Constant text of the library or ours, at most ``reasonBytesMax`` bytes.
  package let reason: String

  static let reasonBytesMax = 200

  package init(_ kind: Kind, _ reason: String) {
    self.kind = kind
    self.reason =
      reason.utf8.count <= Self.reasonBytesMax ? reason : String(reason.prefix(Self.reasonBytesMax / 4))
  }

  package var description: String { "TLS: \(reason)" }
}

extension TLSError {
  /// Empties this thread's queue and returns one error of it: the oldest, which is the cause of the later ones, or
  /// the oldest of `library`, whose reasons are known here, if there is one.
  static func take(preferring library: Int32? = nil, orElse fallback: String) -> (code: UInt, reason: String)
  {
    var code: UInt = 0
    while case let next = ERR_get_error(), next != 0 {
      let isPreferred = copenssl_library(next) == library
      if code == 0 || (isPreferred && copenssl_library(code) != library) { code = next }
    }
    guard code != 0 else { return (0, fallback) }
    if copenssl_is_system_error(code) != 0 {
      return (code, String(cString: strerror(copenssl_reason(code))))
    }
    guard let text = ERR_reason_error_string(code) else { return (code, fallback) }
    return (code, String(cString: text))
  }

  /// The failure of a set-up call that has no file behind it.
  static func library(_ call: String) -> TLSError {
    TLSError(.library, "\(call): \(take(orElse: "failed").reason)")
  }

  /// The failure to use the file at `path`.
  static func file(_ path: String, _ fallback: String) -> TLSError {
    let path = path.utf8.count <= 120 ? path : "…\(path.suffix(30))"
    let (code, reason) = take(orElse: fallback)
    switch (copenssl_library(code), copenssl_reason(code)) {
    case (ERR_LIB_PEM, PEM_R_BAD_PASSWORD_READ), (ERR_LIB_PEM, PEM_R_PROBLEMS_GETTING_PASSWORD):
      return TLSError(.file, "\(path): the key is protected by a passphrase, which cannot be given")
    case (ERR_LIB_PEM, _), (ERR_LIB_OSSL_DECODER, _), (ERR_LIB_X509, X509_R_NO_CERTIFICATE_OR_CRL_FOUND):
      return TLSError(.file, "\(path): \(fallback)")
    default: return TLSError(.file, "\(path): \(reason)")
    }
  }

  /// The failure of a connection, from the library's queue and the connection's own verdict on the peer's certificate.
  static func connection(_ handle: OpaquePointer) -> TLSError {
    let (code, reason) = take(preferring: ERR_LIB_SSL, orElse: "the connection failed")
    guard copenssl_library(code) == ERR_LIB_SSL else { return TLSError(.protocolFault, reason) }
    let kind = kind(ofReason: copenssl_reason(code))
    guard kind == .certificate, let text = X509_verify_cert_error_string(SSL_get_verify_result(handle)) else {
      return TLSError(kind, reason)
    }
    return TLSError(kind, "\(reason): \(String(cString: text))")
  }

  private static func kind(ofReason reason: Int32) -> Kind {
    // Alerts that the peer sent are reasons from 1000 on.
    if reason >= SSL_AD_REASON_OFFSET { return .alert }
    switch reason {
    case SSL_R_CERTIFICATE_VERIFY_FAILED: return .certificate
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE: return .noCertificate
    case SSL_R_NO_APPLICATION_PROTOCOL: return .applicationProtocol
    case SSL_R_HTTP_REQUEST: return .plainHTTP
    case SSL_R_WRONG_VERSION_NUMBER, SSL_R_HTTPS_PROXY_REQUEST, SSL_R_UNKNOWN_PROTOCOL,
      SSL_R_BAD_RECORD_TYPE, SSL_R_PACKET_LENGTH_TOO_LONG:
      return .notTLS
    case SSL_R_UNSUPPORTED_PROTOCOL, SSL_R_VERSION_TOO_LOW, SSL_R_VERSION_TOO_HIGH, SSL_R_WRONG_SSL_VERSION,
      SSL_R_NO_SHARED_CIPHER, SSL_R_NO_SUITABLE_KEY_SHARE, SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM,
      SSL_R_NO_SHARED_SIGNATURE_ALGORITHMS, SSL_R_NO_SUITABLE_GROUPS:
      return .noCommonParameters
    default: return .protocolFault
    }
  }
}
