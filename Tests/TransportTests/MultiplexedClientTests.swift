// Requests to workers over shared HTTP/2 connections: gathered, bounded, and ended in every way a stream can end.

import Base
import EventLoop
import HTTP
import TestSupport
import Testing

@testable import Transport

/// What one exchange with a worker brought.
private final class RecordedAnswer: ClientExchangeHandler {
  var status = 0
  var body = ""
  var ends: [String] = []
  var onBody: (() -> Void)?

  func responded(_ head: ResponseHead) { status = head.status }

  func received(body bytes: UnsafeRawBufferPointer) {
    body += bytes.text
    onBody?()
  }

  func receivedEnd(trailers: UnsafeRawBufferPointer) { ends.append("complete\(trailers.text)") }

  func failed(_ failure: UpstreamFailure) { ends.append("\(failure)") }
}

/// A worker's side of one connection, at the other end of a played socket.
private final class ScriptedWorker {
  final class Stream: HTTP2StreamOwner {
    let stream = HTTP2Stream()
    var head = ""
    var body = ""
    var ends: [HTTP2StreamEnd] = []
    init() { stream.belongs(to: self) }
    func received(head: UnsafeRawBufferPointer) { self.head = head.text }
    func received(body: UnsafeRawBufferPointer) { self.body += body.text }
    func receivedEnd(trailers: UnsafeRawBufferPointer) {}
    func outputMoved() {}
    func ended(_ end: HTTP2StreamEnd) { ends.append(end) }
  }

  final class Streams { var all: [Stream] = [] }

  let session: HTTP2Multiplexer
  let streams = Streams()
  let socket: Int32
  private let kernel: FakeKernel

  init(_ socket: Int32, _ kernel: FakeKernel, _ limits: HTTP2MultiplexerLimits) throws {
    self.socket = socket
    self.kernel = kernel
    session = try HTTP2Multiplexer(server: limits) { [streams] in
      let stream = Stream()
      streams.all.append(stream)
      return stream.stream
    }
  }

  deinit { _ = session.abandon() }

  /// Takes what was sent to it and sends what it has to say. True when there was anything.
  func exchange() throws -> Bool {
    let taken = kernel.takeOutput(socket)
    try taken.withUnsafeBytes { try session.receive($0, now: 0) }
    var bytes = ByteBuffer()
    try session.output(into: &bytes)
    if !bytes.isEmpty {
      kernel.input[socket, default: []].append(bytes.bytes)
      kernel.queue([(socket, .readable)])
    }
    return !taken.isEmpty || !bytes.isEmpty
  }

  func respond(_ stream: Stream, _ status: Int = 200, fields: String = "", text: String? = nil) throws {
    try Array(fields.utf8).withUnsafeBytes {
      try session.respond(stream.stream, status: status, fields: $0, endsStream: false)
    }
    guard let text else { return }
    send(stream, text)
    finish(stream)
  }

  func send(_ stream: Stream, _ text: String) {
    stream.stream.output.append(text)
    session.resume(stream.stream)
  }

  func finish(_ stream: Stream) {
    session.endOutput(stream.stream, trailers: UnsafeRawBufferPointer(start: nil, count: 0))
  }
}

private final class Rig {
  let kernel = FakeKernel()
  let loop: EventLoop
  let pool: UpstreamPool
  let upstream: Upstream
  var workerLimits = HTTP2MultiplexerLimits()
  private var workers: [Int32: ScriptedWorker] = [:]
  private var exchanges: [UpstreamExchange] = []
  private let counter = Counter()

  private final class Counter {
    var value: Int32 = 100
    func next() -> Int32 {
      value += 1
      return value
    }
  }

  init(_ change: (inout ClientLimits) -> Void = { _ in }) throws {
    var limits = ClientLimits()
    change(&limits)
    loop = try EventLoop(index: 0, system: kernel, seed: 1)
    pool = UpstreamPool(loop: loop, limits: limits, dial: { [counter] _ in counter.next() })
    upstream = Upstream(
      id: 7, addresses: SocketAddress.resolve(host: "127.0.0.1", port: 9), authority: "127.0.0.1:9",
      isMultiplexed: true)
  }

  deinit {
    for exchange in exchanges { exchange.cancel() }
    loop.turn(patience: 0)
    pool.closeIdle()
    loop.close()
  }

