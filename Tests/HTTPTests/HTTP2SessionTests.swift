// The HTTP/2 sessions against each other, in memory, cut at every size.

import Base
import HTTP
import Testing

/// A client and a server session with the bytes between them.
final class HTTP2Pair {
  let client: HTTP2ClientSession
  let server: HTTP2ServerSession
  var pieceBytes = Int.max

  init(client: HTTP2Limits = HTTP2Limits(), server: HTTP2Limits = HTTP2Limits()) throws {
    self.client = try HTTP2ClientSession(limits: client)
    self.server = try HTTP2ServerSession(limits: server)
  }

  /// Moves bytes both ways until both sides are silent.
  func exchange() throws {
    while client.wantsOutput || server.wantsOutput {
      try clientToServer()
      try serverToClient()
    }
  }

  func clientToServer() throws {
    var bytes = ByteBuffer()
    try client.output(into: &bytes)
    try feed(bytes.bytes) { try server.receive($0) }
  }

  func serverToClient() throws {
    var bytes = ByteBuffer()
    try server.output(into: &bytes)
    try feed(bytes.bytes) { try client.receive($0) }
  }

  private func feed(_ bytes: [UInt8], _ receive: (UnsafeRawBufferPointer) throws -> Void) throws {
    try bytes.withUnsafeBytes { all in
      var offset = 0
      while offset < all.count {
        let end = min(all.count, offset.addingReportingOverflow(pieceBytes).partialValue)
        let next = end > offset ? end : all.count
        try receive(UnsafeRawBufferPointer(rebasing: all[offset..<next]))
        offset = next
      }
    }
  }
}

func requestHead() -> HTTP2Fields {
  let head = HTTP2Fields()
  head.append(":method", "POST")
  head.append(":scheme", "http")
  head.append(":authority", "collector:4317")
  head.append(":path", "/service/method")
  head.append("te", "trailers")
  return head
}

func responseHead(_ status: StaticString = "200") -> HTTP2Fields {
  let head = HTTP2Fields()
  head.append(":status", status)
  head.append("content-type", "application/grpc")
  return head
}

func body(_ bytes: [UInt8]) -> HTTP2Body {
  var buffer = ByteBuffer()
  buffer.append(bytes)
  return HTTP2Body(buffer)
}

func pattern(_ count: Int) -> [UInt8] { (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) } }

struct HTTP2SessionTests {
  @Test(arguments: [1, 2, 3, 5, 8, 9, 10, 64, 1_000, Int.max])
  func wholeExchangeWithTrailersInPiecesOf(size: Int) throws {
    let pair = try HTTP2Pair()
    pair.pieceBytes = size
    let sent = pattern(40_000)
    let call = try pair.client.request(requestHead(), body: body(sent))
    try pair.exchange()
    let requests = pair.server.takeRequests()
    #expect(requests.count == 1)
    let request = try #require(requests.first)
    #expect(request.head.first(":path")?.text == "/service/method")
    #expect(request.body.bytes == sent)
    #expect(call.end == nil)
    let trailers = HTTP2Fields()
    trailers.append("grpc-status", "0")
    try pair.server.respond(
      to: request, head: responseHead(), body: body([1, 2, 3]), trailers: trailers)
    try pair.exchange()
    #expect(pair.client.takeFinished().map { $0.streamID } == [call.streamID])
    #expect(call.end == .complete)
    #expect(call.head.status == 200)
    #expect(call.body.bytes == [1, 2, 3])
    #expect(call.trailers?.first("grpc-status")?.text == "0")
    #expect(request.end == .complete)
    #expect(pair.client.receivedSettings)
    #expect(pair.server.openStreams == 0)
  }

  @Test func tinyWindowsOnlySlowABodyDown() throws {
    var limits = HTTP2Limits()
    limits.streamWindowBytes = 100
    let pair = try HTTP2Pair(client: limits, server: limits)
    let sent = pattern(10_000)
    let call = try pair.client.request(requestHead(), body: body(sent))
    try pair.exchange()
    let request = try #require(pair.server.takeRequests().first)
    #expect(request.body.bytes == sent)
    try pair.server.respond(to: request, head: responseHead(), body: body(sent))
    try pair.exchange()
    #expect(call.end == .complete)
    #expect(call.body.bytes == sent)
  }

