// Known ways to make two parsers see different messages: each is refused, with this status.

import HTTP
import Testing

@Suite struct SmugglingTests {
  struct Case: Sendable, CustomTestStringConvertible {
    let name: String
    let text: String
    let status: Int

    init(_ name: String, _ text: String, _ status: Int = 400) {
      self.name = name
      self.text = text
      self.status = status
    }

    var testDescription: String { name }
  }

  private static func post(_ fields: String, version: String = "HTTP/1.1", target: String = "/") -> String {
    "POST \(target) \(version)\r\nhost: a\r\n\(fields)\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
  }

  static let heads = [
    Case("CL.TE", post("content-length: 5\r\ntransfer-encoding: chunked")),
    Case("TE.CL", post("transfer-encoding: chunked\r\ncontent-length: 5")),
    Case("differing lengths", post("content-length: 5\r\ncontent-length: 6")),
    Case("equal lengths twice", post("content-length: 5\r\ncontent-length: 5")),
    Case("length list", post("content-length: 5, 5")),
    Case("signed length", post("content-length: +5")),
    Case("negative length", post("content-length: -5")),
    Case("length with inner space", post("content-length: 5 6")),
    Case("hexadecimal length", post("content-length: 0x5")),
    Case("empty length", post("content-length:")),
    Case("huge length", post("content-length: 99999999999999999999999999")),
    Case("length with vertical tab", post("content-length: 5\u{b}")),
    Case("folded transfer-encoding", post("transfer-encoding:\r\n chunked")),
    Case("folded value", post("x: a\r\n\ttransfer-encoding: chunked")),
    Case("bare CR before a field", post("x: a\rtransfer-encoding: chunked")),
    Case("bare LF before a field", post("x: a\ntransfer-encoding: chunked")),
    Case("space before colon", post("transfer-encoding : chunked")),
    Case("tab before colon", post("transfer-encoding\t: chunked")),
    Case("NUL in a name", post("transfer\u{0}-encoding: chunked")),
    Case("NUL in a value", post("transfer-encoding: chunked\u{0}")),
    Case("vertical tab before chunked", post("transfer-encoding: \u{b}chunked")),
    Case("form feed after chunked", post("transfer-encoding: chunked\u{c}")),
    Case("chunked not last", post("transfer-encoding: chunked, identity")),
    Case("chunked twice", post("transfer-encoding: chunked, chunked")),
    Case("chunked in two lines", post("transfer-encoding: chunked\r\ntransfer-encoding: chunked")),
    Case("unknown coding before chunked", post("transfer-encoding: cow, chunked"), 501),
    Case("unknown coding alone", post("transfer-encoding: cow")),
    Case("quoted chunked", post("transfer-encoding: \"chunked\"")),
    Case("empty transfer-encoding", post("transfer-encoding:")),
    Case("list with an empty element", post("transfer-encoding: ,chunked")),
    Case("HTTP/1.0 with chunked", post("transfer-encoding: chunked", version: "HTTP/1.0")),
    Case("absolute target with another host", post("content-length: 0", target: "http://b/")),
    Case("two hosts", post("host: b")),
    Case("host list", "GET / HTTP/1.1\r\nhost: a, b\r\n\r\n"),
    Case("no host", "GET / HTTP/1.1\r\n\r\n"),
    Case("h2c upgrade with a body", post("connection: upgrade\r\nupgrade: h2c\r\ncontent-length: 5")),
    Case("HTTP/0.9", "GET /\r\n\r\n"),
    Case("space in the target", "GET /a b HTTP/1.1\r\nhost: a\r\n\r\n"),
    Case("line end in the target", "GET /\u{d}\u{a}x: y HTTP/1.1\r\nhost: a\r\n\r\n"),
    Case("NUL in the target", "GET /\u{0} HTTP/1.1\r\nhost: a\r\n\r\n"),
    Case("encoded NUL in the target", "GET /%00 HTTP/1.1\r\nhost: a\r\n\r\n"),
    Case("fragment in the target", "GET /#x HTTP/1.1\r\nhost: a\r\n\r\n"),
    Case("name of an emoji", post("\u{1F40D}: x")),
    Case("no-break space around chunked", post("transfer-encoding: \u{a0}chunked")),
    Case("colon at the line's start", post(": x")),
    Case("field without colon", post("transfer-encoding chunked")),
    Case("HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    Case("future minor version", "GET / HTTP/1.9\r\nhost: a\r\n\r\n", 505),
    Case("next major version", "GET / HTTP/2.0\r\nhost: a\r\n\r\n", 505),
  ]

  @Test(arguments: heads)
  func headIsRefused(_ head: Case) {
    let error = requestError(head.text)
    #expect(error?.status == head.status)
    #expect(error?.message.description.isEmpty == false)
  }

  static let bodies = [
    Case("size overflow", "ffffffffffffffff0\r\na\r\n0\r\n\r\n"),
    Case("size that becomes negative", "8000000000000000\r\na\r\n0\r\n\r\n"),
    Case("many leading zeros", String(repeating: "0", count: 40) + "1\r\na\r\n0\r\n\r\n"),
    Case("prefixed size", "0x1\r\na\r\n0\r\n\r\n"),
    Case("signed size", "+1\r\na\r\n0\r\n\r\n"),
    Case("size with underscore", "1_0\r\na\r\n0\r\n\r\n"),
    Case("space after the size", "1 \r\na\r\n0\r\n\r\n"),
    Case("space before the size", " 1\r\na\r\n0\r\n\r\n"),
    Case("LF after the size", "1\na\r\n0\r\n\r\n"),
    Case("CR alone after the size", "1\ra\r\n0\r\n\r\n"),
    Case("LF in an extension", "1;a\nb\r\na\r\n0\r\n\r\n"),
    Case("CR in an extension", "1;a\rb\r\na\r\n0\r\n\r\n"),
    Case("NUL in an extension", "1;\u{0}\r\na\r\n0\r\n\r\n"),
    Case("high byte in an extension", "1;\u{e9}\r\na\r\n0\r\n\r\n"),
    Case("open quote in an extension", "1;a=\"\r\na\r\n0\r\n\r\n"),
    Case("data longer than its size", "1\r\nab\r\n0\r\n\r\n"),
    Case("LF alone after data", "1\r\na\n0\r\n\r\n"),
    Case("no line end after data", "1\r\na0\r\n\r\n"),
    Case("LF alone after the last size", "1\r\na\r\n0\n\r\n"),
    Case("LF alone as the trailers' end", "1\r\na\r\n0\r\n\n"),
    Case("folded trailer", "0\r\na: b\r\n c\r\n\r\n"),
    Case("request line among trailers", "0\r\nGET / HTTP/1.1\r\n\r\n"),
    Case("extensions without end", "1;" + String(repeating: "a", count: 5000)),
    Case("trailers without end", "0\r\n" + String(repeating: "a: b\r\n", count: 5000), 431),
  ]

  @Test(arguments: bodies)
  func bodyIsRefused(_ body: Case) {
    guard case .failed(let error) = chunked(body.text).end else {
      Issue.record("taken")
      return
    }
    #expect(error.status == body.status)
  }

  /// What a refused body leaves behind never becomes another request: the decoder stays failed.
  @Test func failedDecoderStaysFailed() {
    var decoder = HTTP1BodyDecoder(.chunked)
    for text in ["x\r\n", "0\r\n\r\nGET / HTTP/1.1\r\n\r\n"] {
      Array(text.utf8).withUnsafeBytes { bytes in
        var consumed = 0
        guard case .failed(.malformedChunkSize) = decoder.next(bytes, consumed: &consumed) else {
          Issue.record("went on after a failure")
          return
        }
      }
    }
  }

  /// A trailer cannot smuggle in a length, a host or a credential.
  @Test func trailersLoseWhatFramesAMessage() {
    #expect(chunked("0\r\ncontent-length: 50\r\nhost: b\r\nauthorization: x\r\n\r\n").trailers.isEmpty)
  }

  @Test(arguments: HTTP1ParseError.allCases)
  func everyErrorHasAStatusAndAMessage(error: HTTP1ParseError) {
    #expect([400, 414, 431, 501, 505].contains(error.status))
    #expect(error.message.hasPointerRepresentation && error.message.utf8CodeUnitCount > 5)
  }
}
