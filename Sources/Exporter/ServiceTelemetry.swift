// The telemetry of one service, put together from its environment: log writer, exporter, books.

package import Base
internal import EventLoop
internal import Glibc
internal import Logging
package import Telemetry

/// Owns the threads behind a service's log lines and spans. End it with ``shutdown(within:)``.
package final class ServiceTelemetry: Sendable {
  package let outputs: TelemetryOutputs
  /// True while trace ids are made: when JSONL logs, the export of spans or an archive are on.
  package let hasTraceContext: Bool
  /// Formats of the headers that carry traces.
  package let propagators: Propagators
  /// What is kept although a sampler said no.
  package let keep: TraceKeep
  /// True while spans are recorded.
  package let recordsSpans: Bool
  private let exporter: SpanExporter?
  private let requestTraces: RequestTraceWriter?
  private let metrics: (export: SignalExport, reader: MetricReader)?
  private let logRecords: (export: SignalExport, writer: LogWriter)?
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
    let logExport = try ExporterConfiguration.from(environment: environment, version: version, signal: .logs)
    var configuration = LogConfiguration(environment: environment, utcOffset: zone)
    configuration.isColoured = isatty(2) == 1 && LogConfiguration.wantsColours(environment: environment)
    configuration.isExported = logExport.configuration != nil
    let resource = TelemetryResource(
      environment: environment, defaultName: defaultName, version: version, instanceID: instanceID)
    let writer = try Self.console(configuration)
    self.writer = writer
    var sink: any LogSink = writer
    if let export = logExport.configuration {
      // Its own lines stay here: each of them would make another.
      let console = LogOutput(configuration: configuration, sink: writer) { Machine.wallNanoseconds }
      let logs = try SignalExport(
        export, resource: resource, logger: console.logger("\(LogTarget.exporter)"), registry: registry)
      let records = try LogWriter(
        output: LogRecordOutput(logs.exporter, ledger: logs.ledger), thread: "log-records"
      ) { _ in [] }
      registry.observe(.logRecordsLost, .counter) { Double(records.droppedLines) }
      logRecords = (logs, records)
      sink = LogTee(writer, records)
    } else {
      logRecords = nil
    }
    let log = LogOutput(configuration: configuration, sink: sink) { Machine.wallNanoseconds }
    let ledger = SpanLedger()
    registry.registerProcess(service: defaultName, version: version)
    registry.observe(.logLinesDropped, .counter) { Double(writer.droppedLines) }
    let settings = try ExporterConfiguration.from(environment: environment, version: version)
    registry.register(ledger, hasSpool: settings.configuration?.spool != nil)
    let logger = log.logger("\(LogTarget.exporter)")
    var warnings = configuration.warnings + settings.warnings + logExport.warnings
    propagators = Propagators(parsing: environment[EnvironmentName.propagators] ?? "", warnings: &warnings)
    metrics = try Self.metrics(environment, version, resource, registry, logger, &warnings)
    keep = TraceKeep(parsing: environment[EnvironmentName.traceKeep] ?? "", warnings: &warnings)
    let tracing = RequestTraceConfiguration.from(environment: environment, warnings: &warnings)
    var publisherLimits = SpanPublisher.Limits()
    if settings.configuration != nil || archive != nil {
      publisherLimits.span = SpanLimits.from(environment: environment, warnings: &warnings)
    }
    for warning in warnings { logger.warning("\(warning)") }
    var exporter: SpanExporter?
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
    requestTraces =
      try recordsRequests ? tracing.map { try RequestTraceWriter($0, log: log, console: writer) } : nil
    requestTraces?.register(on: registry)
    let kept = archive?.sink(resource: resource, ledger: exporter == nil ? ledger : nil)
    var spanSink: (any SpanSink)? = exporter
    if let kept { spanSink = exporter.map { SpanTee($0, kept) } ?? kept }
    recordsSpans = spanSink != nil
    outputs = TelemetryOutputs(
      spanSink: spanSink, ledger: ledger, log: log, publisherLimits: publisherLimits,
      requestTraces: requestTraces)
    if case .jsonl = configuration.format {
      hasTraceContext = true
    } else {
      hasTraceContext = spanSink != nil
    }
  }

  /// The writer of stderr.
  private static func console(_ configuration: LogConfiguration) throws -> LogWriter {
    let output: any LineOutput =
      configuration.rendersLater
      ? ConsoleOutput(coloured: configuration.isColoured) : DescriptorOutput(2)
    return try LogWriter(output: output) { count in
      LogOutput.droppedLine(count, configuration: configuration, at: Machine.wallNanoseconds)
    }
  }

  /// The export of metrics, where it is asked for.
  private static func metrics(
    _ environment: [String: String], _ version: String, _ resource: TelemetryResource,
    _ registry: MetricRegistry, _ logger: Logger, _ warnings: inout [String]
  ) throws -> (SignalExport, MetricReader)? {
    let settings = try ExporterConfiguration.from(
      environment: environment, version: version, signal: .metrics)
    warnings += settings.warnings
    guard let configuration = settings.configuration else { return nil }
    let export = try SignalExport(configuration, resource: resource, logger: logger, registry: registry)
    let reader = try MetricReader(
      registry, export.exporter, ledger: export.ledger, interval: configuration.metricInterval)
    return (export, reader)
  }

  /// Sends what waits, says how the books closed, and writes the last lines. All signals have `timeout` together: spans
  /// and metrics go at the same time, and log records, which tell how those ended, keep a fifth of it.
  package func shutdown(within timeout: Nanoseconds) {
    let deadline = Machine.monotonicNanoseconds + timeout
    let first = logRecords == nil ? timeout : timeout - timeout / 5
    let logger = outputs.log.logger("\(LogTarget.exporter)")
    exporter?.beginShutdown(within: first)
    metrics?.reader.stop()
    metrics?.export.exporter.beginShutdown(within: first)
    requestTraces?.stop(within: first)
    if let exporter {
      exporter.endShutdown()
      logger.info("span export closed", metadata: books(of: exporter))
    }
    metrics?.export.endShutdown(logger: logger)
    if let logRecords {
      let now = Machine.monotonicNanoseconds
      let left = max(deadline > now ? deadline - now : 0, timeout / 5)
      _ = logRecords.writer.stop(within: left)
      logRecords.export.exporter.beginShutdown(within: left)
      // What is said from here on stays on stderr.
      logRecords.export.endShutdown(logger: logger)
    }
    _ = writer.stop(within: second)
  }

  /// How the spans' books closed.
  private func books(of exporter: SpanExporter) -> Logger.Metadata {
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
    return books
  }
}
