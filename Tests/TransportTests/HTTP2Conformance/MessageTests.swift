// RFC 9113 section 8: which header sections and bodies are requests.

import Testing

struct MessageConformanceTests {
  private static let upload = Frame.headers(Block.upload, flags: 4)

  /// A request with one more field.
  private static func with(_ name: String, _ value: String) -> [UInt8] {
    Frame.headers(Block.get(Block.field(name, value)))
  }

  private static func with(_ name: String, bytes: [UInt8]) -> [UInt8] {
    Frame.headers(Block.get(Block.field(name, bytes: bytes)))
  }

  private static func request(_ parts: [UInt8]...) -> [UInt8] { Frame.headers(Array(parts.joined())) }

  private static let trailers = Block.field("x-sum", "7")

  static let sections: [Situation] = [
    Situation("8.1 trailers", upload + Frame.data([1], flags: 0) + Frame.headers(trailers), .answered()),
    Situation("8.1 trailers without a body", upload + Frame.headers(trailers), .answered()),
    Situation(
      "8.1 trailers that are not the end", upload + Frame.headers(trailers, flags: 4),
      .streamError([Code.protocolError])),
    Situation(
      "8.1 DATA behind trailers", upload + Frame.headers(trailers) + Frame.data([1]),
      .connectionError([Code.streamClosed]), holds: true),
    Situation(
      "8.1 trailers with a pseudo-field", upload + Frame.headers(Block.field(":path", "/")),
      .streamError([Code.protocolError])),
    Situation(
      "8.1 trailers with an upper-case name", upload + Frame.headers(Block.field("X-Sum", "7")),
      .streamError([Code.protocolError])),
    Situation(
      "8.1.1 content-length that fits",
      Frame.headers(Block.upload + Block.field("content-length", "2"), flags: 4) + Frame.data([1, 2]),
      .answered()),
    Situation(
      "8.1.1 content-length that is longer than the body",
      Frame.headers(Block.upload + Block.field("content-length", "3"), flags: 4) + Frame.data([1, 2]),
      .streamError([Code.protocolError])),
    Situation(
      "8.1.1 content-length that is shorter than the body",
      Frame.headers(Block.upload + Block.field("content-length", "1"), flags: 4) + Frame.data([1, 2]),
      .streamError([Code.protocolError])),
    Situation(
      "8.1.1 content-length that is shorter than two frames",
      Frame.headers(Block.upload + Block.field("content-length", "1"), flags: 4) + Frame.data([1], flags: 0)
        + Frame.data([2]), .streamError([Code.protocolError])),
    Situation(
      "8.1.1 content-length without a body", Frame.headers(Block.upload + Block.field("content-length", "1")),
      .malformed),
    Situation(
      "8.1.1 content-length twice",
      Frame.headers(
        Block.upload + Block.field("content-length", "1") + Block.field("content-length", "1"), flags: 4),
      .malformed),
    Situation(
      "8.1.1 content-length that is no number",
      Frame.headers(Block.upload + Block.field("content-length", "+1"), flags: 4), .malformed),
    Situation(
      "8.1.1 content-length that no number holds",
      Frame.headers(Block.upload + Block.field("content-length", "99999999999999999999"), flags: 4),
      .malformed),
  ]

  static let fields: [Situation] = [
    Situation("8.2.1 upper-case name", with("X-a", "1"), .malformed),
    Situation("8.2.1 name with a space", with("x a", "1"), .malformed),
    Situation("8.2.1 name with a colon", with("x:a", "1"), .malformed),
    Situation("8.2.1 name with a control character", with("x\u{1}a", "1"), .malformed),
    Situation("8.2.1 name with a line feed", with("x\na", "1"), .malformed),
    Situation("8.2.1 name beyond ASCII", with("xä", "1"), .malformed),
    Situation("8.2.1 empty name", with("", "1"), .malformed),
    Situation("8.2.1 value with NUL", with("x", bytes: [97, 0, 98]), .malformed),
    Situation("8.2.1 value with CR", with("x", bytes: [97, 13, 98]), .malformed),
    Situation("8.2.1 value with LF", with("x", bytes: [97, 10, 98]), .malformed),
    Situation("8.2.1 value with CR LF and a field", with("x", "a\r\ny: b"), .malformed),
    Situation("8.2.1 empty value", with("x", ""), .answered()),
    Situation("8.2.2 connection", with("connection", "close"), .malformed),
    Situation("8.2.2 keep-alive", with("keep-alive", "timeout=5"), .malformed),
    Situation("8.2.2 proxy-connection", with("proxy-connection", "close"), .malformed),
    Situation("8.2.2 transfer-encoding", with("transfer-encoding", "chunked"), .malformed),
    Situation("8.2.2 upgrade", with("upgrade", "h2c"), .malformed),
    Situation("8.2.2 te: gzip", with("te", "gzip"), .malformed),
    Situation("8.2.2 te: trailers, gzip", with("te", "trailers, gzip"), .malformed),
    Situation("8.2.2 te: trailers", with("te", "trailers"), .answered()),
    Situation(
      "8.2.3 crumbs of cookies",
      Frame.headers(Block.get(Block.field("cookie", "a=1"), Block.field("cookie", "b=2"))), .answered()),
  ]

