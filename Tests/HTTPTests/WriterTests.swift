// Writers: heads, and chunks that stay open for a tick.

import Base
import HTTP
import Testing

@Suite struct HeadWriterTests {
  @Test func responseHeadIsWritten() {
    var out = ByteBuffer()
    out.beginResponse(status: 200)
    out.header("content-type", "text/event-stream")
    out.header("content-length", 1234)
    out.header("x-error", text: "two\r\nlines: \u{0}x")
    Array("abc".utf8).withUnsafeBytes { out.header("x-request-id", $0) }
    Array("X-Raw: 1".utf8).withUnsafeBytes { out.header(line: $0) }
    out.header("x-empty", UnsafeRawBufferPointer(start: nil, count: 0))
    out.endHead()
    let written = out.text
    #expect(
      written == "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 1234\r\n"
        + "x-error: two  lines:  x\r\nx-request-id: abc\r\nX-Raw: 1\r\nx-empty: \r\n\r\n")
  }

  @Test func requestHeadIsWritten() {
    var out = ByteBuffer()
    out.beginRequest(.post, target: "/v1/chat/completions")
    Array("PURGE".utf8).withUnsafeBytes { method in
      Array("/x?y".utf8).withUnsafeBytes { out.beginRequest(method, target: $0) }
    }
    Array("/z".utf8).withUnsafeBytes { out.beginRequest(.get, target: $0) }
    let written = out.text
    #expect(written == "POST /v1/chat/completions HTTP/1.1\r\nPURGE /x?y HTTP/1.1\r\nGET /z HTTP/1.1\r\n")
  }

  @Test(arguments: 100...599)
  func everyStatusLineIsReadBack(status: Int) {
    var out = ByteBuffer()
    out.beginResponse(status: status)
    out.header("content-length", 0)
    out.endHead()
    let text = out.text
    #expect(text.hasPrefix("HTTP/1.1 \(status) "))
    let parser = HTTP1HeadParser()
    var scanned = 0
    guard
      case .head(let head, _) = parser.parseResponse(out.readable, alreadyScanned: &scanned, toMethod: .get)
    else {
      Issue.record("not a response head: \(text)")
      return
    }
    #expect(head.status == status)
  }

  @Test func reasonsAreThoseOfTheRegistry() {
    for (status, line) in [
      (404, "HTTP/1.1 404 Not Found\r\n"), (413, "HTTP/1.1 413 Content Too Large\r\n"),
      (431, "HTTP/1.1 431 Request Header Fields Too Large\r\n"), (299, "HTTP/1.1 299 \r\n"),
    ] {
      var out = ByteBuffer()
      out.beginResponse(status: status)
      let written = out.text
      #expect(written == line)
    }
  }
}

