// Receivers that refuse, vanish, go away or never come; the last flush; the bounds of queue and log.

import Base
import GRPC
import Glibc
import EventLoop
import HTTP
import Synchronization
import Telemetry
import TestSupport
import Testing

@testable import Exporter

struct ExportConnectionTests {
  @Test func refusedConnectIsRetriedUntilTheReceiverComes() throws {
    let rig = try Rig()
    rig.connectErrors = [ECONNREFUSED, ECONNREFUSED]
    rig.publish(512)
    try rig.settle()
    #expect(rig.state.isInOutage)
    #expect(rig.state.lastError.contains("Connection refused"))
    try rig.pass(5 * second)
    #expect(rig.dialed.count == 3)
    #expect(rig.ledger.sent == 512)
    rig.expectBalanced()
    #expect(rig.lines.all.count == 2)
    #expect(rig.lines.all.first?.hasPrefix("span export fails cause=connect: Connection refused") == true)
    #expect(rig.lines.all.last?.hasPrefix("span export works again dropped=0") == true)
    #expect(
      rig.lines.debug.map { String($0.prefix { $0 != "=" }) } == ["connected to the span receiver endpoint"])
  }

  @Test func allAddressesAreTried() throws {
    let rig = try Rig()
    rig.dialer.script.withLock {
      $0.addressCount = 3
      $0.errors = [ENETUNREACH]
    }
    rig.connectErrors = [ECONNREFUSED]
    rig.publish(512)
    try rig.settle()
    #expect(rig.dialed.count == 2)
    #expect(rig.ledger.sent == 512)
    #expect(rig.lines.all.isEmpty)
  }

  @Test func nameThatDoesNotResolveIsAnOutage() throws {
    let rig = try Rig()
    rig.dialer.script.withLock { $0.resolves = false }
    rig.publish(512)
    try rig.settle()
    #expect(rig.state.lastError == "cannot resolve localhost")
    rig.dialer.script.withLock { $0.resolves = true }
    try rig.pass(2 * second)
    #expect(rig.ledger.sent == 512)
  }

  @Test func hangingConnectTimesOut() throws {
    let rig = try Rig()
    rig.connects = false
    rig.publish(512)
    try rig.pass(2_900 * millisecond)
    #expect(rig.state.lastError.isEmpty)
    try rig.pass(200 * millisecond)
    #expect(rig.state.lastError == "connect: timed out")
    rig.connects = true
    try rig.pass(2 * second)
    #expect(rig.ledger.sent == 512)
  }

  @Test func outageDropsByDeadlineAndRecoveryDeliversTheRest() throws {
    let rig = try Rig { $0.retry.total = 10 * second }
    rig.connectErrors = Array(repeating: ECONNREFUSED, count: 6)
    rig.publish(512)
    for _ in 0..<12 {
      try rig.pass(5 * second)
      rig.publish(512)
    }
    try rig.pass(20 * second)
    #expect(rig.ledger.dropped(.deadline) >= 1_024)
    #expect(rig.ledger.sent >= 5 * 512)
    rig.expectBalanced()
    #expect(rig.lines.all.count == 2)
    #expect(rig.lines.all.last?.contains("dropped=\(rig.ledger.dropped)") == true)
  }

  @Test func receiverThatClosesBetweenCallsIsDialedAgainSilently() throws {
    let rig = try Rig()
    rig.publish(512)
    try rig.settle()
    rig.hangUp(try #require(rig.dialed.first))
    try rig.settle()
    #expect(!rig.state.isConnected)
    rig.publish(512)
    try rig.settle()
    #expect(rig.dialed.count == 2)
    #expect(rig.ledger.sent == 1_024)
    #expect(rig.lines.all.isEmpty)
  }

  @Test func reusedConnectionThatDiesUnderACallIsReplacedAtOnce() throws {
    let rig = try Rig()
    rig.answers = [.ok, .close]
    rig.publish(512)
    try rig.settle()
    rig.publish(512)
    try rig.settle()
    #expect(rig.dialed.count == 2)
    #expect(rig.ledger.sent == 1_024)
    #expect(rig.lines.all.isEmpty)
  }

  @Test func freshConnectionThatDiesUnderACallWaitsForItsRetry() throws {
    let rig = try Rig()
    rig.answers = [.close, .close]
    rig.publish(512)
    try rig.settle()
    #expect(rig.dialed.count == 1)
    #expect(rig.state.lastError == "UNAVAILABLE: the collector closed the connection")
    try rig.pass(4 * second)
    #expect(rig.dialed.count == 3)
    #expect(rig.ledger.sent == 512)
    rig.expectBalanced()
  }

  @Test func goAwayWithTheAnswerMovesToAnotherConnection() throws {
    let rig = try Rig()
    rig.answers = [.okAndGoAway]
    rig.publish(512)
    try rig.settle()
    rig.publish(512)
    try rig.settle()
    #expect(rig.dialed.count == 2)
    #expect(rig.ledger.sent == 1_024)
    #expect(rig.lines.all.isEmpty)
  }

  @Test func callRefusedByGoAwayIsRepeatedAtOnce() throws {
    let rig = try Rig()
    rig.answers = [.ok, .goAway]
    rig.publish(512)
    try rig.settle()
    rig.publish(512)
    try rig.settle()
    #expect(rig.messages == [512, 512, 512])
    #expect(rig.dialed.count == 2)
    #expect(rig.ledger.sent == 1_024)
    rig.expectBalanced()
  }

  @Test func refusedStreamIsRepeatedOnceAndThenWaits() throws {
    let rig = try Rig()
    rig.answers = Array(repeating: .reset(HTTP2ErrorCode.refusedStream), count: 3)
    rig.publish(512)
    try rig.settle()
    #expect(rig.calls == 2)
    try rig.pass(5 * second)
    #expect(rig.ledger.sent == 512)
    rig.expectBalanced()
  }

  @Test func peerThatSpeaksHTTP1IsNamed() throws {
    let rig = try Rig()
    rig.connects = false
    rig.publish(512)
    let descriptor = try #require(rig.dialed.first)
    rig.kernel.queue([(descriptor, .writable)])
    rig.loop.turn(patience: 0)
    rig.kernel.input[descriptor] = [Array("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n".utf8), []]
    rig.kernel.queue([(descriptor, .peerClosed)])
    rig.loop.turn(patience: 0)
    #expect(rig.state.lastError == "UNAVAILABLE: the peer does not speak HTTP/2")
  }

  @Test func brokenPipeWhileSendingIsUnavailable() throws {
    let rig = try Rig()
    rig.publish(1)
    rig.connects = false
    try rig.pass(second)
    let descriptor = try #require(rig.dialed.first)
    rig.kernel.sendErrors[descriptor] = EPIPE
    rig.kernel.queue([(descriptor, .writable)])
    rig.loop.turn(patience: 0)
    #expect(rig.state.lastError == "UNAVAILABLE: send: Broken pipe")
    #expect(rig.kernel.closed == [descriptor])
  }
}

