// One stored span, read in place.

internal import Base
internal import Protobuf

/// A span as the query engine sees it: what nearly every query asks for is read at once, attributes are looked up in the
/// bytes. Valid until the store changes.
struct SpanView {
  /// The Span message.
  let message: UnsafeRawBufferPointer
  let origin: SpanOrigin
  private(set) var spanID: UInt64 = 0
  /// 0 for a root.
  private(set) var parentID: UInt64 = 0
  private(set) var name = OTLP.none
  /// SpanKind, 0 to 5.
  private(set) var kind: UInt64 = 0
  /// Wall-clock nanoseconds.
  private(set) var start: UInt64 = 0
  private(set) var end: UInt64 = 0
  /// 0 unset, 1 ok, 2 error.
  private(set) var statusCode: UInt64 = 0
  private(set) var statusMessage = OTLP.none

  init(_ message: UnsafeRawBufferPointer, _ origin: SpanOrigin) {
    self.message = message
    self.origin = origin
    var reader = ProtobufReader(message)
    do throws(ProtobufError) {
      while let field = try reader.next() { take(field) }
    } catch {}
  }

  private mutating func take(_ field: ProtobufField) {
    switch (field.number, field.value) {
    case (2, .bytes(let id)): spanID = OTLP.spanID(id) ?? 0
    case (4, .bytes(let id)): parentID = OTLP.spanID(id) ?? 0
    case (5, .bytes(let text)): name = text
    case (6, .varint(let number)): kind = number
    case (7, .fixed64(let time)): start = time
    case (8, .fixed64(let time)): end = time
    case (15, .bytes(let status)):
      var code: UInt64 = 0
      var text = OTLP.none
      OTLP.forEach(status) { field in
        if field.number == 2 { text = field.bytes ?? text }
        if field.number == 3 { code = field.varint ?? code }
      }
      statusCode = code
      statusMessage = text
    default: break
    }
  }

  /// Length in nanoseconds; 0 when it ended before it began.
  var duration: UInt64 { end > start ? end - start : 0 }

  var isError: Bool { statusCode == 2 }
}
