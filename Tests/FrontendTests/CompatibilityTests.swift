// What callers of every kind expect: CORS, OPTIONS, compressed bodies both ways, proxies' words, odd paths.

import Base
import EventLoop
import HTTP
import OpenAI
import TestSupport
import Testing
import Transport

@testable import Frontend

private func gzip(_ text: String) throws -> [UInt8] {
  var out = ByteBuffer()
  let deflater = try GzipDeflater()
  var text = text
  try text.withUTF8 { try deflater.append(UnsafeRawBufferPointer($0), to: &out) }
  try deflater.finish(into: &out)
  return Array(out.readable)
}

private func gunzip(_ bytes: [UInt8]) throws -> String {
  var out = ByteBuffer()
  let inflater = try GzipInflater(outputBytesMax: 1 << 22)
  try bytes.withUnsafeBytes { try inflater.receive($0, into: &out) }
  try inflater.finish()
  return out.readable.text
}

extension FrontendRig {
  fileprivate func send(bytes: [UInt8], on caller: Int32) {
    kernel.input[caller, default: []].append(bytes)
    kernel.queue([(caller, .readable)])
    turn()
  }

  /// Sends a chat request whose body has that coding.
  fileprivate func post(_ body: [UInt8], coding: String, pieces: Int = .max) -> Int32 {
    let caller = connect()
    let head = Self.head(bodyBytes: body.count).replacing(
      "\r\n\r\n", with: "\r\ncontent-encoding: \(coding)\r\n\r\n")
    send(head, on: caller)
    var rest = body[...]
    while !rest.isEmpty {
      send(bytes: Array(rest.prefix(pieces)), on: caller)
      rest = rest.dropFirst(pieces)
    }
    return caller
  }

  fileprivate func get(_ path: String, _ fields: String = "", method: String = "GET") -> String {
    let caller = connect()
    send("\(method) \(path) HTTP/1.1\r\nhost: x\r\n\(fields)\r\n", on: caller)
    return output(caller)
  }
}

extension String {
  fileprivate func replacing(_ text: String, with other: String) -> String {
    guard hasSuffix(text) else { return self }
    return String(dropLast(text.count)) + other
  }
}

struct CompressedRequestTests {
  @Test(arguments: [1, 2, 7, 1_000, Int.max])
  func theWorkerGetsWhatTheBodyExpandsTo(pieces: Int) throws {
    let rig = try FrontendRig()
    let body = FrontendRig.chat(bytes: 3_000)
    let caller = rig.post(try gzip(body), coding: "gzip", pieces: pieces)
    let request = rig.upstreamRequest()
    #expect(request.hasSuffix(body) && !request.contains("content-encoding"))
    #expect(request.contains("content-length: \(body.utf8.count)\r\n"))
    rig.answer("{}")
    #expect(rig.output(caller).status == 200)
  }

  @Test func anUnknownCodingIsRefused() throws {
    let rig = try FrontendRig()
    for coding in ["br", "gzip, gzip", "deflate", "zstd"] {
      #expect(rig.output(rig.post([1, 2, 3], coding: coding)).status == 415)
    }
    let caller = rig.post(Array("no json".utf8), coding: "identity")
    #expect(rig.output(caller).status == 400)
  }

  @Test func whatIsNoGzipIsRefused() throws {
    let rig = try FrontendRig()
    #expect(rig.output(rig.post(Array("{}".utf8), coding: "gzip")).status == 400)
    let torn = try gzip(FrontendRig.chat(bytes: 500)).dropLast(4)
    let answer = rig.output(rig.post(Array(torn), coding: "x-gzip"))
    #expect(answer.status == 400 && answer.contains("ends too early"))
    var damaged = try gzip(FrontendRig.chat(bytes: 500))
    damaged[damaged.count - 6] ^= 1
    #expect(rig.output(rig.post(damaged, coding: "gzip")).status == 400)
  }

