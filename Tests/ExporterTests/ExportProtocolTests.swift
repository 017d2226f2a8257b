// gzip over both protocols, OTLP/HTTP's statuses and bodies, and calls beside each other.

import Base
import EventLoop
import GRPC
import HTTP
import Protobuf
import Telemetry
import TestSupport
import Testing

@testable import Exporter

private let protobuf = "content-type: application/x-protobuf\r\n"

private func gzip(_ bytes: [UInt8]) throws -> [UInt8] {
  let deflater = try GzipDeflater()
  var out = ByteBuffer()
  try bytes.withUnsafeBytes { try deflater.append($0, to: &out) }
  try deflater.finish(into: &out)
  return out.bytes
}

struct ExportCompressionTests {
  @Test(arguments: [ExportTransport.grpc, .http])
  func messagesAreCompressedAndArriveWhole(transport: ExportTransport) throws {
    let rig = try Rig { configuration in
      configuration.transport = transport
      configuration.compresses = true
    }
    rig.answers = [transport == .grpc ? .status(.unavailable) : .http(503)]
    rig.publish(512, spanBytes: 500)
    try rig.pass(3 * second)
    rig.publish(600)
    try rig.settle()
    #expect(rig.messages == [512, 512, 600])
    #expect(rig.wasCompressed == [true, true, true])
    #expect(rig.ledger.sent == 1_112)
    rig.expectBalanced()
  }

  @Test func largeMessagesPassTheirBoundUncompressedOnly() throws {
    let rig = try Rig { $0.compresses = true }
    // 3.9 MiB of spans that compress to little: the receiver's bound is on what they expand to.
    rig.publish(4_000, spanBytes: 2_000)
    try rig.pass(2 * second)
    #expect(rig.messageBytes.allSatisfy { $0 <= 4 << 20 })
    #expect(rig.ledger.sent == 4_000)
  }

  @Test func nothingSaysGzipWhereItIsOff() throws {
    let rig = try Rig.http()
    rig.publish(512)
    try rig.settle()
    #expect(rig.heads.first?.first("content-encoding") == nil)
    let grpc = try Rig()
    grpc.publish(512)
    try grpc.settle()
    #expect(grpc.heads.first?.first("grpc-encoding") == nil)
  }
}

struct ExportHTTPTests {
  @Test func requestCarriesWhatOTLPAsksFor() throws {
    let rig = try Rig.http { $0.method.metadata = [("x-scope-orgid", "tenant")] }
    rig.publish(512)
    try rig.settle()
    let head = try #require(rig.heads.first)
    #expect(head.first(":request")?.text == "POST /v1/traces HTTP/1.1")
    #expect(head.first("host")?.text == "localhost:4318")
    #expect(head.first("content-type")?.text == "application/x-protobuf")
    #expect(head.first("user-agent")?.text == "OTel-OTLP-Exporter-Swift/1.0")
    #expect(head.first("x-scope-orgid")?.text == "tenant")
    #expect(rig.messages == [512])
    rig.expectBalanced()
  }

  @Test func oneConnectionServesAllCalls() throws {
    let rig = try Rig.http()
    for _ in 0..<5 {
      rig.publish(600, spanBytes: 1_000)
      try rig.settle()
    }
    #expect(rig.messages == [600, 600, 600, 600, 600])
    #expect(rig.dialed.count == 1)
    #expect(rig.state.isConnected)
    #expect(rig.state.callsByStatus == ["200": 5])
  }

  @Test func answerThatClosesIsFollowedByAnotherConnection() throws {
    let rig = try Rig.http()
    rig.answers = [.okAndGoAway]
    rig.publish(512)
    try rig.settle()
    #expect(!rig.state.isConnected)
    rig.publish(512)
    try rig.settle()
    #expect(rig.dialed.count == 2)
    #expect(rig.ledger.sent == 1_024)
    #expect(rig.lines.all.isEmpty)
  }

  @Test(arguments: [429, 502, 503, 504])
  func retryableStatusIsTriedAgain(status: Int) throws {
    let rig = try Rig.http()
    rig.answers = [.http(status)]
    rig.publish(512)
    try rig.pass(900 * millisecond)
    #expect(rig.calls == 1)
    try rig.pass(200 * millisecond)
    #expect(rig.calls == 2)
    #expect(rig.ledger.sent == 512)
    #expect(rig.state.spansResent == 512)
    rig.expectBalanced()
  }

  @Test(arguments: [301, 400, 401, 403, 404, 408, 413, 500, 501, 505])
  func finalStatusDropsTheSpansAsRejected(status: Int) throws {
    let rig = try Rig.http()
    var error = ByteBuffer()
    error.append(field: 2, string: "no such thing")
    rig.answers = [.http(status, protobuf, error.bytes)]
    rig.publish(512)
    try rig.pass(5 * second)
    #expect(rig.calls == 1)
    #expect(rig.ledger.dropped(.rejected) == 512)
    #expect(rig.state.lastError == "HTTP \(status): no such thing")
    rig.expectBalanced()
    rig.publish(512)
    try rig.settle()
    #expect(rig.ledger.sent == 512)
    #expect(rig.dialed.count == 1)
  }

