// Connections to workers: kept, reused, paused, broken, and never handed on deaf.

import Base
import EventLoop
import Glibc
import HTTP
import TestSupport
import Testing

@testable import Transport

/// What one exchange with a worker brought.
private final class RecordedAnswer: ClientExchangeHandler {
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

  func failed(_ failure: UpstreamFailure) { self.failure = "\(failure)" }

  var text: String { String(decoding: body, as: UTF8.self) }
}

private final class ClientRig {
  let kernel = FakeKernel()
  let loop: EventLoop
  let pool: UpstreamPool
  let upstream: Upstream
  private var connections: [UpstreamExchange] = []

  /// - Parameter descriptor: the only connection's, instead of numbers that nothing stands behind.
  init(limits: ClientLimits = ClientLimits(), descriptor: Int32? = nil) throws {
    loop = try EventLoop(index: 0, system: kernel, seed: 1)
    let counter = Counter()
    pool = UpstreamPool(loop: loop, limits: limits, dial: { _ in descriptor ?? counter.next() })
    upstream = Upstream(
      id: 7, addresses: SocketAddress.resolve(host: "127.0.0.1", port: 9), authority: "127.0.0.1:9")
  }

  deinit {
    pool.closeIdle()
    for connection in connections { connection.cancel() }
    loop.close()
  }

  private final class Counter {
    var value: Int32 = 100
    func next() -> Int32 {
      value += 1
      return value
    }
  }

  /// The number of the `index`th connection that was made.
  static func socket(_ index: Int32) -> Int32 { 101 + index }

  func turn() { loop.turn(patience: 0) }

  func send(fresh: Bool = false) -> (RecordedAnswer, UpstreamExchange) {
    let answer = RecordedAnswer()
    let connection = pool.send(to: upstream, method: .post, fresh: fresh, handler: answer) { output in
      output.append("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n" as StaticString)
    }
    connections.append(connection)
    turn()
    return (answer, connection)
  }

  func connected(_ socket: Int32) {
    kernel.queue([(socket, .writable)])
    turn()
  }

  func reply(_ socket: Int32, _ text: String, closing: Bool = false) {
    kernel.input[socket, default: []].append(Array(text.utf8))
    if closing { kernel.input[socket, default: []].append([]) }
    kernel.queue([(socket, closing ? .peerClosed : .readable)])
    turn()
  }
}

private let small = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"

struct ClientConnectionTests {
  private let first = ClientRig.socket(0)

