// How many spans a second the exporter delivers when more are always waiting.

import Base
import EventLoop
import Exporter
import Glibc
internal import Logging
import Telemetry

/// Figures of sending spans.
struct SpanExport {
  var made = 0
  var sent = 0
  var dropped = 0
  /// From the first span to the answer to the last message.
  var elapsed: Nanoseconds = 0
  /// CPU time of the process, that of making the spans and of a sink in it included.
  var processor: Nanoseconds = 0

  var spansPerSecond: Double { Double(sent) / Double(max(1, elapsed)) * 1e9 }
}

/// Keeps the exporter's queue between half full and full until all spans are delivered.
struct SpanExportRun {
  let spans: Int
  let configuration: ExporterConfiguration

  /// How long the last spans may take.
  private static let flushTimeout: Nanoseconds = 30 * second

  func run() throws -> SpanExport {
    let ledger = SpanLedger()
    let exporter = SpanExporter(
      configuration: configuration,
      resource: TelemetryResource(serviceName: "dynamo-bench", serviceVersion: "0.1.0", instanceID: "bench"),
      ledger: ledger, logger: quietLogger())
    try exporter.start()
    let publisher = SpanPublisher(sink: exporter, ledger: ledger)
    var sample = SampleRequest()
    let wall = Machine.wallNanoseconds
    let tree = ProcessTree(root: getpid())
    let processor = tree.cpuTime.total
    let began = Machine.monotonicNanoseconds
    while ledger.made < spans {
      let level = exporter.level
      guard level.spans < configuration.queue.spansMax / 2, level.bytes < configuration.queue.bytesMax / 2
      else {
        // The queue is not the bottleneck that is looked for: wait a moment rather than lose spans.
        usleep(200)
        continue
      }
      for _ in 0..<100 { publisher.collect(now: 0) { sample.write(to: &$0, now: wall) } }
    }
    publisher.publish()
    exporter.shutdown(within: Self.flushTimeout)
    var export = SpanExport()
    export.elapsed = Machine.monotonicNanoseconds - began
    export.processor = tree.cpuTime.total - processor
    export.made = ledger.made
    export.sent = ledger.sent
    export.dropped = ledger.dropped
    return export
  }
}

/// A sink on a thread of its own.
final class SinkThread {
  let port: UInt16
  private let mailbox: Mailbox
  private let thread: Thread

  /// What goes to the new thread, which has it alone from then on.
  private struct Handed: @unchecked Sendable {
    // Unchecked: this thread lets go of them before the new one starts.
    let loop: EventLoop
    let sink: Sink
  }

  init() throws(SystemError) {
    let loop = try EventLoop(index: 1, seed: Machine.randomSeed())
    let sink = Sink(loop: loop, faults: SinkFaults())
    port = try sink.listen(host: "127.0.0.1", port: 0)
    mailbox = loop.mailbox
    let handed = Handed(loop: loop, sink: sink)
    thread = try Thread(name: "sink") {
      withExtendedLifetime(handed.sink) { handed.loop.run() }
    }
  }

  func stop() {
    mailbox.submit { $0.stop() }
    thread.join()
  }
}

/// The exporter's own lines would stand between the figures; what is lost is told by its books.
func quietLogger() -> Logger { Logger(label: "spans") { _ in SwiftLogNoOpLogHandler() } }
