// HTTP/2 server connections on a played kernel: answers, every split of the input, bounds, deadlines, the end.

import Base
import EventLoop
import HTTP
import Synchronization
import TestSupport
import Testing

@testable import Transport

/// Remembers requests, and answers them when told so.
private final class Recorder: HTTP2Application {
  var requests: [(exchange: HTTP2Exchange, connection: HTTP2ServerConnection)] = []
  var accepts = true
  var answersAtOnce = true

  func acceptsConnection() -> Bool { accepts }

  func received(_ exchange: HTTP2Exchange, on connection: HTTP2ServerConnection) {
    requests.append((exchange, connection))
    if answersAtOnce { answer(requests.count - 1) }
  }

  func answer(_ index: Int, body: String = "hello") {
    let head = HTTP2Fields()
    head.append(":status", "200" as StaticString)
    var bytes = ByteBuffer()
    bytes.append(body)
    let (exchange, connection) = requests[index]
    try? connection.session.respond(to: exchange, head: head, body: HTTP2Body(bytes))
    connection.flush()
  }
}

/// A server, its kernel, and a client session whose bytes the test moves.
private final class HTTP2Rig {
  let kernel = FakeKernel()
  let loop: EventLoop
  let application = Recorder()
  let server: HTTP2Server
  let client: HTTP2ClientSession
  let counters = ListenerCounters()
  /// The descriptor of the one connection.
  let caller: Int32 = 50

  init(
    _ change: (inout HTTP2ServerLimits) -> Void = { _ in }, connects: Bool = true,
    client: HTTP2Limits = HTTP2Limits()
  ) throws {
    loop = try EventLoop(index: 0, system: kernel, seed: 1)
    var limits = HTTP2ServerLimits()
    change(&limits)
    server = HTTP2Server(loop: loop, application: application, limits: limits, counters: counters)
    self.client = try HTTP2ClientSession(limits: client)
    try server.listen(on: 9)
    if connects { connect(caller) }
  }

  deinit {
    // A request that was never answered holds its connection, which holds the application.
    application.requests.removeAll()
    server.closeAll()
    loop.close()
  }

  func connect(_ descriptor: Int32) {
    kernel.pendingAccepts[9, default: []].append(descriptor)
    kernel.queue([(9, .readable)])
    turn()
  }

  func turn() {
    for _ in 0..<3 { loop.turn(patience: 0) }
  }

  func request(body: Int? = nil) throws -> HTTP2Exchange {
    let head = HTTP2Fields()
    head.append(":method", body == nil ? "GET" as StaticString : "POST")
    head.append(":scheme", "http" as StaticString)
    head.append(":path", "/a" as StaticString)
    head.append(":authority", "x" as StaticString)
    guard let body else { return try client.request(head, body: nil) }
    var bytes = ByteBuffer()
    for _ in 0..<body { bytes.append(UInt8(ascii: "b")) }
    return try client.request(head, body: HTTP2Body(bytes))
  }

  /// What the client has to say.
  func said() throws -> [UInt8] {
    var out = ByteBuffer()
    try client.output(into: &out)
    return out.bytes
  }

  func send(_ bytes: [UInt8], to descriptor: Int32? = nil) {
    let descriptor = descriptor ?? caller
    guard kernel.isRegistered(descriptor), !bytes.isEmpty else { return }
    kernel.input[descriptor, default: []].append(bytes)
    kernel.queue([(descriptor, .readable)])
    turn()
  }

  /// Moves bytes both ways until nothing is left to say.
  func exchange() throws {
    for _ in 0..<50 {
      let mine = try said()
      send(mine)
      let theirs = kernel.takeOutput(caller)
      try theirs.withUnsafeBytes { try client.receive($0) }
      if mine.isEmpty, theirs.isEmpty { return }
    }
  }

  func ping() { send([0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]) }

  func pass(_ time: Nanoseconds) {
    kernel.time += time
    turn()
  }

  var isClosed: Bool { kernel.closed.contains(caller) }
}

struct HTTP2ServerTests {
  @Test func requestsAreAnsweredAndTheConnectionKept() throws {
    let rig = try HTTP2Rig()
    let first = try rig.request()
    let second = try rig.request(body: 100_000)
    try rig.exchange()
    #expect(first.head.status == 200)
    #expect(second.body.text == "hello")
    #expect(rig.application.requests.count == 2)
    #expect(rig.application.requests[1].exchange.body.count == 100_000)
    #expect(!rig.isClosed)
    #expect(rig.server.connectionCount == 1)
  }

