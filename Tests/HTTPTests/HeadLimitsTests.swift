// The bounds on heads: just inside is taken, just outside is refused with the right status.

import HTTP
import Testing

@Suite struct HeadLimitsTests {
  private func limits(line: Int = 100, head: Int = 400, fields: Int = 5) -> HTTP1Limits {
    var limits = HTTP1Limits()
    limits.startLineBytesMax = line
    limits.headBytesMax = head
    limits.fieldCountMax = fields
    return limits
  }

  private func request(line: Int, head: Int) -> [UInt8] {
    // "GET / HTTP/1.1" has 14 bytes, the rest of an empty head with its host 13.
    let target = "/" + String(repeating: "a", count: line - 14)
    let start = "GET \(target) HTTP/1.1\r\nhost: a\r\n"
    let padding = head - start.utf8.count - 7
    return Array((start + "x: " + String(repeating: "b", count: padding) + "\r\n\r\n").utf8)
  }

  private func status(_ outcome: HeadOutcome) -> Int {
    switch outcome {
    case .head: 200
    case .needMore: 0
    case .failed(let error): error.status
    }
  }

  @Test(arguments: [(99, 200), (100, 200), (101, 414), (150, 414)])
  func requestLineIsBounded(length: Int, expected: Int) {
    #expect(status(HeadVerifier.request(request(line: length, head: 300), limits: limits())) == expected)
  }

  @Test(arguments: [(399, 200), (400, 200), (401, 431), (900, 431)])
  func headIsBounded(length: Int, expected: Int) {
    #expect(status(HeadVerifier.request(request(line: 20, head: length), limits: limits())) == expected)
  }

  @Test(arguments: [(4, 200), (5, 200), (6, 431), (20, 431)])
  func fieldsAreCounted(count: Int, expected: Int) {
    let fields = String(repeating: "a:b\r\n", count: count - 1)
    let bytes = Array("GET / HTTP/1.1\r\nhost: a\r\n\(fields)\r\n".utf8)
    #expect(status(HeadVerifier.request(bytes, limits: limits())) == expected)
  }

  @Test func defaultsAreThoseOfTheDocumentation() {
    let limits = HTTP1Limits()
    #expect(limits.startLineBytesMax == 8192)
    #expect(limits.headBytesMax == 32768)
    #expect(limits.fieldCountMax == 100)
    let hundred = String(repeating: "a:b\r\n", count: 99)
    #expect(requestHead("GET / HTTP/1.1\r\nhost: a\r\n\(hundred)\r\n")?.fields.count == 100)
    #expect(requestError("GET / HTTP/1.1\r\nhost: a\r\na:b\r\n\(hundred)\r\n")?.status == 431)
    #expect(status(HeadVerifier.request(request(line: 8192, head: 9000))) == 200)
    #expect(status(HeadVerifier.request(request(line: 8193, head: 9000))) == 414)
    #expect(status(HeadVerifier.request(request(line: 20, head: 32768))) == 200)
    #expect(status(HeadVerifier.request(request(line: 20, head: 32769))) == 431)
  }

  @Test func endlessLinesAreRefusedWithoutTheirEnd() {
    let endless = [UInt8](repeating: UInt8(ascii: "a"), count: 40_000)
    #expect(status(HeadVerifier.request(Array("GET /".utf8) + endless)) == 414)
    #expect(status(HeadVerifier.request(endless)) == 414)
    #expect(status(HeadVerifier.request(Array("GET / HTTP/1.1\r\nhost: a\r\nx: ".utf8) + endless)) == 431)
    #expect(status(HeadVerifier.response(Array("HTTP/1.1 200 OK\r\nx: ".utf8) + endless)) == 431)
    #expect(status(HeadVerifier.response(Array("HTTP/1.1 200 ".utf8) + endless)) >= 400)
  }

  @Test func lineEndsAreJudgedAsTheyArrive() {
    // The second line is wrong, and the client sends no more: it is refused at once, not when the head ends.
    let parser = HTTP1HeadParser()
    var scanned = 0
    for (text, expected) in [
      ("GET / HTTP/1.1\r\nho", 0), ("GET / HTTP/1.1\r\nhost: a\r\nx", 0),
      ("GET / HTTP/1.1\r\nhost: a\r\nx y: z\r\n", 400),
    ] {
      Array(text.utf8).withUnsafeBytes { bytes in
        switch parser.parseRequest(bytes, alreadyScanned: &scanned) {
        case .needMore: #expect(expected == 0)
        case .failed(let error): #expect(error.status == expected)
        case .head: Issue.record("no head was sent")
        }
      }
    }
  }

  @Test func absurdLimitsAreClamped() {
    let parser = HTTP1HeadParser(limits: limits(line: 9000, head: 100, fields: 100_000))
    #expect(parser.limits.fieldCountMax == 254)
    #expect(parser.limits.startLineBytesMax == 100)
  }
}
