// When messages go out, how they are cut, and what each answer does to the books.

import Base
import GRPC
import Glibc
import EventLoop
import HTTP
import Telemetry
import TestSupport
import Testing

@testable import Exporter

struct ExportTimingTests {
  @Test func nothingGoesOutBeforeTheDelay() throws {
    let rig = try Rig()
    rig.publish(3)
    try rig.pass(900 * millisecond)
    #expect(rig.dialed.isEmpty)
    try rig.pass(200 * millisecond)
    #expect(rig.messages == [3])
    #expect(rig.ledger.sent == 3)
    rig.expectBalanced()
  }

  @Test func fullBatchGoesOutAtOnce() throws {
    let rig = try Rig()
    for _ in 0..<4 { rig.publish(128) }
    try rig.settle()
    #expect(rig.messages == [512])
  }

  @Test func oneConnectionServesAllCalls() throws {
    let rig = try Rig()
    for _ in 0..<5 {
      rig.publish(600)
      try rig.settle()
    }
    #expect(rig.messages == [600, 600, 600, 600, 600])
    #expect(rig.dialed.count == 1)
    #expect(rig.state.isConnected)
    #expect(rig.ledger.sent == 3_000)
    rig.expectBalanced()
  }

  @Test func callCarriesWhatOTLPAsksFor() throws {
    let rig = try Rig { configuration in
      configuration.method.metadata = [("x-scope-orgid", "tenant")]
    }
    rig.publish(512)
    try rig.settle()
    let head = try #require(rig.heads.first)
    #expect(head.first(":path")?.text == "/opentelemetry.proto.collector.trace.v1.TraceService/Export")
    #expect(head.first(":authority")?.text == "localhost:4317")
    #expect(head.first("te")?.text == "trailers")
    #expect(head.first("content-type")?.text == "application/grpc")
    #expect(head.first("user-agent")?.text == "OTel-OTLP-Exporter-Swift/1.0")
    #expect(head.first("grpc-timeout")?.text == "10000000u")
    #expect(head.first("x-scope-orgid")?.text == "tenant")
  }

  @Test func oneCallIsInFlightAtATime() throws {
    let rig = try Rig()
    rig.answers = [.stall]
    rig.publish(512)
    rig.publish(512)
    rig.publish(512)
    try rig.settle()
    #expect(rig.messages == [512])
  }

  @Test func whatWaitedBehindACallLeavesTogether() throws {
    let rig = try Rig()
    rig.answers = [.status(.unavailable)]
    rig.publish(512)
    try rig.settle()
    rig.publish(300)
    rig.publish(300)
    try rig.pass(2 * second)
    #expect(rig.messages == [512, 512, 600])
  }

  @Test func messagesAreCutByBytes() throws {
    let rig = try Rig { $0.message.bytesAimed = 512 << 10 }
    rig.answers = [.stall]
    rig.publish(512, spanBytes: 100)
    try rig.settle()
    for _ in 0..<10 { rig.publish(100, spanBytes: 1_000) }
    try rig.pass(12 * second)
    #expect(rig.messageBytes.allSatisfy { $0 <= 520 << 10 })
    #expect(rig.ledger.sent == 1_512)
    rig.expectBalanced()
  }

  @Test func setBatchSizeBoundsEachMessage() throws {
    let rig = try Rig { configuration in
      configuration.queue.spansDue = 100
      configuration.message.spansMax = 100
    }
    rig.publish(250)
    try rig.settle()
    #expect(rig.messages == [100, 100, 50])
    rig.expectBalanced()
  }

  @Test func batchOverTheMessageLimitIsCutAtSpans() throws {
    let rig = try Rig { $0.message.bytesMax = 10_000 }
    rig.publish(600, spanBytes: 100)
    try rig.settle()
    #expect(rig.messages.reduce(0, +) == 600)
    #expect(rig.messages.count > 5)
    #expect(rig.ledger.sent == 600)
    rig.expectBalanced()
  }

