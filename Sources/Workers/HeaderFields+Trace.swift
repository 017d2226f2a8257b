// What of a request's head carries a trace, for both sides of the hop.

package import Base
package import HTTP
package import Telemetry

extension HeaderFields {
  /// What they say of the trace that the request belongs to, by the formats in use.
  package func callerContext(_ propagators: Propagators) -> CallerContext {
    propagators.extract(traceparentCount: count(of: .traceparent)) { field in
      switch field {
      case .traceparent: first(.traceparent)
      case .b3: first(.b3)
      case .b3TraceID: first(.xB3TraceID)
      case .b3SpanID: first(.xB3SpanID)
      case .b3Sampled: first(.xB3Sampled)
      case .b3Flags: first(.xB3Flags)
      }
    }
  }

  /// The caller's `tracestate`, validated; empty when there is none. Several fields join in order (W3C Trace Context
  /// level 2, section 3.3.1). Only of use beside a `traceparent` that was taken.
  package var traceState: [UInt8] {
    guard contains(.tracestate) else { return [] }
    var state = TraceState()
    for index in 0..<count {
      if case .tracestate = self[index].known { state.add(self[index].value) }
    }
    return state.isEmpty ? [] : Array(state.bytes)
  }

  /// Appends the caller's `baggage` as one header line, within the standard's bounds.
  ///
  /// - Returns: how many members were left out.
  package func passBaggage(to lines: inout ByteBuffer) -> Int {
    guard contains(.baggage) else { return 0 }
    var baggage = Baggage()
    let start = lines.count
    lines.append("baggage: " as StaticString)
    for index in 0..<count where !isHopByHop(index) {
      if case .baggage = self[index].known { baggage.add(self[index].value, to: &lines) }
    }
    if baggage.memberCount > 0 {
      lines.append("\r\n" as StaticString)
    } else {
      lines.truncate(to: start)
    }
    return baggage.droppedCount
  }
}

extension Propagators {
  /// True for a field that these formats read and write anew: the caller's own is not passed on as it is.
  package func replaces(_ header: KnownHeader) -> Bool {
    switch header {
    case .traceparent, .tracestate: usesTraceContext
    case .baggage: usesBaggage
    case .b3, .xB3TraceID, .xB3SpanID, .xB3ParentSpanID, .xB3Sampled, .xB3Flags: usesB3
    default: false
    }
  }
}
