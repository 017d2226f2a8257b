// The telemetry of one service, put together from its environment: log writer, exporter, books.

package import Base
internal import EventLoop
internal import Logging
package import Telemetry

/// Owns the threads behind a service's log lines and spans. End it with ``shutdown(within:)``.
package final class ServiceTelemetry: Sendable {
  package let outputs: TelemetryOutputs
  /// True while trace ids are made: when JSONL logs, the export of spans or an archive are on.
  package let hasTraceContext: Bool
  /// What is kept although a sampler said no.
  package let keep: TraceKeep
  /// True while spans are recorded.
  package let recordsSpans: Bool
  private let exporter: SpanExporter?
  private let requestTraces: RequestTraceWriter?
  private let writer: LogWriter

  /// Starts what the environment asks for and logs its warnings.
  ///
  /// - Parameter archive: keeps the spans in this process as well.
  /// - Parameter recordsRequests: whether this service's requests are those that request-trace records are of.
  /// - Throws: an endpoint that cannot be followed, or a thread that cannot be had.
  package init(
    environment: [String: String], defaultName: String, version: String, registry: MetricRegistry,
    instanceID: String, archive: (any SpanArchive)? = nil,
    recordsRequests: Bool = false
  ) throws {
    let usesLocalTime = EnvironmentName.isTrue(environment[EnvironmentName.logUseLocalTimeZone])
    let zone: UTCOffset? = usesLocalTime ? Machine.utcOffset(at:) : nil
    let configuration = LogConfiguration(environment: environment, utcOffset: zone)
    let writer = try LogWriter { count in
      LogOutput.droppedLine(count, configuration: configuration, at: Machine.wallNanoseconds)
    }
    self.writer = writer
    let log = LogOutput(configuration: configuration, sink: writer) { Machine.wallNanoseconds }
    let ledger = SpanLedger()
    registry.registerProcess(service: defaultName, version: version)
    registry.observe(.logLinesDropped, .counter) { Double(writer.droppedLines) }
    let settings = try ExporterConfiguration.from(environment: environment, version: version)
    registry.register(ledger, hasSpool: settings.configuration?.spool != nil)
    let logger = log.logger("\(LogTarget.exporter)")
    var warnings = configuration.warnings + settings.warnings
    keep = TraceKeep(parsing: environment[EnvironmentName.traceKeep] ?? "", warnings: &warnings)
    let tracing = RequestTraceConfiguration.from(environment: environment, warnings: &warnings)
    var publisherLimits = SpanPublisher.Limits()
    if settings.configuration != nil || archive != nil {
      publisherLimits.span = SpanLimits.from(environment: environment, warnings: &warnings)
    }
    for warning in warnings { logger.warning("\(warning)") }
    var exporter: SpanExporter?
    let resource = TelemetryResource(
      environment: environment, defaultName: defaultName, version: version, instanceID: instanceID)
    if let export = settings.configuration, archive?.receives(host: export.host, port: export.port) == true {
      logger.info(
        "span export is skipped: the endpoint is the trace store of this process, which has the spans already",
        metadata: ["endpoint": "\(export.host):\(export.port)"])
    } else if let export = settings.configuration {
      // A batch that is larger than the queue could never go in whole.
      publisherLimits.batchSpansMax = min(publisherLimits.batchSpansMax, export.queue.spansMax)
      let started = SpanExporter(configuration: export, resource: resource, ledger: ledger, logger: logger)
      try started.start()
      started.register(on: registry)
      exporter = started
      logger.info(
        "span export is on",
        metadata: [
          "endpoint": "\(export.host):\(export.port)", "protocol": "\(export.transport.name)",
          "service": "\(resource.serviceName)",
        ])
    }
    self.exporter = exporter
    requestTraces = try recordsRequests ? tracing.map { try RequestTraceWriter($0, log: log) } : nil
    requestTraces?.register(on: registry)
    let kept = archive?.sink(resource: resource, ledger: exporter == nil ? ledger : nil)
    var sink: (any SpanSink)? = exporter
    if let kept { sink = exporter.map { SpanTee($0, kept) } ?? kept }
    recordsSpans = sink != nil
    outputs = TelemetryOutputs(
      spanSink: sink, ledger: ledger, log: log, publisherLimits: publisherLimits,
      requestTraces: requestTraces)
    if case .jsonl = configuration.format {
      hasTraceContext = true
    } else {
      hasTraceContext = sink != nil
    }
  }

  /// Sends what spans wait for at most `timeout`, says how the books closed, and writes the last lines.
  package func shutdown(within timeout: Nanoseconds) {
    if let exporter {
      exporter.shutdown(within: timeout)
      let ledger = outputs.ledger
      var books: Logger.Metadata = [
        "made": "\(ledger.made)", "sent": "\(ledger.sent)", "dropped": "\(ledger.dropped)",
        "resent": "\(exporter.state.spansResent)",
      ]
      for reason in SpanDropReason.allCases where ledger.dropped(reason) > 0 {
        books["dropped_\(reason.label)"] = "\(ledger.dropped(reason))"
      }
      if exporter.hasSpool {
        books["recovered"] = "\(ledger.recovered)"
        books["spooled"] = "\(ledger.spooled)"
      }
      outputs.log.logger("\(LogTarget.exporter)").info("span export closed", metadata: books)
    }
    requestTraces?.stop(within: timeout)
    _ = writer.stop(within: second)
  }
}