  @Test func spanOverTheMessageLimitIsDroppedAlone() throws {
    let rig = try Rig { $0.message.bytesMax = 10_000 }
    var bytes = ByteBuffer()
    for part in [batch(2), batch(1, spanBytes: 20_000), batch(510)] {
      part.bytes.withUnsafeBytes { bytes.append($0) }
    }
    rig.ledger.recordMade(513)
    _ = rig.queue.put(SpanBatch(bytes: FrozenBytes(bytes), spanCount: 513))
    rig.driver.pump()
    try rig.settle()
    #expect(rig.ledger.dropped(.tooLarge) == 1)
    #expect(rig.ledger.sent == 512)
    rig.expectBalanced()
  }

  @Test func tinyWindowsOnlySlowTheMessageDown() throws {
    let rig = try Rig()
    rig.serverLimits.streamWindowBytes = 1_000
    rig.publish(512, spanBytes: 300)
    try rig.settle()
    #expect(rig.messages == [512])
    #expect(rig.ledger.sent == 512)
  }

  @Test func socketThatTakesLittleIsFedAsItAllows() throws {
    let rig = try Rig()
    rig.publish(1)
    try rig.pass(second)
    let descriptor = try #require(rig.dialed.first)
    rig.kernel.sendRoom[descriptor] = 1_000
    rig.publish(512)
    try rig.settle()
    #expect(rig.calls == 1)
    while rig.calls == 1 {
      rig.kernel.sendRoom[descriptor] = 7_000
      rig.kernel.queue([(descriptor, .writable)])
      rig.loop.turn(patience: 0)
      try rig.settle()
    }
    #expect(rig.ledger.sent == 513)
  }
}

struct ExportAnswerTests {
  @Test(arguments: [
    GRPCCode.cancelled, .deadlineExceeded, .aborted, .outOfRange, .unavailable, .dataLoss,
  ])
  func retryableStatusIsTriedAgainWithTheSameSpans(code: GRPCCode) throws {
    let rig = try Rig()
    rig.answers = [.status(code, "later"), .status(code)]
    rig.publish(512)
    try rig.settle()
    #expect(rig.messages == [512])
    #expect(rig.ledger.pending == 512)
    #expect(rig.state.isInOutage)
    try rig.pass(900 * millisecond)
    #expect(rig.messages == [512])
    try rig.pass(200 * millisecond)
    #expect(rig.messages == [512, 512])
    try rig.pass(2 * second)
    #expect(rig.messages == [512, 512, 512])
    #expect(rig.ledger.sent == 512)
    #expect(rig.state.spansResent == 1_024)
    #expect(!rig.state.isInOutage)
    rig.expectBalanced()
  }

  @Test(arguments: [
    GRPCCode.unknown, .invalidArgument, .notFound, .alreadyExists, .permissionDenied,
    .resourceExhausted, .failedPrecondition, .unimplemented, .internalError, .unauthenticated,
  ])
  func finalStatusDropsTheSpansAsRejected(code: GRPCCode) throws {
    let rig = try Rig()
    rig.answers = [.status(code, "no")]
    rig.publish(512)
    try rig.pass(60 * second, step: second)
    #expect(rig.messages == [512])
    #expect(rig.ledger.dropped(.rejected) == 512)
    #expect(rig.state.lastError.hasSuffix(": no"))
    #expect(rig.state.callsByStatus["\(code.name)"] == 1)
    rig.expectBalanced()
    // The next message goes out as if nothing had been.
    rig.publish(512)
    try rig.settle()
    #expect(rig.ledger.sent == 512)
  }

  @Test(arguments: [GRPCCode.resourceExhausted, .unavailable])
  func retryInfoIsWaitedFor(code: GRPCCode) throws {
    let rig = try Rig()
    rig.answers = [.status(code, details: retryInfo(seconds: 5, nanos: 500_000_000))]
    rig.publish(512)
    try rig.settle()
    try rig.pass(5_400 * millisecond)
    #expect(rig.calls == 1)
    try rig.pass(200 * millisecond)
    #expect(rig.calls == 2)
    #expect(rig.ledger.sent == 512)
    rig.expectBalanced()
  }

