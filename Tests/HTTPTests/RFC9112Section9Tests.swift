// RFC 9112 section 9: whether a connection persists, and what belongs to it alone.

import HTTP
import Testing

@Suite struct RFC9112Section9Tests {
  // 9.3

  @Test(arguments: [
    ("HTTP/1.1", "", true), ("HTTP/1.1", "connection: close\r\n", false),
    ("HTTP/1.1", "Connection: Close\r\n", false),
    ("HTTP/1.1", "connection: keep-alive\r\n", true), ("HTTP/1.1", "connection: x, close\r\n", false),
    ("HTTP/1.1", "connection: keep-alive\r\nconnection: close\r\n", false),
    ("HTTP/1.1", "connection: closed\r\n", true),
    ("HTTP/1.0", "", false), ("HTTP/1.0", "connection: keep-alive\r\n", true),
    ("HTTP/1.0", "connection: Keep-Alive, x\r\n", true),
    ("HTTP/1.0", "connection: keep-alive, close\r\n", false),
    ("HTTP/1.0", "proxy-connection: keep-alive\r\n", false), ("HTTP/1.1", "connection:\r\n", true),
  ])
  func persistenceFollowsVersionAndConnection(version: String, fields: String, keepAlive: Bool) {
    #expect(requestHead("GET / \(version)\r\nhost: a\r\n\(fields)\r\n")?.keepAlive == keepAlive)
    #expect(responseHead("\(version) 200 OK\r\ncontent-length: 0\r\n\(fields)\r\n")?.keepAlive == keepAlive)
  }

  /// RFC 9110 section 7.6.1.
  @Test func hopByHopFieldsAreToldApart() {
    let text = """
      GET / HTTP/1.1\r\nhost: a\r\nconnection: close, X-Mine\r\nx-mine: 1\r\nkeep-alive: 5\r\nte: trailers\r\n\
      upgrade: h2c\r\nproxy-authorization: x\r\nx-other: 2\r\naccept: 3\r\n\r\n
      """
    let parser = HTTP1HeadParser()
    Array(text.utf8).withUnsafeBytes { bytes in
      var scanned = 0
      guard case .head(let head, _) = parser.parseRequest(bytes, alreadyScanned: &scanned) else {
        Issue.record("no head")
        return
      }
      let hopByHop = (0..<head.fields.count).map { head.fields.isHopByHop($0) }
      #expect(hopByHop == [false, true, true, true, true, true, true, false, false])
    }
  }
}
