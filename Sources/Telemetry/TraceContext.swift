// The identity of a trace and of a span in it, and how new ones are drawn.

package import Base

/// A 128-bit trace id. All zero means "none" and never travels.
package struct TraceID: Sendable, Hashable {
  package let high: UInt64
  package let low: UInt64

  /// Puts an id together from its two halves, most significant first.
  package init(high: UInt64, low: UInt64) {
    self.high = high
    self.low = low
  }

  /// Draws an id that is not all zero.
  package init(using random: inout Xoshiro256) {
    high = random.next()
    low = random.nextNonZero()
  }

  /// True unless all 128 bits are zero.
  package var isValid: Bool { high | low != 0 }

  /// The low 56 bits, which are the random ones (W3C Trace Context level 2) and which samplers read.
  package var randomness: UInt64 { low & (1 << 56 - 1) }
}

/// The part of a span that travels: which trace, which span, and the trace's flags.
package struct SpanContext: Sendable, Equatable {
  /// Bit 0 of the flags: the trace is recorded.
  package static let sampledFlag: UInt8 = 0x01
  /// Bit 1 of the flags: the trace id was drawn at random (W3C Trace Context level 2).
  package static let randomFlag: UInt8 = 0x02

  package let traceID: TraceID
  package let spanID: UInt64
  package let flags: UInt8

  package init(traceID: TraceID, spanID: UInt64, flags: UInt8) {
    self.traceID = traceID
    self.spanID = spanID
    self.flags = flags
  }

  /// Starts a new trace with a random id.
  package init(rootUsing random: inout Xoshiro256, sampled: Bool = true) {
    traceID = TraceID(using: &random)
    spanID = random.nextNonZero()
    flags = SpanContext.randomFlag | (sampled ? SpanContext.sampledFlag : 0)
  }

  /// True when the trace is recorded.
  package var isSampled: Bool { flags & SpanContext.sampledFlag != 0 }

  /// The context of a new span in the same trace, with the same flags.
  package func child(using random: inout Xoshiro256) -> SpanContext {
    SpanContext(traceID: traceID, spanID: random.nextNonZero(), flags: flags)
  }

  /// The same span with the sampled flag set to `sampled`.
  package func sampled(_ sampled: Bool) -> SpanContext {
    let rest = flags & ~SpanContext.sampledFlag
    return SpanContext(
      traceID: traceID, spanID: spanID, flags: sampled ? rest | SpanContext.sampledFlag : rest)
  }
}

extension ByteBuffer {
  /// Appends `id` as 32 lowercase hexadecimal digits.
  package mutating func append(_ id: TraceID) {
    append(hex: id.high)
    append(hex: id.low)
  }
}
