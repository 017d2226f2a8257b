// A server whose sockets another process has: connections that come back are told to come no more.

import Base
import EventLoop
import TestSupport
import Testing

@testable import Transport

private let get = "GET /a HTTP/1.1\r\nhost: x\r\n\r\n"

struct RetireTests {
  @Test func anIdleConnectionIsAnsweredOnceMoreAndToldToClose() throws {
    let rig = try ServerRig()
    rig.send(get)
    #expect(!rig.output().contains("connection: close"))
    rig.server.retire()
    rig.turn()
    #expect(!rig.isClosed)
    rig.send(get)
    #expect(rig.output().contains("connection: close\r\n"))
    #expect(rig.isClosed && rig.loads.openConnections == 0)
  }

  @Test func anAnswerThatHasBegunCannotSayItSoTheNextOneDoes() throws {
    let rig = try ServerRig()
    rig.application.onRequest = { $0.respond(200, .stream) }
    rig.send(get)
    rig.server.retire()
    rig.application.exchanges[0].send("x")
    rig.application.exchanges[0].finish()
    rig.turn()
    #expect(rig.output().hasSuffix("0\r\n\r\n") && !rig.isClosed)
    rig.application.onRequest = { $0.respond(200, "hello") }
    rig.send(get)
    #expect(rig.output().contains("connection: close\r\n") && rig.isClosed)
  }

  @Test func aConnectionThatWasAcceptedIsServed() throws {
    let rig = try ServerRig()
    rig.server.retire()
    // As one that comes from another loop's accept.
    rig.server.accepted(11)
    rig.kernel.input[11] = [Array(get.utf8)]
    rig.kernel.queue([(11, .readable)])
    rig.turn()
    let answer = String(decoding: rig.kernel.takeOutput(11), as: UTF8.self)
    #expect(answer.hasPrefix("HTTP/1.1 200") && answer.contains("connection: close\r\n"))
  }

  @Test func theListenerIsLeftAndADrainClosesTheRest() throws {
    let rig = try ServerRig()
    rig.server.retire()
    #expect(!rig.kernel.isRegistered(ServerRig.listener) && !rig.kernel.closed.contains(ServerRig.listener))
    rig.server.drain()
    rig.turn()
    #expect(rig.isClosed)
  }
}
