// What is done to answers of every kind on their way out, by switch: CORS fields, and compression of whole JSON answers.

internal import Base
internal import EventLoop
internal import HTTP
internal import Transport

/// Switches of what callers in browsers, and callers far away, ask for.
package struct CompatibilityOptions: Sendable {
  /// Origins whose pages may read answers; `*` for all. Empty turns CORS off.
  package var corsOrigins: [String] = []
  /// Compress whole JSON answers of at least ``gzipBytesMin`` for callers that take gzip.
  package var compressesAnswers = false
  /// Shorter answers gain nothing.
  package var gzipBytesMin = 1_024
  /// Longer answers go out as they come: an answer is held until it is whole.
  package var gzipBytesMax = 256 << 10
  /// The memory that all of these take together.
  package var held = HeldAnswers.process

  package init() {}

  /// Nothing is done to answers.
  var isOff: Bool { corsOrigins.isEmpty && !compressesAnswers }

  /// Appends what a page may read an answer by whose request could not be read, its origin neither: there is a field that is
  /// right for every request where all origins are allowed, or one is.
  func appendUnasked(to fields: inout ByteBuffer) {
    guard corsOrigins.count == 1, let origin = corsOrigins.first else { return }
    fields.header("access-control-allow-origin", text: origin)
    if origin != "*" { fields.append("vary: origin\r\n" as StaticString) }
  }
}

/// What a page of another origin is told (the Fetch standard, "CORS protocol").
struct CORSAnswer {
  /// Value of `access-control-allow-origin`.
  private let allowed: [UInt8]

  /// Nil when the request has no origin, or one that is not on the list.
  init?(_ fields: HeaderFields, allowed origins: [String]) {
    guard !origins.isEmpty, let origin = fields.first(.origin), fields.count(of: .origin) == 1 else {
      return nil
    }
    if origins.contains("*") {
      allowed = Array("*".utf8)
      return
    }
    let text = origin.text
    guard origins.contains(text) else { return nil }
    allowed = Array(text.utf8)
  }

  /// Fields of every answer: what beside the body a page may read.
  func append(to fields: inout ByteBuffer) {
    allowed.withUnsafeBytes { fields.header("access-control-allow-origin", $0) }
    fields.append(
      """
      access-control-expose-headers: x-request-id, traceresponse, server-timing, x-dynamo-worker-id, retry-after, \
      x-ratelimit-limit-requests, x-ratelimit-limit-tokens, x-ratelimit-remaining-requests, \
      x-ratelimit-remaining-tokens, x-ratelimit-reset-requests, x-ratelimit-reset-tokens\r\n
      """ as StaticString)
  }

  /// Fields of the answer to a preflight, which `head` is: what the page may send.
  func appendPreflight(_ head: RequestHead, methods: String, to fields: inout ByteBuffer) {
    fields.header("access-control-allow-methods", text: methods)
    if let names = head.fields.find("access-control-request-headers"), names.count <= 1_024 {
      // Each is a field name, or the list is not repeated.
      if names.allSatisfy({ Self.isListByte($0) }) { fields.header("access-control-allow-headers", names) }
    }
    fields.append("access-control-max-age: 600\r\n" as StaticString)
  }

  /// Letters, digits and hyphens of names, and what is between them.
  private static func isListByte(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"), UInt8(ascii: ","),
      UInt8(ascii: " "):
      true
    default: false
    }
  }
}

/// An exchange whose answer is edited. The application answers it as any other.
final class EditedExchange: ServerExchange {
  private enum Compression {
    /// The switch is off.
    case off
    /// The caller takes no gzip.
    case identity
    case gzip
    /// The answer is being held until it is whole.
    case holding(status: Int, length: Int)
  }

  private let exchange: any ServerExchange
  private let cors: CORSAnswer?
  private let options: CompatibilityOptions
  private var compression: Compression
  private var heldFields = ByteBuffer()
  private var held = ByteBuffer()

