// The traceparent header, read and written by W3C Trace Context level 2, section 3.2.

package import Base

/// The `traceparent` header: `version-traceid-parentid-flags`.
package enum TraceParent {
  /// Characters of a version 00 value.
  package static let length = 55

  /// The caller's context, or nil when a new trace must be started.
  ///
  /// - Parameter value: the header's value; spaces and tabs around it are ignored.
  /// - Parameter fieldCount: how often the header came; more than once is as good as none (section 4.3).
  ///
  /// Uppercase digits, all-zero ids, version `ff` and version 00 with a tail are invalid. Of a higher version
  /// only the first 55 characters count, and a tail must start with `-`. Flag bits that level 2 does not
  /// define are dropped, so that they leave as zeros.
  package static func parse(_ value: UnsafeRawBufferPointer, fieldCount: Int = 1) -> SpanContext? {
    guard fieldCount == 1 else { return nil }
    let value = value.trimmed
    guard value.count >= length else { return nil }
    guard value[2] == dash, value[35] == dash, value[52] == dash else { return nil }
    guard let version = Hex.lowercase(value.slice(0..<2)), version != 0xff else { return nil }
    if value.count > length {
      guard version != 0, value[length] == dash else { return nil }
    }
    guard let high = number(value, 3), let low = number(value, 19), let spanID = number(value, 36),
      let flags = Hex.lowercase(value.slice(53..<55))
    else { return nil }
    let traceID = TraceID(high: high, low: low)
    guard traceID.isValid, spanID != 0 else { return nil }
    let known = SpanContext.sampledFlag | SpanContext.randomFlag
    return SpanContext(traceID: traceID, spanID: spanID, flags: UInt8(truncatingIfNeeded: flags) & known)
  }

  /// The number in the sixteen digits at `offset`, which lie inside `value`.
  private static func number(_ value: UnsafeRawBufferPointer, _ offset: Int) -> UInt64? {
    guard let high = Hex.number(value.loadUnaligned(fromByteOffset: offset, as: UInt64.self)),
      let low = Hex.number(value.loadUnaligned(fromByteOffset: offset + 8, as: UInt64.self))
    else { return nil }
    return UInt64(high) << 32 | UInt64(low)
  }

  private static var dash: UInt8 { UInt8(ascii: "-") }
}

extension ByteBuffer {
  /// Appends `context` as a version 00 `traceparent` value, which is also the form of `traceresponse`.
  package mutating func append(traceparent context: SpanContext) {
    append("00-" as StaticString)
    append(context.traceID)
    append(UInt8(ascii: "-"))
    append(hex: context.spanID)
    append(UInt8(ascii: "-"))
    append(Hex.digit(context.flags >> 4))
    append(Hex.digit(context.flags & 0xf))
  }
}
