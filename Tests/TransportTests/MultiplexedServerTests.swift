// Callers over HTTP/2: the same application as over HTTP/1.1, many exchanges at once, bounds for those who misuse it.

import Base
import EventLoop
import HTTP
import TestSupport
import Testing

@testable import Transport

/// A caller's stream.
private final class CallerStream: HTTP2StreamOwner {
  let stream = HTTP2Stream()
  var head = ""
  var body = ""
  var trailers: String?
  var ends: [HTTP2StreamEnd] = []
  func received(head: UnsafeRawBufferPointer) { self.head = head.text }
  func received(body: UnsafeRawBufferPointer) { self.body += body.text }
  func receivedEnd(trailers: UnsafeRawBufferPointer) { self.trailers = trailers.text }
  func outputMoved() {}
  func ended(_ end: HTTP2StreamEnd) { ends.append(end) }
}

private final class CallerRig {
  let rig: ServerRig
  let session: HTTP2Multiplexer

  init(
    _ change: (inout ServerLimits) -> Void = { _ in },
    client: HTTP2MultiplexerLimits = HTTP2MultiplexerLimits()
  )
    throws
  {
    var limits = ServerLimits()
    limits.multiplexed = HTTP2MultiplexerLimits()
    change(&limits)
    rig = try ServerRig(limits: limits)
    session = try HTTP2Multiplexer(client: client)
  }

  deinit { _ = session.abandon() }

  func request(_ lines: String = "GET /a HTTP/1.1\r\nhost: a\r\n", body: String = "") throws -> CallerStream {
    let stream = CallerStream()
    stream.stream.output.append("\(lines)\r\n\(body)")
    try session.open(stream.stream, for: stream, isSecure: false)
    return stream
  }

  /// Moves bytes both ways until both are silent; `pieceBytes` at a time to the server.
  func settle(pieceBytes: Int = .max) throws {
    var isBusy = true
    while isBusy {
      isBusy = false
      var bytes = ByteBuffer()
      try session.output(into: &bytes)
      let all = bytes.bytes
      var offset = 0
      while offset < all.count {
        let end = offset + min(pieceBytes, all.count - offset)
        push(Array(all[offset..<end]))
        offset = end
        isBusy = true
      }
      rig.turn()
      let answer = rig.kernel.takeOutput(rig.caller)
      if !answer.isEmpty {
        isBusy = true
        try answer.withUnsafeBytes { try session.receive($0, now: 0) }
      }
    }
  }

  func push(_ bytes: [UInt8]) {
    rig.kernel.input[rig.caller, default: []].append(bytes)
    rig.kernel.queue([(rig.caller, .readable)])
    rig.turn()
  }

  var exchanges: [RecordedExchange] { rig.application.exchanges }
}

/// A frame's bytes (RFC 9113 section 4.1).
private func frame(_ type: UInt8, flags: UInt8 = 0, stream: UInt32 = 0, _ payload: [UInt8] = []) -> [UInt8] {
  let length = payload.count
  return [UInt8(length >> 16 & 0xff), UInt8(length >> 8 & 0xff), UInt8(length & 0xff), type, flags]
    + (0..<4).map { UInt8(truncatingIfNeeded: stream >> (24 - 8 * $0)) } + payload
}

private let preface = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8) + frame(4)

struct MultiplexedServerTests {
  @Test(arguments: [1, 2, 7, 16, 17, 24, 100, Int.max])
  func theSamePortAnswersBothVersionsInPiecesOf(size: Int) throws {
    let caller = try CallerRig()
    let streams = [try caller.request(), try caller.request("POST /b HTTP/1.1\r\nhost: a\r\n", body: "ping")]
    try caller.settle(pieceBytes: size)
    #expect(streams.allSatisfy { $0.body == "hello" && $0.ends == [.complete] && $0.trailers == "" })
    #expect(streams[0].head.hasPrefix("HTTP/1.1 200 OK\r\nx-test: 1\r\ncontent-length: 5\r\ndate: "))
    #expect(caller.exchanges.map(\.path) == ["/a", "/b"] && caller.exchanges[1].body == Array("ping".utf8))
    #expect(caller.exchanges.allSatisfy { $0.ends.map(\.name) == ["complete"] })
    #expect(caller.rig.server.connectionCount == 1 && caller.rig.loads.openRequests == 0)
  }

