// Encoded spans on their way to the exporter, and the door through which they leave this room.

package import Base

/// Finished spans as entries of `ScopeSpans.spans`: tag 2, length, Span, one after the other.
package final class SpanBatch: Sendable {
  /// The entries; several batches may be concatenated into one message.
  package let bytes: FrozenBytes
  /// Spans in ``bytes``.
  package let spanCount: Int

  /// Wraps `bytes`, which hold `spanCount` entries.
  package init(bytes: FrozenBytes, spanCount: Int) {
    self.bytes = bytes
    self.spanCount = spanCount
  }
}

/// Takes batches for delivery. Whoever implements it counts every span as sent or dropped in the ledger.
package protocol SpanSink: AnyObject, Sendable {
  /// Takes `batch` from any thread; never blocks.
  func publish(_ batch: SpanBatch)
}
