// A whole answer but for its body, as all three servers send it.

internal import Base
internal import HTTP
internal import Transport

/// Status and header fields of an answer whose body is at hand.
struct TextAnswer {
  var status = 200
  var contentType: StaticString = "application/json"
  /// Further fields as `name: value CRLF` lines.
  var fields: StaticString = ""

  static func text(_ status: Int) -> TextAnswer {
    TextAnswer(status: status, contentType: "text/plain; charset=utf-8")
  }

  func send(_ body: UnsafeRawBufferPointer, to exchange: any ServerExchange) {
    var lines = ByteBuffer(capacity: 512)
    lines.header("content-type", contentType)
    // Answers are strangers' text in part: nobody is to guess at their type.
    lines.append("x-content-type-options: nosniff\r\n" as StaticString)
    if fields.utf8CodeUnitCount > 0 {
      lines.append(fields)
    } else {
      lines.append("cache-control: no-store\r\n" as StaticString)
    }
    exchange.respond(status: status, fields: lines.readable, body: .length(body.count))
    exchange.send(body)
    exchange.finish(trailers: UnsafeRawBufferPointer(start: nil, count: 0))
  }
}

/// The handler of a request that was answered on sight: its body is of no interest.
final class AnsweredRequest: ServerExchangeHandler {
  // One object without state serves every loop.
  nonisolated(unsafe) static let shared = AnsweredRequest()

  func received(body: UnsafeRawBufferPointer) {}
  func receivedEnd() {}
  func drained() {}
  func ended(_ end: EndOfStream) {}
}