  @Test func aBodyIsBoundedByWhatItExpandsTo() throws {
    let rig = try FrontendRig { $0.bodyBytesMax = 10_000 }
    let fits = FrontendRig.chat(bytes: 9_000)
    _ = rig.post(try gzip(fits), coding: "gzip")
    #expect(rig.upstreamRequest().hasSuffix(fits))
    let caller = rig.post(try gzip(FrontendRig.chat(bytes: 10_000)), coding: "gzip")
    #expect(rig.output(caller).status == 413)
    #expect(rig.shared.bodyMemoryInUse <= 10_000)
  }

  @Test func aBombIsRefusedLongBeforeTheLimit() throws {
    let rig = try FrontendRig()
    let bomb = try gzip(String(repeating: "a", count: 40 << 20))
    let caller = rig.post(bomb, coding: "gzip", pieces: 16_384)
    let answer = rig.output(caller)
    #expect(answer.status == 413)
    #expect(rig.shared.bodyMemoryInUse == 0)
  }

  /// What one read brings may expand to megabytes: a loop makes them bit by bit, and serves others meanwhile.
  @Test func aLargeBodyIsMadeBitByBit() throws {
    let rig = try FrontendRig()
    let exchange = CountingExchange(rig.loop)
    let taker = TakingHandler()
    let inflating = InflatingExchange(exchange, bytesMax: 64 << 20)
    inflating.begin(taker)
    let text = String((0..<300_000).map { Character(UnicodeScalar(UInt8(97 + ($0 / 64) % 26))) })
    let body = try gzip(text)
    body.withUnsafeBytes { inflating.received(body: $0) }
    inflating.receivedEnd()
    #expect((1..<150_000).contains(taker.bytes.count) && exchange.isPaused && !taker.hasEnded)
    var rounds = 0
    while !taker.hasEnded, rounds < 100 {
      let before = taker.bytes.count
      inflating.endOfTick()
      #expect(taker.bytes.count - before < 150_000)
      rounds += 1
    }
    #expect(taker.hasEnded && taker.bytes == Array(text.utf8) && rounds > 1 && !exchange.isPaused)
  }

  @Test func aBodyThatWaitsForMemoryGoesOnWhereItWas() throws {
    let rig = try FrontendRig {
      $0.bodyMemoryMax = 40_000
      $0.bodyMemoryLoan = 0
    }
    let body = FrontendRig.chat(bytes: 30_000)
    #expect(rig.shared.reserveBodyMemory(30_000))
    let caller = rig.post(try gzip(body), coding: "gzip")
    #expect(rig.output(caller).isEmpty)
    rig.service.releaseBodyMemory(30_000)
    rig.turn()
    #expect(rig.upstreamRequest().hasSuffix(body))
    rig.answer("{}")
    #expect(rig.output(caller).status == 200)
  }

  @Test func aCallerThatLeavesInTheMiddleLeavesNothing() throws {
    let rig = try FrontendRig()
    let caller = rig.connect()
    rig.send(
      FrontendRig.head(bodyBytes: 900).replacing("\r\n\r\n", with: "\r\ncontent-encoding: gzip\r\n\r\n"),
      on: caller)
    rig.send(bytes: Array(try gzip(FrontendRig.chat(bytes: 2_000)).prefix(20)), on: caller)
    rig.close(caller)
    #expect(rig.isClosed(caller) && rig.shared.bodyMemoryInUse == 0 && rig.shared.loads.openRequests == 0)
  }
}

struct CompressedAnswerTests {
  private let long = "{\"text\":\"\(String(repeating: "lorem ipsum ", count: 200))\"}"

  private func answer(
    _ body: String, accepting: String?, gzips: Bool = true, held: HeldAnswers = HeldAnswers(bytesMax: 1 << 20)
  ) throws -> (head: String, body: [UInt8]) {
    let rig = try FrontendRig {
      $0.compatibility.compressesAnswers = gzips
      $0.compatibility.held = held
    }
    let caller = rig.connect()
    let field = accepting.map { "\r\naccept-encoding: \($0)" } ?? ""
    let chat = FrontendRig.chat(bytes: 10)
    rig.send(
      FrontendRig.head(bodyBytes: chat.utf8.count).replacing("\r\n\r\n", with: "\(field)\r\n\r\n") + chat,
      on: caller)
    _ = rig.upstreamRequest()
    rig.answer(body)
    let bytes = rig.kernel.takeOutput(caller)
    let end = try #require(bytes.indices.first { bytes[$0...].starts(with: [13, 10, 13, 10]) })
    return (String(decoding: bytes[..<end], as: UTF8.self) + "\r\n", Array(bytes[(end + 4)...]))
  }

