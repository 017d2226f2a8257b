// How handshakes end: opened at every split, and refused for each reason that a peer can give.

import Base
import COpenSSL
import TestSupport
import Testing

@testable import TLS

struct HandshakeTests {
  @Test(arguments: [1, 2, 3, 5, 7, 16, 100, 1_000, 100_000])
  func bytesMayComeInPiecesOfAnySize(step: Int) throws {
    let files = try TLSFiles()
    let pair = try TLSPair(files.clientContext(), files.serverContext(), step: step)
    pair.settle()
    #expect(pair.isOpen)
    #expect(pair.client.connection.version == "TLSv1.3")
    #expect(pair.client.connection.applicationProtocol == "http/1.1")
    try pair.client.send(pattern(3_000))
    try pair.server.send(pattern(20_000))
    pair.settle()
    #expect(pair.server.received == pattern(3_000))
    #expect(pair.client.received == pattern(20_000))
    #expect(pair.client.failure == nil && pair.server.failure == nil)
  }

  @Test func whatComesWithTheLastHandshakeBytesIsDelivered() throws {
    let files = try TLSFiles()
    let pair = try TLSPair(files.clientContext(), files.serverContext())
    pair.server.receive(pair.client.takeOutgoing())
    pair.client.receive(pair.server.takeOutgoing())
    #expect(pair.client.connection.isOpen && !pair.server.connection.isOpen)
    try pair.client.send(Array("early".utf8))
    pair.server.receive(pair.client.takeOutgoing())
    #expect(pair.server.received == Array("early".utf8))
  }

  @Test(arguments: ["127.0.0.1", "::1", "localhost", "localhost.", "LocalHost"])
  func namesAndAddressesAreVerified(name: String) throws {
    let files = try TLSFiles()
    let pair = try TLSPair(files.clientContext(), files.serverContext(), name: name)
    pair.settle()
    #expect(pair.isOpen)
  }

  @Test(arguments: ["other.example", "127.0.0.2", "::2", "a.localhost", "test"])
  func anotherNameIsRefused(name: String) throws {
    let files = try TLSFiles()
    let pair = try TLSPair(files.clientContext(), files.serverContext(), name: name)
    pair.settle()
    #expect(pair.client.failure?.kind == .certificate)
    #expect(pair.client.failure?.reason.contains("mismatch") == true)
    #expect(pair.server.failure?.kind == .alert)
  }

  @Test func aWildcardStandsForOneWholeLabel() throws {
    let files = try TLSFiles { $0.names = "DNS:*.workers.example,DNS:ab*.part.example" }
    for (name, isAccepted) in [
      ("a.workers.example", true), ("a.b.workers.example", false), ("abc.part.example", false),
    ] {
      let pair = try TLSPair(files.clientContext(), files.serverContext(), name: name)
      pair.settle()
      #expect(pair.isOpen == isAccepted, "\(name)")
    }
  }

  @Test func anUnknownAuthorityIsRefused() throws {
    let files = try TLSFiles()
    let other = try TLSFiles()
    let pair = try TLSPair(other.clientContext(), files.serverContext())
    pair.settle()
    #expect(pair.client.failure?.kind == .certificate)
    #expect(pair.client.failure?.reason.hasPrefix("certificate verify failed: ") == true)
    #expect(pair.server.failure?.kind == .alert)
    #expect(!pair.client.connection.isOpen)
  }

  @Test func anExpiredCertificateIsRefused() throws {
    let files = try TLSFiles { $0.endsIn = -60 }
    let pair = try TLSPair(files.clientContext(), files.serverContext())
    pair.settle()
    #expect(pair.client.failure?.reason == "certificate verify failed: certificate has expired")
  }

  @Test func aClientsCertificateIsNoServers() throws {
    let files = try TLSFiles { $0.isForClients = true }
    let pair = try TLSPair(files.clientContext(), files.serverContext())
    pair.settle()
    #expect(pair.client.failure?.kind == .certificate)
  }

  // MARK: Application protocols

