// An open connection: large transfers, ends told and not told, what a peer may not do, and what is given back.

import Base
import COpenSSL
import Glibc
import TestSupport
import Testing

@testable import TLS

struct ConnectionTests {
  private func open(_ change: (TLSContext) -> Void = { _ in }) throws -> TLSPair {
    let files = try TLSFiles()
    let client = try files.clientContext()
    change(client)
    let pair = try TLSPair(client, files.serverContext())
    pair.settle()
    try #require(pair.isOpen)
    return pair
  }

  @Test(arguments: [1, 16_383, 16_384, 16_385, 65_536])
  func piecesOfAnySizeArrive(count: Int) throws {
    let pair = try open()
    try pair.server.send(pattern(count))
    pair.settle()
    #expect(pair.client.received == pattern(count))
  }

  @Test func aLargeTransferHoldsOnePieceAtATime() throws {
    let pair = try open()
    let all = pattern(3_000_000)
    var sent = 0
    while sent < all.count {
      let end = min(sent + TLSConnection.sendBytesMax, all.count)
      try pair.server.send(Array(all[sent..<end]))
      sent = end
      // A record of 16 KiB grows by 22 bytes.
      #expect(pair.server.connection.outgoing.count <= TLSConnection.sendBytesMax + 4 * 64)
      pair.settle()
    }
    #expect(pair.client.received == all)
  }

  @Test func recordsOfOneReadAreGatheredAndARoomThatIsFullIsEmptied() throws {
    let pair = try open()
    var pieces: [Int] = []
    pair.client.onPiece = {
      pieces.append($0)
      return true
    }
    for _ in 0..<50 { try pair.server.send(pattern(100)) }
    pair.client.receive(pair.server.takeOutgoing())
    #expect(pieces == [5_000])
    pieces = []
    try pair.server.send(pattern(65_536))
    pair.client.receive(pair.server.takeOutgoing())
    #expect(pieces.reduce(0, +) == 65_536 && pieces.allSatisfy { $0 <= 48 * 1024 } && pieces.count == 2)
  }

  @Test func aReceiverThatWantsNoMoreIsGivenNoMore() throws {
    let pair = try open()
    pair.client.onPiece = { _ in false }
    try pair.server.send(pattern(65_536))
    pair.client.receive(pair.server.takeOutgoing())
    #expect(pair.client.received.count <= 48 * 1024)
    #expect(pair.client.failure == nil)
  }

  @Test func theEndIsToldBothWays() throws {
    let pair = try open()
    try pair.client.send(Array("last".utf8))
    pair.client.connection.closeSending()
    pair.client.connection.closeSending()
    pair.settle()
    #expect(pair.server.received == Array("last".utf8))
    #expect(pair.server.connection.peerHasClosed)
    #expect(!pair.client.connection.peerHasClosed)
    // The other direction is still open (RFC 8446 section 6.1).
    try pair.server.send(Array("answer".utf8))
    pair.server.connection.closeSending()
    pair.settle()
    #expect(pair.client.received == Array("answer".utf8))
    #expect(pair.client.connection.peerHasClosed)
    #expect(throws: TLSError.self) { try pair.server.send([1]) }
  }

  @Test func withoutCloseNotifyTheEndIsNotTold() throws {
    let pair = try open()
    try pair.server.send(pattern(1_000))
    let bytes = pair.server.takeOutgoing()
    pair.client.receive(Array(bytes.dropLast()))
    #expect(pair.client.received.isEmpty && !pair.client.connection.peerHasClosed)
  }

  @Test func aRecordThatWasChangedIsNotDelivered() throws {
    let pair = try open()
    try pair.server.send(pattern(1_000))
    var bytes = pair.server.takeOutgoing()
    bytes[500] ^= 1
    pair.client.receive(bytes)
    #expect(pair.client.received.isEmpty)
    #expect(pair.client.failure?.kind == .protocolFault)
    #expect(!pair.client.takeOutgoing().isEmpty, "an alert says so")
  }

  @Test func bytesAfterTheEndAreIgnored() throws {
    let pair = try open()
    pair.server.connection.closeSending()
    pair.settle()
    pair.client.receive(pattern(100))
    #expect(pair.client.received.isEmpty)
  }