  /// The fake kernel's wall clock stands at 22:13:20.
  @Test(arguments: ["5", "Tue, 14 Nov 2023 22:13:25 GMT"])
  func retryAfterIsWaitedFor(value: String) throws {
    let rig = try Rig.http()
    rig.answers = [.http(429, "retry-after: \(value)\r\n")]
    rig.publish(512)
    try rig.pass(4_900 * millisecond)
    #expect(rig.calls == 1)
    try rig.pass(200 * millisecond)
    #expect(rig.calls == 2)
    rig.expectBalanced()
  }

  @Test func retryAfterBeyondTheBoundGivesUpAtOnce() throws {
    let rig = try Rig.http()
    rig.answers = [.http(503, "retry-after: 3600\r\n")]
    rig.publish(512)
    try rig.settle()
    #expect(rig.ledger.dropped(.deadline) == 512)
    rig.expectBalanced()
  }

  @Test(arguments: [("7", 7), ("soon", nil), ("Tue, 14 Nov 2023 22:13:19 GMT", 0), ("99999999999", 86_400)])
  func retryAfterIsRead(value: String, seconds: UInt64?) {
    let wait = Array(value.utf8).withUnsafeBytes { HTTPReply.wait($0, 1_700_000_000) }
    #expect(wait == seconds.map { $0 * second })
  }

  @Test(arguments: [false, true])
  func partialSuccessIsReadFromTheBody(isCompressed: Bool) throws {
    let rig = try Rig.http()
    let body = partialSuccess(12, "bad ids")
    rig.answers = [
      isCompressed
        ? .http(200, protobuf + "content-encoding: gzip\r\n", try gzip(body))
        : .partial(rejected: 12, "bad ids")
    ]
    rig.publish(512)
    try rig.pass(20 * second, step: second)
    #expect(rig.calls == 1)
    #expect(rig.ledger.sent == 500)
    #expect(rig.ledger.dropped(.rejected) == 12)
    #expect(rig.lines.all.contains { $0.contains("rejected=12") && $0.contains("remark=bad ids") })
    rig.expectBalanced()
  }

  @Test func bodyThatIsNoProtobufSaysNothing() throws {
    let rig = try Rig.http()
    rig.answers = [
      .http(200, "content-type: text/html\r\n", Array("<p>fine</p>".utf8)),
      .http(200, protobuf, [0xff, 0xff]), .http(202),
      .http(200, protobuf + "content-encoding: gzip\r\n", [1, 2, 3]),
      .http(200, protobuf + "content-encoding: br\r\n", [1, 2, 3]),
    ]
    for _ in 0..<5 {
      rig.publish(512)
      try rig.settle()
    }
    #expect(rig.ledger.sent == 5 * 512)
    #expect(rig.lines.all.isEmpty)
  }

  @Test func replyOverItsBoundIsFinal() throws {
    let rig = try Rig.http()
    let zeros = [UInt8](repeating: 0, count: 5 << 20)
    rig.answers = [
      .http(200, protobuf, zeros), .http(200, protobuf + "content-encoding: gzip\r\n", try gzip(zeros)),
    ]
    for calls in 1...2 {
      rig.publish(512)
      try rig.pass(2 * second)
      #expect(rig.calls == calls)
      #expect(rig.ledger.dropped(.rejected) == calls * 512)
      #expect(rig.state.lastError == "HTTP 200: the reply is over 4 MiB")
    }
    rig.expectBalanced()
  }

  @Test func everySplitOfAChunkedReplyIsRead() throws {
    let body = partialSuccess(2, "x")
    let size = String(body.count, radix: 16)
    let reply =
      Array(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\(protobuf)\r\n\(size)\r\n"
          .utf8)
      + body + Array("\r\n0\r\n\r\n".utf8)
    let rig = try Rig.http()
    for cut in 1..<reply.count {
      rig.answers = [.stall]
      rig.publish(512)
      try rig.settle()
      let descriptor = try #require(rig.dialed.last)
      for part in [Array(reply[..<cut]), Array(reply[cut...])] {
        rig.kernel.input[descriptor, default: []].append(part)
        rig.kernel.queue([(descriptor, .readable)])
        rig.loop.turn(patience: 0)
      }
    }
    #expect(rig.dialed.count == 1)
    #expect(rig.ledger.dropped(.rejected) == 2 * (reply.count - 1))
    rig.expectBalanced()
  }