  static let pseudo: [Situation] = [
    Situation("8.3 unknown pseudo-field", with(":test", "1"), .malformed),
    Situation("8.3 pseudo-field of answers", with(":status", "200"), .malformed),
    Situation(
      "8.3 pseudo-field behind a field",
      request(Block.method, Block.scheme, Block.path, Block.field("x", "1"), Block.authority), .malformed),
    Situation("8.3.1 no :method", request(Block.scheme, Block.path, Block.authority), .malformed),
    Situation("8.3.1 no :scheme", request(Block.method, Block.path, Block.authority), .malformed),
    Situation("8.3.1 no :path", request(Block.method, Block.scheme, Block.authority), .malformed),
    Situation("8.3.1 nothing at all", request(), .malformed),
    Situation(
      "8.3.1 empty :path", request(Block.method, Block.scheme, Block.field(":path", ""), Block.authority),
      .malformed),
    Situation(
      "8.3.1 :path without a slash",
      request(Block.method, Block.scheme, Block.field(":path", "a"), Block.authority), .malformed),
    Situation(
      "8.3.1 :path with a space",
      request(Block.method, Block.scheme, Block.field(":path", "/a b"), Block.authority), .malformed),
    Situation(
      "8.3.1 :path with CR LF",
      request(Block.method, Block.scheme, Block.field(":path", "/ HTTP/1.1\r\nx: y"), Block.authority),
      .malformed),
    Situation(
      "8.3.1 :method with a space",
      request(Block.field(":method", "GET /a"), Block.scheme, Block.path, Block.authority), .malformed),
    Situation(
      "8.3.1 empty :method", request(Block.field(":method", ""), Block.scheme, Block.path, Block.authority),
      .malformed),
    Situation(
      "8.3.1 :scheme that is none",
      request(Block.method, Block.field(":scheme", "ht tp"), Block.path, Block.authority), .malformed),
    Situation("8.3.1 :method twice", request(Block.get, Block.method), .malformed),
    Situation("8.3.1 :scheme twice", request(Block.get, Block.scheme), .malformed),
    Situation("8.3.1 :path twice", request(Block.get, Block.path), .malformed),
    Situation("8.3.1 :authority twice", request(Block.get, Block.authority), .malformed),
    Situation(
      "8.3.1 :authority with a user's name",
      request(Block.method, Block.scheme, Block.path, Block.field(":authority", "u@a")), .malformed),
    Situation(
      "8.3.1 :authority with a space",
      request(Block.method, Block.scheme, Block.path, Block.field(":authority", "a b")), .malformed),
    Situation(
      "8.3.1 host instead of :authority",
      request(Block.method, Block.scheme, Block.path, Block.field("host", "a")), .answered()),
    Situation("8.3.1 host equal to :authority", with("host", "a"), .answered()),
    Situation("8.3.1 host other than :authority", with("host", "b"), .malformed),
    Situation(
      "8.3.1 neither host nor :authority", request(Block.method, Block.scheme, Block.path), .malformed),
    Situation(
      "8.3.1 OPTIONS *",
      request(Block.field(":method", "OPTIONS"), Block.scheme, Block.field(":path", "*"), Block.authority),
      .answered()),
    Situation(
      "8.3.1 GET *", request(Block.method, Block.scheme, Block.field(":path", "*"), Block.authority),
      .malformed),
    Situation(
      "8.5 CONNECT with :path",
      request(Block.field(":method", "CONNECT"), Block.scheme, Block.path, Block.authority), .malformed),
    Situation("8.5 CONNECT", request(Block.field(":method", "CONNECT"), Block.authority), .malformed),
  ]

  @Test(arguments: sections + fields + pseudo) func fate(_ situation: Situation) throws {
    try situation.check()
  }

  /// RFC 9113 section 8.1 and RFC 9110 section 10.1.1: the body is invited before it comes.
  @Test func whoExpectsToContinueIsInvited() throws {
    let rig = try ConformanceRig()
    let block = Block.upload + Block.field("expect", "100-continue")
    rig.send(Frame.preface + Frame.headers(block, flags: 4))
    #expect(rig.said.contains { $0.type == 1 && $0.stream == 1 && $0.flags & 1 == 0 })
    rig.send(Frame.data([1]))
    #expect(rig.hasEnd(1))
  }
}
