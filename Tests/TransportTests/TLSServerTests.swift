// A caller's connection over TLS: the same exchanges as in plain text, and the ends that only TLS has.

import Base
import EventLoop
import HTTP
import TLS
import TestSupport
import Testing

@testable import Transport

private let request = "POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nbody"

struct TLSServerTests {
  @Test(arguments: [1, 2, 3, 7, 100, 1 << 20])
  func requestsAreAnsweredAtEverySplit(step: Int) throws {
    let secure = try SecureServerRig()
    try secure.ask(request, step: step)
    #expect(secure.peer.text.hasPrefix("HTTP/1.1 200 OK\r\n") && secure.peer.text.hasSuffix("hello"))
    try secure.ask(request, step: step)
    #expect(secure.rig.application.exchanges.map(\.body) == [Array("body".utf8), Array("body".utf8)])
    #expect(secure.rig.application.exchanges.map { $0.ends.map(\.name) } == [["complete"], ["complete"]])
    #expect(secure.setting.outcomes == ["ok": 1])
  }

  @Test func nothingIsReadInPlainText() throws {
    let secure = try SecureServerRig()
    try secure.ask(request)
    #expect(!String(decoding: secure.rig.kernel.takeOutput(secure.rig.caller), as: UTF8.self).contains("200"))
    #expect(secure.rig.application.exchanges.count == 1)
  }

  @Test func aSlowCallerStallsAnAnswerAndGetsAllOfIt() throws {
    let secure = try SecureServerRig()
    let rig = secure.rig
    let size = 700_000
    let answer = String(repeating: "0123456789", count: size / 10)
    rig.application.onRequest = { $0.respond(200, answer) }
    secure.settle()
    rig.kernel.sendRoom[rig.caller] = 10_000
    try secure.peer.send(request)
    secure.settle()
    let exchange = try #require(rig.application.exchanges.first)
    #expect(exchange.exchange.outputIsFull && exchange.ends.isEmpty)
    var rounds = 0
    while exchange.ends.isEmpty, rounds < 200 {
      rounds += 1
      rig.kernel.sendRoom[rig.caller] = 50_000
      rig.kernel.queue([(rig.caller, .writable)])
      rig.turn()
      secure.settle()
    }
    #expect(exchange.ends.map(\.name) == ["complete"] && exchange.drainedCount == 1)
    #expect(secure.peer.text.hasSuffix(answer) && rounds > 10)
  }

  @Test func pausedBodiesWaitAndGoOn() throws {
    let secure = try SecureServerRig()
    let rig = secure.rig
    rig.application.onHead = { exchange in
      exchange.onBody = { $0.exchange.pauseBody() }
    }
    let body = String(repeating: "x", count: 200_000)
    secure.settle()
    try secure.peer.send("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: \(body.utf8.count)\r\n\r\n")
    for _ in 0..<4 { try secure.peer.send(String(body.prefix(50_000))) }
    secure.settle()
    let exchange = try #require(rig.application.exchanges.first)
    #expect(exchange.body.count < 200_000 && !exchange.isComplete)
    var rounds = 0
    while !exchange.isComplete, rounds < 100 {
      rounds += 1
      exchange.exchange.resumeBody()
      rig.turn()
    }
    #expect(exchange.body.count == 200_000 && exchange.isComplete)
  }

  // MARK: Handshakes that come to nothing

  @Test func aHandshakeHasADeadline() throws {
    let secure = try SecureServerRig()
    secure.rig.pass(9 * second)
    #expect(!secure.rig.isClosed)
    secure.rig.pass(2 * second)
    #expect(secure.rig.isClosed)
    #expect(secure.setting.outcomes == ["timeout": 1])
  }

  @Test func anOpenConnectionHasNone() throws {
    let secure = try SecureServerRig()
    secure.settle()
    secure.rig.pass(20 * second)
    #expect(!secure.rig.isClosed)
    secure.rig.pass(60 * second)
    #expect(secure.rig.isClosed, "it is idle for too long")
    #expect(secure.setting.outcomes == ["ok": 1])
  }

  @Test func aRequestInPlainTextIsToldSo() throws {
    let secure = try SecureServerRig()
    secure.rig.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    let answer = secure.rig.output()
    #expect(answer.hasPrefix("HTTP/1.1 400 Bad Request\r\n"))
    #expect(answer.hasSuffix("content-length: 27\r\n\r\nThis port speaks HTTPS only"))
    #expect(secure.rig.isClosed && secure.rig.application.exchanges.isEmpty)
    #expect(secure.setting.outcomes == ["plain_http": 1])
  }