struct ExportFlushTests {
  @Test func flushSendsWhatWaitsAndFinishes() throws {
    let rig = try Rig()
    rig.publish(5)
    rig.queue.close()
    rig.driver.flush(within: 5 * second)
    try rig.settle()
    #expect(rig.isFinished)
    #expect(rig.ledger.sent == 5)
    rig.expectBalanced()
    rig.publish(7)
    #expect(rig.ledger.dropped(.shutdown) == 7)
    rig.expectBalanced()
  }

  @Test func flushOfNothingFinishesAtOnce() throws {
    let rig = try Rig()
    rig.driver.flush(within: 5 * second)
    #expect(rig.isFinished)
    #expect(rig.dialed.isEmpty)
  }

  @Test func flushWaitsForTheCallInFlight() throws {
    let rig = try Rig { $0.message.spansMax = 512 }
    rig.answers = [.stall]
    rig.publish(512)
    rig.publish(512)
    try rig.settle()
    rig.driver.flush(within: 5 * second)
    try rig.pass(4_900 * millisecond)
    #expect(!rig.isFinished)
    try rig.pass(200 * millisecond)
    #expect(rig.isFinished)
    #expect(rig.ledger.dropped(.shutdown) == 1_024)
    #expect(rig.lines.all.last?.hasPrefix("spans not delivered before the end dropped=1024") == true)
    rig.expectBalanced()
  }

  @Test func flushRetriesWhileItsTimeLasts() throws {
    let rig = try Rig()
    rig.answers = [.status(.unavailable), .status(.unavailable)]
    rig.publish(512)
    rig.publish(100)
    rig.driver.flush(within: 5 * second)
    try rig.pass(4 * second)
    #expect(rig.isFinished)
    #expect(rig.ledger.sent == 612)
    rig.expectBalanced()
  }