  init(_ exchange: any ServerExchange, _ head: RequestHead, _ options: CompatibilityOptions) {
    self.exchange = exchange
    self.options = options
    cors = CORSAnswer(head.fields, allowed: options.corsOrigins)
    compression =
      !options.compressesAnswers ? .off : ContentCoding.acceptsGzip(head.fields) ? .gzip : .identity
  }

  deinit { if case .holding(_, let length) = compression { options.held.release(length) } }

  func respond(status: Int, fields: UnsafeRawBufferPointer, body: ResponseBody) {
    var text = ByteBuffer(capacity: fields.count + 512)
    text.append(fields)
    cors?.append(to: &text)
    // Whether there is a CORS field depends on the origin too (the Fetch standard, "CORS protocol and HTTP caches").
    if !options.corsOrigins.isEmpty, !options.corsOrigins.contains("*") {
      text.append("vary: origin\r\n" as StaticString)
    }
    if case .length(let length) = body, isWorthwhile(status, length, fields) {
      // Caches must tell the two forms apart (RFC 9110 section 12.5.5).
      text.append("vary: accept-encoding\r\n" as StaticString)
      if case .gzip = compression, options.held.take(length) {
        compression = .holding(status: status, length: length)
        swap(&heldFields, &text)
        return
      }
    }
    exchange.respond(status: status, fields: text.readable, body: body)
  }

  /// Whether this is an answer of the kind that is compressed for whoever takes it.
  private func isWorthwhile(_ status: Int, _ length: Int, _ fields: UnsafeRawBufferPointer) -> Bool {
    if case .off = compression { return false }
    guard status != 206, length >= options.gzipBytesMin, length <= options.gzipBytesMax else { return false }
    return Self.hasLine(fields, beginning: "content-type: application/json")
      && !Self.hasLine(fields, beginning: "content-encoding:")
  }

  private static func hasLine(_ fields: UnsafeRawBufferPointer, beginning prefix: StaticString) -> Bool {
    let length = prefix.utf8CodeUnitCount
    var start = 0
    while start + length <= fields.count {
      if fields.slice(start..<start + length).equalsIgnoringCase(prefix) { return true }
      guard let end = fields[start...].firstIndex(of: UInt8(ascii: "\n")) else { return false }
      start = end + 1
    }
    return false
  }

  func send(_ bytes: UnsafeRawBufferPointer) {
    if case .holding = compression { held.append(bytes) } else { exchange.send(bytes) }
  }

  func finish(trailers: UnsafeRawBufferPointer) {
    if case .holding(let status, let length) = compression { sendHeld(status, length) }
    exchange.finish(trailers: trailers)
  }

  private func sendHeld(_ status: Int, _ length: Int) {
    compression = .off
    options.held.release(length)
    var packed = ByteBuffer()
    // What is short of its promise is left as it is, for the connection to see.
    if held.count == length, (try? Self.compress(held.readable, into: &packed)) != nil, packed.count < length
    {
      heldFields.append("content-encoding: gzip\r\n" as StaticString)
      exchange.respond(status: status, fields: heldFields.readable, body: .length(packed.count))
      exchange.send(packed.readable)
    } else {
      exchange.respond(status: status, fields: heldFields.readable, body: .length(length))
      exchange.send(held.readable)
    }
    held.release()
    heldFields.release()
  }

  private static func compress(_ bytes: UnsafeRawBufferPointer, into out: inout ByteBuffer) throws(GzipError)
  {
    let deflater = try GzipDeflater(level: 4)
    try deflater.append(bytes, to: &out)
    try deflater.finish(into: &out)
  }

  // MARK: As it is

  var loop: EventLoop { exchange.loop }
  func abort(_ end: EndOfStream) { exchange.abort(end) }
  var outputIsFull: Bool { exchange.outputIsFull }
  func pauseBody() { exchange.pauseBody() }
  func resumeBody() { exchange.resumeBody() }
  func closeAfterResponse() { exchange.closeAfterResponse() }
  var peerAddress: SocketAddress? { exchange.peerAddress }
}
