// The export of metrics and of log records beside that of spans: each has an exporter and books of its own.

import Base
import EventLoop
import Logging
import Telemetry

/// One signal on its way out.
struct SignalExport: Sendable {
  let exporter: SpanExporter
  let ledger = SpanLedger()
  private let signal: ExportSignal

  /// Starts the exporter and shows its books.
  init(
    _ configuration: ExporterConfiguration, resource: TelemetryResource, logger: Logger,
    registry: MetricRegistry
  ) throws {
    signal = configuration.signal
    exporter = SpanExporter(configuration: configuration, resource: resource, ledger: ledger, logger: logger)
    try exporter.start()
    register(on: registry)
    logger.info(
      "\(signal.noun) export is on",
      metadata: [
        "endpoint": "\(configuration.host):\(configuration.port)",
        "protocol": "\(configuration.transport.name)",
      ])
  }

  private func register(on registry: MetricRegistry) {
    let (signal, ledger, exporter) = (signal.label, ledger, exporter)
    registry.observe(.otlpMade, .counter, labels: [("signal", signal)]) { Double(ledger.made) }
    registry.observe(.otlpSent, .counter, labels: [("signal", signal)]) { Double(ledger.sent) }
    registry.collect(.otlpDropped, .counter) { samples in
      for reason in SpanDropReason.allCases where !reason.concernsSpool {
        samples.add(Double(ledger.dropped(reason)), labels: [("signal", signal), ("reason", reason.label)])
      }
    }
    registry.collect(.otlpRequests, .counter) { [weak exporter] samples in
      for (name, calls) in exporter?.state.callsByStatus.sorted(by: { $0.key < $1.key }) ?? [] {
        samples.add(Double(calls), labels: [("signal", signal), ("status", name)])
      }
    }
  }

  /// Waits for the end that was begun with the exporter, and says how the books closed.
  func endShutdown(logger: Logger) {
    exporter.endShutdown()
    logger.info(
      "\(signal.noun) export closed",
      metadata: ["made": "\(ledger.made)", "sent": "\(ledger.sent)", "dropped": "\(ledger.dropped)"])
  }
}
