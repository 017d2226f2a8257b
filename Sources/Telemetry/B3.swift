// B3 propagation, Zipkin's: the single `b3` header and the `x-b3-…` headers (openzipkin/b3-propagation), under the
// rules of OpenTelemetry's propagators specification, "B3 Requirements".

internal import Base

/// Reads and writes both encodings. Ids are lower-case hexadecimal; anything else is as good as no header.
enum B3 {
  /// The single header is tried first, then the others. A decision without ids (`b3: 0`) counts too: the trace begins
  /// here, decided as the caller says.
  static func read(_ first: (PropagationField) -> UnsafeRawBufferPointer?) -> CallerContext {
    if let value = first(.b3), let found = readSingle(value.trimmed) { return found }
    return readMulti(first)
  }

  /// `{trace}-{span}[-{state}[-{parent}]]`, or a state alone; nil when it is neither.
  private static func readSingle(_ value: UnsafeRawBufferPointer) -> CallerContext? {
    var context = CallerContext()
    if value.count == 1 { return context.take(state: value[0]) ? context : nil }
    guard let dash = value.firstIndex(of: UInt8(ascii: "-")),
      let trace = traceID(value.slice(0..<dash)), value.count >= dash + 17,
      let span = Hex.lowercase(value.slice(dash + 1..<dash + 17)), span != 0
    else { return nil }
    let rest = value.slice(dash + 17..<value.count)
    if !rest.isEmpty {
      guard rest.count == 2 || rest.count == 19, rest[0] == UInt8(ascii: "-"), context.take(state: rest[1])
      else { return nil }
      if rest.count == 19 {
        // The caller's own parent: checked, and of no use, because ids are not shared by both sides of a call.
        guard rest[2] == UInt8(ascii: "-"), Hex.lowercase(rest.slice(3..<19)) != nil else { return nil }
      }
    }
    context.setSpan(trace, span)
    return context
  }

  private static func readMulti(_ first: (PropagationField) -> UnsafeRawBufferPointer?) -> CallerContext {
    var context = CallerContext()
    if let flags = first(.b3Flags), flags.trimmed.equals("1") {
      context.isDebug = true
      context.isSampled = true
    } else if let value = first(.b3Sampled)?.trimmed {
      // Tracers from before the specification wrote words.
      if value.equals("1") || value.equalsIgnoringCase("true") { context.isSampled = true }
      if value.equals("0") || value.equalsIgnoringCase("false") { context.isSampled = false }
    }
    if let trace = first(.b3TraceID).flatMap({ traceID($0.trimmed) }),
      let value = first(.b3SpanID)?.trimmed, value.count == 16, let span = Hex.lowercase(value), span != 0
    {
      context.setSpan(trace, span)
    }
    return context
  }

  /// 32 digits, or 16 for the low half of an id whose high half is zero.
  private static func traceID(_ value: UnsafeRawBufferPointer) -> TraceID? {
    switch value.count {
    case 16:
      guard let low = Hex.lowercase(value), low != 0 else { return nil }
      return TraceID(high: 0, low: low)
    case 32:
      guard let high = Hex.lowercase(value.slice(0..<16)), let low = Hex.lowercase(value.slice(16..<32))
      else { return nil }
      let trace = TraceID(high: high, low: low)
      return trace.isValid ? trace : nil
    default: return nil
    }
  }

  /// The parent's id is never sent: both sides of a call have ids of their own.
  static func writeSingle(_ span: SpanContext, isDebug: Bool, into lines: inout ByteBuffer) {
    lines.append("b3: " as StaticString)
    lines.append(span.traceID)
    lines.append(UInt8(ascii: "-"))
    lines.append(hex: span.spanID)
    lines.append(isDebug ? "-d\r\n" : span.isSampled ? "-1\r\n" : "-0\r\n" as StaticString)
  }

  /// Debug implies sampled, which is then not sent beside it.
  static func writeMulti(_ span: SpanContext, isDebug: Bool, into lines: inout ByteBuffer) {
    lines.append("x-b3-traceid: " as StaticString)
    lines.append(span.traceID)
    lines.append("\r\nx-b3-spanid: " as StaticString)
    lines.append(hex: span.spanID)
    lines.append(
      isDebug
        ? "\r\nx-b3-flags: 1\r\n"
        : span.isSampled ? "\r\nx-b3-sampled: 1\r\n" : "\r\nx-b3-sampled: 0\r\n" as StaticString)
  }
}

extension CallerContext {
  /// Takes B3's sampling state; false when it is none.
  fileprivate mutating func take(state: UInt8) -> Bool {
    switch state {
    case UInt8(ascii: "0"): isSampled = false
    case UInt8(ascii: "1"): isSampled = true
    case UInt8(ascii: "d"):
      isSampled = true
      isDebug = true
    default: return false
    }
    return true
  }

  fileprivate mutating func setSpan(_ trace: TraceID, _ id: UInt64) {
    span = SpanContext(traceID: trace, spanID: id, flags: isSampled == true ? SpanContext.sampledFlag : 0)
  }
}
