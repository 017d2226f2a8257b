// Unary calls against the server helper in memory, and answers that no well-behaved server gives.

import Base
import GRPC
import HTTP
import Testing

/// A client and a server session with one call between them.
final class CallPair {
  let client: HTTP2ClientSession
  let server: HTTP2ServerSession
  var call: HTTP2Exchange?

  init(clientLimits: HTTP2Limits = HTTP2Limits()) throws {
    client = try HTTP2ClientSession(limits: clientLimits)
    server = try HTTP2ServerSession()
  }

  static let method = GRPCMethod(
    authority: "collector:4317", path: "/package.Service/Method", userAgent: "test/1",
    metadata: [("x-scope-orgid", "tenant")])

  /// Sends `message` and returns the request as the server sees it.
  func start(_ message: [UInt8]) throws -> GRPCServerCall {
    var body = ByteBuffer()
    let mark = GRPCFrame.begin(in: &body)
    body.append(message)
    GRPCFrame.end(mark, in: &body)
    call = try client.request(Self.method.head(timeout: 10 * second), body: HTTP2Body(body))
    try pump()
    return GRPCServerCall(try #require(server.takeRequests().first))
  }

  func pump() throws {
    while client.wantsOutput || server.wantsOutput {
      var out = ByteBuffer()
      try client.output(into: &out)
      try server.receive(out.readable)
      out.removeAll()
      try server.output(into: &out)
      try client.receive(out.readable)
    }
  }

  func answer() throws -> GRPCAnswer {
    try pump()
    let finished = client.takeFinished()
    #expect(finished.count == 1)
    return GRPCAnswer(try #require(finished.first))
  }
}

/// Answers with header lines and body of the test's choosing.
func respond(
  _ pair: CallPair, _ call: GRPCServerCall, _ lines: [(String, String)], body: [UInt8]? = nil,
  trailers: [(String, String)]? = nil
) throws -> GRPCAnswer {
  func fields(_ lines: [(String, String)]) -> HTTP2Fields {
    let fields = HTTP2Fields()
    for (name, value) in lines { fields.append(name, value) }
    return fields
  }
  var content: HTTP2Body?
  if let body {
    var buffer = ByteBuffer()
    buffer.append(body)
    content = HTTP2Body(buffer)
  }
  try pair.server.respond(
    to: call.exchange, head: fields(lines), body: content, trailers: trailers.map(fields))
  return try pair.answer()
}

struct GRPCCallTests {
  @Test(arguments: [0, 1, 100, 70_000, 2 << 20])
  func messageGoesThereAndAnotherComesBack(count: Int) throws {
    let pair = try CallPair()
    let sent = (0..<count).map { UInt8(truncatingIfNeeded: $0) }
    let call = try pair.start(sent)
    #expect(call.path.equals("/package.Service/Method"))
    #expect(call.exchange.head.first("te")?.text == "trailers")
    #expect(call.exchange.head.first("content-type")?.text == "application/grpc")
    #expect(call.exchange.head.first("user-agent")?.text == "test/1")
    #expect(call.exchange.head.first("grpc-timeout")?.text == "10000000u")
    #expect(call.exchange.head.first("x-scope-orgid")?.text == "tenant")
    #expect(Array(try call.message.get()) == sent)
    try sent.withUnsafeBytes { try call.succeed(on: pair.server, message: $0) }
    let answer = try pair.answer()
    #expect(answer.status == GRPCStatus(.ok))
    #expect(answer.message == sent)
    #expect(answer.isFromServer)
  }

  @Test(arguments: GRPCCode.allCases.dropFirst())
  func statusWithMessageAndDetailsArrives(code: GRPCCode) throws {
    let pair = try CallPair()
    let call = try pair.start([1])
    let status = GRPCStatus(code, "100 % größer\n")
    try call.fail(on: pair.server, status, details: [1, 2, 3, 255])
    let answer = try pair.answer()
    #expect(answer.status == status)
    #expect(answer.details == [1, 2, 3, 255])
    #expect(answer.isFromServer)
  }

  @Test func statusInTrailersAfterAMessageCounts() throws {
    let pair = try CallPair()
    let call = try pair.start([1])
    let answer = try respond(
      pair, call, [(":status", "200"), ("content-type", "application/grpc")], body: [0, 0, 0, 0, 0],
      trailers: [("grpc-status", "8"), ("grpc-message", "slow%20down")])
    #expect(answer.status == GRPCStatus(.resourceExhausted, "slow down"))
    #expect(answer.message.isEmpty)
  }

  @Test(arguments: [
    ("400", GRPCCode.internalError), ("401", .unauthenticated), ("403", .permissionDenied),
    ("404", .unimplemented), ("429", .unavailable), ("500", .unknown), ("502", .unavailable),
    ("503", .unavailable), ("504", .unavailable), ("200", .unknown),
  ])
  func answerWithoutAStatusIsDerivedFromHTTP(status: String, code: GRPCCode) throws {
    let pair = try CallPair()
    let call = try pair.start([1])
    let answer = try respond(pair, call, [(":status", status), ("content-type", "text/html")], body: [60])
    #expect(answer.status.code == code)
    #expect(!answer.isFromServer)
  }

  @Test(arguments: [
    (HTTP2ErrorCode.refusedStream, GRPCCode.unavailable), (HTTP2ErrorCode.cancel, .cancelled),
    (HTTP2ErrorCode.enhanceYourCalm, .resourceExhausted), (HTTP2ErrorCode.internalError, .internalError),
    (HTTP2ErrorCode.inadequateSecurity, .permissionDenied), (HTTP2ErrorCode.noError, .internalError),
    (0xff, .internalError),
  ])
  func resetIsDerived(code: UInt32, status: GRPCCode) throws {
    let pair = try CallPair()
    let call = try pair.start([1])
    try pair.server.reset(call.exchange, code: code)
    #expect(try pair.answer().status.code == status)
  }

  @Test func lostConnectionIsUnavailable() throws {
    let pair = try CallPair()
    _ = try pair.start([1])
    pair.client.connectionLost()
    #expect(try pair.answer().status.code == .unavailable)
  }

  @Test(
    arguments: [
      ([], GRPCCode.internalError), ([0, 0, 0, 0], .internalError), ([0, 0, 0, 0, 2, 1], .internalError),
      ([0, 0, 0, 0, 0, 1], .internalError), ([1, 0, 0, 0, 1, 1], .internalError),
      ([2, 0, 0, 0, 1, 1], .internalError), ([0, 255, 255, 255, 255, 1], .resourceExhausted),
    ] as [([UInt8], GRPCCode)])
  func okWithAReplyThatCannotBeReadIsNotOK(body: [UInt8], code: GRPCCode) throws {
    let pair = try CallPair()
    let call = try pair.start([1])
    let answer = try respond(
      pair, call, [(":status", "200"), ("content-type", "application/grpc")], body: body,
      trailers: [("grpc-status", "0")])
    #expect(answer.status.code == code)
  }

  @Test(arguments: ["17", "-1", "", "x", "99999999999999999999"])
  func strangeStatusIsUnknown(text: String) throws {
    let pair = try CallPair()
    let call = try pair.start([1])
    let answer = try respond(pair, call, [(":status", "200"), ("grpc-status", text)])
    #expect(answer.status.code == .unknown)
  }

  @Test func replyOverTheLimitIsResourceExhausted() throws {
    var limits = HTTP2Limits()
    limits.bodyBytes = 100
    let pair = try CallPair(clientLimits: limits)
    let call = try pair.start([1])
    try [UInt8](repeating: 1, count: 200).withUnsafeBytes {
      try call.succeed(on: pair.server, message: $0)
    }
    #expect(try pair.answer().status.code == .resourceExhausted)
  }

  /// A call whose body is a frame with the compressed flag.
  private func compressedCall(_ pair: CallPair, _ bytes: [UInt8], encoding: StaticString?) throws
    -> GRPCServerCall
  {
    var body = ByteBuffer()
    GRPCFrame.appendPrefix(messageBytes: bytes.count, isCompressed: true, to: &body)
    body.append(bytes)
    _ = try pair.client.request(CallPair.method.head(timeout: nil, encoding: encoding), body: HTTP2Body(body))
    try pair.pump()
    return GRPCServerCall(try #require(pair.server.takeRequests().first))
  }

  private func gzip(_ bytes: [UInt8]) throws -> [UInt8] {
    let deflater = try GzipDeflater()
    var out = ByteBuffer()
    try bytes.withUnsafeBytes { try deflater.append($0, to: &out) }
    try deflater.finish(into: &out)
    return out.bytes
  }

  @Test(arguments: [0, 1, 70_000, 4 << 20])
  func compressedRequestArrivesExpanded(count: Int) throws {
    let message = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 7) }
    let call = try compressedCall(try CallPair(), try gzip(message), encoding: "gzip")
    #expect(Array(try call.message.get()) == message)
  }

  @Test func compressedRequestThatCannotBeTakenIsRefused() throws {
    let zeros = [UInt8](repeating: 0, count: 4 << 20 + 1)
    let cases: [([UInt8], StaticString?, GRPCCode)] = [
      (try gzip(zeros), "gzip", .resourceExhausted), ([1, 2, 3], "gzip", .internalError),
      (Array(try gzip([1, 2, 3]).dropLast()), "gzip", .internalError),
      (try gzip([1]), "deflate", .unimplemented), (try gzip([1]), nil, .unimplemented),
    ]
    for (bytes, encoding, code) in cases {
      let call = try compressedCall(try CallPair(), bytes, encoding: encoding)
      let error = #expect(throws: GRPCFault.self) { try call.message.get() }
      #expect(error?.status.code == code)
    }
  }

  @Test func refusalOfAnEncodingNamesThoseThatAreTaken() throws {
    let pair = try CallPair()
    let call = try compressedCall(pair, [1], encoding: "br")
    try call.fail(on: pair.server, GRPCStatus(.unimplemented))
    try pair.pump()
    let exchange = try #require(pair.client.takeFinished().first)
    #expect(exchange.head.first("grpc-accept-encoding")?.text == "identity,gzip")
  }

  @Test func serverRefusesWhatIsNoMessage() throws {
    let pair = try CallPair()
    let server = pair.server
    let wrongType = HTTP2Fields()
    for (name, value) in [
      (":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/p"),
      ("content-type", "text/plain"),
    ] {
      wrongType.append(name, value)
    }
    _ = try pair.client.request(wrongType, body: nil)
    _ = try pair.client.request(CallPair.method.head(timeout: nil), body: nil)
    try pair.pump()
    let calls = server.takeRequests().map { GRPCServerCall($0) }
    #expect(calls.count == 2)
    let codes = calls.map { call in
      if case .failure(let fault) = call.message { fault.status.code } else { GRPCCode.ok }
    }
    #expect(codes == [.unknown, .invalidArgument])
  }
}

struct GRPCTextTests {
  @Test(
    arguments: [
      (1, "1n"), (99_999_999, "99999999n"), (100_000_000, "100000u"), (10 * second, "10000000u"),
      (100 * second, "100000m"), (200_000 * second, "200000S"), (200_000_000 * second, "3333333M"),
    ] as [(Nanoseconds, String)])
  func timeoutFitsEightDigits(timeout: Nanoseconds, text: String) {
    #expect(GRPCMethod.timeoutText(timeout) == text)
  }

