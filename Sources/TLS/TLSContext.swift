// One side's TLS settings, read from files once and shared by all its connections.

internal import Base
internal import COpenSSL
internal import Glibc

/// Certificate and private key, as PEM files. The certificate's file holds the chain, the leaf first.
package struct TLSIdentity: Sendable, Equatable {
  package var certificatePath: String
  package var keyPath: String

  package init(certificatePath: String, keyPath: String) {
    self.certificatePath = certificatePath
    self.keyPath = keyPath
  }
}

/// Whom a client trusts.
package enum TLSRoots: Sendable, Equatable {
  /// The machine's store (`SSL_CERT_FILE` and `SSL_CERT_DIR` name another).
  case system
  /// The certificates of this PEM file and no others.
  case file(String)
}

/// What all connections of one side share: certificate, trust, versions, ciphers, ticket keys.
///
/// TLS 1.2 and 1.3; ephemeral key exchange with authenticated ciphers only; no renegotiation, no compression. A server
/// keeps no sessions: it gives out tickets, whose keys live as long as this object. One object for all loops means that
/// a client resumes wherever it lands, and a new object after a reload that nothing of the old trust can be resumed.
///
/// `@unchecked`: the handle is reference-counted by the library, safe to share, and not changed after `init`.
package final class TLSContext: @unchecked Sendable {
  /// Owned: freed in `deinit`. Every connection retains this object and so the handle.
  let handle: OpaquePointer
  package let isServer: Bool
  /// When the own certificate ends, in seconds since the Unix epoch; nil without one.
  package private(set) var certificateEnd: Int?
  /// Application protocols in order of preference, as on the wire: length, name, length, name (RFC 7301 section 3.1).
  private let protocols: [UInt8]

  /// A server's context.
  ///
  /// - Parameters:
  ///   - clientRoots: a PEM file; callers must then show a certificate that one of these vouches for.
  ///   - protocols: ALPN names, most wanted first. A caller that offers others only is refused; one that offers none is
  ///     served.
  /// - Throws: ``TLSError`` of kind `file` with the path that cannot be used.
  package init(server identity: TLSIdentity, clientRoots: String? = nil, protocols: [String]) throws(TLSError)
  {
    (handle, self.protocols, isServer) = (try Self.makeHandle(isServer: true), Self.wire(protocols), true)
    try use(identity)
    // Tickets of a context that asks for other certificates must not be taken here.
    let name = Array("dynamo".utf8)
    _ = SSL_CTX_set_session_id_context(handle, name, UInt32(name.count))
    copenssl_set_session_cache_mode(handle, Int(SSL_SESS_CACHE_OFF))
    if let clientRoots { try requireCertificates(clientRoots) }
    // Unretained: connections, within which alone it is called, retain this object.
    SSL_CTX_set_alpn_select_cb(handle, selectProtocol, Unmanaged.passUnretained(self).toOpaque())
  }

  /// A client's context. `identity` is shown to servers that ask for a certificate.
  ///
  /// - Throws: ``TLSError`` of kind `file` with the path that cannot be used.
  package init(
    clientTrusting roots: TLSRoots, identity: TLSIdentity? = nil, protocols: [String]
  ) throws(TLSError) {
    (handle, self.protocols, isServer) = (try Self.makeHandle(isServer: false), Self.wire(protocols), false)
    switch roots {
    case .system:
      guard SSL_CTX_set_default_verify_paths(handle) == 1 else { throw .library("default verify paths") }
    case .file(let path): try trust(path)
    }
    if let identity { try use(identity) }
    SSL_CTX_set_verify(handle, SSL_VERIFY_PEER, nil)
    TLSSessions.collect(from: handle)
    // 0 is success here.
    guard SSL_CTX_set_alpn_protos(handle, self.protocols, UInt32(self.protocols.count)) == 0 else {
      throw .library("ALPN")
    }
  }

  deinit { SSL_CTX_free(handle) }

  private static func makeHandle(isServer: Bool) throws(TLSError) -> OpaquePointer {
    ERR_clear_error()
    guard libraryIsReady, let handle = SSL_CTX_new(isServer ? TLS_server_method() : TLS_client_method())
    else {
      throw .library("SSL_CTX_new")
    }
    _ = copenssl_set_min_proto_version(handle, TLS1_2_VERSION)
    // For TLS 1.2; the suites of TLS 1.3 are all of this kind. AES-128 first: no weaker in practice, and it costs less.
    _ = SSL_CTX_set_cipher_list(handle, "ECDHE+AESGCM+AES128:ECDHE+AESGCM+AES256:ECDHE+CHACHA20")
    _ = SSL_CTX_set_ciphersuites(
      handle, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256")
    _ = SSL_CTX_set_options(handle, copenssl_op_no_renegotiation | copenssl_op_no_compression)
    // A server's order counts, but for callers that put ChaCha20 first: they have no AES in hardware.
    if isServer {
      _ = SSL_CTX_set_options(handle, copenssl_op_server_preference | copenssl_op_prioritize_chacha)
    }
    // An idle connection gives its record buffers back.
    copenssl_set_mode(handle, Int(SSL_MODE_RELEASE_BUFFERS))
    // Without this the library would ask on the terminal.
    SSL_CTX_set_default_passwd_cb(handle) { _, _, _, _ in -1 }
    return handle
  }

  private static func wire(_ protocols: [String]) -> [UInt8] {
    protocols.flatMap { name in [UInt8(clamping: name.utf8.count)] + Array(name.utf8.prefix(255)) }
  }

  private func use(_ identity: TLSIdentity) throws(TLSError) {
    guard SSL_CTX_use_certificate_chain_file(handle, identity.certificatePath) == 1 else {
      throw .file(identity.certificatePath, "holds no certificate in PEM form")
    }
    guard SSL_CTX_use_PrivateKey_file(handle, identity.keyPath, SSL_FILETYPE_PEM) == 1 else {
      throw .file(identity.keyPath, "holds no private key in PEM form")
    }
    guard SSL_CTX_check_private_key(handle) == 1 else {
      throw .file(identity.keyPath, "does not belong to the certificate")
    }
    guard let certificate = SSL_CTX_get0_certificate(handle), let end = X509_get0_notAfter(certificate) else {
      return
    }
    var time = tm()
    if ASN1_TIME_to_tm(end, &time) == 1 { certificateEnd = timegm(&time) }
  }

  private func trust(_ path: String) throws(TLSError) {
    guard SSL_CTX_load_verify_file(handle, path) == 1 else {
      throw .file(path, "holds no certificate in PEM form")
    }
  }

  private func requireCertificates(_ path: String) throws(TLSError) {
    try trust(path)
    // What callers are told, so that they choose the right one of several certificates.
    guard let names = SSL_load_client_CA_file(path) else {
      throw .file(path, "holds no certificate in PEM form")
    }
    SSL_CTX_set_client_CA_list(handle, names)
    SSL_CTX_set_verify(handle, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nil)
  }

  /// The place in `offered`, a list as on the wire, of the protocol that is wanted most.
  fileprivate func choice(from offered: UnsafeBufferPointer<UInt8>) -> UnsafeBufferPointer<UInt8>? {
    for wanted in TLSProtocolList(bytes: protocols[...]) {
      for candidate in TLSProtocolList(bytes: offered[...]) where candidate.elementsEqual(wanted) {
        return UnsafeBufferPointer(rebasing: candidate)
      }
    }
    return nil
  }
}

/// Starts the library, once, with the first context. It is not taken down when the process exits: a thread that is still
/// sending its last spans then would lose it under its hands.
private let libraryIsReady = OPENSSL_init_ssl(UInt64(OPENSSL_INIT_NO_ATEXIT), nil) == 1

/// The names of a protocol list in wire form; a length that leads beyond the end ends it.
private struct TLSProtocolList<Bytes: RandomAccessCollection<UInt8>>: Sequence, IteratorProtocol
where Bytes.SubSequence == Bytes, Bytes.Index == Int {
  var bytes: Bytes

  mutating func next() -> Bytes? {
    guard let length = bytes.first, length > 0, bytes.count > Int(length) else { return nil }
    let name = bytes.dropFirst().prefix(Int(length))
    bytes = bytes.dropFirst(Int(length) + 1)
    return name
  }
}

/// The library asks which of the offered protocols to take (RFC 7301 section 3.2).
private func selectProtocol(
  _: OpaquePointer?, _ chosen: UnsafeMutablePointer<UnsafePointer<UInt8>?>?,
  _ chosenLength: UnsafeMutablePointer<UInt8>?, _ offered: UnsafePointer<UInt8>?, _ offeredLength: UInt32,
  _ user: UnsafeMutableRawPointer?
) -> Int32 {
  guard let user, let chosen, let chosenLength else { return SSL_TLSEXT_ERR_ALERT_FATAL }
  let context = Unmanaged<TLSContext>.fromOpaque(user).takeUnretainedValue()
  let list = UnsafeBufferPointer(start: offered, count: Int(offeredLength))
  guard let choice = context.choice(from: list) else { return SSL_TLSEXT_ERR_ALERT_FATAL }
  chosen.pointee = choice.baseAddress
  chosenLength.pointee = UInt8(choice.count)
  return SSL_TLSEXT_ERR_OK
}
