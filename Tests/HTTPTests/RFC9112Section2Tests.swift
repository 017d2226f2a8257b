// RFC 9112 section 2: message format, line ends, the version.

import HTTP
import Testing

@Suite struct RFC9112Section2Tests {
  @Test func oneEmptyLineBeforeTheRequestIsSkipped() {
    let head = requestHead("\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n")
    #expect(head?.method == "GET")
    #expect(head?.length == 29)
  }

  @Test(arguments: [
    ("\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n", HTTP1ParseError.malformedRequestLine),
    ("\nGET / HTTP/1.1\r\nhost: a\r\n\r\n", .malformedRequestLine),
    ("\rGET / HTTP/1.1\r\nhost: a\r\n\r\n", .malformedRequestLine),
    (" GET / HTTP/1.1\r\nhost: a\r\n\r\n", .malformedRequestLine),
  ])
  func otherBytesBeforeTheRequestAreRefused(text: String, error: HTTP1ParseError) {
    #expect(requestError(text) == error)
  }

  @Test(arguments: [
    ("GET / HTTP/1.1\nhost: a\r\n\r\n", HTTP1ParseError.bareLineFeed),
    ("GET / HTTP/1.1\r\nhost: a\n\r\n", .bareLineFeed),
    ("GET / HTTP/1.1\r\nhost: a\r\n\n", .bareLineFeed),
    ("GET / HTTP/1.1\r\nhost\n: a\r\n\r\n", .bareLineFeed),
    ("GET / HTTP/1.1\r\nhost:\na\r\n\r\n", .bareLineFeed),
    ("GET / HTTP/1.1\r\rhost: a\r\n\r\n", .bareCarriageReturn),
    ("GET / HTTP/1.1\r\nhost: a\rb\r\n\r\n", .bareCarriageReturn),
    ("GET / HTTP/1.1\r\nhost: a\r\r\n\r\n", .bareCarriageReturn),
    ("GET / HTTP/1.1\r\nhost: a\r\n\r\r\n", .bareCarriageReturn),
    ("GET / HTTP/1.1\r\nho\rst: a\r\n\r\n", .malformedFieldName),
  ])
  func bareLineEndsAreRefused(text: String, error: HTTP1ParseError) {
    #expect(requestError(text) == error)
  }

  @Test(arguments: ["HTTP/2.0", "HTTP/1.2", "HTTP/0.9", "HTTP/3.0", "HTTP/9.9"])
  func otherVersionsAre505(version: String) {
    let error = requestError("GET / \(version)\r\nhost: a\r\n\r\n")
    #expect(error == .unsupportedVersion)
    #expect(error?.status == 505)
  }

  @Test func http2PrefaceIs505() {
    #expect(requestError("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")?.status == 400)
    #expect(requestError("OPTIONS * HTTP/2.0\r\n\r\nSM\r\n\r\n")?.status == 505)
  }

  @Test(arguments: [
    "http/1.1", "HTTP/1,1", "HTTP/11", "HTTP/1.", "HTTP/1.1.1", "HTTP/1.10", "HTTP 1.1", "HTTP/ 1.1",
    "HTTP/1.1 ",
    "HTTP/1.1\t", "HTTPS/1.1", "HTTP/1.1x", "", " HTTP/1.1", "HTTP/١.1",
  ])
  func malformedVersionsAre400(version: String) {
    #expect(requestError("GET / \(version)\r\nhost: a\r\n\r\n")?.status == 400)
  }

  @Test func tlsHelloIsRefusedAtItsFirstByte() {
    #expect(HeadVerifier.request([0x16, 0x03, 0x01]) == .failed(.malformedRequestLine))
  }

  @Test func unfinishedHeadNeedsMore() {
    #expect(HeadVerifier.request(Array("GET / HTTP/1.1\r\nhost: a\r\n\r".utf8)) == .needMore)
    #expect(HeadVerifier.request([]) == .needMore)
  }
}