  @Test func largeWindowsNeedNoUpdates() throws {
    var limits = HTTP2Limits()
    limits.streamWindowBytes = 1 << 20
    limits.connectionWindowBytes = 1 << 20
    let pair = try HTTP2Pair(server: limits)
    try pair.exchange()
    _ = try pair.client.request(requestHead(), body: body(pattern(300_000)))
    try pair.clientToServer()
    #expect(pair.server.takeRequests().first?.body.count == 300_000)
  }

  @Test func outputIsGatheredUpToItsLimit() throws {
    var limits = HTTP2Limits()
    limits.outputBytes = 20_000
    let pair = try HTTP2Pair(client: limits)
    _ = try pair.client.request(requestHead(), body: body(pattern(60_000)))
    var out = ByteBuffer()
    try pair.client.output(into: &out)
    #expect(out.count >= 20_000 && out.count < 20_000 + 16_384 + 9)
    #expect(pair.client.wantsOutput)
  }

  @Test(arguments: [0, 1, 16_383, 16_384, 16_385, 60_000])
  func bodyOfPiecesArrivesWhole(headBytes: Int) throws {
    let head = pattern(headBytes)
    let first = pattern(20_000)
    let second = pattern(40_000).reversed() as [UInt8]
    var buffer = ByteBuffer()
    buffer.append(head)
    let whole = HTTP2Body(
      buffer,
      pieces: [
        HTTP2Body.Piece(FrozenBytes(first), 100..<20_000), HTTP2Body.Piece(FrozenBytes(first), 7..<7),
        HTTP2Body.Piece(FrozenBytes(second), 0..<39_999),
      ])
    var limits = HTTP2Limits()
    limits.streamWindowBytes = 1 << 20
    limits.connectionWindowBytes = 1 << 20
    let pair = try HTTP2Pair(server: limits)
    try pair.exchange()
    // Twice: what a stream sent may be sent again.
    for _ in 0..<2 {
      _ = try pair.client.request(requestHead(), body: whole)
      try pair.clientToServer()
      let request = try #require(pair.server.takeRequests().first)
      #expect(request.body.bytes == head + first[100...] + second[..<39_999])
    }
  }

  @Test func headersOnlyAnswerIsWhole() throws {
    let pair = try HTTP2Pair()
    let call = try pair.client.request(requestHead(), body: nil)
    try pair.exchange()
    let request = try #require(pair.server.takeRequests().first)
    try pair.server.respond(to: request, head: responseHead("503"))
    try pair.exchange()
    #expect(call.end == .complete)
    #expect(call.head.status == 503)
    #expect(call.trailers == nil)
  }

  @Test func trailersWithoutABodyArrive() throws {
    let pair = try HTTP2Pair()
    let call = try pair.client.request(requestHead(), body: nil)
    try pair.exchange()
    let request = try #require(pair.server.takeRequests().first)
    let trailers = HTTP2Fields()
    trailers.append("grpc-status", "14")
    try pair.server.respond(to: request, head: responseHead(), trailers: trailers)
    try pair.exchange()
    #expect(call.end == .complete)
    #expect(call.trailers?.first("grpc-status")?.text == "14")
  }

  @Test func resetByTheServerCarriesItsCode() throws {
    let pair = try HTTP2Pair()
    let call = try pair.client.request(requestHead(), body: nil)
    try pair.exchange()
    let request = try #require(pair.server.takeRequests().first)
    try pair.server.reset(request, code: HTTP2ErrorCode.internalError)
    try pair.exchange()
    #expect(call.end == .reset(code: HTTP2ErrorCode.internalError))
  }

  @Test func refusedStreamIsToldApart() throws {
    let pair = try HTTP2Pair()
    let call = try pair.client.request(requestHead(), body: nil)
    try pair.exchange()
    let request = try #require(pair.server.takeRequests().first)
    try pair.server.reset(request, code: HTTP2ErrorCode.refusedStream)
    try pair.exchange()
    #expect(call.end == .refused)
  }

  @Test func cancelReachesTheServer() throws {
    let pair = try HTTP2Pair()
    let call = try pair.client.request(requestHead(), body: nil)
    try pair.exchange()
    let request = try #require(pair.server.takeRequests().first)
    try pair.client.reset(call, code: HTTP2ErrorCode.cancel)
    try pair.exchange()
    #expect(call.end == .reset(code: HTTP2ErrorCode.cancel))
    #expect(request.end == .reset(code: HTTP2ErrorCode.cancel))
    // An answer to a stream that is over is not an error.
    try pair.server.respond(to: request, head: responseHead())
  }