  @Test(arguments: [0, 10]) func theKernelAsksForSilentServersWhereItIsToldTo(_ seconds: Int32) throws {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    defer { close(descriptor) }
    var limits = ClientLimits()
    limits.keepAliveSeconds = seconds
    let rig = try ClientRig(limits: limits, descriptor: descriptor)
    _ = rig.send()
    var (isOn, idle, size): (Int32, Int32, socklen_t) = (-1, -1, 4)
    getsockopt(descriptor, SOL_SOCKET, SO_KEEPALIVE, &isOn, &size)
    getsockopt(descriptor, Int32(IPPROTO_TCP), TCP_KEEPIDLE, &idle, &size)
    #expect(isOn == (seconds > 0 ? 1 : 0))
    if seconds > 0 { #expect(idle == seconds) }
  }

  @Test func anAnswerIsDeliveredAndTheConnectionReused() throws {
    let rig = try ClientRig()
    let (answer, _) = rig.send()
    rig.connected(first)
    #expect(String(decoding: rig.kernel.takeOutput(first), as: UTF8.self).hasPrefix("POST / HTTP/1.1\r\n"))
    rig.reply(first, small)
    #expect(answer.isComplete && answer.text == "ok" && answer.status == 200)
    let (second, connection) = rig.send()
    #expect(connection.isReused)
    rig.reply(first, small)
    #expect(second.isComplete)
    #expect(rig.pool.connectCount == 1)
  }

  @Test func chunksOfOneReadComeInOnePiece() throws {
    let rig = try ClientRig()
    let (answer, _) = rig.send()
    var pieces = 0
    answer.onBody = { pieces += 1 }
    rig.connected(first)
    rig.reply(
      first,
      "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n3\r\ntwo\r\n5\r\nthree\r\n0\r\n\r\n")
    #expect(answer.text == "onetwothree" && answer.isComplete)
    #expect(pieces == 1)
  }

  @Test func aReusedConnectionThatDiesBeforeAnyByteIsStale() throws {
    let rig = try ClientRig()
    _ = rig.send()
    rig.connected(first)
    rig.reply(first, small)
    let (answer, _) = rig.send()
    rig.kernel.input[first, default: []].append([])
    rig.kernel.queue([(first, .peerClosed)])
    rig.turn()
    #expect(answer.failure == "stale")
  }

  @Test func aFreshConnectionThatDiesIsBroken() throws {
    let rig = try ClientRig()
    let (answer, _) = rig.send()
    rig.connected(first)
    rig.reply(first, "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nfour", closing: true)
    #expect(answer.failure == "broken" && answer.text == "four")
  }

  @Test func aRefusedConnectFails() throws {
    let rig = try ClientRig()
    rig.kernel.connectErrors[first] = 111
    let (answer, _) = rig.send()
    rig.kernel.queue([(first, .error)])
    rig.turn()
    #expect(answer.failure?.hasPrefix("connect(") == true)
  }

  @Test func aConnectThatTakesTooLongFails() throws {
    let rig = try ClientRig()
    let (answer, _) = rig.send()
    rig.kernel.time += 4 * second
    rig.turn()
    #expect(answer.failure == "connectTimeout")
  }

  @Test func silenceBeyondTheDeadlineFailsAndBytesMoveIt() throws {
    var limits = ClientLimits()
    limits.silenceTimeout = 10 * second
    let rig = try ClientRig(limits: limits)
    let (answer, _) = rig.send()
    rig.connected(first)
    rig.reply(first, "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n")
    rig.kernel.time += 9 * second
    rig.reply(first, "x")
    rig.kernel.time += 9 * second
    rig.turn()
    #expect(answer.failure == nil)
    rig.kernel.time += 2 * second
    rig.turn()
    #expect(answer.failure == "silent")
  }

  @Test func theEndOfAPausedAnswerComesAfterItsBytes() throws {
    let rig = try ClientRig()
    let (answer, connection) = rig.send()
    rig.connected(first)
    answer.onBody = { connection.pause() }
    rig.reply(first, "HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nfour")
    #expect(answer.text == "four")
    rig.reply(first, "more", closing: true)
    #expect(answer.text == "four" && answer.failure == nil && !answer.isComplete)
    answer.onBody = nil
    connection.resume()
    rig.turn()
    #expect(answer.text == "fourmore" && answer.isComplete && answer.failure == nil)
  }

  @Test func aConnectionThatWasPausedAtItsEndIsNotDeafAfterwards() throws {
    let rig = try ClientRig()
    let (answer, connection) = rig.send()
    rig.connected(first)
    answer.onBody = { connection.pause() }
    rig.reply(first, small)
    answer.onBody = nil
    #expect(answer.isComplete)
    let (second, again) = rig.send()
    #expect(again.isReused && rig.pool.connectCount == 1)
    rig.reply(first, small)
    #expect(second.isComplete)
  }

  @Test func idleConnectionsAreClosedInTimeAndForgottenOnesAtOnce() throws {
    let rig = try ClientRig()
    _ = rig.send()
    rig.connected(first)
    rig.reply(first, small)
    #expect(rig.pool.idleCount == 1)
    rig.kernel.time += 6 * second
    rig.turn()
    #expect(rig.pool.idleCount == 0 && rig.kernel.closed.contains(first))

    let (answer, _) = rig.send()
    let next = ClientRig.socket(1)
    rig.connected(next)
    rig.pool.forget(rig.upstream.id)
    rig.reply(next, small)
    #expect(answer.isComplete)
    // It came back to a shelf that nobody looks at any more: closed, not kept.
    #expect(rig.kernel.closed.contains(next))
  }

  @Test func aCancelledExchangeHearsNothingMore() throws {
    let rig = try ClientRig()
    let (answer, connection) = rig.send()
    rig.connected(first)
    connection.cancel()
    rig.turn()
    #expect(rig.kernel.closed.contains(first))
    #expect(answer.failure == nil && !answer.isComplete)
  }
}
