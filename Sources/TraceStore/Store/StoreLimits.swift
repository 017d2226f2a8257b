// Bounds of the trace store, with defaults and reasons.

package import Base

/// What the store holds at most. Past a bound the oldest trace goes, or the new span is refused; both are counted.
package struct StoreLimits: Sendable, Equatable {
  /// Memory of all traces, in bytes: spans as they came, with what is needed to find them.
  package var bytesMax = 64 << 20
  /// How long after its first span a trace is kept.
  package var ageMax: Nanoseconds = 24 * 3600 * second
  /// Memory of one trace. Tempo's own bound is 5 MB; a store that is small keeps at least four traces.
  package var traceBytesMax: Int { min(5 << 20, bytesMax / 4) }
  /// Spans of one trace: what a page can still draw.
  package var traceSpansMax = 20_000
  /// Pairs of resource and scope in one trace, since each of its spans is looked up among them.
  package var traceOriginsMax = 1_024
  /// Bytes of one resource or scope.
  package var originBytesMax = 64 << 10

  /// The defaults.
  package init() {}
}

/// What the store has done since it was made.
package struct StoreCounters: Sendable, Equatable {
  /// Spans taken in.
  package var spansStored = 0
  /// Spans refused because their trace was full.
  package var spansRefused = 0
  /// Messages refused because they are no OTLP, or hold a bad id.
  package var messagesRefused = 0
  /// Traces that made room for newer ones.
  package var tracesEvictedBySize = 0
  /// Traces that were older than the bound.
  package var tracesEvictedByAge = 0
}