  @Test(arguments: ["", "plain", "100 %", "größer", "a\u{0}b\n", "%41", "日本"])
  func percentEncodingRoundTrips(text: String) {
    let encoded = Array(PercentEncoding.encode(text).utf8)
    #expect(encoded.allSatisfy { (0x20...0x7e).contains($0) })
    #expect(encoded.withUnsafeBytes { $0.percentDecoded } == text)
    #expect(PercentEncoding.decodeStrictly(PercentEncoding.encode(text)) == text)
  }

  @Test(arguments: ["%", "%4", "%zz", "a%4", "%ff"])
  func badPercentEncodingIsKeptOrRefused(text: String) {
    #expect(PercentEncoding.decodeStrictly(text) == nil)
    let lenient = Array(text.utf8).withUnsafeBytes { $0.percentDecoded }
    #expect(lenient == (text == "%ff" ? "\u{fffd}" : text))
  }

  @Test(arguments: 0..<20)
  func base64RoundTripsAtEveryLength(count: Int) {
    let bytes = (0..<count).map { UInt8(truncatingIfNeeded: $0 * 37 + 200) }
    var text = Array(Base64.encode(bytes, isPadded: false).utf8)
    #expect(text.withUnsafeBytes { Base64.decode($0) } == bytes)
    while text.count % 4 != 0 { text.append(UInt8(ascii: "=")) }
    #expect(text.withUnsafeBytes { Base64.decode($0) } == bytes)
  }

  @Test(arguments: ["a", "ab!=", "a===", "abcde"])
  func badBase64IsRefused(text: String) {
    #expect(Array(text.utf8).withUnsafeBytes { Base64.decode($0) } == nil)
  }

  @Test(arguments: [
    ("x-scope-orgid", "a", true), ("authorization", "Bearer a.b", true), ("X-Upper", "a", false),
    ("", "a", false), ("grpc-timeout", "1S", false), ("a-bin", "a", false), ("te", "a", false),
    ("a", "line\nbreak", false), ("a", "ü", false), ("a b", "a", false), (":path", "/", false),
    ("content-type", "a", false), ("a", "", true), ("a", " a", false),
  ])
  func metadataIsChecked(name: String, value: String, valid: Bool) {
    #expect(GRPCMethod.isValidMetadata(name: name, value: value) == valid)
  }
}
