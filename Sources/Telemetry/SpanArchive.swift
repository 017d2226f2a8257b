// Spans that stay in this process: the door to the embedded trace store, beside or instead of the exporter's.

/// Keeps the spans of the services of this process.
package protocol SpanArchive: AnyObject, Sendable {
  /// A way in for the spans of one service.
  ///
  /// - Parameter ledger: counts each span as sent or dropped; nil where an exporter keeps the books.
  func sink(resource: TelemetryResource, ledger: SpanLedger?) -> any SpanSink
  /// True when `host` and `port` are where the archive itself takes spans: what is sent there would come twice.
  func receives(host: String, port: UInt16) -> Bool
}

/// Gives each batch to two sinks. The first keeps the books.
package final class SpanTee: SpanSink {
  private let first: any SpanSink
  private let second: any SpanSink

  /// Gives batches to `first`, then to `second`.
  package init(_ first: any SpanSink, _ second: any SpanSink) {
    self.first = first
    self.second = second
  }

  package func publish(_ batch: SpanBatch) {
    first.publish(batch)
    second.publish(batch)
  }
}