  @Test func http1GoesOnAsBefore() throws {
    let caller = try CallerRig()
    caller.rig.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n")
    #expect(caller.rig.output().hasPrefix("HTTP/1.1 200 OK"))
    caller.push(preface)
    #expect(caller.rig.application.refusals == [400], "not in the middle of an HTTP/1.1 connection")
  }

  @Test func withoutLimitsForItThePrefaceIsRefused() throws {
    let caller = try CallerRig { $0.multiplexed = nil }
    caller.push(preface)
    #expect(caller.rig.application.refusals == [400] && caller.exchanges.isEmpty)
  }

  @Test func tokensPassAsTheyComeAndEndWithTrailers() throws {
    let caller = try CallerRig()
    caller.rig.application.onRequest = { _ in }
    let stream = try caller.request()
    try caller.settle()
    let exchange = caller.exchanges[0]
    exchange.respond(200, .stream)
    for text in ["a", "ab", "abc"] {
      exchange.send(String(text.suffix(1)))
      try caller.settle()
      #expect(stream.body == text)
    }
    Array("server-timing: x\r\n".utf8).withUnsafeBytes { exchange.exchange.finish(trailers: $0) }
    try caller.settle()
    #expect(stream.trailers == "server-timing: x\r\n" && exchange.ends.map(\.name) == ["complete"])
    #expect(!stream.head.contains("transfer-encoding"))
  }

  @Test func headAndNoContentHaveNoBody() throws {
    let caller = try CallerRig()
    caller.rig.application.onRequest = { exchange in
      if case .head = exchange.method { exchange.respond(200, "hello") } else { exchange.respond(204, .none) }
    }
    let streams = [
      try caller.request("HEAD / HTTP/1.1\r\nhost: a\r\n"),
      try caller.request("GET / HTTP/1.1\r\nhost: a\r\n"),
    ]
    try caller.settle()
    #expect(streams.allSatisfy { $0.body.isEmpty && $0.ends == [.complete] })
    #expect(streams[0].head.contains("content-length: 5\r\n") && streams[1].head.hasPrefix("HTTP/1.1 204"))
  }

  @Test func aSlowReaderIsToldToTheApplication() throws {
    var limits = HTTP2MultiplexerLimits()
    limits.streamWindowBytes = 10_000
    let caller = try CallerRig(client: limits)
    caller.rig.application.onRequest = { _ in }
    let stream = try caller.request()
    caller.session.pause(stream.stream)
    try caller.settle()
    let exchange = caller.exchanges[0]
    exchange.respond(200, .stream)
    exchange.send(String(repeating: "x", count: 300_000))
    try caller.settle()
    #expect(exchange.exchange.outputIsFull && exchange.drainedCount == 0 && stream.body.count == 10_000)
    caller.session.unpause(stream.stream)
    try caller.settle()
    #expect(exchange.drainedCount == 1 && stream.body.count == 300_000)
    #expect(!exchange.exchange.outputIsFull)
  }

  @Test func aPausedBodyWaitsAtItsWindow() throws {
    let caller = try CallerRig { $0.multiplexed?.streamWindowBytes = 1_000 }
    caller.rig.application.onHead = { $0.exchange.pauseBody() }
    // The window that the server grants has to be known first.
    try caller.settle()
    let stream = try caller.request(
      "POST / HTTP/1.1\r\nhost: a\r\n", body: String(repeating: "x", count: 5_000))
    try caller.settle()
    #expect(caller.exchanges[0].body.count == 1_000)
    caller.rig.pass(60 * second)
    #expect(caller.exchanges[0].ends.isEmpty, "who waits for us has no deadline")
    caller.exchanges[0].exchange.resumeBody()
    try caller.settle()
    #expect(caller.exchanges[0].body.count == 5_000 && stream.ends == [.complete])
  }

