// A server connection through every ending: complete, failed, cancelled, timed out, drained.

import Base
import EventLoop
import Foundation
import HTTP
import TestSupport
import Testing

@testable import Transport

private let get = "GET /a HTTP/1.1\r\nhost: x\r\n\r\n"
private let post = "POST /b HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\n"

struct ServerConnectionTests {
  @Test func aRequestIsAnsweredAndTheConnectionKept() throws {
    let rig = try ServerRig()
    rig.send(get)
    let first = rig.output()
    #expect(first.hasPrefix("HTTP/1.1 200 OK\r\n"))
    #expect(first.contains("content-length: 5\r\n"))
    #expect(first.contains("\r\ndate: "))
    #expect(first.hasSuffix("\r\n\r\nhello"))
    #expect(rig.application.exchanges[0].ends.map(\.name) == ["complete"])
    rig.send(get)
    #expect(rig.output().hasSuffix("hello"))
    #expect(rig.application.exchanges.count == 2)
    #expect(!rig.isClosed)
    #expect(rig.loads.openRequests == 0)
  }

  @Test func aHeadMayComeByteByByteAndTheBodyToo() throws {
    let rig = try ServerRig()
    for byte in post + "hallo" { rig.send(String(byte)) }
    #expect(rig.application.exchanges.count == 1)
    #expect(String(decoding: rig.application.exchanges[0].body, as: UTF8.self) == "hallo")
    #expect(rig.output().hasSuffix("hello"))
  }

  @Test func pipelinedRequestsAreAnsweredInOrder() throws {
    let rig = try ServerRig()
    rig.application.onRequest = { $0.respond(200, $0.path) }
    rig.send(get + post + "hallo" + get.replacing("/a", with: "/c"))
    let output = rig.output()
    let bodies = ["/a", "/b", "/c"]
    var position = output.startIndex
    for body in bodies {
      let found = output.range(of: "\r\n\r\n\(body)", range: position..<output.endIndex)
      #expect(found != nil)
      position = found?.upperBound ?? position
    }
    #expect(rig.application.exchanges.count == 3)
  }

  @Test func aStreamIsChunkedAndATickSharesOneChunk() throws {
    let rig = try ServerRig()
    rig.application.onRequest = { exchange in
      exchange.respond(200, .stream)
      exchange.send("one")
      exchange.send("two")
    }
    rig.send(get)
    let head = rig.output()
    #expect(head.contains("transfer-encoding: chunked\r\n"))
    #expect(head.hasSuffix("\r\n\r\n0006\r\nonetwo\r\n"))
    #expect(rig.kernel.sendCalls[rig.caller] == 1)
    rig.application.exchanges[0].send("three")
    rig.application.exchanges[0].finish()
    rig.turn()
    #expect(rig.output() == "0005\r\nthree\r\n0\r\n\r\n")
    #expect(rig.application.exchanges[0].ends.map(\.name) == ["complete"])
  }

  @Test func anHTTP10CallerGetsAStreamThatEndsWithTheConnection() throws {
    let rig = try ServerRig()
    rig.application.onRequest = { exchange in
      exchange.respond(200, .stream)
      exchange.send("one")
      exchange.finish()
    }
    rig.send("GET /a HTTP/1.0\r\n\r\n")
    let output = rig.output()
    #expect(!output.contains("transfer-encoding"))
    #expect(output.hasSuffix("\r\n\r\none"))
    #expect(rig.isClosed)
  }

  @Test func anHTTP10StreamEndsAlthoughItsLastBytesLeftBefore() throws {
    let rig = try ServerRig()
    rig.application.onRequest = { exchange in
      exchange.respond(200, .stream)
      exchange.send("one")
    }
    rig.send("GET /a HTTP/1.0\r\n\r\n")
    #expect(rig.output().hasSuffix("one"))
    rig.application.exchanges[0].finish()
    rig.turn()
    #expect(rig.isClosed)
    #expect(rig.application.exchanges[0].ends.map(\.name) == ["complete"])
  }

  @Test func aRefusalReachesACallerThatHasFinishedSending() throws {
    let rig = try ServerRig()
    rig.kernel.input[rig.caller] = [Array("GET /a HTTP/1.1\r\n\r\n".utf8), []]
    rig.kernel.queue([(rig.caller, .peerClosed)])
    rig.turn()
    #expect(rig.output().hasPrefix("HTTP/1.1 400"))
    #expect(rig.isClosed)
  }

  @Test func aHeadRequestGetsNoBody() throws {
    let rig = try ServerRig()
    rig.send("HEAD /a HTTP/1.1\r\nhost: x\r\n\r\n")
    let output = rig.output()
    #expect(output.contains("content-length: 5\r\n"))
    #expect(output.hasSuffix("\r\n\r\n"))
    rig.send(get)
    #expect(rig.output().hasSuffix("hello"))
  }

