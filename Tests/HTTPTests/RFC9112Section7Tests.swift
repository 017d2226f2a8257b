// RFC 9112 section 7.1: chunked bodies.

import Base
import HTTP
import Testing

@Suite struct RFC9112Section7Tests {
  // 7.1

  @Test func chunksAreJoined() {
    let outcome = chunked("5\r\nhello\r\n7\r\n, world\r\n0\r\n\r\nGET")
    #expect(outcome.text == "hello, world")
    #expect(outcome.end == .complete)
    #expect(outcome.used == 27)
    #expect(outcome.trailers.isEmpty)
  }

  @Test(arguments: ["a", "A", "0a", "000000000a", "00000000000000a"])
  func sizesAreHexadecimalInEitherCaseWithLeadingZeros(size: String) {
    #expect(chunked("\(size)\r\n0123456789\r\n0\r\n\r\n").text == "0123456789")
  }

  @Test func lastChunkMayHaveSeveralZeros() {
    #expect(chunked("1\r\nx\r\n0000\r\n\r\n").end == .complete)
  }

  @Test func dataMayHoldLineEndsAndSizes() {
    #expect(chunked("8\r\n\r\n0\r\n\r\n\n\r\n0\r\n\r\n").text == "\r\n0\r\n\r\n\n")
  }

  @Test(arguments: [
    "\r\n", "x\r\n", "-1\r\n", "+1\r\n", " 1\r\n", "1 \r\n", "1\t\r\n", "0x1\r\n", "1x\r\n", "1,\r\n",
    "\t1\r\n", "g\r\n",
    "1\u{0}\r\n", "1.0\r\n", "١\r\n", "\"1\"\r\n",
  ])
  func malformedSizesAreRefused(line: String) {
    let end = chunked("\(line)a\r\n0\r\n\r\n").end
    #expect(end == .failed(.malformedChunkSize) || end == .failed(.malformedChunkExtension))
  }

  @Test(arguments: [
    "ffffffffffffffff", "8000000000000000", "10000000000000000", "fffffffffffffffff", "0000000000000001",
    "123456789abcdef01",
  ])
  func sizesThatOverflowAreRefused(size: String) {
    #expect(chunked("\(size)\r\na\r\n0\r\n\r\n").end == .failed(.chunkSizeOverflow))
  }

  @Test func largestSizeIsTaken() {
    #expect(chunked("fffffffffffffff\r\nabc").end == .needMore)
  }

  @Test(arguments: ["1\na\r\n", "1\r\na\r\n0\n\r\n", "1;x\na\r\n"])
  func bareLineFeedAfterASizeIsRefused(text: String) {
    #expect(chunked(text).end == .failed(.bareLineFeed))
  }

  @Test(arguments: ["1\ra\r\n", "1\r\r\na", "1;x\ra\r\n"])
  func bareCarriageReturnAfterASizeIsRefused(text: String) {
    #expect(chunked(text).end == .failed(.bareCarriageReturn))
  }

  @Test(arguments: [
    "1\r\nab\r\n0\r\n\r\n", "1\r\na0\r\n\r\n", "1\r\na\n0\r\n\r\n", "1\r\na\r0\r\n\r\n", "3\r\nab\r\n0\r\n",
  ])
  func dataThatIsNotFollowedByALineEndIsRefused(text: String) {
    #expect(chunked(text).end == .failed(.malformedChunkEnd))
  }

  // 7.1.1

  @Test(arguments: [
    ";a", ";a=b", ";a=\"b\"", ";a;b;c=d", " ; a = b", "\t;\ta\t=\tb", ";a=\"\"", ";a=\"b;c\\\"d\"", ";a ;b",
    ";a=\"x\" ;b",
  ])
  func extensionsAreReadAndDropped(text: String) {
    #expect(chunked("1\(text)\r\na\r\n0\(text)\r\n\r\n").text == "a")
  }

