// https workers that choose HTTP/2 by ALPN: found out by the first connection, shared by all later requests.

import Base
import EventLoop
import HTTP
import TLS
import TestSupport
import Testing

@testable import Transport

private final class Answer: ClientExchangeHandler {
  var body = ""
  var ends: [String] = []

  func responded(_ head: ResponseHead) {}
  func received(body bytes: UnsafeRawBufferPointer) { body += bytes.text }
  func receivedEnd(trailers: UnsafeRawBufferPointer) { ends.append("complete") }

  func failed(_ failure: UpstreamFailure) {
    if case .connect(let cause) = failure { ends.append("\(cause)") } else { ends.append("\(failure)") }
  }
}

/// A worker's end of one connection: TLS, and over it whichever HTTP was agreed upon.
private final class Worker {
  final class Stream: HTTP2StreamOwner {
    let stream = HTTP2Stream()
    var head = ""
    var ends: [HTTP2StreamEnd] = []
    init() { stream.belongs(to: self) }
    func received(head: UnsafeRawBufferPointer) { self.head = head.text }
    func received(body: UnsafeRawBufferPointer) {}
    func receivedEnd(trailers: UnsafeRawBufferPointer) {}
    func outputMoved() {}
    func ended(_ end: HTTP2StreamEnd) { ends.append(end) }
  }

  final class Streams { var all: [Stream] = [] }

  let peer: TLSPeer
  let streams = Streams()
  private let session: HTTP2Multiplexer
  private var taken = 0

  init(_ peer: TLSPeer) throws {
    self.peer = peer
    session = try HTTP2Multiplexer(server: HTTP2MultiplexerLimits()) { [streams] in
      let stream = Stream()
      streams.all.append(stream)
      return stream.stream
    }
  }

  /// True when anything was said.
  func exchange() throws -> Bool {
    let came = peer.exchange()
    guard peer.connection.applicationProtocol == "h2", peer.connection.isOpen else { return came }
    let new = Array(peer.received[taken...])
    taken = peer.received.count
    try new.withUnsafeBytes { try session.receive($0, now: 0) }
    var bytes = ByteBuffer()
    try session.output(into: &bytes)
    let said = !bytes.isEmpty
    while !bytes.isEmpty {
      let count = min(bytes.count, TLSConnection.sendBytesMax)
      try peer.connection.send(UnsafeRawBufferPointer(rebasing: bytes.readable[..<count]))
      bytes.consume(count)
      _ = peer.exchange()
    }
    return came || !new.isEmpty || said
  }

  func respond(_ index: Int, _ text: String) throws {
    let stream = streams.all[index]
    try session.respond(
      stream.stream, status: 200, fields: UnsafeRawBufferPointer(start: nil, count: 0), endsStream: false)
    stream.stream.output.append(text)
    session.resume(stream.stream)
    session.endOutput(stream.stream, trailers: UnsafeRawBufferPointer(start: nil, count: 0))
  }
}

private final class Rig {
  let kernel = FakeKernel()
  let loop: EventLoop
  let pool: UpstreamPool
  let setting: TLSSetting
  var security: SocketSecurity
  var spoken: TLSContext
  private(set) var workers: [Int32: Worker] = [:]
  private var exchanges: [UpstreamExchange] = []
  private let counter = Counter()

  private final class Counter { var value: Int32 = 100 }

  init(_ spoken: [String]) throws {
    setting = try TLSSetting(server: spoken, client: ["h2", "http/1.1"])
    self.spoken = setting.server
    security = SocketSecurity(setting.client, serverName: "localhost", counters: setting.counters)
    loop = try EventLoop(index: 0, system: kernel, seed: 1)
    pool = UpstreamPool(
      loop: loop, limits: ClientLimits(),
      dial: { [counter] _ in
        counter.value += 1
        return counter.value
      })
  }

  deinit {
    for exchange in exchanges { exchange.cancel() }
    loop.turn(patience: 0)
    pool.closeIdle()
    loop.close()
  }

  /// Connections that were begun.
  var dialled: Int { Int(counter.value) - 100 }

  func send(fresh: Bool = false) -> (Answer, UpstreamExchange) {
    let answer = Answer()
    let upstream = Upstream(
      id: 7, addresses: SocketAddress.resolve(host: "127.0.0.1", port: 9), authority: "localhost:9",
      security: security)
    let exchange = pool.send(to: upstream, method: .post, fresh: fresh, handler: answer) { output in
      output.append("POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nhi" as StaticString)
    }
    exchanges.append(exchange)
    return (answer, exchange)
  }

  /// The worker's end of the `index`th connection, which is made to stand.
  func worker(_ index: Int = 0) throws -> Worker {
    let socket = Int32(101 + index)
    if let worker = workers[socket] { return worker }
    let worker = try Worker(TLSPeer(kernel, socket, spoken))
    workers[socket] = worker
    kernel.queue([(socket, .writable)])
    try settle()
    return worker
  }

  func settle() throws {
    var isBusy = true
    while isBusy {
      loop.turn(patience: 0)
      isBusy = kernel.hasEvents
      for (socket, worker) in workers where !kernel.closed.contains(socket) {
        if try worker.exchange() { isBusy = true }
      }
    }
  }
}