  @Test func connectionCloseIsHonoured() throws {
    let rig = try ServerRig()
    rig.send("GET /a HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    #expect(rig.output().contains("connection: close\r\n"))
    #expect(rig.isClosed)
    #expect(rig.server.connectionCount == 0)
  }

  @Test func a100ContinueInvitesTheBodyOnce() throws {
    let rig = try ServerRig()
    rig.send(post.replacing("\r\n\r\n", with: "\r\nexpect: 100-continue\r\n\r\n"))
    #expect(rig.output() == "HTTP/1.1 100 Continue\r\n\r\n")
    rig.send("hallo")
    #expect(rig.output().hasPrefix("HTTP/1.1 200"))
  }

  @Test func anEarlyAnswerInvitesNoBodyAndTheConnectionLingers() throws {
    let rig = try ServerRig()
    rig.application.onHead = { $0.respond(413, "no") }
    rig.application.onRequest = nil
    rig.send(post.replacing("\r\n\r\n", with: "\r\nexpect: 100-continue\r\n\r\n"))
    let output = rig.output()
    #expect(output.hasPrefix("HTTP/1.1 413"))
    #expect(output.contains("connection: close\r\n"))
    #expect(!rig.isClosed)
    #expect(rig.kernel.halfClosed == [rig.caller])
    rig.send("hallo this is not read as a request")
    rig.pass(3 * second)
    #expect(rig.isClosed)
    #expect(rig.application.exchanges[0].ends.map(\.name) == ["complete"])
    #expect(rig.application.exchanges.count == 1)
  }

  @Test(arguments: [
    "GET /a HTTP/1.1\r\n\r\n",
    "GET /a HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
    "GET  /a HTTP/1.1\r\nhost: x\r\n\r\n",
  ])
  func aBadHeadIsRefusedAndTheConnectionClosed(head: String) throws {
    let rig = try ServerRig()
    rig.send(head)
    #expect(rig.output().hasPrefix("HTTP/1.1 400"))
    #expect(rig.application.exchanges.isEmpty)
    #expect(rig.application.refusals == [400])
    rig.pass(3 * second)
    #expect(rig.isClosed)
  }

  @Test func aBrokenChunkedBodyIsRefusedAndEndsTheExchange() throws {
    let rig = try ServerRig()
    rig.send("POST /b HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n")
    #expect(rig.application.exchanges[0].ends.map(\.name) == ["failed"])
    #expect(rig.output().hasPrefix("HTTP/1.1 400"))
    #expect(rig.loads.openRequests == 0)
  }

  @Test func aCallerThatLeavesInMidRequestCancels() throws {
    let rig = try ServerRig()
    rig.application.onRequest = { $0.respond(200, .stream) }
    rig.send(get)
    rig.close()
    #expect(rig.application.exchanges[0].ends.map(\.name) == ["cancelled"])
    #expect(rig.isClosed)
    #expect(rig.loads.openRequests == 0)
  }

  @Test func aCallerThatLeavesInMidBodyCancels() throws {
    let rig = try ServerRig()
    rig.send(post + "ha")
    rig.close()
    #expect(rig.application.exchanges[0].ends.map(\.name) == ["cancelled"])
    #expect(rig.isClosed)
  }

  @Test func aRequestThatComesWithItsEndIsReadFirst() throws {
    let rig = try ServerRig()
    rig.application.onRequest = { $0.respond(200, .stream) }
    rig.kernel.input[rig.caller] = [Array(get.utf8), []]
    rig.kernel.queue([(rig.caller, .peerClosed)])
    rig.turn()
    #expect(rig.application.exchanges.count == 1)
    #expect(rig.application.exchanges[0].ends.map(\.name) == ["cancelled"])
  }

  @Test func aResetCancels() throws {
    let rig = try ServerRig()
    rig.application.onRequest = { $0.respond(200, .stream) }
    rig.send(get)
    rig.kernel.sendErrors[rig.caller] = 104
    rig.application.exchanges[0].send("x")
    rig.turn()
    #expect(rig.application.exchanges[0].ends.map(\.name) == ["cancelled"])
    #expect(rig.isClosed)
  }

  @Test func anAbortCutsTheResponse() throws {
    let rig = try ServerRig()
    rig.application.onRequest = { exchange in
      exchange.respond(200, .stream)
      exchange.send("half")
    }
    rig.send(get)
    rig.application.exchanges[0].exchange.abort(.failed(.truncated))
    rig.turn()
    #expect(!rig.output().hasSuffix("0\r\n\r\n"))
    #expect(rig.isClosed)
    #expect(rig.application.exchanges[0].ends.map(\.name) == ["failed"])
  }

  @Test func fewerBytesThanPromisedCutTheConnection() throws {
    let rig = try ServerRig()
    rig.application.onRequest = { exchange in
      exchange.respond(200, .length(10))
      exchange.send("four")
      exchange.finish()
    }
    rig.send(get)
    #expect(rig.isClosed)
    #expect(rig.application.exchanges[0].ends.map(\.name) == ["failed"])
  }
}

struct ServerDeadlineTests {
  @Test func aSlowHeadIsRefused() throws {
    let rig = try ServerRig()
    rig.send("GET /a HT")
    rig.pass(5 * second)
    rig.send("TP/1.1\r\n")
    #expect(rig.application.refusals.isEmpty)
    rig.pass(6 * second)
    #expect(rig.application.refusals == [408])
    #expect(rig.output().hasPrefix("HTTP/1.1 408"))
  }

