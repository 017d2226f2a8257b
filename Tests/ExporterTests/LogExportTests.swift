// Lines on their way to become log records: what is counted, and what a full queue does.

import Base
import Logging
import Telemetry
import Testing

@testable import Exporter

@Suite struct LogExportTests {
  private let ledger = SpanLedger()

  private func output(queueMax: Int = 100) -> (LogRecordOutput, SpanExporter) {
    var configuration = ExporterConfiguration(.logs, version: "1")
    configuration.queue.spansMax = queueMax
    let exporter = SpanExporter(
      configuration: configuration,
      resource: TelemetryResource(serviceName: "s", serviceVersion: "1", instanceID: "i"), ledger: ledger,
      logger: Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() }))
    return (LogRecordOutput(exporter, ledger: ledger), exporter)
  }

  private func write(_ text: String, to output: LogRecordOutput) -> Int {
    var lines = ByteBuffer()
    lines.append(text)
    return output.write(&lines)
  }

  @Test func linesBecomeRecordsAndOthersAreCountedAsLost() {
    let (output, exporter) = output()
    #expect(write("{\"message\":\"a\"}\nno json\n{\"message\":\"b\"}\n", to: output) == 1)
    #expect(ledger.made == 2)
    #expect(exporter.level.spans == 2)
    #expect(write("\n", to: output) == 1)
    #expect(write("", to: output) == 0)
    #expect(ledger.made == 2)
  }

  @Test func whatFindsNoRoomIsDroppedAndTheBooksClose() {
    let (output, exporter) = output(queueMax: 2)
    #expect(write(String(repeating: "{\"message\":\"a\"}\n", count: 5), to: output) == 0)
    #expect(ledger.made == 5 && ledger.dropped(.queueFull) == 3)
    exporter.shutdown(within: 0)
    #expect(ledger.made == ledger.sent + ledger.dropped)
  }

  @Test func everyLineIsGivenOnceWhereverTheTextIsCut() {
    for text in ["", "\n", "a", "a\n", "a\nb", "a\n\nb\n"] {
      var found: [String] = []
      Array(text.utf8).withUnsafeBytes { LogLines.forEach($0) { found.append($0.text) } }
      var wanted = text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
      if wanted.last == "" { wanted.removeLast() }
      #expect(found == wanted, "\(text)")
    }
  }
}