  /// The number of the `index`th connection that was made.
  static func socket(_ index: Int32) -> Int32 { 101 + index }

  var first: Int32 { Self.socket(0) }

  /// The worker's side of the `index`th connection, which is made to stand.
  func worker(_ index: Int32 = 0) throws -> ScriptedWorker {
    let socket = Self.socket(index)
    if let worker = workers[socket] { return worker }
    let worker = try ScriptedWorker(socket, kernel, workerLimits)
    workers[socket] = worker
    kernel.queue([(socket, .writable)])
    try settle()
    return worker
  }

  func send(fresh: Bool = false, body: String = "") -> (RecordedAnswer, UpstreamExchange) {
    let answer = RecordedAnswer()
    let exchange = pool.send(to: upstream, method: .post, fresh: fresh, handler: answer) { output in
      output.append("POST /v1/x HTTP/1.1\r\nhost: x\r\ncontent-length: " as StaticString)
      output.append(decimal: body.utf8.count)
      output.append("\r\n\r\n" as StaticString)
      output.append(body)
    }
    exchanges.append(exchange)
    return (answer, exchange)
  }

  /// Lets everything that is said be heard.
  func settle() throws {
    var isBusy = true
    while isBusy {
      loop.turn(patience: 0)
      isBusy = kernel.hasEvents
      for worker in workers.values where try worker.exchange() { isBusy = true }
    }
  }

  func pass(_ time: Nanoseconds) throws {
    kernel.time += time
    loop.turn(patience: 0)
    try settle()
  }

  func end(_ socket: Int32) throws {
    kernel.input[socket, default: []].append([])
    kernel.queue([(socket, .peerClosed)])
    workers[socket] = nil
    try settle()
  }
}

struct MultiplexedClientTests {
  @Test func requestsOfOneWakeUpShareAConnectionAndAWrite() throws {
    let rig = try Rig()
    let answers = (0..<20).map { _ in rig.send(body: "ping").0 }
    let worker = try rig.worker()
    #expect(worker.streams.all.count == 20 && rig.pool.connectCount == 1)
    #expect(rig.kernel.sendCalls[rig.first] ?? 0 <= 3)
    #expect(worker.streams.all.allSatisfy { $0.body == "ping" })
    #expect(worker.streams.all[0].head == "POST /v1/x HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\n")
    for (index, stream) in worker.streams.all.enumerated() {
      try worker.respond(stream, text: "answer \(index)")
    }
    try rig.settle()
    for (index, answer) in answers.enumerated() {
      #expect(answer.status == 200 && answer.body == "answer \(index)" && answer.ends == ["complete"])
    }
    #expect(rig.pool.idleCount == 1)
  }

  @Test func anErrorStatusIsAnAnswer() throws {
    let rig = try Rig()
    let (answer, _) = rig.send()
    let worker = try rig.worker()
    try worker.respond(worker.streams.all[0], 503, fields: "content-length: 4\r\n", text: "busy")
    try rig.settle()
    #expect(answer.status == 503 && answer.body == "busy" && answer.ends == ["complete"])
  }

  @Test func tokensComeAsTheyAreSent() throws {
    let rig = try Rig()
    let (answer, _) = rig.send()
    let worker = try rig.worker()
    try worker.respond(worker.streams.all[0])
    for text in ["a", "ab", "abc"] {
      worker.send(worker.streams.all[0], String(text.suffix(1)))
      try rig.settle()
      #expect(answer.body == text)
    }
  }

  // MARK: Bounds

  @Test func theWorkersLimitOpensConnectionsThenWaitsInOrder() throws {
    let rig = try Rig { $0.multiplexed.connectionsMax = 2 }
    rig.workerLimits.concurrentStreams = 2
    let (first, _) = rig.send()
    let one = try rig.worker()
    let others = (0..<4).map { _ in rig.send().0 }
    let two = try rig.worker(1)
    #expect(rig.pool.connectCount == 2 && one.streams.all.count == 2)
    let (last, _) = rig.send()
    try rig.settle()
    try one.respond(one.streams.all[0], text: "done")
    try rig.settle()
    #expect(first.ends == ["complete"])
    #expect(one.streams.all.count == 3 && rig.pool.connectCount == 2, "the one that waited has its place")
    // Whatever the library holds back, or the worker refuses, ends.
    for _ in 0..<5 {
      for worker in [one, two] {
        for stream in worker.streams.all where stream.ends.isEmpty && !stream.stream.outputHasEnded {
          try worker.respond(stream, text: "done")
        }
      }
      try rig.settle()
    }
    #expect((others + [last]).allSatisfy { $0.ends == ["complete"] || $0.ends == ["stale"] })
    #expect(last.ends == ["complete"])
  }

