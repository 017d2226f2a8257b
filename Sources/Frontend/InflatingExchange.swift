// A request whose body is compressed: between connection and application, it hands on what the body expands to.

internal import Base
internal import EventLoop
internal import HTTP
internal import OpenAI
internal import Transport

/// Answers a request before its body is whole.
protocol RefusingHandler: ServerExchangeHandler {
  func refuse(_ error: APIError)
}

extension InferenceExchange: RefusingHandler {}
extension PooledExchange: RefusingHandler {}

/// Inflates a body piece by piece, no faster than the application takes it. What it expands to is bounded by the limit of
/// bodies, and by a ratio that no text reaches: past either it is refused as too large.
final class InflatingExchange: ServerExchange, ServerExchangeHandler, TickHandler {
  /// Compressed bytes that are inflated at once: they expand to a thousand times that at most.
  private static let stepBytes = 64
  /// Once it has made so much, inflating lets others have their turn; a loop comes back to it up to eight times in one
  /// wake-up, and then in the next.
  static let turnBytes = 32 << 10
  /// A body may expand to this many times its length …
  static let ratioMax = 200
  /// … once it is longer than this.
  static let ratioFreeBytes = 1 << 20

  private let exchange: any ServerExchange
  private let bytesMax: Int
  private var inflater: GzipInflater?
  private var handler: (any RefusingHandler)?
  /// Compressed bytes that the application is not ready for: no more than one read brings.
  private var pending = ByteBuffer()
  /// By the application.
  private var isPaused = false
  /// It is others' turn.
  private var isResting = false
  private var bodyHasEnded = false
  private var isDone = false
  private var consumed = 0
  private var produced = 0
  private var isQueued = false

  init(_ exchange: any ServerExchange, bytesMax: Int) {
    self.exchange = exchange
    self.bytesMax = bytesMax
  }

  /// Hands the body to `handler`, which was made with this as its exchange.
  func begin(_ handler: any RefusingHandler) {
    self.handler = handler
    // It may have been refused by its head alone.
    guard !isDone else { return }
    do throws(GzipError) {
      inflater = try GzipInflater(outputBytesMax: bytesMax)
    } catch {
      refuse(.overloaded(status: 529, .bodyMemory))
    }
  }

  // MARK: The connection's side

  func received(body bytes: UnsafeRawBufferPointer) {
    guard !isDone else { return }
    pending.append(bytes)
    inflate()
  }

  func receivedEnd() {
    guard !isDone else {
      handler?.receivedEnd()
      return
    }
    bodyHasEnded = true
    inflate()
  }

  private func inflate() {
    guard let inflater, !isResting else { return }
    var out = ByteBuffer()
    var made = 0
    while !isDone, !isPaused, !pending.isEmpty {
      guard made < Self.turnBytes else { return rest() }
      let count = min(Self.stepBytes, pending.count)
      do throws(GzipError) {
        try inflater.receive(pending.readable.slice(0..<count), into: &out)
      } catch {
        return refuse(Self.error(error, bytesMax))
      }
      pending.consume(count)
      consumed += count
      produced += out.count
      made += out.count
      if produced > Self.ratioFreeBytes, produced / Self.ratioMax > consumed {
        return refuse(.bodyTooLarge(limitBytes: bytesMax))
      }
      if !out.isEmpty { handler?.received(body: out.readable) }
      out.removeAll()
    }
    guard !isDone, !isPaused, bodyHasEnded, pending.isEmpty else { return }
    do throws(GzipError) {
      try inflater.finish()
    } catch {
      return refuse(Self.error(error, bytesMax))
    }
    stop()
    handler?.receivedEnd()
  }

  /// Goes on at a later turn; until then no more is read.
  private func rest() {
    isResting = true
    exchange.pauseBody()
    queue()
  }

  private static func error(_ error: GzipError, _ bytesMax: Int) -> APIError {
    switch error {
    case .tooLarge: .bodyTooLarge(limitBytes: bytesMax)
    case .truncated: .malformedRequest(message: "The request body's gzip data ends too early.")
    case .malformed, .library: .malformedRequest(message: "The request body is no gzip data.")
    }
  }

  private func refuse(_ error: APIError) {
    stop()
    handler?.refuse(error)
  }

  /// Nothing more is inflated.
  private func stop() {
    isDone = true
    inflater = nil
    pending.release()
  }

  func drained() { handler?.drained() }

  func stopping() { handler?.stopping() }

  func ended(_ end: EndOfStream) {
    stop()
    let handler = handler
    self.handler = nil
    handler?.ended(end)
  }

  // MARK: The application's side

  func pauseBody() {
    isPaused = true
    exchange.pauseBody()
  }

  func resumeBody() {
    isPaused = false
    if !isResting { exchange.resumeBody() }
    // The application is in the middle of something.
    queue()
  }

  private func queue() {
    guard !isQueued else { return }
    isQueued = true
    loop.atEndOfTick(self)
  }

  func endOfTick() {
    isQueued = false
    let hasRested = isResting
    isResting = false
    inflate()
    if hasRested, !isResting, !isPaused, handler != nil { exchange.resumeBody() }
  }

  func respond(status: Int, fields: UnsafeRawBufferPointer, body: ResponseBody) {
    // What is answered needs no more of its body.
    stop()
    exchange.respond(status: status, fields: fields, body: body)
  }

  var loop: EventLoop { exchange.loop }
  func send(_ bytes: UnsafeRawBufferPointer) { exchange.send(bytes) }
  func finish(trailers: UnsafeRawBufferPointer) { exchange.finish(trailers: trailers) }
  func abort(_ end: EndOfStream) { exchange.abort(end) }
  var outputIsFull: Bool { exchange.outputIsFull }
  func closeAfterResponse() { exchange.closeAfterResponse() }
  var peerAddress: SocketAddress? { exchange.peerAddress }
}