  @Test func bodyUntilTheConnectionsEndIsRead() throws {
    let rig = try Rig.http()
    rig.answers = [.raw(Array("HTTP/1.0 200 OK\r\n\(protobuf)\r\n".utf8) + partialSuccess(1, "x"))]
    rig.publish(512)
    try rig.settle()
    #expect(rig.ledger.sent == 0)
    rig.hangUp(try #require(rig.dialed.first))
    try rig.settle()
    #expect(rig.ledger.sent == 511)
    rig.expectBalanced()
  }

  @Test(arguments: [
    "SSH-2.0-OpenSSH_9.2\r\n", "HTTP/1.1 101 Switching Protocols\r\n\r\n",
    "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
  ])
  func whatIsNoAnswerIsTriedAgain(bytes: String) throws {
    let rig = try Rig.http()
    rig.answers = [.raw(Array(bytes.utf8))]
    rig.publish(512)
    try rig.settle()
    #expect(rig.state.lastError.hasPrefix("UNAVAILABLE: the collector"))
    try rig.pass(2 * second)
    #expect(rig.dialed.count == 2)
    #expect(rig.ledger.sent == 512)
    rig.expectBalanced()
  }

  @Test func reusedConnectionThatDiesUnderACallIsReplacedAtOnce() throws {
    let rig = try Rig.http()
    rig.answers = [.ok, .close]
    rig.publish(512)
    try rig.settle()
    rig.publish(512)
    try rig.settle()
    #expect(rig.dialed.count == 2)
    #expect(rig.ledger.sent == 1_024)
    #expect(rig.lines.all.isEmpty)
  }

  @Test func bytesBetweenCallsEndTheConnectionSilently() throws {
    let rig = try Rig.http()
    rig.publish(512)
    try rig.settle()
    let descriptor = try #require(rig.dialed.first)
    rig.kernel.input[descriptor] = [Array("HTTP/1.1 408 Request Timeout\r\n\r\n".utf8)]
    rig.kernel.queue([(descriptor, .readable)])
    try rig.settle()
    #expect(!rig.state.isConnected)
    rig.publish(512)
    try rig.settle()
    #expect(rig.ledger.sent == 1_024)
    #expect(rig.lines.all.isEmpty)
  }

  @Test func refusalBeforeTheRequestsEndIsTakenAndTheConnectionClosed() throws {
    let rig = try Rig.http()
    rig.publish(1)
    try rig.pass(second)
    let descriptor = try #require(rig.dialed.first)
    rig.kernel.sendRoom[descriptor] = 1_000
    rig.publish(512, spanBytes: 1_000)
    try rig.settle()
    rig.kernel.input[descriptor] = [Array("HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\n\r\n".utf8)]
    rig.kernel.queue([(descriptor, .readable)])
    rig.loop.turn(patience: 0)
    #expect(rig.ledger.dropped(.rejected) == 512)
    #expect(rig.kernel.closed == [descriptor])
    rig.expectBalanced()
  }

  @Test func socketThatTakesLittleIsFedAsItAllows() throws {
    let rig = try Rig.http()
    rig.publish(1)
    try rig.pass(second)
    let descriptor = try #require(rig.dialed.first)
    rig.kernel.sendRoom[descriptor] = 1_000
    rig.publish(512, spanBytes: 500)
    try rig.settle()
    #expect(rig.calls == 1)
    while rig.calls == 1 {
      rig.kernel.sendRoom[descriptor] = 9_000
      rig.kernel.queue([(descriptor, .writable)])
      rig.loop.turn(patience: 0)
      try rig.settle()
    }
    #expect(rig.ledger.sent == 513)
  }

  @Test func stalledCallTimesOutAndIsRetriedOnAFreshConnection() throws {
    let rig = try Rig.http()
    rig.answers = [.stall]
    rig.publish(512)
    try rig.pass(12 * second)
    #expect(rig.dialed.count == 2)
    #expect(rig.ledger.sent == 512)
    #expect(rig.state.callsByStatus == ["DEADLINE_EXCEEDED": 1, "200": 1])
    rig.expectBalanced()
  }
}

struct ConcurrentExportTests {
  @Test func asManyCallsAsAllowedAreInFlight() throws {
    let rig = try Rig { configuration in
      configuration.concurrentCalls = 3
      configuration.message.spansMax = 512
    }
    rig.answers = [.stall, .stall, .stall]
    for _ in 0..<5 { rig.publish(512) }
    try rig.settle()
    #expect(rig.messages == [512, 512, 512])
    #expect(rig.dialed.count == 3)
    // They time out, and everything is delivered by whichever lane is free.
    try rig.pass(15 * second)
    #expect(rig.ledger.sent == 5 * 512)
    rig.expectBalanced()
  }

  @Test func laneThatFailsLeavesTheOthersAtWork() throws {
    let rig = try Rig { configuration in
      configuration.concurrentCalls = 2
      configuration.message.spansMax = 512
    }
    rig.answers = [.stall]
    rig.publish(512)
    try rig.settle()
    for _ in 0..<4 {
      rig.publish(512)
      try rig.settle()
    }
    #expect(rig.ledger.sent == 4 * 512)
    rig.driver.flush(within: 2 * second)
    try rig.pass(3 * second)
    #expect(rig.isFinished)
    #expect(rig.ledger.dropped(.shutdown) == 512)
    rig.expectBalanced()
  }

  @Test func flushSendsTheRestOverAllLanes() throws {
    let rig = try Rig { configuration in
      configuration.concurrentCalls = 2
      configuration.message.spansMax = 100
    }
    rig.publish(450)
    rig.driver.flush(within: 5 * second)
    try rig.settle()
    #expect(rig.isFinished)
    #expect(rig.ledger.sent == 450)
    rig.expectBalanced()
  }
}
