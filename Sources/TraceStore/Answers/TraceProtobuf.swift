// A trace as protobuf, for Grafana's back end: the spans go out as the bytes that came.

package import Base
internal import Protobuf

extension ByteBuffer {
  /// Appends tempopb.Trace, which reads as OTLP's TracesData too: field 1 is the list of ResourceSpans.
  package mutating func append(protobufTrace trace: StoredTrace) {
    for group in trace.groups {
      let resource = group.origin.resourceFields.readable
      let scope = group.origin.scopeFields.readable
      let scopeSpans = scope.count + group.entries.count
      append(
        field: 1, messageOf: resource.count + ProtobufSize.field(2, lengthDelimited: scopeSpans))
      append(resource)
      append(field: 2, messageOf: scopeSpans)
      append(scope)
      append(group.entries.readable)
    }
  }

  /// Appends tempopb.TraceByIDResponse: the trace, and the metrics of the look-up.
  package mutating func append(protobufTraceByID trace: StoredTrace?) {
    guard let trace, trace.spanCount > 0 else {
      // An empty trace and no metrics, both present.
      append(field: 1, messageOf: 0)
      append(field: 2, messageOf: 0)
      return
    }
    var content = ByteBuffer(capacity: trace.bytes)
    content.append(protobufTrace: trace)
    append(field: 1, bytes: content.readable)
    var metrics = ByteBuffer()
    metrics.append(field: 1, varint: UInt64(trace.bytes))
    append(field: 2, bytes: metrics.readable)
    if trace.refusedCount > 0 {
      append(field: 3, varint: 1)
      append(field: 4, string: "\(trace.refusedCount) spans were refused: the trace is full")
    }
  }
}
