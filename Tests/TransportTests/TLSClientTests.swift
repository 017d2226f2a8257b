// Connections to workers over TLS: verified, reused, and never taken for whole when they were cut.

import Base
import EventLoop
import HTTP
import TLS
import TestSupport
import Testing

@testable import Transport

private final class Answer: ClientExchangeHandler {
  var status = 0
  var body: [UInt8] = []
  var isComplete = false
  var failure: String?
  var onBody: (() -> Void)?

  func responded(_ head: ResponseHead) { status = head.status }

  func received(body bytes: UnsafeRawBufferPointer) {
    body += bytes
    onBody?()
  }

  func receivedEnd(trailers: UnsafeRawBufferPointer) { isComplete = true }

  func failed(_ failure: UpstreamFailure) {
    if case .connect(let cause) = failure { self.failure = "\(cause)" } else { self.failure = "\(failure)" }
  }

  var text: String { String(decoding: body, as: UTF8.self) }
}

private let small = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
private let endless = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n"

struct TLSClientTests {
  @Test(arguments: [1, 3, 7, 100, 1 << 20])
  func anAnswerIsDeliveredAndTheConnectionReused(step: Int) throws {
    let rig = try SecureClientRig()
    for count in 1...2 {
      let answer = Answer()
      let connection = rig.send(to: answer)
      if count == 1 { rig.connected() }
      rig.settle(step: step)
      #expect(rig.peer.text.components == count)
      try rig.reply(small)
      #expect(answer.isComplete && answer.text == "ok" && answer.status == 200)
      #expect(connection.isReused == (count == 2))
    }
    #expect(rig.setting.outcomes == ["ok": 1] && rig.pool.connectCount == 1)
  }

  @Test func anotherNameOrAuthorityIsAFailedConnect() throws {
    let stranger = try TestAuthority()
    for rig in [try SecureClientRig(name: "other.example"), try SecureClientRig(roots: stranger)] {
      let answer = Answer()
      _ = rig.send(to: answer)
      rig.connected()
      rig.settle()
      #expect(answer.failure?.hasPrefix("TLS: certificate verify failed: ") == true)
      #expect(rig.setting.outcomes == ["bad_certificate": 1])
      #expect(rig.kernel.closed.contains(rig.socket))
      #expect(!rig.peer.text.contains("POST"), "nothing is said to a stranger")
    }
  }

  @Test func aWorkerThatSpeaksPlainTextIsAFailedConnect() throws {
    let rig = try SecureClientRig()
    let answer = Answer()
    _ = rig.send(to: answer)
    rig.connected()
    rig.kernel.input[rig.socket] = [Array("HTTP/1.1 400 Bad Request\r\n\r\n".utf8)]
    rig.kernel.queue([(rig.socket, .readable)])
    rig.loop.turn(patience: 0)
    rig.loop.turn(patience: 0)
    #expect(answer.failure == "TLS: wrong version number")
    #expect(rig.setting.outcomes == ["not_tls": 1])
  }

  @Test func theConnectTimeoutCoversTheHandshake() throws {
    let rig = try SecureClientRig()
    let answer = Answer()
    _ = rig.send(to: answer)
    rig.connected()
    rig.kernel.time += 4 * second
    rig.loop.turn(patience: 0)
    rig.loop.turn(patience: 0)
    #expect(answer.failure == "connectTimeout" && rig.setting.outcomes == ["timeout": 1])
  }

  @Test func aRefusedConnectIsNoHandshake() throws {
    let rig = try SecureClientRig()
    rig.kernel.connectErrors[rig.socket] = 111
    let answer = Answer()
    _ = rig.send(to: answer)
    rig.kernel.queue([(rig.socket, .error)])
    rig.loop.turn(patience: 0)
    rig.loop.turn(patience: 0)
    #expect(answer.failure == "connect: Connection refused" && rig.setting.outcomes.isEmpty)
  }

  // MARK: Ends

  @Test func anAnswerFramedByItsConnectionEndsWithCloseNotifyAlone() throws {
    for isTold in [true, false] {
      let rig = try SecureClientRig()
      let answer = Answer()
      _ = rig.send(to: answer)
      rig.connected()
      rig.settle()
      try rig.reply(endless + "all of it")
      if isTold { rig.peer.connection.closeSending() }
      rig.settle()
      rig.hangUp()
      rig.loop.turn(patience: 0)
      #expect(answer.text == "all of it")
      #expect(answer.isComplete == isTold)
      #expect(answer.failure == (isTold ? nil : "broken"))
    }
  }

  @Test func aPausedAnswersEndComesAfterItsBytes() throws {
    let rig = try SecureClientRig()
    let answer = Answer()
    let connection = rig.send(to: answer)
    rig.connected()
    rig.settle()
    answer.onBody = { connection.pause() }
    try rig.peer.send(endless + "one")
    try rig.peer.send("two")
    rig.peer.connection.closeSending()
    rig.settle()
    try #require(!answer.isComplete && answer.failure == nil)
    answer.onBody = nil
    connection.resume()
    rig.loop.turn(patience: 0)
    rig.loop.turn(patience: 0)
    #expect(answer.text == "onetwo" && answer.isComplete)
  }

  @Test func aReusedConnectionThatDiesBeforeAnyByteIsStale() throws {
    let rig = try SecureClientRig()
    _ = rig.send(to: Answer())
    rig.connected()
    rig.settle()
    try rig.reply(small)
    let answer = Answer()
    _ = rig.send(to: answer)
    rig.hangUp()
    rig.loop.turn(patience: 0)
    #expect(answer.failure == "stale")
  }

  @Test func anIdleConnectionEndsWithCloseNotify() throws {
    let rig = try SecureClientRig()
    _ = rig.send(to: Answer())
    rig.connected()
    rig.settle()
    try rig.reply(small)
    rig.kernel.time += 6 * second
    rig.loop.turn(patience: 0)
    _ = rig.peer.exchange()
    #expect(rig.kernel.closed.contains(rig.socket) && rig.peer.connection.peerHasClosed)
  }
}

extension String {
  /// Requests in what a worker received.
  fileprivate var components: Int { split(separator: "POST / ").count }
}
