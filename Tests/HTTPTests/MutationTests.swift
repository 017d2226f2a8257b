// Seeded mutations of valid input: nothing crashes or reads too far, and cuts never change the outcome.

import Base
import HTTP
import Testing

@Suite struct MutationTests {
  static let requests = [
    "POST /v1/chat/completions?x=%20y HTTP/1.1\r\nHost: localhost:8000\r\nUser-Agent: curl/8.0\r\nAccept: */*\r\n"
      + "Content-Type: application/json\r\nContent-Length: 17\r\nX-Request-ID: abc\r\nConnection: keep-alive\r\n\r\n",
    "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\nexpect: 100-continue\r\nte: trailers\r\n\r\n",
    "GET http://a/x HTTP/1.0\r\nhost: a\r\nconnection: keep-alive, x\r\nx: \u{e9}\r\n\r\n",
  ]
  static let response =
    "HTTP/1.1 200 OK\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\nserver: uvicorn\r\ncache-control: no-cache\r\n"
    + "transfer-encoding: chunked\r\ncontent-type: text/event-stream; charset=utf-8\r\n\r\n"
  static let body = "b\r\nhello world\r\n003;a=\"b\"\r\nabc\r\n0\r\nx-sum: 5\r\nhost: b\r\n\r\n"
  static let events =
    "data: {\"x\":1}\n\n: ping\r\n\r\nevent: a\rdata: b\r\rdata: c\ndata: d\n\ndata: [DONE]\n\n"

  private static let odd =
    Array("\r\n\r\n\0 \t:;,=%#?/\"\\@[]{}()<>-_0059afAF\u{7f}".utf8) + [0x80, 0xc3, 0xff, 0x0b]

  private func mutate(_ text: String, _ random: inout Xoshiro256) -> [UInt8] {
    var bytes = Array(text.utf8)
    for _ in 0..<Int.random(in: 1...4, using: &random) {
      let at = Int.random(in: 0..<max(bytes.count, 1), using: &random)
      let byte = Self.odd.randomElement(using: &random) ?? 0
      switch Int.random(in: 0...4, using: &random) {
      case 0: bytes.insert(byte, at: at)
      case 1 where !bytes.isEmpty: bytes.remove(at: at)
      case 2 where !bytes.isEmpty:
        let end = min(bytes.count, at + Int.random(in: 1...20, using: &random))
        bytes.insert(contentsOf: bytes[at..<end], at: Int.random(in: 0...bytes.count, using: &random))
      default: if !bytes.isEmpty { bytes[at] = byte }
      }
    }
    return bytes
  }

  private func cuts(_ count: Int, _ random: inout Xoshiro256) -> [Int] {
    (0..<Int.random(in: 0...6, using: &random)).map { _ in Int.random(in: 0...count, using: &random) }
      .sorted()
  }

  @Test(arguments: 1...4) func mutatedHeadsNeverDependOnTheirCuts(seed: UInt64) {
    var random = Xoshiro256(seed: seed)
    for round in 0..<120 {
      let isResponse = round % 4 == 3
      let text = isResponse ? Self.response : Self.requests[round % 4]
      // Whole lines at the end, so that no cut leaves a verdict open.
      let bytes = mutate(text, &random) + Array("\r\n\r\n\r\n".utf8)
      if isResponse {
        _ = HeadVerifier.response(bytes)
      } else {
        _ = HeadVerifier.request(bytes)
      }
    }
  }

  @Test(arguments: 1...4) func mutatedBodiesNeverDependOnTheirCuts(seed: UInt64) {
    var random = Xoshiro256(seed: seed)
    for _ in 0..<300 {
      let bytes = mutate(Self.body, &random)
      let memory = GuardedMemory(capacity: bytes.count)
      let whole = BodyVerifier.drive(memory, bytes, cuts: [], .chunked, HTTP1Limits())
      for _ in 0..<6 {
        let cuts = cuts(bytes.count, &random)
        #expect(
          BodyVerifier.drive(memory, bytes, cuts: cuts, .chunked, HTTP1Limits()) == whole,
          "seed \(seed), cuts \(cuts)")
      }
    }
  }

  @Test(arguments: 1...4) func mutatedStreamsKeepEveryByte(seed: UInt64) {
    var random = Xoshiro256(seed: seed)
    for _ in 0..<300 {
      let bytes = mutate(Self.events, &random)
      let memory = GuardedMemory(capacity: bytes.count)
      let whole = EventVerifier.drive(memory, bytes, ends: [bytes.count])
      for _ in 0..<6 {
        let cuts = cuts(bytes.count, &random)
        let split = EventVerifier.drive(memory, bytes, ends: cuts + [bytes.count])
        // A CR at a cut may end an event before its LF is there; the LF then is an empty event. Data is the same.
        #expect(split.events.filter { $0.kind != .other } == whole.events.filter { $0.kind != .other })
      }
    }
  }
}
