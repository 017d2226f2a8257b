// Where a service's spans and log lines go.

/// The doors through which the spans and log lines of one service leave. Two services may live in one process.
package struct TelemetryOutputs: Sendable {
  /// Takes batches of finished spans; nil when none are recorded.
  package let spanSink: (any SpanSink)?
  package let ledger: SpanLedger
  package let log: LogOutput
  /// Takes request-trace records; nil when none are asked for.
  package let requestTraces: (any RequestTraceSink)?
  /// Bounds of the batches that ``spanSink`` is given.
  package let publisherLimits: SpanPublisher.Limits

  package init(
    spanSink: (any SpanSink)?, ledger: SpanLedger, log: LogOutput,
    publisherLimits: SpanPublisher.Limits = SpanPublisher.Limits(),
    requestTraces: (any RequestTraceSink)? = nil
  ) {
    self.requestTraces = requestTraces
    self.spanSink = spanSink
    self.ledger = ledger
    self.log = log
    self.publisherLimits = publisherLimits
  }
}
