// One request that changes the state of the frontend: done elsewhere, answered here when it is, and told in the log.

internal import Base
internal import EventLoop
internal import HTTP
internal import JSON
internal import Logging
internal import OpenAI
internal import Transport

/// Has a change done and answers with what came of it.
final class AdminExchange: ServerExchangeHandler {
  /// Longest body: it holds one URL.
  static let bodyBytesMax = 16 * 1024

  private let service: FrontendLoop
  private let exchange: any ServerExchange
  private let route: AdminRoute
  private let administration: any Administration
  private let logger: Logger
  private var body = ByteBuffer()
  private var isOver = false

  init(
    _ service: FrontendLoop, _ exchange: any ServerExchange, _ route: AdminRoute,
    _ administration: any Administration, _ logger: Logger
  ) {
    self.service = service
    self.exchange = exchange
    self.route = route
    self.administration = administration
    self.logger = logger
  }

  func received(body bytes: UnsafeRawBufferPointer) {
    guard !isOver else { return }
    guard body.count + bytes.count <= Self.bodyBytesMax else {
      return refuse(.bodyTooLarge(limitBytes: Self.bodyBytesMax))
    }
    body.append(bytes)
  }

  func receivedEnd() {
    guard !isOver else { return }
    let home = LoopBound(self, of: service.loop)
    let mailbox = service.loop.mailbox
    let done: @Sendable (AdminOutcome) -> Void = { outcome in
      mailbox.submit { home.open(on: $0).done(outcome) }
    }
    switch route {
    case .drain(let worker, let isDraining): administration.drain(worker, isDraining, done)
    case .removeWorker(let worker): administration.removeWorker(worker, done)
    case .addWorker:
      guard let url else { return refuse(.missing("url")) }
      administration.addWorker(url, done)
    case .reload:
      administration.reload()
      answer(202, .members([("status", .string("reloading"))]))
    case .wrongMethod: refuse(.internalError)
    }
  }

  func drained() {}

  func ended(_ end: EndOfStream) { isOver = true }

  /// The member `url` of the body; nil when there is none.
  private var url: String? {
    let bytes = body.readable
    do throws(JSONError) {
      var scanner = JSONScanner(bytes)
      guard try scanner.objectOrSkip() else { return nil }
      var url: String?
      while let key = try scanner.nextKey() {
        if key.equals("url", in: bytes) {
          url = try scanner.stringOrSkip()?.decoded(in: bytes)
        } else {
          try scanner.skipValue()
        }
      }
      try scanner.finish()
      return url
    } catch {
      return nil
    }
  }

  private func done(_ outcome: AdminOutcome) {
    switch (route, outcome) {
    case (_, .unknownWorker):
      refuse(APIError(status: 404, code: "not_found", message: "There is no worker of that id."))
    case (_, .notStatic):
      refuse(
        APIError(
          status: 409, code: "not_static",
          message: "The worker registered itself, or is one address of a name: drain it instead."))
    case (_, .refused(let reason)): refuse(.invalidValue("url", reason: reason))
    case (.drain(let worker, let isDraining), .done):
      say(isDraining ? "a worker is drained" : "a worker is taken back", ["worker_id": "\(worker)"])
      answer(200, .members([("worker_id", .worker(worker)), ("draining", .bool(isDraining))]))
    case (.removeWorker(let worker), .done):
      say("a worker is removed", ["worker_id": "\(worker)"])
      answer(200, .members([("worker_id", .worker(worker)), ("removed", .bool(true))]))
    case (.addWorker, .done):
      say("a worker is added", ["url": "\(url ?? "")"])
      answer(201, .members([("url", .string(url ?? ""))]))
    case (.reload, .done), (.wrongMethod, .done): break
    }
  }

  /// Every change is told, whether or not its caller waited for the answer.
  private func say(_ text: Logger.Message, _ metadata: Logger.Metadata) {
    logger.info(text, metadata: metadata)
  }

  private func refuse(_ error: APIError) {
    guard !isOver else { return }
    var fields = ByteBuffer(capacity: 128)
    error.appendFields(to: &fields)
    var text = ByteBuffer(capacity: 256)
    error.write(into: &text, format: service.configuration.errorFormat)
    send(error.status, fields, text)
  }

  private func answer(_ status: Int, _ value: JSONValue) {
    guard !isOver else { return }
    var fields = ByteBuffer(capacity: 64)
    fields.append("content-type: application/json\r\ncache-control: no-store\r\n" as StaticString)
    var text = ByteBuffer(capacity: 128)
    text.append(value)
    send(status, fields, text)
  }

  private func send(_ status: Int, _ fields: borrowing ByteBuffer, _ text: borrowing ByteBuffer) {
    isOver = true
    exchange.respond(status: status, fields: fields.readable, body: .length(text.count))
    exchange.send(text.readable)
    exchange.finish(trailers: UnsafeRawBufferPointer(start: nil, count: 0))
  }
}
