// RFC 9112 section 5: field syntax.

import HTTP
import Testing

@Suite struct RFC9112Section5Tests {
  private func field(_ line: String) -> HeadSnapshot.Field? {
    requestHead("GET / HTTP/1.1\r\nhost: a\r\n\(line)\r\n\r\n")?.fields.last
  }

  private func error(_ line: String) -> HTTP1ParseError? {
    requestError("GET / HTTP/1.1\r\nhost: a\r\n\(line)\r\n\r\n")
  }

  @Test(arguments: [
    ("x: y", "y"), ("x:y", "y"), ("x:  \t y \t ", "y"), ("x:", ""), ("x: ", ""), ("x: \t", ""),
    ("x: a b", "a b"),
    ("x: a\tb", "a\tb"), ("x: :", ":"), ("x: é\u{1F600}", "é\u{1F600}"),
  ])
  func whitespaceAroundValuesIsTrimmed(line: String, value: String) {
    let parsed = field(line)
    #expect(parsed?.name == "x")
    #expect(parsed?.value == value)
  }

  @Test func longNamesAndValuesAreWhole() {
    let name = String(repeating: "Abc-d.ef_0", count: 30)
    let value = String(repeating: "some text, ", count: 200) + "é."
    let parsed = field("\(name): \(value)")
    #expect(parsed?.name == name)
    #expect(parsed?.value == value)
  }

  @Test(arguments: ["!#$%&'*+-.^_`|~09AZaz", "x_y", "_", "0"])
  func namesAreTokens(name: String) {
    #expect(field("\(name): v")?.name == name)
  }

  @Test(arguments: [
    "x y: v", "x\ty: v", "(x): v", "x/y: v", "x[: v", "\"x\": v", "é: v", "x{: v", "x@: v", ": v", "x=y: v",
    "x;y: v",
    "x,y: v", "x\\y: v", "x\u{7f}: v", "x\u{1}: v", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa/: v",
  ])
  func namesOfOtherBytesAreRefused(line: String) {
    #expect(error(line)?.status == 400)
  }

  // 5.1

  @Test(arguments: ["x : v", "x\t: v", "content-length : 5", "x  \t: v"])
  func whitespaceBeforeTheColonIsRefused(line: String) {
    #expect(error(line) == .whitespaceBeforeColon)
  }

  @Test func lineWithoutColonIsRefused() {
    #expect(error("x") == .malformedFieldName)
    #expect(error("x y") == .whitespaceBeforeColon)
  }

  // 5.2

  @Test(arguments: ["x: a\r\n b", "x: a\r\n\tb", "x:\r\n b", " x: a", "\tx: a", " "])
  func foldedLinesAreRefused(lines: String) {
    #expect(error(lines) == .obsoleteFolding)
  }

  @Test func foldingRightAfterTheStartLineIsRefused() {
    #expect(requestError("GET / HTTP/1.1\r\n host: a\r\n\r\n") == .obsoleteFolding)
    #expect(responseError("HTTP/1.1 200 OK\r\n x: a\r\n\r\n") == .obsoleteFolding)
  }

  // RFC 9110 section 5.5

  @Test func controlBytesInValuesAreRefused() {
    for byte in UInt8(0)...0x1f where byte != 0x09 && byte != 0x0a && byte != 0x0d {
      for prefix in ["x: a", "x: ", "x:", "x: 0123456789abcdef0123456789"] {
        let bytes =
          Array("GET / HTTP/1.1\r\nhost: a\r\n\(prefix)".utf8) + [byte]
          + Array("bcdefghijklmnop\r\n\r\n".utf8)
        #expect(HeadVerifier.request(bytes) == .failed(byte == 0 ? .nulInHead : .controlByteInValue))
      }
    }
    #expect(error("x: a\u{7f}b") == .controlByteInValue)
  }

  @Test func nulInNamesIsRefused() {
    #expect(error("x\u{0}y: v") == .nulInHead)
    #expect(error("\u{0}: v") == .nulInHead)
  }

  @Test func invalidUTF8IsRefusedInRequestsOnly() {
    let tail: [UInt8] = [0xc3, 0x28, 0x0d, 0x0a, 0x0d, 0x0a]
    #expect(
      HeadVerifier.request(Array("GET / HTTP/1.1\r\nhost: a\r\nx: ".utf8) + tail) == .failed(.invalidUTF8))
    let response = HeadVerifier.response(Array("HTTP/1.1 204 No Content\r\nx: ".utf8) + tail)
    guard case .head = response else {
      Issue.record("Latin-1 of an old server was refused")
      return
    }
  }

  // RFC 9110 section 5.3 and the view

  @Test func viewFindsFieldsByNameAndPosition() {
    let text = "GET / HTTP/1.1\r\nhost: a\r\nX-Thing: 1\r\naccept: b\r\nx-thing: 2\r\nACCEPT: c\r\n\r\n"
    let parser = HTTP1HeadParser()
    Array(text.utf8).withUnsafeBytes { bytes in
      var scanned = 0
      guard case .head(let head, _) = parser.parseRequest(bytes, alreadyScanned: &scanned) else {
        Issue.record("no head")
        return
      }
      let fields = head.fields
      #expect(fields.count == 5)
      #expect(fields.first(.accept).map { String(decoding: $0, as: UTF8.self) } == "b")
      #expect(fields.count(of: .accept) == 2)
      #expect(fields.count(of: .host) == 1)
      #expect(fields.count(of: .baggage) == 0)
      #expect(fields.repeated.contains(.accept))
      #expect(!fields.repeated.contains(.host))
      #expect(fields.first(.te) == nil)
      #expect(fields.first(.other) == nil)
      #expect(fields.find("x-thing").map { String(decoding: $0, as: UTF8.self) } == "1")
      #expect(fields.find("x-thin") == nil)
      #expect(String(decoding: fields.line(3), as: UTF8.self) == "x-thing: 2")
    }
  }
}
