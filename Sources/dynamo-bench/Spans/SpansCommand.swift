// `dynamo-bench spans`.

internal import ArgumentParser
import EventLoop
import Exporter

/// Measures the code that makes and sends spans: no frontend, no request.
struct SpansCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "spans",
    abstract:
      "Measures what a span costs from its start to the exporter's queue, and how fast the exporter sends.",
    discussion: """
      The spans are those of a chat request in KV mode: five, with the attributes that they have there. Instructions are \
      told where the machine counts them. Without --endpoint a sink in this process receives, on a thread of its own; \
      `dynamo-bench sink` apart leaves the figures of this process to the exporter.
      """)

  @Option(help: "Requests whose spans are made for the cost of one.") var requests = 200_000
  @Option(help: "Spans sent for the exporter's throughput; 0 leaves it out.") var spans = 1_000_000
  @Option(help: "Receiver for OTLP over gRPC: http://HOST:PORT.") var endpoint: String?
  @Option(help: "Most spans of a message.") var batch: Int?
  @Option(help: "Calls at the same time.") var concurrency = 1
  @Flag(help: "Compress messages.") var gzip = false
  @Flag(help: "Print one JSON object.") var json = false

  func validate() throws {
    guard requests > 0, spans >= 0 else { throw ValidationError("numbers must be positive") }
    guard (1...16).contains(concurrency), batch ?? 1 > 0 else {
      throw ValidationError("--concurrency is 1 to 16, --batch at least 1")
    }
  }

  func run() throws {
    let cost = SpanCostRun(requests: requests).run()
    var report = SpansReport(cost: cost)
    if spans > 0 {
      var environment = [
        "OTEL_EXPORT_ENABLED": "true", "DYN_TRACE_EXPORT_CONCURRENCY": "\(concurrency)",
        "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION": gzip ? "gzip" : "none",
      ]
      if let batch { environment["OTEL_BSP_MAX_EXPORT_BATCH_SIZE"] = "\(batch)" }
      let sink = endpoint == nil ? try SinkThread() : nil
      defer { sink?.stop() }
      environment["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] =
        endpoint ?? sink.map { "http://127.0.0.1:\($0.port)" }
      let settings = try ExporterConfiguration.from(environment: environment, version: "0.1.0")
      for warning in settings.warnings { complain(warning) }
      guard let configuration = settings.configuration else { throw ValidationError("nothing to send to") }
      report.export = try SpanExportRun(spans: spans, configuration: configuration).run()
    }
    say(json ? report.json + "\n" : report.text)
    if let export = report.export, export.sent < export.made { throw ExitCode(1) }
  }
}