  @Test(arguments: ["gzip", "br;q=1.0, gzip;q=0.8, *;q=0.1", "*", "x-gzip", "GZIP"])
  func whoTakesGzipGetsIt(accepting: String) throws {
    let (head, body) = try answer(long, accepting: accepting)
    #expect(head.contains("content-encoding: gzip\r\n") && head.contains("vary: accept-encoding\r\n"))
    #expect(head.contains("content-length: \(body.count)\r\n"))
    #expect(try gunzip(body) == long && body.count < long.utf8.count)
  }

  @Test(arguments: [nil, "br", "gzip;q=0", "identity", "*;q=0", "gzip;q=0.0, *"])
  func whoDoesNotGetsItAsItIs(accepting: String?) throws {
    let (head, body) = try answer(long, accepting: accepting)
    #expect(!head.contains("content-encoding") && head.contains("vary: accept-encoding\r\n"))
    #expect(String(decoding: body, as: UTF8.self) == long)
  }

  @Test func whatFindsNoRoomToBeHeldGoesOutAsItIs() throws {
    let held = HeldAnswers(bytesMax: long.utf8.count)
    for _ in 0..<3 { #expect(try answer(long, accepting: "gzip", held: held).head.contains("gzip")) }
    #expect(held.inUse == 0 && held.refusals == 0)
    #expect(held.take(1))
    let (head, body) = try answer(long, accepting: "gzip", held: held)
    #expect(!head.contains("content-encoding") && head.contains("vary: accept-encoding\r\n"))
    #expect(String(decoding: body, as: UTF8.self) == long)
    #expect(held.inUse == 1 && held.refusals == 1)
  }

  @Test func aCallerThatLeavesGivesItsRoomBack() throws {
    let held = HeldAnswers(bytesMax: 1 << 20)
    let rig = try FrontendRig {
      $0.compatibility.compressesAnswers = true
      $0.compatibility.held = held
    }
    let caller = rig.connect()
    let chat = FrontendRig.chat(bytes: 10)
    rig.send(
      FrontendRig.head(bodyBytes: chat.utf8.count)
        .replacing("\r\n\r\n", with: "\r\naccept-encoding: gzip\r\n\r\n") + chat, on: caller)
    _ = rig.upstreamRequest()
    rig.send(
      "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 5000\r\n\r\n{",
      on: rig.dialer.last)
    #expect(held.inUse == 5_000)
    rig.reset(caller)
    #expect(held.inUse == 0)
  }

  @Test func shortAnswersAndThoseWithoutTheSwitchAreLeftAlone() throws {
    let short = try answer("{\"text\":\"x\"}", accepting: "gzip")
    #expect(!short.head.contains("content-encoding") && !short.head.contains("vary"))
    let off = try answer(long, accepting: "gzip", gzips: false)
    #expect(!off.head.contains("content-encoding") && !off.head.contains("vary"))
  }

  @Test func streamsAreNeverCompressed() throws {
    let rig = try FrontendRig { $0.compatibility.compressesAnswers = true }
    let caller = rig.connect()
    let chat = FrontendRig.chat(bytes: 10, more: ",\"stream\":true")
    rig.send(
      FrontendRig.head(bodyBytes: chat.utf8.count)
        .replacing("\r\n\r\n", with: "\r\naccept-encoding: gzip\r\n\r\n") + chat, on: caller)
    _ = rig.upstreamRequest()
    rig.send(
      "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        + "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n", on: rig.dialer.last)
    let answer = rig.output(caller)
    #expect(answer.contains("[DONE]") && !answer.contains("content-encoding"))
  }
}

struct CrossOriginTests {
  private let origin = "origin: https://chat.example\r\n"

  @Test func withoutTheSwitchNothingIsSaid() throws {
    let rig = try FrontendRig()
    #expect(!rig.get("/v1/models", origin).contains("access-control"))
  }

  @Test func aListedOriginMayReadAnswersAndErrors() throws {
    let rig = try FrontendRig { $0.compatibility.corsOrigins = ["https://other", "https://chat.example"] }
    for path in ["/v1/models", "/v1/nothing", "/health"] {
      let answer = rig.get(path, origin)
      #expect(answer.contains("access-control-allow-origin: https://chat.example\r\n"))
      #expect(answer.contains("access-control-expose-headers: x-request-id, traceresponse"))
      #expect(answer.contains("vary: origin\r\n"))
    }
    for fields in ["", "origin: https://evil\r\n", origin + origin, "origin: null\r\n"] {
      let answer = rig.get("/v1/models", fields)
      // A cache must not give this one to a page of the list.
      #expect(!answer.contains("access-control") && answer.contains("vary: origin\r\n"))
    }
  }

  /// What is no request has no origin that could be looked up.
  @Test(arguments: [
    (["*"], "*"), (["https://a.example"], "https://a.example"), ([], nil),
    (["https://a.example", "https://b.example"], nil),
  ])
  func refusalsOfTheConnectionMayBeReadToo(origins: [String], expected: String?) throws {
    let rig = try FrontendRig { $0.compatibility.corsOrigins = origins }
    let bad = [
      "GET / HTTP/1.1\r\nhost : x\r\norigin: https://a.example\r\n\r\n": 400,
      "GET / HTTP/1.1\r\nhost: x\r\nx: \(String(repeating: "a", count: 40_000))\r\n\r\n": 431,
      "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nx\r\n": 400,
    ]
    for (text, status) in bad {
      let caller = rig.connect()
      rig.send(text, on: caller)
      let answer = rig.output(caller)
      #expect(answer.status == status)
      #expect(answer.contains("access-control-") == (expected != nil), "\(answer)")
      if let expected {
        #expect(answer.contains("\r\naccess-control-allow-origin: \(expected)\r\n"))
        #expect(answer.contains("\r\nvary: origin\r\n") == (expected != "*"))
      }
    }
  }

  @Test func everyOriginIsOne() throws {
    let rig = try FrontendRig { $0.compatibility.corsOrigins = ["*"] }
    let answer = rig.get("/v1/models", origin)
    #expect(answer.contains("access-control-allow-origin: *\r\n") && !answer.contains("vary: origin"))
  }

  @Test func aPreflightIsToldWhatMayBeSent() throws {
    let rig = try FrontendRig { $0.compatibility.corsOrigins = ["https://chat.example"] }
    let asks =
      "access-control-request-method: POST\r\naccess-control-request-headers: authorization,content-type\r\n"
    let answer = rig.get("/v1/chat/completions", origin + asks, method: "OPTIONS")
    #expect(answer.status == 204)
    #expect(answer.contains("access-control-allow-origin: https://chat.example\r\n"))
    #expect(answer.contains("access-control-allow-methods: POST, OPTIONS\r\n"))
    #expect(answer.contains("access-control-allow-headers: authorization,content-type\r\n"))
    let odd = rig.get(
      "/v1/chat/completions", origin + "access-control-request-headers: a;b\r\n", method: "OPTIONS")
    #expect(!odd.contains("allow-headers"))
    let evil = rig.get("/v1/chat/completions", "origin: https://evil\r\n" + asks, method: "OPTIONS")
    #expect(evil.status == 204 && !evil.contains("access-control"))
  }
}

struct MethodTests {
  @Test(arguments: [
    ("/v1/chat/completions", "POST, OPTIONS"), ("/v1/completions", "POST, OPTIONS"),
    ("/tokenize", "POST, OPTIONS"),
    ("/v1/models", "GET, HEAD, OPTIONS"), ("/v1/models/a%2Fb", "GET, HEAD, OPTIONS"),
    ("/health", "GET, HEAD, OPTIONS"),
    ("/metrics", "GET, HEAD, OPTIONS"), ("/v1/router/state", "GET, HEAD, OPTIONS"),
  ])
  func optionsNamesTheMethods(path: String, allow: String) throws {
    let rig = try FrontendRig()
    let answer = rig.get(path, method: "OPTIONS")
    #expect(answer.status == 204 && answer.contains("\r\nallow: \(allow)\r\n") && answer.body.isEmpty)
    let wrong = rig.get(path, method: "DELETE")
    #expect(wrong.status == 405 && wrong.contains("\r\nallow: \(allow)\r\n"))
    #expect(rig.get("/nowhere", method: "OPTIONS").status == 404)
  }

  @Test func aSlashAtTheEndMeansNothing() throws {
    let rig = try FrontendRig()
    for path in ["/health/", "/v1/models/", "/v1/models/test%2fmodel/", "/v1/models/test/model"] {
      #expect(rig.get(path).status == 200, "\(path)")
    }
    #expect(rig.get("/health//").status == 404 && rig.get("/").status == 404)
  }

  @Test func headHasTheFieldsAndNoBody() throws {
    let rig = try FrontendRig()
    let answer = rig.get("/v1/models", method: "HEAD")
    #expect(answer.status == 200 && answer.contains("content-length: ") && answer.body.isEmpty)
  }
}

struct ForwardedTests {
  private func client(
    _ fields: String, peer: String, trusted: [String], by header: ForwardedHeader = .xForwardedFor
  ) throws -> String? {
    var faults: [String] = []
    let proxies = TrustedProxies(AddressRanges(trusted, faults: &faults), header: header)
    let head = "GET / HTTP/1.1\r\nhost: x\r\n\(fields)\r\n"
    let parser = HTTP1HeadParser(limits: HTTP1Limits())
    var scanned = 0
    return try Array(head.utf8).withUnsafeBytes { bytes in
      guard case .head(let head, _) = parser.parseRequest(bytes, alreadyScanned: &scanned) else {
        throw SystemError("parse", 0)
      }
      return proxies.client(head.fields, peer: SocketAddress(ip: peer))
    }
  }

  @Test(arguments: [
    ("", "10.0.0.1"),
    ("x-forwarded-for: 192.0.2.1\r\n", "192.0.2.1"),
    // What a client claims stands before what the proxy saw.
    ("x-forwarded-for: 1.1.1.1, 192.0.2.1\r\n", "192.0.2.1"),
    ("x-forwarded-for: 192.0.2.1, 10.0.0.9\r\n", "192.0.2.1"),
    ("x-forwarded-for: 192.0.2.1\r\nx-forwarded-for: 10.0.0.9\r\n", "192.0.2.1"),
    ("x-forwarded-for: 10.0.0.8, 10.0.0.9\r\n", "10.0.0.8"),
    ("x-forwarded-for: 192.0.2.1:99\r\n", "192.0.2.1"),
    ("x-forwarded-for: 2001:db8::1\r\n", "2001:db8::1"),
    ("x-forwarded-for: 192.0.2.1, unknown\r\n", "10.0.0.1"),
    // What the proxy does not write may be the caller's.
    ("forwarded: for=1.1.1.1\r\n", "10.0.0.1"),
    ("forwarded: for=1.1.1.1\r\nx-forwarded-for: 192.0.2.2\r\n", "192.0.2.2"),
  ])
  func theLastWhomNobodyTrustsIsTheClient(fields: String, expected: String) throws {
    #expect(try client(fields, peer: "10.0.0.1", trusted: ["10.0.0.0/8"]) == expected)
    #expect(try client(fields, peer: "192.0.2.99", trusted: ["10.0.0.0/8"]) == "192.0.2.99")
  }

  @Test(arguments: [
    ("forwarded: for=192.0.2.1;proto=https\r\n", "192.0.2.1"),
    ("forwarded: proto=https;For=\"[2001:db8::1]:80\", for=10.0.0.9\r\n", "2001:db8::1"),
    ("forwarded: for=192.0.2.1, for=_hidden\r\n", "10.0.0.1"),
    ("forwarded: for=192.0.2.1, proto=http\r\n", "10.0.0.1"),
    ("forwarded: for=192.0.2.1\r\nx-forwarded-for: 1.1.1.1\r\n", "192.0.2.1"),
    ("x-forwarded-for: 1.1.1.1\r\n", "10.0.0.1"),
  ])
  func whereProxiesWriteTheStandardsHeaderItAloneCounts(fields: String, expected: String) throws {
    #expect(try client(fields, peer: "10.0.0.1", trusted: ["10.0.0.0/8"], by: .forwarded) == expected)
  }

  @Test func aStrangersWordIsNotPassedOn() throws {
    let rig = try FrontendRig()
    let caller = rig.connect()
    let body = FrontendRig.chat(bytes: 10)
    let more =
      "\r\nx-forwarded-for: 1.1.1.1\r\nforwarded: for=1.1.1.1\r\nx-forwarded-proto: https\r\nx-other: 1\r\n"
      + "X-Forwarded-Port: 1\r\nx-forwarded-prefix: /\r\nx-real-ip: 1.1.1.1\r\n\r\n"
    rig.send(
      FrontendRig.head(bodyBytes: body.utf8.count).replacing("\r\n\r\n", with: more) + body, on: caller)
    let request = rig.upstreamRequest()
    #expect(request.contains("x-other: 1\r\n") && !request.lowercased().contains("orwarded"))
    #expect(!request.contains("x-real-ip"))
  }
}

private final class TakingHandler: RefusingHandler {
  private(set) var bytes: [UInt8] = []
  private(set) var hasEnded = false

  func received(body: UnsafeRawBufferPointer) { bytes += body }
  func receivedEnd() { hasEnded = true }
  func refuse(_ error: APIError) { Issue.record("\(error)") }
  func drained() {}
  func ended(_ end: EndOfStream) {}
}

/// Counts how often the peer's address is asked for, each time by a system call.
private final class CountingExchange: ServerExchange {
  let loop: EventLoop
  private(set) var lookups = 0
  var peerAddress: SocketAddress? {
    lookups += 1
    return SocketAddress(ip: "10.0.0.1")
  }
  var outputIsFull: Bool { false }

  init(_ loop: EventLoop) { self.loop = loop }

  func respond(status: Int, fields: UnsafeRawBufferPointer, body: ResponseBody) {}
  func send(_ bytes: UnsafeRawBufferPointer) {}
  func finish(trailers: UnsafeRawBufferPointer) {}
  func abort(_ end: EndOfStream) {}
  private(set) var isPaused = false
  func pauseBody() { isPaused = true }
  func resumeBody() { isPaused = false }
  func closeAfterResponse() {}
}

extension ForwardedTests {
  @Test(arguments: [([], 0), (["10.0.0.0/8"], 2)])
  func thePeerIsLookedUpOnlyWhereSomebodyIsTrusted(trusted: [String], expected: Int) throws {
    var faults: [String] = []
    let rig = try FrontendRig {
      if !trusted.isEmpty { $0.trustedProxies = TrustedProxies(AddressRanges(trusted, faults: &faults)) }
    }
    let exchange = CountingExchange(rig.loop)
    let fields = String(repeating: "x-forwarded-for: 192.0.2.1\r\n", count: 8)
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\(fields)\r\n"
    var scanned = 0
    try Array(head.utf8).withUnsafeBytes { bytes in
      let parser = HTTP1HeadParser(limits: HTTP1Limits())
      guard case .head(let head, _) = parser.parseRequest(bytes, alreadyScanned: &scanned) else {
        throw SystemError("parse", 0)
      }
      let request = InferenceExchange(
        service: rig.service, exchange: exchange, endpoint: .chatCompletions, head: head, began: 0)
      request.admit(head)
      request.ended(.cancelled)
    }
    // One for the client's address, one for all fields.
    #expect(exchange.lookups == expected)
  }
}

struct LoopPulseTests {
  @Test func onlyLoopsThatTurnedSinceTheLastLookAreAlive() {
    let beats = [LoopBeat(), LoopBeat()]
    var pulse = LoopPulse(beats)
    #expect(pulse.stuck() == [0, 1])
    beats[0].beat()
    #expect(pulse.stuck() == [1])
    beats[0].beat()
    beats[1].beat()
    beats[1].beat()
    #expect(pulse.stuck() == [])
    #expect(pulse.stuck() == [0, 1])
  }
}
