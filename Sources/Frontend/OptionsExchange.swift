// OPTIONS: which methods a route has, and what a page of another origin may send to it (a CORS preflight).

internal import Base
internal import EventLoop
internal import HTTP
internal import Transport

/// Answers one OPTIONS request with 204. It is neither traced nor logged, as the system's routes are not.
final class OptionsExchange: ServerExchangeHandler {
  private let exchange: any ServerExchange
  private var fields = ByteBuffer(capacity: 512)

  /// - Parameter cors: what is told to the page that asks; nil when it may not, or nobody asked.
  init(exchange: any ServerExchange, head: RequestHead, allow: String, cors: CORSAnswer?) {
    self.exchange = exchange
    fields.header("allow", text: allow)
    // The exchange adds the fields of all answers itself.
    cors?.appendPreflight(head, methods: allow, to: &fields)
  }

  func received(body: UnsafeRawBufferPointer) {}
  func drained() {}
  func ended(_ end: EndOfStream) {}

  func receivedEnd() {
    exchange.respond(status: 204, fields: fields.readable, body: .none)
    exchange.finish(trailers: UnsafeRawBufferPointer(start: nil, count: 0))
  }
}
