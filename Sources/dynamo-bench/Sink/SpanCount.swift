// How many spans an OTLP message holds, by walking lengths: no span is decoded.

import Base
import Protobuf

/// Counts entries of `ExportTraceServiceRequest` (OTLP 1.x, trace_service.proto and trace.proto).
enum SpanCount {
  /// Number of spans in `message`; nil when it is no such message.
  static func of(_ message: UnsafeRawBufferPointer) -> Int? {
    do {
      // ExportTraceServiceRequest.resource_spans = 1, ResourceSpans.scope_spans = 2, ScopeSpans.spans = 2.
      return try count(message, [1, 2, 2])
    } catch {
      return nil
    }
  }

  private static func count(
    _ message: UnsafeRawBufferPointer, _ path: ArraySlice<Int>
  ) throws(ProtobufError) -> Int {
    guard let wanted = path.first else { return 1 }
    var reader = ProtobufReader(message)
    var total = 0
    while let field = try reader.next() {
      guard field.number == wanted, let bytes = field.bytes else { continue }
      total += try count(bytes, path.dropFirst())
    }
    return total
  }
}