@Suite struct ChunkedWriterTests {
  private func body(_ count: Int) -> [UInt8] { (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31) } }

  @Test func payloadsOfATickShareOneChunk() {
    var out = ByteBuffer()
    var writer = ChunkedWriter()
    writer.append("abc", to: &out)
    writer.append("defghijklmnopq", to: &out)
    #expect(writer.isOpen)
    writer.close(&out)
    writer.close(&out)
    let written = out.text
    #expect(written == "0011\r\nabcdefghijklmnopq\r\n")
    #expect(!writer.isOpen)
  }

  @Test func nothingWrittenIsNoChunk() {
    var out = ByteBuffer()
    out.append("before" as StaticString)
    var writer = ChunkedWriter()
    writer.append("", to: &out)
    writer.close(&out)
    writer.open(for: 10, &out)
    writer.close(&out)
    let written = out.text
    #expect(written == "before")
  }

  @Test func callerMayWriteThePayloadItself() {
    var out = ByteBuffer()
    var writer = ChunkedWriter()
    writer.open(for: 5, &out)
    out.append("hello" as StaticString)
    writer.wrote(5)
    writer.finish(&out)
    let written = out.text
    #expect(written == "0005\r\nhello\r\n0\r\n\r\n")
  }

  @Test func trailersFollowTheLastChunk() {
    var out = ByteBuffer()
    var writer = ChunkedWriter()
    writer.append("x", to: &out)
    Array("server-timing: a\r\n".utf8).withUnsafeBytes { writer.finish(&out, trailers: $0) }
    let outcome = BodyVerifier.decode(out.bytes)
    #expect(outcome.text == "x")
    #expect(outcome.trailers == "server-timing: a\r\n")
  }

  @Test(arguments: [
    1, 9, 10, 15, 16, 255, 256, 4095, 4096, 65_534, 65_535, 65_536, 131_070, 131_071, 200_000,
  ])
  func everySizeIsReadBack(count: Int) {
    let payload = body(count)
    var out = ByteBuffer()
    var writer = ChunkedWriter()
    payload.withUnsafeBytes { writer.append($0, to: &out) }
    writer.finish(&out)
    let memory = GuardedMemory(capacity: out.count)
    let outcome = BodyVerifier.drive(memory, out.bytes, cuts: [count / 2], .chunked, HTTP1Limits())
    #expect(outcome.body == payload)
    #expect(outcome.end == .complete)
  }

  @Test func payloadsThatDoNotFitOpenAnotherChunk() {
    var random = Xoshiro256(seed: 11)
    for _ in 0..<20 {
      var out = ByteBuffer()
      var writer = ChunkedWriter()
      var expected: [UInt8] = []
      for _ in 0..<8 {
        let payload = body(Int.random(in: 0...60_000, using: &random))
        expected += payload
        payload.withUnsafeBytes { writer.append($0, to: &out) }
        if Bool.random(using: &random) {
          writer.close(&out)
          // The buffer is drained a little between ticks.
        }
      }
      writer.finish(&out)
      let memory = GuardedMemory(capacity: out.count)
      let outcome = BodyVerifier.drive(memory, out.bytes, cuts: [], .chunked, HTTP1Limits())
      #expect(outcome.body == expected)
    }
  }

  @Test func drainingBetweenTicksDoesNoHarm() {
    var out = ByteBuffer()
    var writer = ChunkedWriter()
    var sent: [UInt8] = []
    for size in [100, 300, 5000, 20, 70_000, 3] {
      let payload = body(size)
      payload.withUnsafeBytes { writer.append($0, to: &out) }
      writer.close(&out)
      let some = out.count * 2 / 3
      sent += Array(out.readable.prefix(some))
      out.consume(some)
    }
    writer.finish(&out)
    sent += out.bytes
    let memory = GuardedMemory(capacity: sent.count)
    let outcome = BodyVerifier.drive(memory, sent, cuts: [], .chunked, HTTP1Limits())
    #expect(outcome.body == [100, 300, 5000, 20, 70_000, 3].flatMap { body($0) })
  }
}

struct HTTPDateTests {
  @Test func datesAreReadAsTheyAreWritten() {
    var out = ByteBuffer()
    for seconds in stride(from: 0, through: 7_000_000_000, by: 86_400 * 13 + 3_723) {
      out.removeAll()
      HTTPDate.append(unixSeconds: seconds, to: &out)
      #expect(HTTPDate.parse(out.readable) == seconds)
    }
  }

  @Test(arguments: [
    "", "Sun, 06 Nov 1994 08:49:37 GM", "Sun, 06 Nov 1994 08:49:37 UTC", "Sun, 06 Foo 1994 08:49:37 GMT",
    "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994", "Sun, 00 Nov 1994 08:49:37 GMT",
    "Sun, 06 Nov 1994 24:49:37 GMT", "Sun, 06 Nov 1994 08:60:37 GMT", "Sun, 06 Nov 1969 08:49:37 GMT",
  ])
  func whatIsNoDateIsNotRead(text: String) {
    #expect(Array(text.utf8).withUnsafeBytes { HTTPDate.parse($0) } == nil)
  }
}
