// RFC 9112 section 3: request line, request target, Host.

import HTTP
import Testing

@Suite struct RFC9112Section3Tests {
  // 3, 3.1

  @Test(arguments: [
    "GET", "POST", "PURGE", "M-SEARCH", "get", "!#$%&'*+-.^_`|~09AZaz", "ABCDEFGHIJKLMNOPQRSTUVW",
  ])
  func methodsAreTokens(method: String) {
    #expect(requestHead("\(method) / HTTP/1.1\r\nhost: a\r\n\r\n")?.method == method)
  }

  @Test(arguments: ["", "G(T", "GE\"T", "G/T", "GÉT", "G\u{0}T", "G\tT", "G:T", "G\u{7f}T"])
  func methodsOfOtherBytesAreRefused(method: String) {
    #expect(requestError("\(method) / HTTP/1.1\r\nhost: a\r\n\r\n")?.status == 400)
  }

  @Test(arguments: [
    "GET  / HTTP/1.1", "GET /  HTTP/1.1", "GET / HTTP/1.1 ", "GET\t/ HTTP/1.1", "GET /\tHTTP/1.1", "GET /",
    "GET",
    "GET / ", "/ HTTP/1.1", "GET / a HTTP/1.1", "GET HTTP/1.1",
  ])
  func exactlySingleSpacesDivideTheLine(line: String) {
    #expect(requestError("\(line)\r\nhost: a\r\n\r\n")?.status == 400)
  }

  // 3.2.1

  @Test func originFormIsPathAndQuery() {
    let head = requestHead("GET /v1/models/Qwen%2FQwen3-0.6B?a=b&c[]={d}|?x HTTP/1.1\r\nhost: a\r\n\r\n")
    #expect(head?.path == "/v1/models/Qwen%2FQwen3-0.6B")
    #expect(head?.query == "a=b&c[]={d}|?x")
    #expect(head?.target == "/v1/models/Qwen%2FQwen3-0.6B?a=b&c[]={d}|?x")
    #expect(head?.isAbsolute == false)
  }

  @Test func emptyQueryIsNotNoQuery() {
    #expect(requestHead("GET /? HTTP/1.1\r\nhost: a\r\n\r\n")?.query == "")
    #expect(requestHead("GET / HTTP/1.1\r\nhost: a\r\n\r\n")?.query == nil)
  }

  @Test func longPathsAreAllSeen() {
    let path = "/" + String(repeating: "abc-DEF.123/~_!$&'()*+,;=:@", count: 20)
    #expect(requestHead("GET \(path) HTTP/1.1\r\nhost: a\r\n\r\n")?.path == path)
  }

  @Test(arguments: [
    "/a#b", "/a?b#c", "/a\u{0}b", "/a\u{1}", "/a\u{7f}", "/é", "/a?é", "/a\"b", "/a<b", "/a>b", "/a\\b",
    "/a^b",
    "/a`b", "/a{b", "/a|b", "/a}b", "/a[b", "/%", "/%2", "/%zz", "/%2g", "/%00", "/a?%", "/a?%0", "/a?%00",
    "a/b", "//a b", "", "?a", "%2F",
  ])
  func malformedTargetsAreRefused(target: String) {
    #expect(requestError("GET \(target) HTTP/1.1\r\nhost: a\r\n\r\n")?.status == 400)
  }

  /// Found by fuzzing: a line end where a digit was due, with more bytes behind it.
  @Test(arguments: ["GET /%\n\0%2f", "GET /%2\nx", "GET /?%\r\nx: y", "GET /%\nx: y\r\n"])
  func lineEndInsideATripletIsRefusedAtOnce(text: String) {
    #expect(requestError(text + " HTTP/1.1\r\nhost: a\r\n\r\n") == .malformedTarget)
  }

  // 3.2.2

  @Test(
    arguments: [
      ("http://a/x?y", "/x", "y"), ("HTTP://a/x", "/x", nil), ("https://a", "/", nil),
      ("http://a?q", "/", "q"),
      ("http://A/", "/", nil),
    ] as [(String, String, String?)])
  func absoluteFormWithTheSameHostIsAccepted(target: String, path: String, query: String?) {
    let head = requestHead("GET \(target) HTTP/1.1\r\nhost: a\r\n\r\n")
    #expect(head?.path == path)
    #expect(head?.query == query)
    #expect(head?.isAbsolute == true)
  }

  @Test(arguments: ["http://b/", "http://a:80/", "http://a.b/", "https://aa/"])
  func absoluteFormWithAnotherHostIsRefused(target: String) {
    #expect(requestError("GET \(target) HTTP/1.1\r\nhost: a\r\n\r\n") == .hostMismatch)
  }

  @Test(arguments: [
    "http:///", "http://", "http:/a/", "ftp://a/", "http://user@a/", "http://a b/", "http://a:x/",
    "http://a:/%",
    "httpx://a/", "http://[::1/", "http://a\\b/",
  ])
  func malformedAbsoluteFormIsRefused(target: String) {
    #expect(requestError("GET \(target) HTTP/1.1\r\nhost: a\r\n\r\n")?.status == 400)
  }

  // 3.2.3, 3.2.4

  @Test func authorityFormIsForConnect() {
    let head = requestHead("CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n")
    #expect(head?.path == "a:443")
    #expect(requestError("GET a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n") == .malformedTarget)
    #expect(requestError("CONNECT /x HTTP/1.1\r\nhost: a\r\n\r\n") == .malformedTarget)
    #expect(requestError("CONNECT a:443 HTTP/1.1\r\nhost: b:443\r\n\r\n") == .hostMismatch)
  }

  @Test func asteriskFormIsForOptions() {
    #expect(requestHead("OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n")?.path == "*")
    #expect(requestError("GET * HTTP/1.1\r\nhost: a\r\n\r\n") == .malformedTarget)
    #expect(requestError("OPTIONS *x HTTP/1.1\r\nhost: a\r\n\r\n")?.status == 400)
  }

  // 3.2, Host

  @Test func hostIsRequiredInHTTP11Only() {
    #expect(requestError("GET / HTTP/1.1\r\n\r\n") == .missingHost)
    #expect(requestHead("GET / HTTP/1.0\r\n\r\n")?.fields.isEmpty == true)
  }

  @Test(arguments: ["HTTP/1.1", "HTTP/1.0"])
  func twoHostsAreRefused(version: String) {
    #expect(requestError("GET / \(version)\r\nhost: a\r\nHost: a\r\n\r\n") == .repeatedHost)
  }

  @Test(arguments: [
    "localhost", "localhost:8000", "127.0.0.1:1", "[::1]:8000", "[::1]", "my_host-1.example", "a:",
    "[fe80::1.2.3.4]",
  ])
  func validHostsAreAccepted(host: String) {
    #expect(requestHead("GET / HTTP/1.1\r\nhost: \(host)\r\n\r\n")?.fields.first?.value == host)
  }

  @Test(arguments: [
    "", "a b", "a,b", "a, b", "a/b", "a@b", ":80", "a:b", "a:80:80", "[::1", "::1", "[]", "[::1]x",
    "a:123456", "a?b",
    "a#b", "é", "[::z]", "http://a",
  ])
  func malformedHostsAreRefused(host: String) {
    #expect(requestError("GET / HTTP/1.1\r\nhost: \(host)\r\n\r\n") == .malformedHost)
  }
}