  @Test func flushDoesNotWaitForAReceiverThatIsNotThere() throws {
    let rig = try Rig()
    rig.connectErrors = Array(repeating: ECONNREFUSED, count: 10)
    rig.publish(512)
    try rig.settle()
    rig.driver.flush(within: 5 * second)
    try rig.settle()
    #expect(rig.isFinished)
    #expect(rig.dialed.count == 2)
    #expect(rig.ledger.dropped(.shutdown) == 512)
    rig.expectBalanced()
  }

  @Test func flushGivesAReturnedReceiverItsChance() throws {
    let rig = try Rig()
    rig.connectErrors = [ECONNREFUSED]
    rig.publish(512)
    try rig.settle()
    rig.driver.flush(within: 5 * second)
    try rig.settle()
    #expect(rig.isFinished)
    #expect(rig.ledger.sent == 512)
  }
}

struct ExportBoundTests {
  @Test func queueIsBoundedInSpans() throws {
    let rig = try Rig { $0.queue.spansMax = 1_000 }
    rig.connectErrors = Array(repeating: ECONNREFUSED, count: 1_000)
    for _ in 0..<20 { rig.publish(100) }
    #expect(rig.queue.level.spans <= 1_000)
    #expect(rig.ledger.dropped(.queueFull) > 0)
    rig.driver.flush(within: second)
    try rig.settle()
    rig.expectBalanced()
  }

  @Test func aBatchThatIsLargerThanTheQueueFillsIt() throws {
    let rig = try Rig { $0.queue.spansMax = 100 }
    rig.publish(150)
    #expect(rig.queue.level.spans == 100)
    #expect(rig.ledger.dropped(.queueFull) == 50)
    rig.publish(10)
    #expect(rig.ledger.dropped(.queueFull) == 60)
    rig.driver.flush(within: second)
    try rig.settle()
    #expect(rig.ledger.sent == 100)
    rig.expectBalanced()
  }

  @Test func aBatchIsCutWhereTheQueuesBytesEnd() throws {
    let rig = try Rig { $0.queue.bytesMax = 2_500 }
    rig.publish(10, spanBytes: 1_000)
    #expect(rig.queue.level.spans == 2)
    #expect(rig.queue.level.bytes <= 2_500)
    rig.publish(1, spanBytes: 5_000)
    #expect(rig.ledger.dropped(.queueFull) == 9)
    rig.driver.flush(within: second)
    try rig.settle()
    #expect(rig.ledger.sent == 2)
    rig.expectBalanced()
  }

  @Test func queueIsBoundedInBytes() throws {
    let rig = try Rig { configuration in
      configuration.queue.bytesMax = 100_000
      configuration.queue.spansDue = 10_000
    }
    for _ in 0..<20 { rig.publish(10, spanBytes: 1_000) }
    #expect(rig.queue.level.bytes <= 100_000)
    #expect(rig.ledger.dropped(.queueFull) >= 100)
    try rig.pass(2 * second)
    rig.expectBalanced()
  }

  @Test func refusalsMakeOneLineAMinute() throws {
    let rig = try Rig()
    rig.answers = Array(repeating: .status(.unauthenticated), count: 50)
    for _ in 0..<30 {
      rig.publish(512)
      try rig.pass(second, step: second)
    }
    #expect(rig.calls == 30)
    #expect(rig.lines.all.count == 1)
  }

  @Test func abandonedSpansAreBookedOnce() throws {
    let rig = try Rig()
    rig.answers = [.stall]
    rig.publish(512)
    try rig.settle()
    rig.publish(10)
    #expect(rig.queue.abandon() == 522)
    rig.queue.settle(sent: 512, dropped: 0, .rejected)
    #expect(rig.ledger.sent == 0)
    #expect(rig.ledger.dropped(.shutdown) == 522)
    rig.expectBalanced()
  }

  @Test func jitterSpreadsTheWaitsAroundTheirMean() {
    var random = Xoshiro256(seed: 7)
    let policy = RetryPolicy()
    var waits: [Nanoseconds] = []
    for _ in 0..<200 { waits.append(policy.delay(failures: 3, hint: nil, random: &random)) }
    #expect(waits.allSatisfy { (2 * second...6 * second).contains($0) })
    #expect(Set(waits).count > 190)
    #expect(policy.delay(failures: 500, hint: nil, random: &random) <= 15 * second)
    #expect(policy.delay(failures: 1, hint: 9 * second, random: &random) == 9 * second)
  }
}
