// Requests for routes or methods that do not exist: an error, a trace, a log line.

internal import Base
internal import EventLoop
internal import HTTP
internal import OpenAI
internal import Transport

/// Answers one request with an error that its head alone decided.
final class ErrorExchange: ServerExchangeHandler {
  private let service: FrontendLoop
  private let exchange: any ServerExchange
  private let error: APIError
  private let format: ErrorFormat
  private let trace: PlainTrace
  private var hasEnded = false

  init(
    service: FrontendLoop, exchange: any ServerExchange, head: RequestHead, began: Nanoseconds,
    _ error: APIError
  ) {
    self.service = service
    self.exchange = exchange
    self.error = error
    // What Anthropic's SDKs read is told on their paths, whatever was wrong with the request.
    let isAnthropic = service.configuration.enablesAnthropic && Route.endpoint(head.path)?.isAnthropic == true
    format = isAnthropic ? .anthropic : service.configuration.errorFormat
    trace = PlainTrace(head, from: exchange, began: began, on: service)
    answer()
  }

  func received(body: UnsafeRawBufferPointer) {}
  func receivedEnd() {}
  func drained() {}

  private func answer() {
    var fields = ByteBuffer(capacity: 256)
    error.appendFields(to: &fields)
    trace.appendFields(to: &fields)
    var body = ByteBuffer(capacity: 256)
    error.write(into: &body, format: format)
    exchange.respond(status: error.status, fields: fields.readable, body: .length(body.count))
    exchange.send(body.readable)
    exchange.finish(trailers: UnsafeRawBufferPointer(start: nil, count: 0))
  }

  func ended(_ end: EndOfStream) {
    guard !hasEnded else { return }
    hasEnded = true
    trace.recordSpans(status: error.status, route: "", on: service)
    trace.recordLine(status: error.status, on: service)
  }
}