  @Test func aCallerThatLeavesOrIsCutInTheHandshakeIsCounted() throws {
    let left = try SecureServerRig()
    left.rig.close()
    #expect(left.rig.isClosed && left.setting.outcomes == ["closed": 1])
    let cut = try SecureServerRig()
    cut.rig.server.drain()
    #expect(cut.rig.isClosed && cut.setting.outcomes == ["closed": 1])
  }

  @Test func aCallerThatDoesNotTrustUsIsCounted() throws {
    let secure = try SecureServerRig()
    let stranger = try TestAuthority()
    let context = try TLSContext(clientTrusting: .file(stranger.path), protocols: [])
    let peer = try TLSPeer(secure.rig.kernel, secure.rig.caller, context, serverName: "localhost")
    while peer.exchange() { secure.rig.turn() }
    #expect(peer.failure?.kind == .certificate)
    #expect(secure.rig.isClosed && secure.setting.outcomes == ["alert": 1])
  }

  // MARK: Ends

  @Test func anIdleConnectionEndsWithCloseNotify() throws {
    let secure = try SecureServerRig()
    try secure.ask(request)
    secure.rig.pass(80 * second)
    _ = secure.peer.exchange()
    #expect(secure.rig.isClosed && secure.peer.connection.peerHasClosed)
  }

  @Test func anAnswerThatIsCutEndsWithoutCloseNotify() throws {
    let secure = try SecureServerRig()
    secure.rig.application.onRequest = { $0.respond(200, .stream) }
    try secure.ask(request)
    secure.rig.application.exchanges[0].send("half")
    secure.settle()
    secure.rig.application.exchanges[0].exchange.abort(.failed(.shutdown))
    _ = secure.peer.exchange()
    #expect(secure.peer.text.contains("half"))
    #expect(secure.rig.isClosed && !secure.peer.connection.peerHasClosed)
  }

  @Test func closeNotifyInARequestCancelsIt() throws {
    let secure = try SecureServerRig()
    secure.rig.application.onRequest = { _ in }
    try secure.ask(request)
    #expect(secure.rig.application.exchanges[0].isComplete)
    // Reading rests while the answer is made: the end of TCP, which comes with it, is what is seen.
    secure.peer.connection.closeSending()
    _ = secure.peer.exchange()
    secure.rig.close()
    #expect(secure.rig.application.exchanges[0].ends.map(\.name) == ["cancelled"])
  }

  @Test func aBodyThatIsCutIsCancelled() throws {
    let secure = try SecureServerRig()
    secure.settle()
    try secure.peer.send("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nfour")
    secure.peer.connection.closeSending()
    secure.settle()
    #expect(secure.rig.application.exchanges[0].ends.map(\.name) == ["cancelled"])
  }

  @Test func aChangedRecordEndsTheConnection() throws {
    let secure = try SecureServerRig()
    secure.settle()
    try secure.peer.send(request)
    secure.peer.connection.outgoing.append(1)
    secure.peer.connection.outgoing.append([UInt8](repeating: 9, count: 100))
    secure.settle()
    #expect(secure.rig.isClosed && secure.setting.outcomes == ["ok": 1])
    #expect(secure.peer.failure?.kind == .alert)
  }

  @Test func theContextOfConnectionsToComeIsReplaced() throws {
    let secure = try SecureServerRig()
    try secure.ask(request)
    let next = try TLSSetting()
    secure.rig.server.adopt(
      ServerLimits(), security: SocketSecurity(next.server, counters: next.counters))
    try secure.ask(request)
    #expect(secure.rig.application.exchanges.count == 2, "the open connection goes on")
    let second: Int32 = 11
    secure.rig.kernel.pendingAccepts[ServerRig.listener] = [second]
    secure.rig.kernel.queue([(ServerRig.listener, .readable)])
    secure.rig.turn()
    let peer = try TLSPeer(secure.rig.kernel, second, next.client, serverName: "localhost")
    while peer.exchange() { secure.rig.turn() }
    #expect(peer.connection.isOpen && next.outcomes == ["ok": 1])
  }
}