  @Test func goAwayRefusesNewStreamsAndThoseAboveItsLast() throws {
    let pair = try HTTP2Pair()
    let call = try pair.client.request(requestHead(), body: nil)
    try pair.exchange()
    try pair.server.goAway(lastStreamID: 0, code: HTTP2ErrorCode.enhanceYourCalm)
    try pair.exchange()
    #expect(call.end == .refused)
    #expect(!pair.client.mayRequest)
    #expect(pair.client.goAway?.code == HTTP2ErrorCode.enhanceYourCalm)
    #expect(pair.client.goAway?.lastStreamID == 0)
    #expect(throws: HTTP2Error.goingAway) { try pair.client.request(requestHead(), body: nil) }
  }

  @Test func requestThatCouldNotLeaveBeforeGoAwayIsRefused() throws {
    let pair = try HTTP2Pair()
    try pair.exchange()
    let call = try pair.client.request(requestHead(), body: nil)
    try pair.server.goAway()
    try pair.serverToClient()
    try pair.exchange()
    #expect(call.end == .refused)
    #expect(pair.client.openStreams == 0)
  }

  @Test func bodyOverTheLimitIsResetAndItsRestDropped() throws {
    var limits = HTTP2Limits()
    limits.bodyBytes = 1_000
    limits.streamWindowBytes = 2_000
    let pair = try HTTP2Pair(client: limits)
    let call = try pair.client.request(requestHead(), body: nil)
    try pair.exchange()
    let request = try #require(pair.server.takeRequests().first)
    try pair.server.respond(to: request, head: responseHead(), body: body(pattern(30_000)))
    try pair.exchange()
    #expect(call.end == .bodyTooLarge)
    #expect(call.body.count <= 1_000)
    #expect(request.end == .reset(code: HTTP2ErrorCode.enhanceYourCalm))
  }

  @Test func bodiesOfAllStreamsTogetherAreBounded() throws {
    var limits = HTTP2Limits()
    limits.bufferedBytes = 3_000
    let pair = try HTTP2Pair(server: limits)
    let calls = try (0..<4).map { _ in try pair.client.request(requestHead(), body: body(pattern(1_000))) }
    try pair.exchange()
    #expect(pair.server.takeRequests().count == 3)
    #expect(calls.filter { $0.end == .reset(code: HTTP2ErrorCode.enhanceYourCalm) }.count == 1)
  }

  @Test func headersOverTheLimitEndTheStream() throws {
    let pair = try HTTP2Pair()
    let call = try pair.client.request(requestHead(), body: nil)
    try pair.exchange()
    let request = try #require(pair.server.takeRequests().first)
    let head = responseHead()
    for index in 0..<120 { head.append("x-\(index)", "value") }
    try pair.server.respond(to: request, head: head)
    try pair.exchange()
    #expect(call.end == .headersTooLarge)
  }

  @Test func lostConnectionEndsEveryStreamOnce() throws {
    let pair = try HTTP2Pair()
    let calls = try (0..<3).map { _ in try pair.client.request(requestHead(), body: nil) }
    try pair.exchange()
    pair.client.connectionLost()
    pair.client.connectionLost()
    #expect(pair.client.takeFinished().map { $0.streamID } == calls.map { $0.streamID })
    #expect(calls.allSatisfy { $0.end == .connectionLost })
    #expect(pair.client.takeFinished().isEmpty)
  }

  @Test func bytesThatAreNotHTTP2AreAnError() throws {
    let server = try HTTP2ServerSession()
    let text = Array("GET / HTTP/1.1\r\nhost: a\r\n\r\n".utf8)
    #expect(throws: HTTP2Error.self) { try text.withUnsafeBytes { try server.receive($0) } }
    let client = try HTTP2ClientSession()
    let answer = Array("HTTP/1.1 400 Bad Request\r\n\r\n".utf8)
    try? answer.withUnsafeBytes { try client.receive($0) }
    var out = ByteBuffer()
    try client.output(into: &out)
    #expect(!client.mayRequest || client.isFinished)
    #expect(!client.receivedSettings)
  }

  @Test func terminatedSessionFinishes() throws {
    let pair = try HTTP2Pair()
    try pair.exchange()
    try pair.client.terminate()
    try pair.exchange()
    #expect(pair.client.isFinished)
  }
}