  @Test func aRequestMayComeByteByByte() throws {
    let rig = try HTTP2Rig()
    let exchange = try rig.request(body: 100)
    for byte in try rig.said() { rig.send([byte]) }
    try rig.exchange()
    #expect(exchange.body.text == "hello")
  }

  @Test func anAnswerMayComeLater() throws {
    let rig = try HTTP2Rig()
    rig.application.answersAtOnce = false
    let exchange = try rig.request()
    try rig.exchange()
    #expect(exchange.end == nil)
    rig.application.answer(0, body: String(repeating: "x", count: 300_000))
    rig.turn()
    try rig.exchange()
    #expect(exchange.body.count == 300_000)
  }

  @Test func outputThatThePeerDoesNotTakeIsBoundedAndCutInTime() throws {
    let rig = try HTTP2Rig()
    let exchange = try rig.request()
    rig.kernel.sendRoom[rig.caller] = 0
    rig.send(try rig.said())
    #expect(exchange.end == nil)
    rig.pass(30 * second)
    #expect(!rig.isClosed)
    rig.pass(40 * second)
    rig.pass(40 * second)
    #expect(rig.isClosed)
    #expect(rig.server.connectionCount == 0)
  }

  @Test func whatIsNoHTTP2IsClosed() throws {
    let rig = try HTTP2Rig()
    rig.send(Array("GET / HTTP/1.1\r\nhost: x\r\n\r\n".utf8))
    #expect(rig.isClosed)
    #expect(rig.application.requests.isEmpty)
  }

  @Test func aPeerThatSaysNothingIsClosedInTime() throws {
    let rig = try HTTP2Rig()
    rig.pass(60 * second)
    #expect(!rig.isClosed)
    rig.pass(20 * second)
    #expect(rig.isClosed)
  }

  @Test func aRequestThatStopsIsCutWithGOAWAY() throws {
    let rig = try HTTP2Rig()
    let exchange = try rig.request(body: 60_000)
    let bytes = try rig.said()
    rig.send(Array(bytes.prefix(20_000)))
    rig.pass(20 * second)
    #expect(!rig.isClosed)
    rig.pass(20 * second)
    #expect(rig.isClosed)
    try rig.kernel.takeOutput(rig.caller).withUnsafeBytes { try rig.client.receive($0) }
    #expect(rig.client.goAway?.code == HTTP2ErrorCode.enhanceYourCalm)
    #expect(exchange.head.status == nil)
  }

  @Test func anIdleConnectionEndsWithGOAWAY() throws {
    let rig = try HTTP2Rig()
    _ = try rig.request()
    try rig.exchange()
    for _ in 0..<90 { rig.pass(7 * second) }
    #expect(rig.isClosed)
    try rig.kernel.takeOutput(rig.caller).withUnsafeBytes { try rig.client.receive($0) }
    #expect(rig.client.goAway?.code == HTTP2ErrorCode.noError)
  }