  @Test func whoWaitsIsServedInOrderAndGivesUpInTime() throws {
    let rig = try Rig {
      $0.multiplexed.connectionsMax = 1
      $0.multiplexed.streamsMax = 1
      $0.multiplexed.waitingMax = 3
    }
    let (first, _) = rig.send()
    let worker = try rig.worker()
    let (second, _) = rig.send(body: "second")
    let (third, cancelled) = rig.send()
    let (fourth, _) = rig.send(body: "fourth")
    let (refused, _) = rig.send()
    try rig.settle()
    #expect(refused.ends == ["busy"] && worker.streams.all.count == 1)
    cancelled.cancel()
    try worker.respond(worker.streams.all[0], text: "ok")
    try rig.settle()
    #expect(first.ends == ["complete"] && worker.streams.all.last?.body == "second")
    try rig.pass(3 * aSecond)
    #expect(fourth.ends == ["busy"] && second.ends.isEmpty && third.ends.isEmpty)
  }

  // MARK: Ends that are told

  @Test(arguments: [HTTP2ErrorCode.internalError, HTTP2ErrorCode.cancel, HTTP2ErrorCode.noError])
  func aResetIsABrokenAnswerAndStopsNoOther(code: UInt32) throws {
    let rig = try Rig()
    let (before, _) = rig.send()
    let (within, _) = rig.send()
    let (other, _) = rig.send()
    let worker = try rig.worker()
    try worker.respond(worker.streams.all[1])
    worker.send(worker.streams.all[1], "half")
    try rig.settle()
    worker.session.reset(worker.streams.all[0].stream, code: code, silently: true)
    worker.session.reset(worker.streams.all[1].stream, code: code, silently: true)
    try worker.respond(worker.streams.all[2], text: "ok")
    try rig.settle()
    #expect(before.ends == ["broken"] && within.ends == ["broken"] && within.body == "half")
    #expect(other.ends == ["complete"])
  }

  @Test func aRefusedStreamMayBeSentAgainOnce() throws {
    let rig = try Rig()
    let (answer, _) = rig.send()
    let worker = try rig.worker()
    worker.session.reset(worker.streams.all[0].stream, code: HTTP2ErrorCode.refusedStream, silently: true)
    try rig.settle()
    #expect(answer.ends == ["stale"])
    let (again, _) = rig.send(fresh: true)
    let other = try rig.worker(1)
    #expect(rig.pool.connectCount == 2, "nothing has come on a fresh connection")
    other.session.reset(other.streams.all[0].stream, code: HTTP2ErrorCode.refusedStream, silently: true)
    try rig.settle()
    #expect(again.ends == ["broken"])
  }

  @Test func goingAwayBeforeTheHeadRefusesAndAfterItFinishes() throws {
    let rig = try Rig()
    let (early, _) = rig.send()
    let worker = try rig.worker()
    try worker.respond(worker.streams.all[0])
    try rig.settle()
    // Sent while the worker's GOAWAY is on its way.
    try worker.session.goAway()
    let (late, _) = rig.send()
    rig.loop.turn(patience: 0)
    try rig.settle()
    #expect(late.ends == ["stale"] && early.ends.isEmpty)
    let (next, _) = rig.send()
    _ = try rig.worker(1)
    #expect(rig.pool.connectCount == 2 && next.ends.isEmpty)
    worker.send(worker.streams.all[0], "rest")
    worker.finish(worker.streams.all[0])
    try rig.settle()
    #expect(early.ends == ["complete"] && early.body == "rest")
    #expect(rig.kernel.closed == [rig.first], "it closes with its last stream")
  }

  @Test func aDeadConnectionEndsEveryStreamByWhatItHeard() throws {
    let rig = try Rig()
    let (streaming, _) = rig.send()
    let worker = try rig.worker()
    try worker.respond(worker.streams.all[0])
    worker.send(worker.streams.all[0], "half")
    try rig.settle()
    let (unheard, _) = rig.send()
    let (retried, _) = rig.send(fresh: true)
    rig.loop.turn(patience: 0)
    try rig.end(rig.first)
    #expect(streaming.ends == ["broken"] && streaming.body == "half")
    #expect(unheard.ends == ["stale"], "nothing came since: as a kept connection that died")
    #expect(retried.ends.isEmpty, "it is on a connection of its own")
    let (next, _) = rig.send()
    _ = try rig.worker(1)
    #expect(next.ends.isEmpty && rig.pool.connectCount == 2)
  }