  @Test func renegotiationIsRefused() throws {
    let pair = try open { client in
      _ = copenssl_set_max_proto_version(client.handle, TLS1_2_VERSION)
      SSL_CTX_clear_options(client.handle, copenssl_op_no_renegotiation)
    }
    #expect(pair.client.connection.version == "TLSv1.2")
    #expect(pair.client.connection.renegotiate())
    pair.settle()
    // The server answers with the warning no_renegotiation; the library's client gives up and says so.
    #expect(pair.client.failure?.reason.contains("no renegotiation") == true)
    #expect(pair.server.failure?.kind == .alert)
  }

  @Test func aPeerThatAsksAndNeverTakesIsLetGo() throws {
    let pair = try open()
    var asked = 0
    while pair.server.failure == nil, asked < 100_000 {
      asked += 1
      pair.client.connection.updateKeys()
      pair.server.receive(pair.client.takeOutgoing())
      // An answer makes the pending update go out with it; nobody takes either.
      if pair.server.failure == nil { try? pair.server.send([1]) }
    }
    #expect(pair.server.failure != nil && asked < 100_000)
    #expect(pair.server.connection.outgoing.count < TLSConnection.outgoingBytesMax + 1_000)
  }

  // MARK: Tickets

  @Test func aClientResumesOnTheSameContextAndNotOnANewOne() throws {
    let files = try TLSFiles()
    let client = try files.clientContext()
    let server = try files.serverContext()
    let first = try TLSPair(client, server)
    first.settle()
    let session = try #require(first.client.connection.session())
    defer { SSL_SESSION_free(session) }

    let again = try TLSPair(client, server, starts: false)
    again.client.connection.take(session)
    try again.client.connection.start()
    again.settle()
    #expect(again.isOpen && again.server.connection.isResumed)

    let afterReload = try TLSPair(client, files.serverContext(), starts: false)
    afterReload.client.connection.take(session)
    try afterReload.client.connection.start()
    afterReload.settle()
    #expect(afterReload.isOpen && !afterReload.server.connection.isResumed)
  }

  // MARK: Files

  @Test func badFilesAreNamed() throws {
    let files = try TLSFiles()
    let other = try files.authority.issue()
    func reason(certificate: String, key: String, roots: String? = nil) -> String {
      do throws(TLSError) {
        _ = try TLSContext(
          server: TLSIdentity(certificatePath: certificate, keyPath: key), clientRoots: roots, protocols: [])
        return "none"
      } catch {
        #expect(error.kind == .file)
        return error.reason
      }
    }
    let good = files.server
    #expect(reason(certificate: good.certificate, key: good.key) == "none")
    #expect(reason(certificate: "/no/such", key: good.key) == "/no/such: No such file or directory")
    #expect(reason(certificate: good.key, key: good.key) == "\(good.key): holds no certificate in PEM form")
    #expect(
      reason(certificate: good.certificate, key: good.certificate)
        == "\(good.certificate): holds no private key in PEM form")
    #expect(reason(certificate: good.certificate, key: other.key).hasPrefix("\(other.key): "))
    #expect(
      reason(certificate: good.certificate, key: good.key, roots: good.key)
        == "\(good.key): holds no certificate in PEM form")
    #expect(throws: TLSError.self) { try TLSContext(clientTrusting: .file("/no/such"), protocols: []) }
  }

  @Test func theEndOfTheCertificateIsKnown() throws {
    let files = try TLSFiles { $0.endsIn = 86_400 }
    let end = try #require(try files.serverContext().certificateEnd)
    #expect(abs(end - time(nil) - 86_400) < 60)
    #expect(try files.clientContext().certificateEnd == nil)
  }

  @Test func reasonsAreBounded() {
    let error = TLSError(.file, String(repeating: "é", count: 10_000))
    #expect(error.reason.utf8.count <= TLSError.reasonBytesMax)
  }
}

extension TLSConnection {
  fileprivate func renegotiate() -> Bool { SSL_renegotiate(handle) == 1 && SSL_do_handshake(handle) >= -1 }

  fileprivate func updateKeys() {
    _ = SSL_key_update(handle, SSL_KEY_UPDATE_REQUESTED)
    _ = SSL_do_handshake(handle)
  }

  fileprivate func session() -> OpaquePointer? { SSL_get1_session(handle) }

  fileprivate func take(_ session: OpaquePointer) { SSL_set_session(handle, session) }
}
