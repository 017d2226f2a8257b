// RFC 9112 section 6: how a body is framed.

import HTTP
import Testing

@Suite struct RFC9112Section6Tests {
  private func request(_ fields: String, version: String = "HTTP/1.1") -> HeadSnapshot? {
    requestHead("POST / \(version)\r\nhost: a\r\n\(fields)\r\n")
  }

  private func requestFailure(_ fields: String, version: String = "HTTP/1.1") -> HTTP1ParseError? {
    requestError("POST / \(version)\r\nhost: a\r\n\(fields)\r\n")
  }

  // 6.1

  @Test(arguments: ["chunked", "Chunked", "CHUNKED", " chunked\t"])
  func chunkedFramesTheBody(value: String) {
    #expect(request("transfer-encoding:\(value)\r\n")?.framing == "chunked")
  }

  @Test(arguments: [
    "gzip", "identity", "chunked, gzip", "chunked, chunked", "chunked,", ",chunked", "chunked,,", "",
    "xchunked",
    "chunkedx", "chunked;q=1", "\"chunked\"", "chunked\u{a0}", "chunk", "gzip chunked", "c hunked",
  ])
  func chunkedNotAloneAtTheEndIs400(value: String) {
    #expect(requestFailure("transfer-encoding: \(value)\r\n") == .malformedTransferEncoding)
    #expect(
      responseError("HTTP/1.1 200 OK\r\ntransfer-encoding: \(value)\r\n\r\n") == .malformedTransferEncoding)
  }

  @Test(arguments: ["gzip, chunked", "identity, chunked", "foo , chunked", "deflate,gzip,chunked"])
  func codingsThatAreNotImplementedAre501(value: String) {
    let error = requestFailure("transfer-encoding: \(value)\r\n")
    #expect(error == .unsupportedTransferCoding)
    #expect(error?.status == 501)
  }

  @Test func transferEncodingOverSeveralLinesIsOneList() {
    #expect(
      requestFailure("transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n")
        == .malformedTransferEncoding)
    #expect(
      requestFailure("transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n")
        == .malformedTransferEncoding)
    #expect(
      requestFailure("transfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n")
        == .unsupportedTransferCoding)
  }

  @Test func transferEncodingInHTTP10IsRefused() {
    #expect(
      requestFailure("transfer-encoding: chunked\r\n", version: "HTTP/1.0") == .transferEncodingInHTTP10)
    #expect(
      responseError("HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n") == .transferEncodingInHTTP10)
  }

  // 6.2, 6.3

  @Test(arguments: [("0", 0), ("5", 5), ("0005", 5), ("999999999999999999", 999_999_999_999_999_999)])
  func lengthFramesTheBody(value: String, bytes: Int) {
    #expect(request("content-length: \(value)\r\n")?.framing == "length(\(bytes))")
  }

  @Test(arguments: [
    "", "+5", "-5", "5 ,5", "5, 5", "5,5", "5 5", "0x5", "5.0", "1e3", "five", "5;", "٥",
    "9999999999999999999",
    "18446744073709551616", "5\u{b}", "\"5\"",
  ])
  func malformedLengthsAreRefused(value: String) {
    #expect(requestFailure("content-length: \(value)\r\n")?.status == 400)
    #expect(responseError("HTTP/1.1 200 OK\r\ncontent-length: \(value)\r\n\r\n")?.status == 400)
  }

  @Test(arguments: ["5", "6"])
  func secondLengthIsRefused(second: String) {
    let fields = "content-length: 5\r\nContent-Length: \(second)\r\n"
    #expect(requestFailure(fields) == .repeatedContentLength)
    #expect(responseError("HTTP/1.1 200 OK\r\n\(fields)\r\n") == .repeatedContentLength)
  }

  @Test(arguments: [
    "content-length: 5\r\ntransfer-encoding: chunked\r\n",
    "transfer-encoding: chunked\r\ncontent-length: 5\r\n",
    "transfer-encoding: x\r\ncontent-length: 0\r\n",
  ])
  func lengthBesideTransferEncodingIsRefused(fields: String) {
    #expect(requestFailure(fields) == .lengthAndTransferEncoding)
    #expect(responseError("HTTP/1.1 200 OK\r\n\(fields)\r\n") == .lengthAndTransferEncoding)
  }

  @Test func requestWithoutEitherHasNoBody() {
    #expect(request("")?.framing == "none")
    #expect(request("content_length: 5\r\n")?.framing == "none")
  }

  @Test(arguments: [100, 101, 103, 199, 204, 304])
  func responsesOfTheseStatusesHaveNoBody(status: Int) {
    let head = responseHead("HTTP/1.1 \(status) x\r\ncontent-length: 5\r\n\r\n")
    #expect(head?.framing == "none")
    #expect(head?.keepAlive == true)
  }

  @Test func responseToHeadHasNoBody() {
    #expect(responseHead("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", to: .head)?.framing == "none")
    #expect(responseHead("HTTP/1.1 200 OK\r\n\r\n", to: .head)?.keepAlive == true)
  }

  @Test func responseWithoutEitherLastsUntilTheConnectionCloses() {
    let head = responseHead("HTTP/1.1 200 OK\r\n\r\n")
    #expect(head?.framing == "untilClose")
    #expect(head?.keepAlive == false)
  }

  // 6.3 and the decoder

  @Test func bodyByLengthEndsAtItsLength() {
    let outcome = BodyVerifier.decode(Array("hello, next".utf8), .length(5))
    #expect(outcome.text == "hello")
    #expect(outcome.used == 5)
    #expect(outcome.end == .complete)
  }

  @Test func emptyBodiesAreCompleteAtOnce() {
    for framing in [BodyFraming.none, .length(0)] {
      let outcome = BodyVerifier.decode(Array("next".utf8), framing)
      #expect(outcome.used == 0)
      #expect(outcome.end == .complete)
    }
  }

  @Test func bodyUntilCloseEndsWithTheInput() {
    #expect(BodyVerifier.decode(Array("abc".utf8), .untilClose).end == .needMore)
    var decoder = HTTP1BodyDecoder(.untilClose)
    guard case .end = decoder.inputEnded() else {
      Issue.record("a close ends such a body")
      return
    }
    let isComplete = decoder.isComplete
    #expect(isComplete)
  }

  // 8

  @Test(arguments: [BodyFraming.length(5), .chunked])
  func closeBeforeTheEndIsTruncation(framing: BodyFraming) {
    var decoder = HTTP1BodyDecoder(framing)
    guard case .failed(.truncatedBody) = decoder.inputEnded() else {
      Issue.record("truncation went unseen")
      return
    }
    var consumed = 0
    guard
      case .failed(.truncatedBody) = decoder.next(
        UnsafeRawBufferPointer(start: nil, count: 0), consumed: &consumed)
    else {
      Issue.record("a failed decoder stays failed")
      return
    }
  }
}