struct NegotiatedClientTests {
  @Test func theFirstRequestGoesOnAsAStreamAndTheNextShareItsConnection() throws {
    let rig = try Rig(["h2", "http/1.1"])
    let (first, exchange) = rig.send()
    let worker = try rig.worker()
    #expect(worker.streams.all.map(\.head) == ["POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n"])
    let others = (0..<3).map { _ in rig.send().0 }
    try rig.settle()
    #expect(worker.streams.all.count == 4 && rig.dialled == 1 && !exchange.isReused)
    for index in 0..<4 { try worker.respond(index, "answer \(index)") }
    try rig.settle()
    for (index, answer) in ([first] + others).enumerated() {
      #expect(answer.body == "answer \(index)" && answer.ends == ["complete"])
    }
    #expect(rig.pool.idleCount == 1 && rig.setting.outcomes == ["ok": 1])
  }

  @Test func requestsThatBeganTogetherEndUpOnOneConnection() throws {
    let rig = try Rig(["h2"])
    let answers = (0..<3).map { _ in rig.send().0 }
    #expect(rig.dialled == 3)
    let worker = try rig.worker(0)
    for index in 1..<3 {
      _ = try rig.worker(index)
      #expect(rig.kernel.closed.contains(Int32(101 + index)))
    }
    #expect(worker.streams.all.count == 3)
    for index in 0..<3 { try worker.respond(index, "ok") }
    try rig.settle()
    #expect(answers.allSatisfy { $0.ends == ["complete"] })
  }

  @Test(arguments: [["http/1.1"], ["http/1.1", "h2"]])
  func aWorkerThatPrefersHTTP11GetsIt(spoken: [String]) throws {
    let rig = try Rig(spoken)
    let (answer, exchange) = rig.send()
    let worker = try rig.worker()
    #expect(worker.peer.text.hasPrefix("POST /x HTTP/1.1\r\n"))
    try worker.peer.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
    try rig.settle()
    #expect(answer.body == "ok" && answer.ends == ["complete"])
    if case .http2 = exchange { Issue.record("it is no stream") }
  }

  @Test func aCallerThatLeavesResetsItsStreamAlone() throws {
    let rig = try Rig(["h2"])
    let (first, exchange) = rig.send()
    let worker = try rig.worker()
    let (second, _) = rig.send()
    exchange.cancel()
    try rig.settle()
    #expect(worker.streams.all[0].ends.count == 1 && first.ends.isEmpty)
    try worker.respond(1, "ok")
    try rig.settle()
    #expect(second.ends == ["complete"] && rig.dialled == 1)
  }

  @Test func oneThatWasGivenUpDuringTheHandshakeLeavesNothing() throws {
    let rig = try Rig(["h2"])
    let (answer, exchange) = rig.send()
    exchange.cancel()
    try rig.settle()
    #expect(rig.kernel.closed.contains(101) && answer.ends.isEmpty)
  }

  @Test func pausesReachTheStream() throws {
    let rig = try Rig(["h2"])
    let (answer, exchange) = rig.send()
    let worker = try rig.worker()
    exchange.pause()
    let long = String(repeating: "x", count: 400_000)
    try worker.respond(0, long)
    try rig.settle()
    // What its window let out is handed on, and no more.
    #expect(answer.ends.isEmpty && answer.body.utf8.count <= 256 << 10)
    exchange.resume()
    try rig.settle()
    #expect(answer.body == long && answer.ends == ["complete"])
  }

  @Test func aWorkerThatIsHTTP11AfterAllIsAskedAnew() throws {
    let rig = try Rig(["h2"])
    let (first, _) = rig.send()
    try rig.worker().respond(0, "ok")
    try rig.settle()
    try #require(first.ends == ["complete"])
    rig.kernel.input[101, default: []].append([])
    rig.kernel.queue([(101, .peerClosed)])
    try rig.settle()
    let files = try rig.setting.authority.issue()
    rig.spoken = try TLSContext(
      server: TLSIdentity(certificatePath: files.certificate, keyPath: files.key), protocols: ["http/1.1"])
    let (second, _) = rig.send()
    _ = try rig.worker(1)
    try rig.settle()
    #expect(second.ends == ["TLS: the worker does not speak HTTP/2 any more"])
    let (third, _) = rig.send()
    let worker = try rig.worker(2)
    try worker.peer.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
    try rig.settle()
    #expect(third.ends == ["complete"])
  }

  @Test(arguments: ["h2", "http/1.1"])
  func newCertificatesRetireWhatWasMadeByTheOld(spoken: String) throws {
    let rig = try Rig([spoken])
    func answer(_ index: Int) throws {
      let worker = try rig.worker(index)
      if spoken == "h2" {
        try worker.respond(0, "ok")
      } else {
        try worker.peer.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
      }
      try rig.settle()
    }
    let (first, _) = rig.send()
    try answer(0)
    try #require(first.ends == ["complete"] && rig.pool.idleCount == 1)
    rig.security = SocketSecurity(
      try TLSContext(clientTrusting: .file(rig.setting.authority.path), protocols: ["h2", "http/1.1"]),
      serverName: "localhost", counters: rig.setting.counters)
    let (second, _) = rig.send()
    #expect(rig.dialled == 2 && rig.kernel.closed.contains(101))
    try answer(1)
    #expect(second.ends == ["complete"] && rig.setting.counters.resumed == 0)
  }

  @Test func theNextConnectionTakesTheSessionUp() throws {
    let rig = try Rig(["http/1.1"])
    for index in 0..<2 {
      let (answer, _) = rig.send(fresh: true)
      let worker = try rig.worker(index)
      try worker.peer.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
      try rig.settle()
      #expect(answer.ends == ["complete"] && rig.setting.counters.resumed == index)
    }
    #expect(rig.setting.outcomes == ["ok": 2])
  }
}