  @Test(arguments: [
    ";", ";;a", ";a=", ";=b", ";a b", ";a=b c", ";a=\"b", ";a=\"b\"c", ";a\u{0}", ";a=\"\u{0}\"", ";a=\u{7f}",
    ";é",
    ";a=\"é\"", ";a;", ";a ", ";a=b ", ";(a)", " a",
  ])
  func malformedExtensionsAreRefused(text: String) {
    #expect(chunked("1\(text)\r\na\r\n0\r\n\r\n").end == .failed(.malformedChunkExtension))
  }

  @Test func extensionsAreBounded() {
    let long = String(repeating: "x", count: 2000)
    #expect(chunked("1;\(long)\r\na\r\n0\r\n\r\n").end == .failed(.chunkExtensionTooLong))
    var limits = HTTP1Limits()
    limits.chunkExtensionsTotalBytesMax = 100
    let many = String(repeating: "1;abcdefgh\r\na\r\n", count: 20)
    #expect(
      BodyVerifier.decode(Array("\(many)0\r\n\r\n".utf8), limits: limits).end
        == .failed(.chunkExtensionTooLong))
  }

  // 7.1.2

  @Test func trailersAreHandedOn() {
    let outcome = chunked("1\r\na\r\n0\r\nserver-timing: ttft;dur=5\r\nX-Checksum:abc\r\n\r\n")
    #expect(outcome.end == .complete)
    #expect(outcome.trailers == "server-timing: ttft;dur=5\r\nX-Checksum:abc\r\n")
  }

  /// RFC 9110 section 6.5.1.
  @Test(arguments: [
    "content-length", "Transfer-Encoding", "HOST", "authorization", "cookie", "content-type", "connection",
    "trailer",
    "te", "traceparent", "x-request-id", "set-cookie", "content-encoding", "expect",
  ])
  func trailersThatFrameOrRouteAreDropped(name: String) {
    let outcome = chunked("0\r\na: 1\r\n\(name): 5\r\nb: 2\r\n\r\n")
    #expect(outcome.end == .complete)
    #expect(outcome.trailers == "a: 1\r\nb: 2\r\n")
  }

  @Test(arguments: [
    ("a : 1\r\n", HTTP1ParseError.whitespaceBeforeColon), ("a\r\n", .malformedFieldName),
    (": 1\r\n", .malformedFieldName),
    ("a: 1\r\n b\r\n", .obsoleteFolding), ("a: 1\n", .bareLineFeed), ("\n", .bareLineFeed),
    ("a: b\rc\r\n", .bareCarriageReturn),
    ("a: \u{0}\r\n", .nulInHead), ("a: \u{1}\r\n", .controlByteInValue), ("\rx\r\n", .malformedFieldName),
  ])
  func malformedTrailersAreRefused(lines: String, error: HTTP1ParseError) {
    #expect(chunked("0\r\n\(lines)\r\n").end == .failed(error))
  }

  @Test func trailersAreBounded() {
    let error = chunked("0\r\n" + String(repeating: "a: b\r\n", count: 2000) + "\r\n").end
    #expect(error == .failed(.trailersTooLarge))
    #expect(chunked("0\r\na: " + String(repeating: "b", count: 9000)).end == .failed(.trailersTooLarge))
    #expect(HTTP1ParseError.trailersTooLarge.status == 431)
  }

  @Test func randomChunkingsGiveTheBodyBack() {
    var random = Xoshiro256(seed: 7)
    for _ in 0..<40 {
      var text = ""
      var body = ""
      for _ in 0..<Int.random(in: 0...6, using: &random) {
        let size = Int.random(in: 1...40, using: &random)
        let piece = String((0..<size).map { _ in "ab\r\n0;".randomElement(using: &random) ?? "x" })
        body += piece
        text += "\(String(piece.utf8.count, radix: 16))\r\n\(piece)\r\n"
      }
      let outcome = chunked(text + "0\r\n\r\nrest")
      #expect(outcome.text == body)
      #expect(outcome.used == text.utf8.count + 5)
    }
  }
}
