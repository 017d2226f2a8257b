// Span attributes that are the same on many spans: encoded once, copied often.

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
