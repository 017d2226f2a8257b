// Log lines on their way to a receiver: gathered by a writer thread, encoded there, handed to their exporter.

import Base
import EventLoop
import Telemetry

/// Makes log records of lines, on the thread of a `LogWriter`.
final class LogRecordOutput: LineOutput {
  private let exporter: SpanExporter
  private let ledger: SpanLedger

  init(_ exporter: SpanExporter, ledger: SpanLedger) {
    self.exporter = exporter
    self.ledger = ledger
  }

  /// Lines that are no JSON objects of ours are counted as lost.
  func write(_ lines: inout ByteBuffer) -> Int {
    defer { lines.removeAll() }
    var out = ByteBuffer(capacity: lines.count)
    var count = 0
    var lost = 0
    let now = Machine.wallNanoseconds
    LogLines.forEach(lines.readable) { line in
      if out.append(logRecordOf: line, observed: now) { count += 1 } else { lost += 1 }
    }
    ledger.recordMade(count)
    exporter.publish(SpanBatch(bytes: FrozenBytes(out), spanCount: count))
    return lost
  }
}

/// Gives lines to two sinks.
final class LogTee: LogSink {
  private let first: any LogSink
  private let second: any LogSink

  init(_ first: any LogSink, _ second: any LogSink) {
    self.first = first
    self.second = second
  }

  func write(_ lines: UnsafeRawBufferPointer) {
    first.write(lines)
    second.write(lines)
  }
}
