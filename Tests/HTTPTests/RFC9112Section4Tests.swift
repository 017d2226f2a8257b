// RFC 9112 section 4: status line.

import HTTP
import Testing

@Suite struct RFC9112Section4Tests {
  @Test(arguments: [
    "HTTP/1.1 200 OK", "HTTP/1.1 200 ", "HTTP/1.1 200", "HTTP/1.0 599 whatever it says",
    "HTTP/1.1 404 Non trouv\u{e9}",
    "HTTP/1.1 200 a\tb",
  ])
  func statusLinesAreAccepted(line: String) {
    let head = responseHead("\(line)\r\ncontent-length: 0\r\n\r\n")
    #expect(head?.status == Int(line.split(separator: " ")[1]))
    #expect(head?.minorVersion == (line.hasPrefix("HTTP/1.1") ? 1 : 0))
  }

  @Test(arguments: [
    "HTTP/1.1  200 OK", "HTTP/1.1 20 OK", "HTTP/1.1 2000 OK", "HTTP/1.1 099 OK", "HTTP/1.1 600 OK",
    "HTTP/1.1 2x0 OK",
    "HTTP/1.1 +20 OK", "HTTP/1.1200 OK", "200 OK", "HTTP/1.1", "HTTP/1.1 ", "HTTP/1.1 200 a\u{0}b",
    "HTTP/1.1 200 a\u{1b}[1m", "http/1.1 200 OK", "ICY 200 OK", "",
  ])
  func malformedStatusLinesAreRefused(line: String) {
    #expect(responseError("\(line)\r\ncontent-length: 0\r\n\r\n") == .malformedStatusLine)
  }

  @Test func otherVersionsAreRefused() {
    #expect(responseError("HTTP/2.0 200 OK\r\n\r\n") == .unsupportedVersion)
    #expect(responseError("HTTP/1.2 200 OK\r\n\r\n") == .unsupportedVersion)
  }

  @Test func bareLineEndsAreRefused() {
    #expect(responseError("HTTP/1.1 200 OK\n\n") == .bareLineFeed)
    #expect(responseError("HTTP/1.1 200\n\n")?.status == 400)
    #expect(responseError("HTTP/1.1 200 O\rK\r\n\r\n") == .bareCarriageReturn)
    #expect(responseError("HTTP/1.1 200 OK\r\na: b\nc: d\r\n\r\n") == .bareLineFeed)
  }
}
