// Gathers the spans of finished requests on one loop into batches for the exporter.

package import Base

/// Collects spans on one event loop and publishes them when a batch is full or has waited long enough.
///
/// Loop-confined and told the time: call ``tick(now:)`` from a timer at ``deadline``. No request pays a
/// wake-up of the exporter.
package final class SpanPublisher {
  /// Bounds of one batch.
  package struct Limits: Sendable {
    /// Bytes after which a batch is published. One request's spans are never split, so that it may be larger by them.
    package var batchBytesMax = 49_152
    /// Spans after which a batch is published.
    package var batchSpansMax = 512
    /// Time that a finished span may wait for company.
    package var delay: Nanoseconds = 200 * millisecond
    /// Bounds of each span.
    package var span = SpanLimits()

    package init() {}
  }

  /// Room for the request that fills a batch, so that the last spans do not double the memory.
  private static let lastRequestBytes = 8_192

  private let sink: any SpanSink
  private let ledger: SpanLedger
  private let limits: Limits
  /// The batch in the making; owns no memory between batches.
  private var pending: SpanWriter

  /// When ``tick(now:)`` is due, on the monotonic clock; nil while nothing waits.
  package private(set) var deadline: Nanoseconds?

  package init(sink: any SpanSink, ledger: SpanLedger, limits: Limits = Limits()) {
    self.sink = sink
    self.ledger = ledger
    self.limits = limits
    pending = SpanWriter(limits: limits.span)
  }

  /// Lets `write` write the spans of one finished request into the batch, and counts them as made.
  ///
  /// - Parameter now: the monotonic time.
  package func collect(now: Nanoseconds, _ write: (inout SpanWriter) -> Void) {
    let before = pending.spanCount
    if before == 0 { pending.reserve(limits.batchBytesMax + Self.lastRequestBytes) }
    write(&pending)
    let made = pending.spanCount - before
    guard made > 0 else { return }
    ledger.recordMade(made)
    if pending.bytes.count >= limits.batchBytesMax || pending.spanCount >= limits.batchSpansMax {
      publish()
    } else if deadline == nil {
      deadline = now + limits.delay
    }
  }

  /// Publishes what waits when its time has come.
  package func tick(now: Nanoseconds) {
    if let deadline, now >= deadline { publish() }
  }

  /// Publishes what waits now; called when the loop ends.
  package func publish() {
    deadline = nil
    let spanCount = pending.spanCount
    guard spanCount > 0 else { return }
    sink.publish(SpanBatch(bytes: pending.take(), spanCount: spanCount))
  }
}
