// The answer of an OTLP/HTTP receiver while it is read, and what it comes to.

import Base
import HTTP

/// Collects one answer within a bound.
struct HTTPReply: ~Copyable {
  /// Bytes of a body that are kept, as they come and as they expand to.
  static let bodyBytesMax = 4 << 20
  /// A longer wait is as good as for ever.
  private static let waitMax: UInt64 = 86_400 * second

  /// Whether the connection may carry another call.
  var keepsAlive = false
  private var status = 0
  private var retryAfter: Nanoseconds?
  private var isProtobuf = false
  private var encoding = Encoding.identity
  private var body = ByteBuffer()
  private var isTooLarge = false

  private enum Encoding {
    case identity
    case gzip
    case other
  }

  init() {}

  /// Notes what a final head says; `wallSeconds` is the time since the Unix epoch, for waits given as a date.
  init(_ head: ResponseHead, wallSeconds: UInt64) {
    keepsAlive = head.keepAlive
    status = head.status
    let fields = head.fields
    if let value = fields.first(.retryAfter) { retryAfter = HTTPReply.wait(value, wallSeconds) }
    if let type = fields.first(.contentType) {
      let name: StaticString = "application/x-protobuf"
      let end = min(type.count, name.utf8CodeUnitCount)
      isProtobuf = type.slice(0..<end).equalsIgnoringCase(name)
    }
    if let coding = fields.first(.contentEncoding), !coding.equalsIgnoringCase("identity") {
      encoding = coding.equalsIgnoringCase("gzip") ? .gzip : .other
    }
  }

  /// `Retry-After`: seconds or a date (RFC 9110 section 10.2.3); nil when it is neither.
  static func wait(_ value: UnsafeRawBufferPointer, _ wallSeconds: UInt64) -> Nanoseconds? {
    if let seconds = value.decimal { return min(UInt64(clamping: seconds), waitMax / second) * second }
    guard let date = HTTPDate.parse(value) else { return nil }
    let now = Int(clamping: wallSeconds)
    return date <= now ? 0 : min(UInt64(date - now), waitMax / second) * second
  }

  /// Keeps a piece of the body, up to the bound.
  mutating func append(_ bytes: UnsafeRawBufferPointer) {
    if isTooLarge { return }
    guard body.count + bytes.count <= HTTPReply.bodyBytesMax else {
      isTooLarge = true
      return body.release()
    }
    body.append(bytes)
  }

  /// What the answer comes to, once it is whole.
  mutating func answer() -> ExportAnswer {
    if isTooLarge { return ExportAnswer(httpStatus: status, unusable: "the reply is over 4 MiB") }
    guard isProtobuf else { return ExportAnswer(httpStatus: status, retryAfter: retryAfter, body: nil) }
    switch encoding {
    case .identity:
      return ExportAnswer(httpStatus: status, retryAfter: retryAfter, body: body.readable)
    case .gzip:
      var expanded = ByteBuffer()
      do throws(GzipError) {
        let inflater = try GzipInflater(outputBytesMax: HTTPReply.bodyBytesMax)
        try inflater.receive(body.readable, into: &expanded)
        try inflater.finish()
      } catch {
        if case .tooLarge = error {
          return ExportAnswer(httpStatus: status, unusable: "the reply is over 4 MiB")
        }
        expanded.removeAll()
      }
      return ExportAnswer(httpStatus: status, retryAfter: retryAfter, body: expanded.readable)
    case .other:
      return ExportAnswer(httpStatus: status, retryAfter: retryAfter, body: nil)
    }
  }
}
