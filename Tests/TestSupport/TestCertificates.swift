// Certificates for tests, made when they are needed and gone with their folder: no key is ever committed.

import COpenSSL
import Glibc

/// Why no certificate could be made.
package struct TestCertificateError: Error {
  let call: String
}

/// An authority in a folder of its own, and what it signs. Everything is a PEM file.
package final class TestAuthority {
  /// What a certificate says.
  package struct Request {
    /// Alternative names as OpenSSL writes them: `DNS:localhost,IP:127.0.0.1`.
    package var names = "DNS:localhost,IP:127.0.0.1,IP:::1"
    package var commonName = "test"
    /// From now, in seconds; negative for one that has ended.
    package var endsIn = 3_600
    package var isForClients = false

    package init(_ change: (inout Request) -> Void = { _ in }) { change(&self) }
  }

  /// The files of one certificate.
  package struct Files {
    package let certificate: String
    package let key: String
  }

  package let folder: String
  private let key: OpaquePointer
  private let certificate: OpaquePointer
  private var count = 0

  package init() throws {
    var template = Array("/tmp/dynamo-tls-XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else { throw TestCertificateError(call: "mkdtemp") }
    folder = String(decoding: template.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self)
    let key = try Self.makeKey()
    let request = Request {
      $0.commonName = "authority"
      $0.names = ""
    }
    self.key = key
    certificate = try Self.sign(request, key: key, issuer: nil, issuerKey: key, serial: 1)
    try Self.write(certificate, to: path)
  }

  deinit {
    X509_free(certificate)
    EVP_PKEY_free(key)
    if let entries = opendir(folder) {
      while let entry = readdir(entries) {
        let name = withUnsafeBytes(of: &entry.pointee.d_name) {
          String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
        }
        unlink("\(folder)/\(name)")
      }
      closedir(entries)
    }
    rmdir(folder)
  }

  /// The authority's own certificate.
  package var path: String { "\(folder)/ca.pem" }

  /// Makes a key and a certificate for it.
  package func issue(_ change: (inout Request) -> Void = { _ in }) throws -> Files {
    count += 1
    let files = Files(certificate: "\(folder)/\(count).pem", key: "\(folder)/\(count).key")
    let own = try Self.makeKey()
    defer { EVP_PKEY_free(own) }
    let signed = try Self.sign(
      Request(change), key: own, issuer: certificate, issuerKey: key, serial: count + 1)
    defer { X509_free(signed) }
    try Self.write(signed, to: files.certificate)
    let file = BIO_new_file(files.key, "w")
    defer { BIO_free(file) }
    guard PEM_write_bio_PrivateKey(file, own, nil, nil, 0, nil, nil) == 1 else {
      throw TestCertificateError(call: "PEM_write_bio_PrivateKey")
    }
    return files
  }

  private static func makeKey() throws -> OpaquePointer {
    let context = EVP_PKEY_CTX_new_id(EVP_PKEY_EC, nil)
    defer { EVP_PKEY_CTX_free(context) }
    var key: OpaquePointer?
    guard EVP_PKEY_keygen_init(context) == 1,
      EVP_PKEY_CTX_set_ec_paramgen_curve_nid(context, NID_X9_62_prime256v1) == 1,
      EVP_PKEY_keygen(context, &key) == 1, let key
    else { throw TestCertificateError(call: "EVP_PKEY_keygen") }
    return key
  }

  /// A nil `issuer` makes an authority that signs itself.
  private static func sign(
    _ request: Request, key: OpaquePointer, issuer: OpaquePointer?, issuerKey: OpaquePointer, serial: Int
  ) throws -> OpaquePointer {
    guard let certificate = X509_new() else { throw TestCertificateError(call: "X509_new") }
    X509_set_version(certificate, 2)
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), serial)
    X509_gmtime_adj(X509_getm_notBefore(certificate), -7_200)
    X509_gmtime_adj(X509_getm_notAfter(certificate), request.endsIn)
    X509_set_pubkey(certificate, key)
    let text: Int32 = 0x1001  // MBSTRING_ASC
    X509_NAME_add_entry_by_txt(
      X509_get_subject_name(certificate), "CN", text, request.commonName, -1, -1, 0)
    X509_set_issuer_name(certificate, X509_get_subject_name(issuer ?? certificate))
    if issuer == nil {
      try extend(certificate, NID_basic_constraints, "critical,CA:TRUE")
      try extend(certificate, NID_key_usage, "critical,keyCertSign")
    } else {
      try extend(certificate, NID_ext_key_usage, request.isForClients ? "clientAuth" : "serverAuth")
    }
    if !request.names.isEmpty { try extend(certificate, NID_subject_alt_name, request.names) }
    guard X509_sign(certificate, issuerKey, EVP_sha256()) > 0 else {
      throw TestCertificateError(call: "X509_sign")
    }
    return certificate
  }

  private static func extend(_ certificate: OpaquePointer, _ kind: Int32, _ value: String) throws {
    guard let made = X509V3_EXT_conf_nid(nil, nil, kind, value) else {
      throw TestCertificateError(call: "X509V3_EXT_conf_nid \(value)")
    }
    X509_add_ext(certificate, made, -1)
    X509_EXTENSION_free(made)
  }

  private static func write(_ certificate: OpaquePointer, to path: String) throws {
    let file = BIO_new_file(path, "w")
    defer { BIO_free(file) }
    guard PEM_write_bio_X509(file, certificate) == 1 else {
      throw TestCertificateError(call: "PEM_write_bio_X509")
    }
  }
}
