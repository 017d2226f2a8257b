// A server on a played kernel, and an application that does what a test says.

import Base
import EventLoop
import HTTP
import TestSupport

@testable import Transport

/// One request as the application saw it.
final class RecordedExchange: ServerExchangeHandler {
  let exchange: any ServerExchange
  let method: HTTP.Method
  let path: String
  var body: [UInt8] = []
  var isComplete = false
  var drainedCount = 0
  var ends: [EndOfStream] = []
  var onEnd: ((RecordedExchange) -> Void)?
  var onBody: ((RecordedExchange) -> Void)?

  init(_ exchange: any ServerExchange, _ head: RequestHead) {
    self.exchange = exchange
    method = head.method
    path = head.path.text
  }

  func received(body bytes: UnsafeRawBufferPointer) {
    body += bytes
    onBody?(self)
  }

  func receivedEnd() {
    isComplete = true
    onEnd?(self)
  }

  func drained() { drainedCount += 1 }

  func ended(_ end: EndOfStream) { ends.append(end) }

  func respond(_ status: Int, _ text: String) {
    respond(status, .length(text.utf8.count))
    send(text)
    finish()
  }

  func respond(_ status: Int, _ body: ResponseBody) {
    Array("x-test: 1\r\n".utf8).withUnsafeBytes { exchange.respond(status: status, fields: $0, body: body) }
  }

  func send(_ text: String) { Array(text.utf8).withUnsafeBytes { exchange.send($0) } }

  func finish() { exchange.finish(trailers: UnsafeRawBufferPointer(start: nil, count: 0)) }
}

/// Answers by a script, and remembers.
final class ScriptedApplication: ServerApplication {
  var exchanges: [RecordedExchange] = []
  var refusals: [Int] = []
  var slowBodies = 0
  /// Runs as the head arrives.
  var onHead: ((RecordedExchange) -> Void)?
  /// Runs when the request is complete.
  var onRequest: ((RecordedExchange) -> Void)? = { $0.respond(200, "hello") }

  func exchangeBegan(
    _ exchange: any ServerExchange, _ head: RequestHead, began: Nanoseconds
  ) -> any ServerExchangeHandler {
    let recorded = RecordedExchange(exchange, head)
    recorded.onEnd = onRequest
    exchanges.append(recorded)
    onHead?(recorded)
    return recorded
  }

  func endedSlowBody() { slowBodies += 1 }

  func refused(_ refusal: Refusal, body: inout ByteBuffer) {
    refusals.append(refusal.status)
    body.append("{}" as StaticString)
  }
}

/// A loop, a server and one caller's socket, all played.
final class ServerRig {
  static let listener: Int32 = 3
  let kernel = FakeKernel()
  let loop: EventLoop
  let application = ScriptedApplication()
  let server: HTTPServer
  let loads = LoopLoads(count: 1)
  let caller: Int32 = 10

  init(limits: ServerLimits = ServerLimits(), security: SocketSecurity? = nil) throws {
    loop = try EventLoop(index: 0, system: kernel, seed: 1)
    server = HTTPServer(
      loop: loop, application: application, limits: limits, loads: loads, counters: ListenerCounters(),
      security: security)
    try server.listen(on: Self.listener)
    kernel.pendingAccepts[Self.listener] = [caller]
    kernel.queue([(Self.listener, .readable)])
    turn()
  }

  deinit {
    server.cutAll()
    // Exchanges and the server hold each other through the application.
    application.exchanges = []
    loop.close()
  }

  func turn() { loop.turn(patience: 0) }

  /// The caller sends `text` in one piece.
  func send(_ text: String) {
    kernel.input[caller, default: []].append(Array(text.utf8))
    kernel.queue([(caller, .readable)])
    turn()
  }

  /// The caller closes its sending half.
  func close() {
    kernel.input[caller, default: []].append([])
    kernel.queue([(caller, .peerClosed)])
    turn()
  }

  func pass(_ time: Nanoseconds) {
    kernel.time += time
    turn()
  }

  /// What the caller got since the last look.
  func output() -> String { String(decoding: kernel.takeOutput(caller), as: UTF8.self) }

  var isClosed: Bool { kernel.closed.contains(caller) }
}

extension EndOfStream {
  /// The case's name, for comparisons.
  var name: String {
    switch self {
    case .complete: "complete"
    case .failed: "failed"
    case .cancelled: "cancelled"
    case .timedOut: "timedOut"
    }
  }
}