  @Test func anIdleConnectionIsClosedWithoutAWord() throws {
    let rig = try ServerRig()
    rig.pass(74 * second)
    #expect(!rig.isClosed)
    rig.pass(2 * second)
    #expect(rig.isClosed)
    #expect(rig.output().isEmpty)
  }

  @Test func aGapInABodyIsRefusedAndEachByteMovesTheDeadline() throws {
    let rig = try ServerRig()
    rig.send(post)
    rig.pass(29 * second)
    rig.send("h")
    rig.pass(29 * second)
    #expect(rig.application.refusals.isEmpty)
    rig.pass(2 * second)
    #expect(rig.application.refusals == [408])
    #expect(rig.application.exchanges[0].ends.map(\.name) == ["timedOut"])
  }

  @Test func aSilentGenerationHasNoDeadline() throws {
    let rig = try ServerRig()
    rig.application.onRequest = { $0.respond(200, .stream) }
    rig.send(get)
    rig.pass(600 * second)
    #expect(!rig.isClosed)
    rig.application.exchanges[0].finish()
    rig.turn()
    #expect(rig.application.exchanges[0].ends.map(\.name) == ["complete"])
  }

  @Test func aCallerThatTakesNothingTimesOut() throws {
    let rig = try ServerRig()
    rig.kernel.sendRoom[rig.caller] = 10
    rig.application.onRequest = { $0.respond(200, .stream) }
    rig.send(get)
    rig.pass(59 * second)
    #expect(!rig.isClosed)
    rig.pass(2 * second)
    #expect(rig.isClosed)
    #expect(rig.application.exchanges[0].ends.map(\.name) == ["timedOut"])
  }

  @Test func backpressureIsToldAndLifted() throws {
    let rig = try ServerRig()
    rig.kernel.sendRoom[rig.caller] = 0
    rig.application.onRequest = { $0.respond(200, .stream) }
    rig.send(get)
    let exchange = rig.application.exchanges[0]
    exchange.send(String(repeating: "x", count: 300 * 1024))
    rig.turn()
    #expect(exchange.exchange.outputIsFull)
    #expect(exchange.drainedCount == 0)
    rig.kernel.sendRoom[rig.caller] = nil
    rig.kernel.queue([(rig.caller, .writable)])
    rig.turn()
    #expect(exchange.drainedCount == 1)
    #expect(!exchange.exchange.outputIsFull)
  }
}

struct ServerDrainTests {
  @Test func anIdleConnectionClosesAtOnce() throws {
    let rig = try ServerRig()
    rig.server.drain()
    #expect(rig.isClosed)
    #expect(!rig.kernel.isRegistered(ServerRig.listener))
  }

  @Test func aRunningRequestFinishesAndSaysClose() throws {
    let rig = try ServerRig()
    rig.application.onRequest = nil
    rig.send(get)
    rig.server.drain()
    #expect(!rig.isClosed)
    rig.application.exchanges[0].respond(200, "hello")
    rig.turn()
    #expect(rig.output().contains("connection: close\r\n"))
    #expect(rig.isClosed)
    #expect(rig.application.exchanges[0].ends.map(\.name) == ["complete"])
  }

  @Test func whatIsCutEndsAsFailed() throws {
    let rig = try ServerRig()
    rig.application.onRequest = { $0.respond(200, .stream) }
    rig.send(get)
    rig.server.drain()
    rig.server.cutAll()
    #expect(rig.isClosed)
    #expect(rig.application.exchanges[0].ends.map(\.name) == ["failed"])
    #expect(rig.loads.openRequests == 0)
    #expect(rig.loads.openConnections == 0)
  }
}
