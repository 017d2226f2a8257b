// RFC 9110: names, Expect, Upgrade, dates.

import Base
import HTTP
import Testing

@Suite struct RFC9110Tests {
  // 5.1

  @Test func everyKnownNameIsRecognisedInAnyCaseAndNothingElse() {
    for header in KnownHeader.allCases where header != .other {
      let name = header.name.description
      #expect(known(name) == header)
      #expect(known(name.uppercased()) == header)
      #expect(known(name.dropLast() + "~") == .other)
      #expect(known("!" + name.dropFirst()) == .other)
      #expect(known(name + "x") == .other || known(name + "x") != header)
      if name.contains("-") { #expect(known(name.replacing("-", with: "_")) == .other) }
    }
    #expect(known("") == .other)
    #expect(KnownHeader.other.name.description.isEmpty)
    #expect(Set(KnownHeader.allCases.map(\.bit)).count == KnownHeader.allCases.count)
  }

  private func known(_ name: some StringProtocol) -> KnownHeader {
    Array(name.utf8).withUnsafeBytes { KnownHeader($0) }
  }

  @Test func namesWithUnderscoresPassButRouteNothing() {
    let head = requestHead(
      "GET / HTTP/1.1\r\nhost: a\r\nx_request_id: 1\r\ntransfer_encoding: chunked\r\n\r\n")
    #expect(head?.fields.map(\.known) == [.host, .other, .other])
    #expect(head?.framing == "none")
  }

  // 9.1

  @Test func methodsAreRecognisedByTheirExactName() {
    for value in UInt8(0)...8 {
      guard let method = HTTP.Method(rawValue: value) else { continue }
      let name = method.name.description
      #expect(recognise(name) == method)
      #expect(recognise(name.lowercased()) == .other)
    }
    #expect(recognise("GETS") == .other)
    #expect(recognise("") == .other)
    #expect(recognise("PROPFIND") == .other)
  }

  private func recognise(_ name: String) -> HTTP.Method {
    Array(name.utf8).withUnsafeBytes { HTTP.Method($0) }
  }

  // 10.1.1

  @Test(arguments: [
    ("HTTP/1.1", "100-continue", true), ("HTTP/1.1", "100-Continue", true), ("HTTP/1.1", "200-ok", false),
    ("HTTP/1.0", "100-continue", false),
  ])
  func expectationIsHeardInHTTP11(version: String, value: String, expects: Bool) {
    let head = requestHead("POST / \(version)\r\nhost: a\r\nexpect: \(value)\r\ncontent-length: 1\r\n\r\n")
    #expect(head?.expectsContinue == expects)
  }

  // 7.8

  @Test func upgradeIsIgnored() {
    #expect(requestHead("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n") != nil)
    #expect(
      requestHead("POST / HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\ncontent-length: 5\r\n\r\n") != nil)
    #expect(requestHead("POST / HTTP/1.1\r\nhost: a\r\nupgrade: h2c\r\ncontent-length: 0\r\n\r\n") != nil)
  }

  @Test(arguments: ["content-length: 5", "transfer-encoding: chunked"])
  func h2cUpgradeWithABodyIsRefused(framing: String) {
    #expect(
      requestError("POST / HTTP/1.1\r\nhost: a\r\nupgrade: foo, H2C\r\n\(framing)\r\n\r\n")
        == .upgradeWithBody)
  }

  // 5.6.7

  @Test(arguments: [
    (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"), (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
    (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"), (1_709_251_199, "Thu, 29 Feb 2024 23:59:59 GMT"),
    (1_709_251_200, "Fri, 01 Mar 2024 00:00:00 GMT"), (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
    (253_402_300_799, "Fri, 31 Dec 9999 23:59:59 GMT"), (-5, "Thu, 01 Jan 1970 00:00:00 GMT"),
  ])
  func datesAreInTheFixedFormat(seconds: Int, text: String) {
    var out = ByteBuffer()
    HTTPDate.append(unixSeconds: seconds, to: &out)
    let written = out.text
    #expect(written == text)
  }

  @Test func dateHeaderFollowsTheSecondsItIsTold() {
    var header = DateHeader()
    var out = ByteBuffer()
    header.append(unixSeconds: 0, to: &out)
    header.append(unixSeconds: 0, to: &out)
    header.append(unixSeconds: 1, to: &out)
    let written = out.text
    #expect(
      written == "date: Thu, 01 Jan 1970 00:00:00 GMT\r\ndate: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
        + "date: Thu, 01 Jan 1970 00:00:01 GMT\r\n")
  }
}