  @Test func theServersFirstCommonProtocolIsTaken() throws {
    let files = try TLSFiles()
    let pair = try TLSPair(
      files.clientContext(["x", "http/1.1", "h2"]), files.serverContext(["h2", "http/1.1"]))
    pair.settle()
    #expect(pair.client.connection.applicationProtocol == "h2")
    #expect(pair.server.connection.applicationProtocol == "h2")
  }

  @Test func noCommonProtocolEndsTheHandshake() throws {
    let files = try TLSFiles()
    let pair = try TLSPair(files.clientContext(["h2"]), files.serverContext(["http/1.1"]))
    pair.settle()
    #expect(pair.server.failure?.kind == .applicationProtocol)
    #expect(pair.client.failure?.kind == .alert)
    #expect(pair.client.failure?.reason.contains("no application protocol") == true)
  }

  @Test func aClientWithoutProtocolsIsServed() throws {
    let files = try TLSFiles()
    let pair = try TLSPair(files.clientContext([]), files.serverContext(["h2", "http/1.1"]))
    pair.settle()
    #expect(pair.isOpen)
    #expect(pair.server.connection.applicationProtocol == nil)
  }

  // MARK: Client certificates

  @Test func aRequiredClientCertificateOpensAndItsLackDoesNot() throws {
    let files = try TLSFiles()
    let own = try files.authority.issue { $0.isForClients = true }
    let server = try files.serverContext(clientRoots: files.authority.path)
    let identity = TLSIdentity(certificatePath: own.certificate, keyPath: own.key)
    let good = try TLSPair(files.clientContext(identity: identity), server)
    good.settle()
    #expect(good.isOpen)

    let bare = try TLSPair(files.clientContext(), server)
    bare.settle()
    #expect(bare.server.failure?.kind == .noCertificate)
    #expect(bare.client.failure?.kind == .alert)

    let stranger = try TestAuthority()
    let theirs = try stranger.issue { $0.isForClients = true }
    let foreign = TLSIdentity(certificatePath: theirs.certificate, keyPath: theirs.key)
    let refused = try TLSPair(files.clientContext(identity: foreign), server)
    refused.settle()
    #expect(refused.server.failure?.kind == .certificate)
  }

  // MARK: Other peers

  @Test(arguments: [
    ("GET / HTTP/1.1\r\nhost: x\r\n\r\n", TLSError.Kind.plainHTTP),
    ("SSH-2.0-OpenSSH_9.2p1\r\n", .notTLS),
    ("\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}", .notTLS),
  ])
  func whatIsNoTLSIsRefused(text: String, kind: TLSError.Kind) throws {
    let files = try TLSFiles()
    let server = try TLSEnd(files.serverContext())
    server.receive(Array(text.utf8))
    #expect(server.failure?.kind == kind)
    server.receive([1])
    #expect(!server.connection.isOpen)
  }

  @Test func olderVersionsAreRefused() throws {
    let files = try TLSFiles()
    let client = try files.clientContext()
    _ = copenssl_set_min_proto_version(client.handle, TLS1_1_VERSION)
    _ = copenssl_set_max_proto_version(client.handle, TLS1_1_VERSION)
    // Without this the library's own client refuses to begin.
    SSL_CTX_set_security_level(client.handle, 0)
    _ = SSL_CTX_set_cipher_list(client.handle, "ALL")
    let pair = try TLSPair(client, files.serverContext())
    pair.settle()
    #expect(pair.server.failure?.kind == .noCommonParameters)
    #expect(pair.client.failure?.kind == .alert)
  }

  @Test func everyBrokenHandshakeByteEndsInAnError() throws {
    let files = try TLSFiles()
    let server = try files.serverContext()
    let client = try files.clientContext()
    let hello = try TLSPair(client, server).client.takeOutgoing()
    for index in stride(from: 0, to: hello.count, by: 11) {
      let end = try TLSEnd(server)
      var broken = hello
      broken[index] ^= 0xff
      end.receive(broken)
      // Some bytes are random or unknown extensions: then the handshake goes on. It never opens by it.
      #expect(!end.connection.isOpen)
    }
  }
}