  @Test func aConnectionThatDiesBeforeItSpokeIsNotStale() throws {
    let rig = try Rig()
    let (answer, _) = rig.send()
    rig.loop.turn(patience: 0)
    rig.kernel.queue([(rig.first, .writable)])
    rig.loop.turn(patience: 0)
    try rig.end(rig.first)
    #expect(answer.ends == ["broken"])
  }

  @Test func aRefusedConnectFailsAllThatWait() throws {
    let rig = try Rig()
    let answers = [rig.send().0, rig.send().0]
    rig.kernel.connectErrors[rig.first] = 111
    rig.kernel.queue([(rig.first, .writable)])
    try rig.settle()
    for answer in answers { #expect(answer.ends.count == 1 && answer.ends[0].hasPrefix("connect(")) }
  }

  @Test func aConnectHasADeadlineAndSoHaveSettings() throws {
    let rig = try Rig()
    let (first, _) = rig.send()
    try rig.pass(3 * aSecond + millisecond)
    #expect(first.ends == ["connectTimeout"])
    let (second, _) = rig.send()
    rig.loop.turn(patience: 0)
    rig.kernel.queue([(Rig.socket(1), .writable)])
    try rig.settle()
    #expect(second.ends.isEmpty)
    try rig.pass(3 * aSecond + millisecond)
    #expect(second.ends == ["connectTimeout"])
  }

  @Test func anHTTP1WorkerIsAProtocolError() throws {
    let rig = try Rig()
    let (answer, _) = rig.send()
    rig.loop.turn(patience: 0)
    rig.kernel.queue([(rig.first, .writable)])
    rig.loop.turn(patience: 0)
    rig.kernel.input[rig.first] = [Array("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n".utf8)]
    rig.kernel.queue([(rig.first, .readable)])
    try rig.settle()
    #expect(answer.ends == ["protocolError"])
    #expect(rig.kernel.closed == [rig.first])
  }

  @Test func aRuleBrokenForAllSparesThoseWhoHeardNothing() throws {
    let rig = try Rig()
    let (streaming, _) = rig.send()
    let (unheard, _) = rig.send()
    let worker = try rig.worker()
    try worker.respond(worker.streams.all[0])
    try rig.settle()
    #expect(streaming.status == 200)
    // DATA on stream 0.
    rig.kernel.input[rig.first] = [[0, 0, 1, 0, 0, 0, 0, 0, 0, 1]]
    rig.kernel.queue([(rig.first, .readable)])
    for _ in 0..<3 { rig.loop.turn(patience: 0) }
    #expect(streaming.ends == ["protocolError"] && unheard.ends == ["broken"])
    #expect(rig.kernel.closed == [rig.first])
  }

  @Test func aLengthThatDoesNotFitIsAProtocolError() throws {
    let rig = try Rig()
    let (answer, _) = rig.send()
    let worker = try rig.worker()
    try worker.respond(worker.streams.all[0], fields: "content-length: 2\r\n", text: "three")
    try rig.settle()
    #expect(answer.ends == ["protocolError"])
    #expect(worker.streams.all[0].ends.count <= 1)
  }

  // MARK: Ends that we make

  @Test func aCancelResetsTheStreamAndKeepsTheConnection() throws {
    let rig = try Rig()
    let (answer, exchange) = rig.send()
    let (other, _) = rig.send()
    let worker = try rig.worker()
    try worker.respond(worker.streams.all[0])
    worker.send(worker.streams.all[0], "x")
    try rig.settle()
    exchange.cancel()
    try rig.settle()
    #expect(worker.streams.all[0].ends == [.reset(code: HTTP2ErrorCode.cancel)])
    #expect(answer.ends.isEmpty && rig.kernel.closed.isEmpty)
    try worker.respond(worker.streams.all[1], text: "ok")
    try rig.settle()
    #expect(other.ends == ["complete"])
  }

  @Test func aCancelFromInsideABodyIsTheLastThatIsHeard() throws {
    let rig = try Rig()
    let (answer, exchange) = rig.send()
    let worker = try rig.worker()
    answer.onBody = { exchange.cancel() }
    try worker.respond(worker.streams.all[0], text: "all at once")
    try rig.settle()
    #expect(answer.body == "all at once" && answer.ends.isEmpty)
  }

  @Test func aPausedAnswerWaitsAtItsWindow() throws {
    let rig = try Rig { $0.multiplexed.session.streamWindowBytes = 1_000 }
    let (answer, exchange) = rig.send()
    let worker = try rig.worker()
    answer.onBody = { exchange.pause() }
    try worker.respond(worker.streams.all[0], text: String(repeating: "x", count: 10_000))
    try rig.settle()
    #expect(answer.body.count == 1_000 && answer.ends.isEmpty)
    answer.onBody = nil
    exchange.resume()
    try rig.settle()
    #expect(answer.body.count == 10_000 && answer.ends == ["complete"])
  }

  @Test func silenceIsCountedFromTheBeginningAlsoOnANewConnection() throws {
    let rig = try Rig { $0.silenceTimeout = second }
    let (answer, _) = rig.send()
    _ = try rig.worker()
    try rig.pass(second + 2 * millisecond)
    #expect(answer.ends == ["silent"])
  }

  @Test func whoWaitsForAWorkerThatIsForgottenGoesElsewhere() throws {
    let rig = try Rig {
      $0.multiplexed.connectionsMax = 1
      $0.multiplexed.streamsMax = 1
    }
    let (first, _) = rig.send()
    let (second, _) = rig.send()
    _ = try rig.worker()
    rig.pool.forget(7)
    try rig.settle()
    #expect(second.ends == ["busy"] && first.ends.isEmpty)
  }

  @Test func silenceEndsTheSilentStreamAlone() throws {
    let rig = try Rig { $0.silenceTimeout = 5 * aSecond }
    let (silent, _) = rig.send()
    let (spoken, _) = rig.send()
    let worker = try rig.worker()
    try worker.respond(worker.streams.all[1])
    try rig.settle()
    try rig.pass(3 * aSecond)
    worker.send(worker.streams.all[1], "x")
    try rig.settle()
    try rig.pass(2 * aSecond + 2 * millisecond)
    #expect(silent.ends == ["silent"] && spoken.ends.isEmpty)
    #expect(worker.streams.all[0].ends == [.reset(code: HTTP2ErrorCode.cancel)])
    try rig.pass(3 * aSecond + 2 * millisecond)
    #expect(spoken.ends == ["silent"])
  }

  @Test func aSilentConnectionIsAskedAndThenGivenUp() throws {
    let rig = try Rig()
    let (answer, _) = rig.send()
    let worker = try rig.worker()
    // Answered by the library: the worker thinks, but it is there.
    try rig.pass(25 * aSecond)
    try rig.pass(25 * aSecond)
    #expect(answer.ends.isEmpty)
    _ = worker
    rig.kernel.time += 25 * aSecond
    rig.loop.turn(patience: 0)
    rig.kernel.time += 11 * aSecond
    rig.loop.turn(patience: 0)
    rig.loop.turn(patience: 0)
    #expect(answer.ends == ["broken"] && rig.kernel.closed == [rig.first])
  }

  @Test func idleConnectionsAreClosedInTimeAndWhenTheWorkerLeaves() throws {
    let rig = try Rig { $0.multiplexed.idleTimeout = 10 * aSecond }
    _ = rig.send()
    let worker = try rig.worker()
    try worker.respond(worker.streams.all[0], text: "ok")
    try rig.settle()
    for _ in 0..<9 { try rig.pass(aSecond) }
    #expect(rig.kernel.closed.isEmpty)
    try rig.pass(aSecond)
    try rig.pass(aSecond)
    #expect(rig.kernel.closed == [rig.first] && rig.pool.idleCount == 0)

    let (busy, _) = rig.send()
    let next = try rig.worker(1)
    rig.pool.forget(7)
    #expect(rig.kernel.closed == [rig.first], "one with a request stays until its end")
    try next.respond(next.streams.all[0], text: "ok")
    try rig.settle()
    #expect(busy.ends == ["complete"] && rig.kernel.closed == [rig.first, Rig.socket(1)])
  }
}

/// `second` is also the name of answers here.
private let aSecond: Nanoseconds = 1_000_000_000
