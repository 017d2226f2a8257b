// Smoke tests of the codecs' API as other rooms use it.

import Base
import HTTP
import Testing

@Suite struct CodecSmokeTests {
  @Test func requestHeadIsParsedWhole() throws {
    let text =
      "POST /v1/chat/completions?x=1 HTTP/1.1\r\nHost: localhost:8000\r\nX-Request-ID: abc \r\n"
      + "Content-Length: 12\r\nContent-Type: application/json\r\n\r\n{}"
    let parser = HTTP1HeadParser()
    Array(text.utf8).withUnsafeBytes { bytes in
      var scanned = 0
      guard case .head(let head, let length) = parser.parseRequest(bytes, alreadyScanned: &scanned) else {
        Issue.record("not a head")
        return
      }
      #expect(length == bytes.count - 2)
      #expect(head.path.text == "/v1/chat/completions")
      #expect(head.query?.text == "x=1")
      #expect(head.fields.first(.xRequestID)?.text == "abc")
      #expect(head.keepAlive)
      guard case .length(12) = head.framing else {
        Issue.record("framing \(head.framing)")
        return
      }
    }
  }

  @Test func chunksAndEventsPassThrough() {
    var out = ByteBuffer()
    var writer = ChunkedWriter()
    writer.append("data: {}\n\n", to: &out)
    writer.append("data: [DONE]\n\n", to: &out)
    writer.finish(&out)
    let written = out.text
    #expect(written == "0018\r\ndata: {}\n\ndata: [DONE]\n\n\r\n0\r\n\r\n")
    var decoder = HTTP1BodyDecoder(.chunked)
    var consumed = 0
    guard case .bytes(let body) = decoder.next(out.readable, consumed: &consumed) else {
      Issue.record("no bytes")
      return
    }
    var scanner = SSEScanner()
    var from = 0
    #expect(scanner.next(body, from: &from)?.data?.text == "{}")
    #expect(scanner.next(body, from: &from)?.data?.text == "[DONE]")
    #expect(scanner.next(body, from: &from) == nil)
    #expect(from == body.count)
    guard case .end(let trailers) = decoder.next(out.readable, consumed: &consumed) else {
      Issue.record("no end")
      return
    }
    #expect(trailers.isEmpty)
  }
}
