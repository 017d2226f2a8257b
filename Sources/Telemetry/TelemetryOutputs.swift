// Where a service's spans and log lines go.

/// The doors through which the spans and log lines of one service leave. Two services may live in one process.
package struct TelemetryOutputs: Sendable {
  /// Takes batches of finished spans; nil when none are recorded.
  package let spanSink: (any SpanSink)?
  package let ledger: SpanLedger
  package let log: LogOutput

  package init(spanSink: (any SpanSink)?, ledger: SpanLedger, log: LogOutput) {
    self.spanSink = spanSink
    self.ledger = ledger
    self.log = log
  }
}
