// The codecs together, as a connection uses them.

import Base
import HTTP
import Testing

@Suite struct CodecTests {
  @Test func bodyBeginsWhereTheHeadEnds() {
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n"
    Array((head + "{}").utf8).withUnsafeBytes { bytes in
      var scanned = 0
      guard
        case .head(let parsed, let length) = HTTP1HeadParser().parseRequest(bytes, alreadyScanned: &scanned)
      else {
        Issue.record("no head")
        return
      }
      #expect(length == head.utf8.count)
      var decoder = HTTP1BodyDecoder(parsed.framing)
      var consumed = length
      guard case .bytes(let body) = decoder.next(bytes, consumed: &consumed) else {
        Issue.record("no body")
        return
      }
      #expect(body.text == "{}")
      let isComplete = decoder.isComplete
      #expect(isComplete)
    }
  }

  @Test func writtenChunksAndEventsAreReadBack() {
    var out = ByteBuffer()
    var writer = ChunkedWriter()
    writer.append("data: {}\n\n", to: &out)
    writer.append("data: [DONE]\n\n", to: &out)
    writer.finish(&out)
    let body = BodyVerifier.decode(out.bytes)
    #expect(body.end == .complete)
    #expect(
      EventVerifier.scan(body.body).events == [
        EventSnapshot(kind: .data, data: "{}"), EventSnapshot(kind: .data, data: "[DONE]"),
      ])
  }

  @Test func pipelinedRequestsAreParsedOneAfterAnother() {
    let one = "GET /a HTTP/1.1\r\nhost: h\r\n\r\n"
    let two = "\r\nGET /b HTTP/1.1\r\nhost: h\r\n\r\n"
    let parser = HTTP1HeadParser()
    Array((one + two).utf8).withUnsafeBytes { bytes in
      var scanned = 0
      guard case .head(let first, let length) = parser.parseRequest(bytes, alreadyScanned: &scanned) else {
        Issue.record("no first head")
        return
      }
      #expect(first.path.text == "/a")
      scanned = 0
      let rest = bytes.slice(length..<bytes.count)
      guard case .head(let second, let more) = parser.parseRequest(rest, alreadyScanned: &scanned) else {
        Issue.record("no second head")
        return
      }
      #expect(second.path.text == "/b")
      #expect(length + more == bytes.count)
    }
  }
}