  @Test func aFloodOfPingsIsCut() throws {
    let rig = try HTTP2Rig()
    rig.send(try rig.said())
    // The peer takes nothing, so that answers to its pings would pile up.
    rig.kernel.sendRoom[rig.caller] = 0
    let ping: [UInt8] = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]
    for _ in 0..<40 where !rig.isClosed { rig.send(Array([[UInt8]](repeating: ping, count: 1_000).joined())) }
    #expect(rig.isClosed)
  }

  @Test func aBodyOverTheBoundResetsItsStreamAndNothingElse() throws {
    let rig = try HTTP2Rig { $0.session.bodyBytes = 10_000 }
    let large = try rig.request(body: 20_000)
    try rig.exchange()
    #expect(large.end == .reset(code: HTTP2ErrorCode.enhanceYourCalm))
    let small = try rig.request(body: 5_000)
    try rig.exchange()
    #expect(small.body.text == "hello")
  }

  @Test func aDrainLetsAnswersOutAndTakesNoMore() throws {
    let rig = try HTTP2Rig()
    rig.application.answersAtOnce = false
    let exchange = try rig.request()
    try rig.exchange()
    rig.server.drain()
    rig.turn()
    #expect(!rig.isClosed)
    rig.application.answer(0)
    rig.turn()
    try rig.kernel.takeOutput(rig.caller).withUnsafeBytes { try rig.client.receive($0) }
    #expect(exchange.body.text == "hello")
    #expect(rig.client.goAway != nil)
    #expect(rig.isClosed)
    #expect(!rig.kernel.isRegistered(9))
  }

  @Test func connectionsAreBoundedAndCounted() throws {
    let rig = try HTTP2Rig { $0.connectionsMax = 2 }
    rig.connect(51)
    rig.connect(52)
    #expect(rig.server.connectionCount == 2)
    #expect(rig.kernel.closed == [52])
    #expect(rig.counters.refusedByLimit.load(ordering: .relaxed) == 1)
    rig.application.accepts = false
    rig.connect(53)
    #expect(rig.kernel.closed == [52, 53])
  }

  @Test func aPeerThatLeavesTakesItsRequestsWithIt() throws {
    let rig = try HTTP2Rig()
    rig.application.answersAtOnce = false
    _ = try rig.request()
    try rig.exchange()
    rig.kernel.receiveErrors[rig.caller] = 104
    rig.kernel.queue([(rig.caller, .error)])
    rig.turn()
    #expect(rig.isClosed)
    rig.application.answer(0)
    rig.turn()
    #expect(rig.server.connectionCount == 0)
  }

  enum Ending: CaseIterable { case none, drain, endOfInput }

  @Test(arguments: Ending.allCases)
  func anAnswerThatThePeersWindowNeverLetsOutIsCut(ending: Ending) throws {
    var client = HTTP2Limits()
    client.streamWindowBytes = 0
    let rig = try HTTP2Rig(client: client)
    let exchange = try rig.request()
    try rig.exchange()
    #expect(exchange.head.status == 200)
    #expect(exchange.body.count == 0)
    switch ending {
    case .none: break
    case .drain: rig.server.drain()
    case .endOfInput:
      rig.kernel.input[rig.caller, default: []].append([])
      rig.kernel.queue([(rig.caller, .peerClosed)])
    }
    rig.turn()
    for _ in 0..<5 {
      rig.pass(10 * second)
      if ending != .endOfInput { rig.ping() }
    }
    #expect(!rig.isClosed)
    for _ in 0..<3 {
      rig.pass(10 * second)
      if ending != .endOfInput { rig.ping() }
    }
    #expect(rig.isClosed)
    #expect(rig.server.connectionCount == 0)
  }

  @Test func pingsDoNotKeepARequestThatStops() throws {
    let rig = try HTTP2Rig()
    // More than the first window, whose end the client's session waits for.
    _ = try rig.request(body: 100_000)
    rig.send(try rig.said())
    for _ in 0..<2 {
      rig.pass(10 * second)
      rig.ping()
    }
    #expect(!rig.isClosed)
    for _ in 0..<3 {
      rig.pass(10 * second)
      rig.ping()
    }
    #expect(rig.isClosed)
    #expect(rig.application.requests.isEmpty)
    #expect(rig.server.bufferedBytes == 0)
  }

  @Test func anAnswerThatTheApplicationOwesIsNotThePeersFault() throws {
    let rig = try HTTP2Rig()
    rig.application.answersAtOnce = false
    let exchange = try rig.request(body: 10)
    try rig.exchange()
    for _ in 0..<20 { rig.pass(10 * second) }
    #expect(!rig.isClosed)
    rig.application.answer(0)
    rig.turn()
    try rig.exchange()
    #expect(exchange.body.text == "hello")
    #expect(!rig.isClosed)
  }

  @Test func whatAllConnectionsBufferIsBoundedAndCounted() throws {
    let rig = try HTTP2Rig { $0.bufferedBytesMax = 100_000 }
    rig.connect(51)
    let exchange = try rig.request(body: 100_000)
    // Both connections get the same begin of a request, as far as the first window lets it.
    let bytes = try rig.said()
    rig.send(bytes)
    #expect(rig.server.bufferedBytes == 65_535)
    rig.send(bytes, to: 51)
    #expect(rig.kernel.closed == [51])
    #expect(rig.counters.cutByMemory.load(ordering: .relaxed) == 1)
    #expect(rig.server.bufferedBytes == 65_535)
    try rig.exchange()
    #expect(exchange.body.text == "hello")
    #expect(rig.application.requests.count == 1)
    #expect(rig.server.bufferedBytes == 0)
    #expect(!rig.isClosed)
  }
}
