// Gathers the spans of finished requests on one loop into batches for the exporter.

package import Base

/// Collects span bytes on one event loop and publishes them when a batch is full or has waited long enough.
///
/// Loop-confined and told the time: call ``tick(now:)`` from a timer at ``deadline``. No request pays a
/// wake-up of the exporter.
package final class SpanPublisher {
  /// Bounds of one batch.
  package struct Limits: Sendable {
    /// Bytes after which a batch is published. One request's spans are never split.
    package var batchBytesMax = 65_536
    /// Spans after which a batch is published.
    package var batchSpansMax = 512
    /// Time that a finished span may wait for company.
    package var delay: Nanoseconds = 200 * millisecond

    package init() {}
  }

  private let sink: any SpanSink
  private let ledger: SpanLedger
  private let limits: Limits
  private var pending = ByteBuffer()
  private var pendingSpanCount = 0

  /// When ``tick(now:)`` is due, on the monotonic clock; nil while nothing waits.
  package private(set) var deadline: Nanoseconds?

  package init(sink: any SpanSink, ledger: SpanLedger, limits: Limits = Limits()) {
    self.sink = sink
    self.ledger = ledger
    self.limits = limits
  }

  /// Takes the finished spans of `writer`, counts them as made, and empties it.
  ///
  /// - Parameter now: the monotonic time.
  package func collect(_ writer: inout SpanWriter, now: Nanoseconds) {
    let spanCount = writer.spanCount
    guard spanCount > 0 else { return }
    ledger.recordMade(spanCount)
    let bytes = writer.bytes
    if pendingSpanCount > 0, pending.count + bytes.count > limits.batchBytesMax { publish() }
    pending.append(bytes)
    pendingSpanCount += spanCount
    writer.removeAll()
    if pending.count >= limits.batchBytesMax || pendingSpanCount >= limits.batchSpansMax {
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
    guard pendingSpanCount > 0 else { return }
    let batch = SpanBatch(bytes: pending.bytes, spanCount: pendingSpanCount)
    pendingSpanCount = 0
    // A loop that goes quiet keeps one batch's memory at most.
    if pending.capacity > 2 * limits.batchBytesMax {
      pending.release()
    } else {
      pending.removeAll()
    }
    sink.publish(batch)
  }
}
