// Multiplexed sessions against each other, in memory, cut at every size: every way a stream can end.

import Base
import HTTP
import Testing

/// What one stream heard.
final class RecordedStream: HTTP2StreamOwner {
  let stream = HTTP2Stream()
  var heads: [String] = []
  var body: [UInt8] = []
  var trailers: String?
  var ends: [HTTP2StreamEnd] = []
  var pieces = 0
  var moves = 0
  var tooLargeHeads = 0
  var onEnd: ((RecordedStream) -> Void)?

  func receivedTooLargeHead() { tooLargeHeads += 1 }

  func received(head: UnsafeRawBufferPointer) { heads.append(head.text) }

  func received(body bytes: UnsafeRawBufferPointer) {
    pieces += 1
    body += bytes
  }

  func receivedEnd(trailers: UnsafeRawBufferPointer) {
    self.trailers = trailers.text
    onEnd?(self)
  }

  func outputMoved() { moves += 1 }

  func ended(_ end: HTTP2StreamEnd) { ends.append(end) }
}

/// A client and a server with the bytes between them.
final class MultiplexedPair {
  let client: HTTP2Multiplexer
  let server: HTTP2Multiplexer
  let seen: Seen
  var pieceBytes = Int.max

  /// Streams that the server was given.
  final class Seen {
    var streams: [RecordedStream] = []
    var onRequest: ((RecordedStream) -> Void)?
  }

  init(
    client: HTTP2MultiplexerLimits = HTTP2MultiplexerLimits(),
    server: HTTP2MultiplexerLimits = HTTP2MultiplexerLimits()
  ) throws {
    let seen = Seen()
    self.seen = seen
    self.client = try HTTP2Multiplexer(client: client)
    self.server = try HTTP2Multiplexer(server: server) {
      let stream = RecordedStream()
      stream.stream.belongs(to: stream)
      stream.onEnd = seen.onRequest
      seen.streams.append(stream)
      return stream.stream
    }
  }

  // Streams that a test left open hold their owners.
  deinit {
    for side in [client, server] { _ = side.abandon() }
  }

  /// Moves bytes both ways until both sides are silent.
  func exchange() throws {
    while client.wantsOutput || server.wantsOutput {
      let sent = try move(client, server)
      if try move(server, client) + sent == 0 { return }
    }
  }

  @discardableResult
  func move(_ from: HTTP2Multiplexer, _ to: HTTP2Multiplexer) throws -> Int {
    var bytes = ByteBuffer()
    try from.output(into: &bytes)
    let all = bytes.readable
    var offset = 0
    while offset < all.count {
      let end = offset + min(pieceBytes, all.count - offset)
      try to.receive(all.slice(offset..<end), now: 0)
      offset = end
    }
    return all.count
  }

  func request(_ text: String, body: [UInt8] = []) throws -> RecordedStream {
    let stream = RecordedStream()
    stream.stream.output.append(text)
    stream.stream.output.append("\r\n" as StaticString)
    stream.stream.output.append(body)
    try client.open(stream.stream, for: stream, isSecure: false)
    return stream
  }

  func respond(_ stream: RecordedStream, _ status: Int, _ fields: String, ends: Bool = false) throws {
    try Array(fields.utf8).withUnsafeBytes {
      try server.respond(stream.stream, status: status, fields: $0, endsStream: ends)
    }
  }

  func send(_ stream: RecordedStream, _ text: String) {
    stream.stream.output.append(text)
    server.resume(stream.stream)
  }

  func finish(_ stream: RecordedStream, trailers: String = "") {
    Array(trailers.utf8).withUnsafeBytes { server.endOutput(stream.stream, trailers: $0) }
  }
}

private let post =
  "POST /v1/x?y=1 HTTP/1.1\r\nHost: a:1\r\nX-Test: one\r\ncontent-length: 4\r\nconnection: close\r\n"

