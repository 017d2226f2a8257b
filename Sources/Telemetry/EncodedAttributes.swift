// Span attributes that are the same on many spans, or on several of one request: encoded once, copied often.

internal import Base

/// Attributes in their OTLP form, to be added with ``SpanWriter/attributes(_:)``.
///
/// What is known of an endpoint, a model or a worker goes on every request's spans; copying it costs a tenth of
/// encoding it.
package struct EncodedAttributes: Sendable {
  let bytes: [UInt8]
  /// Attributes in ``bytes``.
  let count: Int

  /// Encodes what `write` adds; it must not add events or links.
  package init(_ write: (inout SpanWriter) -> Void) {
    var writer = SpanWriter()
    writer.begin(
      name: "", context: SpanContext(traceID: TraceID(high: 0, low: 0), spanID: 0, flags: 0), kind: .internal,
      start: 0)
    let start = writer.runStart
    write(&writer)
    let run = writer.run(since: start)
    bytes = writer.content(of: run)
    count = run.count
  }
}

extension SpanWriter {
  /// Adds attributes that were encoded once for many spans. To spans only, not to their events and links.
  package mutating func attributes(_ encoded: EncodedAttributes) {
    guard let room = admitAttributes(encoded.count, byteCount: encoded.bytes.count) else { return }
    encoded.bytes.withUnsafeBytes { bytes in
      if let source = bytes.baseAddress { room.copyMemory(from: source, byteCount: bytes.count) }
    }
  }

  /// A run of attributes in this writer, to be repeated on a later span.
  package struct AttributeRun {
    fileprivate var start: Int
    fileprivate var end: Int
    /// Attributes in it; in a start, what the span still took.
    fileprivate(set) var count: Int
  }

  /// Starts a run with the next attribute.
  package var runStart: AttributeRun {
    AttributeRun(start: buffer.count, end: buffer.count, count: attributesLeft)
  }

  /// What was written since `start`.
  package func run(since start: AttributeRun) -> AttributeRun {
    AttributeRun(start: start.start, end: buffer.count, count: start.count - attributesLeft)
  }

  /// The bytes of `run`.
  func content(of run: AttributeRun) -> [UInt8] { Array(buffer.readable[run.start..<run.end]) }

  /// Adds the attributes of `run` again. It is of no use once the finished spans were taken out.
  package mutating func attributes(repeating run: AttributeRun) {
    let byteCount = run.end - run.start
    guard let room = admitAttributes(run.count, byteCount: byteCount),
      let source = buffer.readable.baseAddress
    else { return }
    room.copyMemory(from: source + run.start, byteCount: byteCount)
  }
}
