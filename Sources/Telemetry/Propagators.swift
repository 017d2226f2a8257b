// Which headers carry a trace from process to process (`OTEL_PROPAGATORS`), and how they are read and written.

package import Base

/// A header field of one of the formats, as the program that has the head is asked for it.
package enum PropagationField: UInt8, Sendable, CaseIterable {
  case traceparent, b3, b3TraceID, b3SpanID, b3Sampled, b3Flags
}

/// What a caller's headers say of the trace that a request belongs to.
package struct CallerContext: Sendable, Equatable {
  /// The caller's span; nil when none came, or none that is valid.
  package var span: SpanContext?
  /// What the caller decided about recording; nil leaves it to the receiver.
  package var isSampled: Bool?
  /// B3's wish for a trace to be kept whatever samplers say; it is passed on.
  package var isDebug = false
  /// The context came by `traceparent`, so `tracestate` belongs to it.
  package var hasTraceState = false

  package init() {}

  /// Nothing came.
  package var isEmpty: Bool { span == nil && isSampled == nil && !isDebug && !hasTraceState }
}

/// The formats in use. By default W3C Trace Context and W3C Baggage (OpenTelemetry SDK environment variables).
package struct Propagators: Sendable, Equatable {
  /// `tracecontext`: `traceparent` and `tracestate`.
  package private(set) var usesTraceContext = true
  /// `baggage`.
  package private(set) var usesBaggage = true
  /// `b3`: written as the single header.
  package private(set) var writesSingleB3 = false
  /// `b3multi`: written as `x-b3-…` headers.
  package private(set) var writesMultiB3 = false
  /// B3 was named behind Trace Context: where a request carries both, the last named wins, as if each format in turn
  /// overwrote what those before it had found (OpenTelemetry propagators, "Composite Extract").
  package private(set) var prefersB3 = false

  package init() {}

  /// Reads names with commas between: `tracecontext`, `baggage`, `b3`, `b3multi`, or `none` alone.
  ///
  /// - Parameter warnings: gets a message for each name that is none of these, which is left out. When none is left,
  ///   the default stays.
  package init(parsing text: String, warnings: inout [String]) {
    var read = Propagators()
    read.usesTraceContext = false
    read.usesBaggage = false
    var isKnown = false
    for part in text.split(separator: ",") {
      let name = part.filter { $0 != " " && $0 != "\t" }.lowercased()
      switch name {
      case "": continue
      case "none": break
      case "tracecontext":
        // A name that comes again changes nothing.
        if !read.usesTraceContext { read.prefersB3 = false }
        read.usesTraceContext = true
      case "baggage": read.usesBaggage = true
      case "b3":
        if !read.usesB3 { read.prefersB3 = true }
        read.writesSingleB3 = true
      case "b3multi":
        if !read.usesB3 { read.prefersB3 = true }
        read.writesMultiB3 = true
      default:
        warnings.append(
          "\(EnvironmentName.propagators) names a format that is none of tracecontext, baggage, b3, b3multi, none: "
            + "\(part)")
        continue
      }
      isKnown = true
    }
    self = isKnown ? read : Propagators()
  }

  /// B3 is read, in either form.
  package var usesB3: Bool { writesSingleB3 || writesMultiB3 }

  /// What the request's headers say. `first` gives the value of the first field of that name.
  ///
  /// - Parameter traceparentCount: how often `traceparent` came.
  package func extract(
    traceparentCount: Int, _ first: (PropagationField) -> UnsafeRawBufferPointer?
  ) -> CallerContext {
    var b3 = CallerContext()
    if usesB3, prefersB3 {
      b3 = B3.read(first)
      if b3.span != nil { return b3 }
    }
    if usesTraceContext, let value = first(.traceparent),
      let span = TraceParent.parse(value, fieldCount: traceparentCount)
    {
      var found = CallerContext()
      found.span = span
      found.isSampled = span.isSampled
      found.hasTraceState = true
      return found
    }
    return usesB3 && !prefersB3 ? B3.read(first) : b3
  }

  /// Appends the header lines by which `span` becomes the parent of what the receiver does.
  package func inject(
    _ span: SpanContext, isDebug: Bool, traceState: [UInt8], into lines: inout ByteBuffer
  ) {
    if usesTraceContext {
      lines.append("traceparent: " as StaticString)
      lines.append(traceparent: span)
      lines.append("\r\n" as StaticString)
      if !traceState.isEmpty {
        lines.append("tracestate: " as StaticString)
        lines.append(traceState)
        lines.append("\r\n" as StaticString)
      }
    }
    if writesSingleB3 { B3.writeSingle(span, isDebug: isDebug, into: &lines) }
    if writesMultiB3 { B3.writeMulti(span, isDebug: isDebug, into: &lines) }
  }
}