  @Test func retryInfoBeyondTheBoundGivesUpAtOnce() throws {
    let rig = try Rig()
    rig.answers = [.status(.resourceExhausted, details: retryInfo(seconds: 3_600))]
    rig.publish(512)
    try rig.settle()
    #expect(rig.ledger.dropped(.deadline) == 512)
    rig.expectBalanced()
    // Later spans do not wait an hour.
    rig.publish(10)
    try rig.pass(40 * second, step: second)
    #expect(rig.ledger.sent == 10)
  }

  @Test func retriesEndWithTheBoundAndTheSpansAreCounted() throws {
    let rig = try Rig()
    rig.answers = Array(repeating: .status(.unavailable), count: 100)
    rig.publish(512)
    try rig.pass(31 * second)
    #expect(rig.ledger.dropped(.deadline) == 512)
    #expect((4...6).contains(rig.calls))
    rig.expectBalanced()
  }

  @Test func partialSuccessIsBookedAndNotResent() throws {
    let rig = try Rig()
    rig.answers = [.partial(rejected: 12, "bad ids")]
    rig.publish(512)
    try rig.pass(20 * second, step: second)
    #expect(rig.calls == 1)
    #expect(rig.ledger.sent == 500)
    #expect(rig.ledger.dropped(.rejected) == 12)
    #expect(rig.lines.all.contains { $0.contains("rejected=12") && $0.contains("remark=bad ids") })
    rig.expectBalanced()
  }

  @Test(arguments: [(0, "note", 1), (0, "", 0), (100_000, "", 1)])
  func remarkWithoutRejectionIsAllAccepted(rejected: Int, remark: String, lines: Int) throws {
    let rig = try Rig()
    rig.answers = [.partial(rejected: rejected, remark)]
    rig.publish(512)
    try rig.settle()
    #expect(rig.ledger.dropped(.rejected) == min(rejected, 512))
    #expect(rig.lines.all.count == lines)
    rig.expectBalanced()
  }

  @Test(arguments: [429, 502, 503, 504])
  func retryableHTTPStatusIsTriedAgain(status: Int) throws {
    let rig = try Rig()
    rig.answers = [.http(status)]
    rig.publish(512)
    try rig.pass(2 * second)
    #expect(rig.calls == 2)
    #expect(rig.ledger.sent == 512)
  }

  @Test(arguments: [400, 401, 403, 404, 500])
  func finalHTTPStatusDropsTheSpans(status: Int) throws {
    let rig = try Rig()
    rig.answers = [.http(status)]
    rig.publish(512)
    try rig.pass(5 * second)
    #expect(rig.calls == 1)
    #expect(rig.ledger.dropped(.rejected) == 512)
  }

  @Test func stalledCallTimesOutAndIsRetriedOnAFreshConnection() throws {
    let rig = try Rig()
    rig.answers = [.stall]
    rig.publish(512)
    try rig.pass(9 * second, step: second)
    #expect(rig.dialed.count == 1)
    try rig.pass(3 * second)
    #expect(rig.dialed.count == 2)
    #expect(rig.ledger.sent == 512)
    #expect(rig.state.callsByStatus["DEADLINE_EXCEEDED"] == 1)
    rig.expectBalanced()
  }

  @Test func laterTriesHaveLessTime() throws {
    let rig = try Rig { $0.retry.total = 8 * second }
    rig.answers = [.status(.unavailable)]
    rig.publish(512)
    try rig.settle()
    try rig.pass(2 * second)
    #expect(rig.heads.map { $0.first("grpc-timeout")?.text } == ["8000000u", "7000000u"])
  }

  @Test func failedDialOfOneLaneAtTheEndLeavesTheCallsOfOthersAlone() throws {
    let rig = try Rig { configuration in
      configuration.concurrentCalls = 2
      configuration.callTimeout = 5 * second
    }
    rig.answers = [.stall]
    rig.publish(512)
    try rig.settle()
    #expect(rig.calls == 1)
    rig.publish(10)
    rig.connectErrors = [ECONNREFUSED]
    rig.driver.flush(within: 20 * second)
    try rig.settle()
    #expect(rig.dialed.count == 2)
    #expect(!rig.isFinished)
    try rig.pass(15 * second)
    #expect(rig.isFinished)
    #expect(rig.ledger.sent == 522)
    #expect(rig.ledger.dropped == 0)
    rig.expectBalanced()
  }
}
