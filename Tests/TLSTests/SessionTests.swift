// What a client remembers of a server: taken up once, bounded, and never past the trust that it was verified by.

import Base
import COpenSSL
import TestSupport
import Testing

@testable import TLS

struct SessionTests {
  /// A handshake and an orderly close; true when it was resumed, by both ends' word.
  private func visit(
    _ client: TLSContext, _ server: TLSContext, _ sessions: TLSSessions, name: String = "localhost",
    cut isCut: Bool = false
  ) throws -> Bool {
    let pair = try TLSPair(client, server, name: name, sessions: sessions)
    pair.settle()
    try #require(pair.isOpen)
    #expect(pair.client.connection.isResumed == pair.server.connection.isResumed)
    if !isCut {
      pair.client.connection.closeSending()
      pair.settle()
    }
    return pair.client.connection.isResumed
  }

  private func serverOf12(_ files: TLSFiles) throws -> TLSContext {
    let server = try files.serverContext()
    _ = copenssl_set_max_proto_version(server.handle, TLS1_2_VERSION)
    return server
  }

  @Test func aTicketIsTakenUpOnceAndReplacedByTheNext() throws {
    let files = try TLSFiles()
    let (client, server, sessions) = (try files.clientContext(), try files.serverContext(), TLSSessions())
    #expect(try !visit(client, server, sessions))
    let count = sessions.count
    try #require(count >= 1)
    // Two connections at a time do not share a ticket.
    let pairs = try (0..<count + 1).map { _ in try TLSPair(client, server, sessions: sessions) }
    #expect(sessions.count == 0)
    for pair in pairs { pair.settle() }
    #expect(pairs.map(\.client.connection.isResumed) == pairs.indices.map { $0 < count })
    #expect(sessions.count >= 1)
    #expect(try visit(client, server, sessions))
    withExtendedLifetime(pairs) {}
  }

  @Test func aSessionOf12IsUsedAgainAndAgain() throws {
    let files = try TLSFiles()
    let (client, server, sessions) = (try files.clientContext(), try serverOf12(files), TLSSessions())
    #expect(try !visit(client, server, sessions))
    for _ in 0..<3 { #expect(try visit(client, server, sessions)) }
    #expect(sessions.count == 1)
  }

  @Test func noMoreThanTheBoundAreKept() throws {
    let files = try TLSFiles()
    let (client, server, sessions) = (try files.clientContext(), try files.serverContext(), TLSSessions())
    // Begun before any ticket came, so that each brings new ones.
    let pairs = try (0..<TLSSessions.countMax).map { _ in try TLSPair(client, server, sessions: sessions) }
    for pair in pairs { pair.settle() }
    #expect(sessions.count == TLSSessions.countMax)
    #expect(try visit(client, server, sessions))
    withExtendedLifetime(pairs) {}
  }

  @Test func anotherServerOrOneThatForgotShakesHandsInFull() throws {
    let files = try TLSFiles()
    let (client, sessions) = (try files.clientContext(), TLSSessions())
    #expect(try !visit(client, files.serverContext(), sessions))
    #expect(try !visit(client, files.serverContext(), sessions), "its ticket keys are others")
    #expect(try !visit(client, serverOf12(files), sessions), "it speaks no 1.3 any more")
  }

  @Test func whatIsNotRememberedIsNotResumed() throws {
    let files = try TLSFiles()
    let (client, server) = (try files.clientContext(), try files.serverContext())
    #expect(try !visit(client, server, TLSSessions()))
    #expect(try !visit(client, server, TLSSessions()))
  }

  @Test func aConnectionOf12ThatWasCutLeavesNothing() throws {
    let files = try TLSFiles()
    let (client, server, sessions) = (try files.clientContext(), try serverOf12(files), TLSSessions())
    #expect(try !visit(client, server, sessions, cut: true))
    #expect(try !visit(client, server, sessions))
  }

  @Test func aNameIsSentAndAnAddressIsNot() throws {
    let files = try TLSFiles()
    for (name, sent) in [
      ("localhost", "localhost"), ("localhost.", "localhost"), ("127.0.0.1", nil), ("::1", nil),
    ] {
      let pair = try TLSPair(files.clientContext(), files.serverContext(), name: name)
      pair.settle()
      try #require(pair.isOpen)
      let told = SSL_get_servername(pair.server.connection.handle, TLSEXT_NAMETYPE_host_name)
      #expect(told.map { String(cString: $0) } == sent)
    }
  }
}