struct HTTP2MultiplexerTests {
  @Test(arguments: [1, 2, 3, 5, 8, 9, 10, 64, 1_000, Int.max])
  func anExchangeWithTrailersInPiecesOf(size: Int) throws {
    let pair = try MultiplexedPair()
    pair.pieceBytes = size
    pair.seen.onRequest = { [unowned pair] stream in
      try? pair.respond(stream, 200, "Content-Type: text/plain\r\nkeep-alive: 5\r\n")
      pair.send(stream, "one ")
      pair.send(stream, "two")
      pair.finish(stream, trailers: "x-sum: 7\r\nSet-Cookie: a=1\r\n")
    }
    let stream = try pair.request(post, body: Array("ping".utf8))
    try pair.exchange()
    let asked = try #require(pair.seen.streams.first)
    #expect(
      asked.heads == [
        "POST /v1/x?y=1 HTTP/1.1\r\nhost: a:1\r\nx-test: one\r\ncontent-length: 4\r\n\r\n"
      ])
    #expect(asked.body == Array("ping".utf8) && asked.trailers == "")
    #expect(stream.heads == ["HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n"])
    #expect(String(decoding: stream.body, as: UTF8.self) == "one two")
    #expect(stream.trailers == "x-sum: 7\r\n")
    #expect(stream.ends == [.complete] && asked.ends == [.complete])
    #expect(pair.client.openStreams == 0 && pair.server.openStreams == 0)
    pair.seen.onRequest = nil
  }

  @Test func aBodyPassesWhileItGrowsAndOneReadIsOnePiece() throws {
    let pair = try MultiplexedPair()
    let stream = try pair.request("GET / HTTP/1.1\r\nhost: a\r\n")
    try pair.exchange()
    let asked = try #require(pair.seen.streams.first)
    try pair.respond(asked, 200, "")
    for count in 1...3 {
      pair.send(asked, "token \(count);")
      try pair.exchange()
      #expect(stream.pieces == count && stream.ends.isEmpty)
    }
    #expect(asked.moves == 3 && !asked.stream.outputIsSent)
    pair.finish(asked)
    try pair.exchange()
    #expect(asked.stream.outputIsSent && stream.ends == [.complete])
  }

  @Test func manyStreamsShareAConnectionAndTheirBodiesDoNotMix() throws {
    let pair = try MultiplexedPair()
    pair.pieceBytes = 37
    let streams = try (0..<50).map { try pair.request("GET /\($0) HTTP/1.1\r\nhost: a\r\n") }
    try pair.exchange()
    for (index, asked) in pair.seen.streams.enumerated() {
      try pair.respond(asked, 200, "")
      pair.send(asked, String(repeating: "\(index),", count: 20))
      if index.isMultiple(of: 2) { pair.finish(asked) }
    }
    try pair.exchange()
    for (index, stream) in streams.enumerated() {
      #expect(String(decoding: stream.body, as: UTF8.self) == String(repeating: "\(index),", count: 20))
      #expect(stream.ends == (index.isMultiple(of: 2) ? [.complete] : []))
    }
  }

  @Test func aLongBodyPassesBothWaysThroughSmallWindows() throws {
    var limits = HTTP2MultiplexerLimits()
    limits.streamWindowBytes = 1_000
    limits.outputBytes = 700
    let pair = try MultiplexedPair(client: limits, server: limits)
    let bytes = pattern(300_000)
    let stream = try pair.request("POST / HTTP/1.1\r\nhost: a\r\n", body: bytes)
    try pair.exchange()
    let asked = try #require(pair.seen.streams.first)
    #expect(asked.body == bytes)
    #expect(asked.heads.first?.contains("transfer-encoding: chunked\r\n") == true, "its length is not known")
    try pair.respond(asked, 200, "")
    asked.stream.output.append(bytes)
    pair.finish(asked)
    try pair.exchange()
    #expect(stream.body == bytes && stream.ends == [.complete])
  }

  @Test func aPausedStreamGetsOneWindowAndStopsNoOther() throws {
    var limits = HTTP2MultiplexerLimits()
    limits.streamWindowBytes = 1_000
    let pair = try MultiplexedPair(client: limits)
    let slow = try pair.request("GET /slow HTTP/1.1\r\nhost: a\r\n")
    let quick = try pair.request("GET /quick HTTP/1.1\r\nhost: a\r\n")
    pair.client.pause(slow.stream)
    try pair.exchange()
    let bytes = pattern(200_000)
    for asked in pair.seen.streams {
      try pair.respond(asked, 200, "")
      asked.stream.output.append(bytes)
      pair.finish(asked)
    }
    try pair.exchange()
    #expect(slow.body.count == 1_000 && slow.ends.isEmpty)
    #expect(quick.body == bytes && quick.ends == [.complete])
    pair.client.unpause(slow.stream)
    try pair.exchange()
    #expect(slow.body == bytes && slow.ends == [.complete])
  }

  @Test func aResetTellsBothSides() throws {
    let pair = try MultiplexedPair()
    let first = try pair.request("GET / HTTP/1.1\r\nhost: a\r\n")
    let second = try pair.request("GET / HTTP/1.1\r\nhost: a\r\n")
    let third = try pair.request("GET / HTTP/1.1\r\nhost: a\r\n")
    try pair.exchange()
    pair.client.reset(first.stream, code: HTTP2ErrorCode.cancel, silently: true)
    pair.server.reset(pair.seen.streams[1].stream, code: HTTP2ErrorCode.internalError, silently: false)
    pair.server.reset(pair.seen.streams[2].stream, code: HTTP2ErrorCode.refusedStream, silently: true)
    try pair.exchange()
    #expect(first.ends.isEmpty && pair.seen.streams[0].ends == [.reset(code: HTTP2ErrorCode.cancel)])
    #expect(second.ends == [.reset(code: HTTP2ErrorCode.internalError)])
    #expect(pair.seen.streams[1].ends == [.cancelled])
    #expect(third.ends == [.refused] && pair.seen.streams[2].ends.isEmpty)
    #expect(pair.client.openStreams == 0 && pair.server.openStreams == 0)
  }

  @Test func aCancelledRequestThatWasNeverSentIsNeverSeen() throws {
    let pair = try MultiplexedPair()
    let stream = try pair.request("GET / HTTP/1.1\r\nhost: a\r\n")
    pair.client.reset(stream.stream, code: HTTP2ErrorCode.cancel, silently: true)
    try pair.exchange()
    #expect(pair.seen.streams.isEmpty && pair.client.openStreams == 0 && stream.ends.isEmpty)
  }

  /// The library has fixed the length of a frame that did not fit any more, and comes back to it before the reset.
  @Test(arguments: [true, false], ["", "x-sum: 7\r\n"])
  func aStreamResetBetweenItsFramesHeadAndBytesLeavesTheOthersWhole(silently: Bool, trailers: String) throws {
    var limits = HTTP2MultiplexerLimits()
    limits.outputBytes = 700
    let pair = try MultiplexedPair(server: limits)
    let streams = try (0..<3).map { _ in try pair.request("GET / HTTP/1.1\r\nhost: a\r\n") }
    try pair.exchange()
    for asked in pair.seen.streams {
      try pair.respond(asked, 200, "")
      try pair.exchange()
    }
    let bytes = pattern(10_000)
    for asked in pair.seen.streams.prefix(2) {
      asked.stream.output.append(bytes)
      pair.server.resume(asked.stream)
      pair.finish(asked, trailers: trailers)
    }
    try pair.move(pair.server, pair.client)
    let blocked = try #require(pair.seen.streams.prefix(2).firstIndex { !$0.stream.output.isEmpty })
    pair.server.reset(
      pair.seen.streams[blocked].stream, code: HTTP2ErrorCode.internalError, silently: silently)
    pair.seen.streams[blocked].stream.output.release()
    try pair.exchange()
    #expect(streams[1 - blocked].body == bytes && streams[1 - blocked].ends == [.complete])
    #expect(streams[blocked].ends == [.reset(code: HTTP2ErrorCode.internalError)])
    #expect(streams[blocked].body.isEmpty && streams[blocked].trailers == nil)
    pair.send(pair.seen.streams[2], "third")
    pair.finish(pair.seen.streams[2])
    try pair.exchange()
    #expect(streams[2].body == Array("third".utf8) && streams[2].ends == [.complete])
    let next = try pair.request("GET / HTTP/1.1\r\nhost: a\r\n")
    try pair.exchange()
    try pair.respond(pair.seen.streams[3], 204, "", ends: true)
    try pair.exchange()
    #expect(next.ends == [.complete] && pair.client.openStreams == 0 && pair.server.openStreams == 0)
  }

  @Test func goingAwayRefusesWhatCameTooLateAndFinishesTheRest() throws {
    let pair = try MultiplexedPair()
    let early = try pair.request("GET /early HTTP/1.1\r\nhost: a\r\n")
    try pair.exchange()
    try pair.server.goAway()
    let late = try pair.request("GET /late HTTP/1.1\r\nhost: a\r\n")
    try pair.move(pair.server, pair.client)
    try pair.exchange()
    #expect(late.ends == [.refused] && early.ends.isEmpty)
    #expect(!pair.client.mayOpen && pair.client.goAway?.code == HTTP2ErrorCode.noError)
    #expect(throws: HTTP2Error.goingAway) { try pair.request("GET / HTTP/1.1\r\nhost: a\r\n") }
    try pair.respond(pair.seen.streams[0], 200, "", ends: true)
    try pair.exchange()
    #expect(early.ends == [.complete])
    #expect(pair.server.isFinished)
  }

  @Test func aLostConnectionTellsWhoIsLeftOnce() throws {
    let pair = try MultiplexedPair()
    let first = try pair.request("GET / HTTP/1.1\r\nhost: a\r\n")
    let second = try pair.request("GET / HTTP/1.1\r\nhost: a\r\n")
    try pair.exchange()
    let left = pair.client.abandon()
    #expect(left.count == 2 && left.first === first && left.last === second)
    #expect(pair.client.abandon().isEmpty && first.ends.isEmpty)
  }

  @Test func abandoningFromInsideAnEventEndsTheDelivery() throws {
    let pair = try MultiplexedPair()
    let first = try pair.request("GET / HTTP/1.1\r\nhost: a\r\n")
    let second = try pair.request("GET / HTTP/1.1\r\nhost: a\r\n")
    try pair.exchange()
    for asked in pair.seen.streams { try pair.respond(asked, 200, "", ends: true) }
    var left: [any HTTP2StreamOwner] = []
    first.onEnd = { _ in left = pair.client.abandon() }
    try pair.move(pair.server, pair.client)
    #expect(second.heads.isEmpty && second.ends.isEmpty && left.count == 2)
    first.onEnd = nil
  }

  @Test func interimResponsesComeAsHeads() throws {
    let pair = try MultiplexedPair()
    let stream = try pair.request("POST / HTTP/1.1\r\nhost: a\r\n", body: [1])
    try pair.exchange()
    try pair.server.inform(pair.seen.streams[0].stream, status: 100)
    try pair.respond(pair.seen.streams[0], 204, "", ends: true)
    try pair.exchange()
    #expect(stream.heads == ["HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 204 No Content\r\n\r\n"])
    #expect(stream.ends == [.complete])
  }

  @Test func anAnswerBeforeTheRequestIsWholeEndsItsStream() throws {
    let pair = try MultiplexedPair()
    let stream = try pair.request("POST / HTTP/1.1\r\nhost: a\r\n", body: pattern(600_000))
    try pair.move(pair.client, pair.server)
    try pair.respond(pair.seen.streams[0], 413, "", ends: true)
    var bytes = ByteBuffer()
    try pair.server.output(into: &bytes)
    #expect(pair.seen.streams[0].stream.outputIsSent)
    pair.server.reset(pair.seen.streams[0].stream, code: HTTP2ErrorCode.noError, silently: true)
    try pair.server.output(into: &bytes)
    try pair.client.receive(bytes.readable, now: 0)
    #expect(stream.heads == ["HTTP/1.1 413 Content Too Large\r\n\r\n"] && stream.ends == [.complete])
  }

  @Test(arguments: [1, 7, 50, Int.max])
  func aRequestsHeadOverItsBoundsCanBeAnswered(size: Int) throws {
    var limits = HTTP2MultiplexerLimits()
    limits.headerCount = 8
    limits.headerListBytes = 2_000
    let pair = try MultiplexedPair(server: limits)
    pair.pieceBytes = size
    let many = (0..<9).map { "x-\($0): 1\r\n" }.joined()
    let tooMany = try pair.request("GET / HTTP/1.1\r\nhost: a\r\n" + many)
    let tooLong = try pair.request(
      "GET /\(String(repeating: "x", count: 2_000)) HTTP/1.1\r\nhost: a\r\n")
    let fine = try pair.request("GET / HTTP/1.1\r\nhost: a\r\n")
    try pair.exchange()
    #expect(pair.seen.streams.map(\.tooLargeHeads) == [1, 1, 0])
    #expect(pair.seen.streams.map(\.heads.count) == [0, 0, 1] && !pair.server.isReadingHead)
    #expect(pair.seen.streams.allSatisfy { $0.trailers == "" && $0.ends.isEmpty })
    for asked in pair.seen.streams.prefix(2) { try pair.respond(asked, 431, "", ends: true) }
    try pair.exchange()
    #expect(tooMany.ends == [.complete] && tooLong.ends == [.complete] && fine.ends.isEmpty)
    #expect(tooLong.heads == ["HTTP/1.1 431 Request Header Fields Too Large\r\n\r\n"])
  }

  @Test func otherSectionsOverTheirBoundsResetTheirStreamAndNoOther() throws {
    var limits = HTTP2MultiplexerLimits()
    limits.headerCount = 8
    let pair = try MultiplexedPair(client: limits)
    let streams = try (0..<3).map { _ in try pair.request("GET / HTTP/1.1\r\nhost: a\r\n") }
    try pair.exchange()
    let many = (0..<9).map { "x-\($0): 1\r\n" }.joined()
    try pair.respond(pair.seen.streams[0], 200, many)
    try pair.respond(pair.seen.streams[1], 200, "")
    pair.finish(pair.seen.streams[1], trailers: many)
    try pair.respond(pair.seen.streams[2], 200, "", ends: true)
    try pair.exchange()
    #expect(streams.map(\.ends) == [[.malformed], [.malformed], [.complete]])
    #expect(streams.map(\.heads.count) == [0, 1, 1] && !pair.client.isReadingHead)
  }

  @Test func requestsBeyondThePeersLimitThatHaveNotLeftAreTakenBack() throws {
    var limits = HTTP2MultiplexerLimits()
    limits.concurrentStreams = 2
    let pair = try MultiplexedPair(server: limits)
    let streams = try (0..<5).map { _ in try pair.request("GET / HTTP/1.1\r\nhost: a\r\n", body: [1]) }
    // The server's SETTINGS come first.
    try pair.move(pair.server, pair.client)
    #expect(streams.map(\.ends) == [[], [], [.refused], [.refused], [.refused]])
    for stream in streams.dropFirst(2) { stream.stream.output.release() }
    try pair.exchange()
    #expect(pair.seen.streams.count == 2)
    for asked in pair.seen.streams { try pair.respond(asked, 204, "", ends: true) }
    try pair.exchange()
    #expect(streams.prefix(2).allSatisfy { $0.ends == [.complete] } && pair.seen.streams.count == 2)
    #expect(streams.dropFirst(2).allSatisfy { $0.ends == [.refused] } && pair.client.openStreams == 0)
  }

  @Test func hostIsTheAuthorityOfRequestsAlone() throws {
    let pair = try MultiplexedPair()
    let stream = try pair.request("GET / HTTP/1.1\r\nhost: a\r\n")
    try pair.exchange()
    try pair.respond(pair.seen.streams[0], 200, "Host: evil\r\nx-test: 1\r\n")
    pair.finish(pair.seen.streams[0], trailers: "host: evil\r\nx-sum: 7\r\n")
    try pair.exchange()
    #expect(stream.heads == ["HTTP/1.1 200 OK\r\nx-test: 1\r\n\r\n"])
    #expect(stream.trailers == "x-sum: 7\r\n" && stream.ends == [.complete])
  }

  @Test func whatComesInOneReadIsJudgedOnTheWay() throws {
    let pair = try MultiplexedPair()
    var bytes = ByteBuffer()
    try pair.client.output(into: &bytes)
    // Window updates for nothing, and a request behind them.
    for _ in 0..<3_000 { bytes.append([0, 0, 4, 8, 0, 0, 0, 0, 0, 0, 0, 0, 1]) }
    _ = try pair.request("GET / HTTP/1.1\r\nhost: a\r\n")
    try pair.client.output(into: &bytes)
    #expect(throws: HTTP2Error.self) { try pair.server.receive(bytes.readable, now: 0) }
    #expect(pair.seen.streams.isEmpty)
  }

  @Test func anAnswerThatCannotLeaveResetsItsStreamAndEndsItOnce() throws {
    let pair = try MultiplexedPair()
    let stream = try pair.request("POST / HTTP/1.1\r\nhost: a\r\n", body: pattern(600_000))
    try pair.move(pair.client, pair.server)
    let asked = pair.seen.streams[0]
    try pair.respond(asked, 413, "", ends: true)
    try pair.server.inform(asked.stream, status: 100)
    #expect(pair.server.openStreams == 1)
    try pair.exchange()
    #expect(asked.ends == [.malformed] && pair.server.openStreams == 0)
    #expect(stream.ends.count == 1 && pair.client.openStreams == 0)
  }

  @Test func anHTTP1ServerIsNoPeer() throws {
    let client = try HTTP2Multiplexer(client: HTTP2MultiplexerLimits())
    var bytes = ByteBuffer()
    try client.output(into: &bytes)
    try Array("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n".utf8).withUnsafeBytes {
      try client.receive($0, now: 0)
    }
    try client.output(into: &bytes)
    #expect(client.isFinished && !client.receivedSettings)
  }

  @Test func aRequestThatIsNoHeadIsNotSent() throws {
    let pair = try MultiplexedPair()
    #expect(throws: HTTP2Error.self) { try pair.request("nonsense") }
    #expect(pair.client.openStreams == 0)
  }
}