  // MARK: Ends

  @Test func aCancelledRequestEndsAlone() throws {
    let caller = try CallerRig()
    caller.rig.application.onRequest = { _ in }
    let first = try caller.request()
    let second = try caller.request()
    try caller.settle()
    caller.session.reset(first.stream, code: HTTP2ErrorCode.cancel, silently: true)
    try caller.settle()
    #expect(caller.exchanges[0].ends.map(\.name) == ["cancelled"] && caller.exchanges[1].ends.isEmpty)
    caller.exchanges[1].respond(200, "ok")
    try caller.settle()
    #expect(second.body == "ok" && caller.rig.loads.openRequests == 0)
  }

  @Test func aCallerThatLeavesCancelsAll() throws {
    let caller = try CallerRig()
    caller.rig.application.onRequest = { _ in }
    _ = [try caller.request(), try caller.request()]
    try caller.settle()
    caller.rig.close()
    #expect(caller.exchanges.allSatisfy { $0.ends.map(\.name) == ["cancelled"] })
    #expect(
      caller.rig.isClosed && caller.rig.server.connectionCount == 0 && caller.rig.loads.openRequests == 0)
  }

  @Test func abortAndShortAnswersResetTheStream() throws {
    let caller = try CallerRig()
    caller.rig.application.onRequest = { exchange in
      exchange.respond(200, .length(10))
      exchange.send("half")
      if exchange.path == "/abort" { exchange.exchange.abort(.failed(.truncated)) } else { exchange.finish() }
    }
    let streams = [try caller.request("GET /abort HTTP/1.1\r\nhost: a\r\n"), try caller.request()]
    try caller.settle()
    #expect(streams.allSatisfy { $0.ends == [.reset(code: HTTP2ErrorCode.internalError)] })
    #expect(caller.exchanges.allSatisfy { $0.ends.map(\.name) == ["failed"] })
  }

  @Test func anAnswerBeforeTheBodyIsWholeIsComplete() throws {
    let caller = try CallerRig { $0.multiplexed?.streamWindowBytes = 1_000 }
    caller.rig.application.onHead = {
      $0.respond(413, "too long")
      $0.exchange.pauseBody()
    }
    let stream = try caller.request(
      "POST / HTTP/1.1\r\nhost: a\r\n", body: String(repeating: "x", count: 300_000))
    try caller.settle()
    #expect(stream.head.hasPrefix("HTTP/1.1 413") && stream.body == "too long")
    #expect(caller.exchanges[0].ends.map(\.name) == ["complete"] && caller.session.openStreams == 0)
  }

  @Test func aDrainFinishesWhatIsOpenAndRefusesTheRest() throws {
    let caller = try CallerRig()
    caller.rig.application.onRequest = { _ in }
    let stream = try caller.request()
    try caller.settle()
    caller.rig.server.drain()
    try caller.settle()
    #expect(caller.session.goAway?.code == HTTP2ErrorCode.noError && !caller.session.mayOpen)
    caller.exchanges[0].respond(200, "last")
    try caller.settle()
    #expect(stream.body == "last" && stream.ends == [.complete] && caller.rig.isClosed)
    #expect(caller.exchanges[0].ends.map(\.name) == ["complete"])
  }

  @Test(arguments: [1, 10, 16, 20])
  func aDrainInTheMiddleOfThePrefaceIsHeardAfterIt(count: Int) throws {
    let caller = try CallerRig()
    caller.push(Array(preface.prefix(count)))
    caller.rig.server.drain()
    #expect(!caller.rig.isClosed)
    caller.push(Array(preface.dropFirst(count)))
    caller.rig.turn()
    #expect(caller.rig.isClosed && caller.rig.server.connectionCount == 0)
    #expect(
      caller.rig.kernel.takeOutput(caller.rig.caller).contains(subsequence: [7, 0, 0, 0, 0, 0]), "GOAWAY")
  }

  @Test func aCutEndsAllAsFailed() throws {
    let caller = try CallerRig()
    caller.rig.application.onRequest = { _ in }
    _ = try caller.request()
    try caller.settle()
    caller.rig.server.cutAll()
    #expect(caller.exchanges[0].ends.map(\.name) == ["failed"] && caller.rig.isClosed)
  }

  // MARK: Deadlines

  @Test func aBodyThatStopsIsRefused() throws {
    let caller = try CallerRig()
    // HEADERS of a POST, and no END_STREAM.
    var head: [UInt8] = [0x83, 0x86, 0x84, 0x41, 1]
    head += Array("a".utf8)
    caller.push(preface + frame(1, flags: 4, stream: 1, head))
    #expect(caller.exchanges.count == 1)
    for _ in 0..<5 { caller.rig.pass(10 * second) }
    #expect(caller.exchanges[0].ends.map(\.name) == ["timedOut"] && caller.rig.loads.openRequests == 0)
    #expect(caller.rig.application.refusals == [408])
  }

  @Test func aBodyThatTricklesIsRefusedOrItsStreamReset() throws {
    for hasBegun in [false, true] {
      let caller = try CallerRig { $0.leastPace = LeastPace(bytesPerSecond: 100, grace: 20 * second) }
      if hasBegun { caller.rig.application.onHead = { $0.respond(200, .stream) } }
      var head: [UInt8] = [0x83, 0x86, 0x84, 0x41, 1]
      head += Array("a".utf8)
      caller.push(preface + frame(1, flags: 4, stream: 1, head))
      for _ in 0..<3 {
        caller.rig.pass(5 * second)
        caller.push(frame(0, flags: 0, stream: 1, [0x78]))
      }
      #expect(caller.exchanges[0].ends.isEmpty)
      // What we do not read is not theirs.
      caller.exchanges[0].exchange.pauseBody()
      for _ in 0..<10 { caller.rig.pass(5 * second) }
      caller.exchanges[0].exchange.resumeBody()
      #expect(caller.exchanges[0].ends.isEmpty)
      for _ in 0..<2 {
        caller.rig.pass(5 * second)
        caller.push(frame(0, flags: 0, stream: 1, [0x78]))
      }
      #expect(caller.exchanges[0].ends.map(\.name) == ["timedOut"] && caller.rig.loads.openRequests == 0)
      #expect(caller.rig.application.slowBodies == 1)
      #expect(caller.rig.application.refusals == (hasBegun ? [] : [408]) && !caller.rig.isClosed)
    }
  }

  @Test(arguments: [
    "x-a: 1\r\nx-b: 1\r\nx-c: 1\r\nx-d: 1\r\nx-e: 1\r\n", "x-a: \u{1}\r\n",
  ])
  func aHeadThatIsRefusedLeavesTheOtherStreamsAlone(_ fields: String) throws {
    let caller = try CallerRig { $0.multiplexed?.headerCount = 8 }
    caller.rig.application.onRequest = { _ in }
    let fine = try caller.request()
    try caller.settle()
    let refused = try caller.request("GET / HTTP/1.1\r\nhost: a\r\n" + fields)
    try caller.settle()
    #expect(refused.ends.count == 1 && caller.exchanges.count == 1)
    // Both are counted; an answer is possible where only the bounds were passed.
    #expect(caller.rig.application.refusals == (fields.count > 10 ? [431] : [400]))
    #expect(refused.head.hasPrefix(fields.count > 10 ? "HTTP/1.1 431 " : ""))
    #expect((refused.ends == [.complete]) == (fields.count > 10))
    for _ in 0..<10 { caller.rig.pass(3 * second) }
    #expect(!caller.rig.isClosed && caller.exchanges[0].ends.isEmpty)
    caller.exchanges[0].respond(200, "ok")
    try caller.settle()
    #expect(fine.body == "ok" && fine.ends == [.complete])
  }

  @Test func aReaderThatHadNothingToReadIsNotStalled() throws {
    var limits = HTTP2MultiplexerLimits()
    limits.streamWindowBytes = 1_000
    let caller = try CallerRig(client: limits)
    caller.rig.application.onRequest = { _ in }
    let stream = try caller.request()
    caller.session.pause(stream.stream)
    try caller.settle()
    let exchange = caller.exchanges[0]
    exchange.respond(200, .stream)
    exchange.send(String(repeating: "x", count: 1_000))
    try caller.settle()
    for _ in 0..<40 { caller.rig.pass(3 * second) }
    exchange.send("more")
    caller.rig.pass(3 * second)
    #expect(exchange.ends.isEmpty && stream.body.count == 1_000)
    caller.session.unpause(stream.stream)
    try caller.settle()
    #expect(stream.body.hasSuffix("more"))
    // And one that does not read what there is, is.
    caller.session.pause(stream.stream)
    exchange.send(String(repeating: "x", count: 2_000))
    for _ in 0..<30 {
      try caller.settle()
      caller.rig.pass(3 * second)
    }
    #expect(exchange.ends.map(\.name) == ["timedOut"])
  }

  @Test func anIdleConnectionIsClosedAndAHalfHeadCut() throws {
    let idle = try CallerRig()
    _ = try idle.request()
    try idle.settle()
    for _ in 0..<40 { idle.rig.pass(3 * second) }
    #expect(idle.rig.isClosed)

    let half = try CallerRig()
    half.push(preface + frame(1, flags: 0, stream: 1, [0x83, 0x86]))
    for _ in 0..<10 { half.rig.pass(3 * second) }
    #expect(half.rig.isClosed && half.exchanges.isEmpty)
  }

  // MARK: Abuse

  /// Frames that do no work, each kind in a flood (hardening.md, the families of 2019 and 2023 to 2025).
  @Test(arguments: [
    frame(6, [UInt8](repeating: 0, count: 8)), frame(4), frame(8, [0, 0, 0, 1]),
    frame(2, stream: 3, [0, 0, 0, 0, 1]),
  ])
  func aFloodIsToldToCalmDownAndCut(_ flood: [UInt8]) throws {
    let caller = try CallerRig()
    caller.push(preface)
    _ = caller.rig.kernel.takeOutput(caller.rig.caller)
    for _ in 0..<50 where !caller.rig.isClosed {
      caller.push(Array([[UInt8]](repeating: flood, count: 100).joined()))
    }
    #expect(caller.rig.isClosed)
    let said = caller.rig.kernel.takeOutput(caller.rig.caller)
    #expect(said.contains(subsequence: [7, 0, 0, 0, 0, 0]), "GOAWAY")
  }

  @Test func resetsOfStreamsThatAreOverAreAFlood() throws {
    let caller = try CallerRig()
    _ = try caller.request()
    try caller.settle()
    let flood = Array([[UInt8]](repeating: frame(2, stream: 1, [0, 0, 0, 8]), count: 100).joined())
    for _ in 0..<20 where !caller.rig.isClosed { caller.push(flood) }
    #expect(caller.rig.isClosed)
  }

  /// Clients in Go send one for the stream and one for the connection with each 4 KiB that were read.
  @Test func windowUpdatesThatAnswerDataAreNoFlood() throws {
    let caller = try CallerRig()
    caller.rig.application.onRequest = { _ in }
    let stream = try caller.request()
    try caller.settle()
    caller.exchanges[0].respond(200, .stream)
    let updates = Array(
      [[UInt8]](repeating: frame(8, stream: 1, [0, 0, 0, 1]) + frame(8, [0, 0, 0, 1]), count: 4).joined())
    for _ in 0..<1_000 {
      caller.exchanges[0].send("token")
      try caller.settle()
      caller.push(updates)
    }
    #expect(!caller.rig.isClosed && stream.body.count == 5_000)
  }

  /// A gateway's own callers leave as well.
  @Test func resetsInProportionAreNotCut() throws {
    let caller = try CallerRig()
    caller.rig.application.onRequest = { if $0.path == "/kept" { $0.respond(200, "ok") } }
    for _ in 0..<500 {
      let kept = try caller.request("GET /kept HTTP/1.1\r\nhost: a\r\n")
      let left = try caller.request()
      try caller.settle()
      caller.session.reset(left.stream, code: HTTP2ErrorCode.cancel, silently: true)
      try caller.settle()
      #expect(kept.ends == [.complete])
    }
    #expect(!caller.rig.isClosed)
  }

  @Test func resetsOfAnswersAreNotCut() throws {
    let caller = try CallerRig()
    caller.rig.application.onRequest = { $0.respond(200, .stream) }
    for _ in 0..<1_500 {
      let stream = try caller.request()
      try caller.settle()
      caller.session.reset(stream.stream, code: HTTP2ErrorCode.cancel, silently: true)
      try caller.settle()
    }
    #expect(!caller.rig.isClosed && caller.exchanges.allSatisfy { $0.ends.map(\.name) == ["cancelled"] })
  }

  @Test func resetsAfterAWhileAreNotCut() throws {
    let caller = try CallerRig()
    caller.rig.application.onRequest = { _ in }
    for _ in 0..<6 {
      let streams = try (0..<90).map { _ in try caller.request() }
      try caller.settle()
      caller.rig.pass(second)
      for stream in streams {
        caller.session.reset(stream.stream, code: HTTP2ErrorCode.cancel, silently: true)
      }
      try caller.settle()
    }
    #expect(!caller.rig.isClosed && caller.exchanges.count == 540)
  }

  @Test(arguments: [HTTP2ErrorCode.cancel, HTTP2ErrorCode.noError])
  func rapidResetsAreCut(code: UInt32) throws {
    let caller = try CallerRig()
    caller.rig.application.onRequest = { _ in }
    try caller.settle()
    var count = 0
    while !caller.rig.isClosed, count < 2_000 {
      guard let stream = try? caller.request() else { break }
      try caller.session.output(intoArray: caller.push)
      caller.session.reset(stream.stream, code: code, silently: true)
      try caller.session.output(intoArray: caller.push)
      count += 1
    }
    #expect(caller.rig.isClosed && count < 500)
    #expect(caller.exchanges.allSatisfy { $0.ends.map(\.name) == ["cancelled"] })
  }

  @Test func moreStreamsThanAllowedAreRefused() throws {
    let caller = try CallerRig { $0.multiplexed?.concurrentStreams = 2 }
    caller.rig.application.onRequest = { _ in }
    let streams = try (0..<4).map { _ in try caller.request() }
    try caller.settle()
    #expect(caller.exchanges.count <= 4 && caller.rig.loads.openRequests == caller.exchanges.count)
    for exchange in caller.exchanges { exchange.respond(200, "ok") }
    try caller.settle()
    for exchange in caller.exchanges where exchange.ends.isEmpty { exchange.respond(200, "ok") }
    try caller.settle()
    #expect(streams.allSatisfy { $0.ends == [.complete] || $0.ends == [.refused] })
  }

  @Test(arguments: [
    "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nhost: a b\r\n",
  ])
  func whatHTTP1RefusesIsRefused(_ lines: String) throws {
    let caller = try CallerRig()
    let stream = try caller.request(lines)
    try caller.settle()
    #expect(caller.exchanges.isEmpty)
    #expect(stream.head.hasPrefix("HTTP/1.1 400") || stream.ends != [.complete])
  }

  @Test func bytesThatAreNoHTTP2EndTheConnection() throws {
    let caller = try CallerRig()
    caller.push(Array("PRI * HTTP/2.0\r\n\r\nGET / HTTP/1.1\r\n\r\n".utf8))
    #expect(caller.rig.isClosed && caller.exchanges.isEmpty)
  }
}

extension HTTP2Multiplexer {
  /// Hands what is to be sent to `take`.
  fileprivate func output(intoArray take: ([UInt8]) -> Void) throws {
    var bytes = ByteBuffer()
    try output(into: &bytes)
    if !bytes.isEmpty { take(bytes.bytes) }
  }
}

extension [UInt8] {
  fileprivate func contains(subsequence: [UInt8]) -> Bool {
    guard count >= subsequence.count else { return false }
    return (0...count - subsequence.count).contains {
      Array(self[$0..<$0 + subsequence.count]) == subsequence
    }
  }
}
