// Span attributes that are the same on many spans, or on several of one request: encoded once, copied often.

internal import Base
internal import Protobuf

/// Attributes in their OTLP form, to be added with ``SpanWriter/attributes(_:)``.
///
/// What is known of an endpoint, a model or a worker goes on every request's spans; copying it costs a tenth of
/// encoding it.
package struct EncodedAttributes: Sendable {
  let bytes: [UInt8]
  /// Attributes in ``bytes``.
  let count: Int
  /// Length of the longest string value.
  private(set) var longestTextBytes = 0

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
    var longest = 0
    forEach { _, value in longest = max(longest, value.text?.count ?? 0) }
    longestTextBytes = longest
  }

  /// One value: its AnyValue whole, and its text when it is a string.
  struct Value {
    let encoded: UnsafeRawBufferPointer
    let text: UnsafeRawBufferPointer?
  }

  /// Gives each key and value.
  func forEach(_ body: (UnsafeRawBufferPointer, Value) -> Void) {
    bytes.withUnsafeBytes { bytes in
      var reader = ProtobufReader(bytes)
      while let attribute = (try? reader.next())?.bytes {
        var pair = ProtobufReader(attribute)
        guard let key = (try? pair.next())?.bytes, let value = (try? pair.next())?.bytes else { return }
        var any = ProtobufReader(value)
        let first = try? any.next()
        body(key, Value(encoded: value, text: first?.number == 1 ? first?.bytes : nil))
      }
    }
  }
}

extension SpanWriter {
  /// Adds attributes that were encoded once for many spans. To spans only, not to their events and links.
  package mutating func attributes(_ encoded: EncodedAttributes) {
    if encoded.longestTextBytes > limits.uncutBytes { return attributes(cutting: encoded) }
    guard let room = admitAttributes(encoded.count, byteCount: encoded.bytes.count) else { return }
    encoded.bytes.withUnsafeBytes { bytes in
      if let source = bytes.baseAddress { room.copyMemory(from: source, byteCount: bytes.count) }
    }
  }

  /// Adds them one by one, for a bound on values that was not known when they were encoded.
  @inline(never)
  private mutating func attributes(cutting encoded: EncodedAttributes) {
    encoded.forEach { key, value in
      guard admitAttribute() else { return }
      let mark = buffer.beginMessage(field: 9)
      buffer.append(field: 1, bytes: key)
      if let text = value.text {
        let valueMark = buffer.beginMessage(field: 2)
        buffer.append(field: 1, bytes: limits.cut(text))
        buffer.endMessage(valueMark)
      } else {
        buffer.append(field: 2, bytes: value.encoded)
      }
      buffer.endMessage(mark)
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
