// What one span costs the thread that makes it, from its start to the exporter's queue.

import Base
import EventLoop
import Exporter
import Glibc
import Telemetry

/// Figures of making spans.
struct SpanCost {
  var spans = 0
  /// CPU time of the thread.
  var nanoseconds: UInt64 = 0
  /// In user code and in the kernel; nil where they are not counted.
  var instructions: UInt64?
  /// OTLP bytes.
  var bytes = 0

  var nanosecondsEach: Double { Double(nanoseconds) / Double(max(1, spans)) }
  var instructionsEach: Double? { instructions.map { Double($0) / Double(max(1, spans)) } }
  var bytesEach: Double { Double(bytes) / Double(max(1, spans)) }
}

/// Makes the spans of many requests through a loop's publisher into the queue of an exporter that is not running, so
/// that what is measured is the request's share alone.
struct SpanCostRun {
  let requests: Int

  /// Requests after which the queue is emptied, outside the measurement.
  private static let roundRequests = 10_000

  func run() -> SpanCost {
    // Caches and the allocator as they are in a process that runs.
    _ = measure(min(requests, Self.roundRequests))
    var cost = SpanCost()
    var left = requests
    while left > 0 {
      let count = min(left, Self.roundRequests)
      let round = measure(count)
      cost.spans += round.spans
      cost.nanoseconds += round.nanoseconds
      cost.bytes += round.bytes
      if cost.spans == round.spans {
        cost.instructions = round.instructions
      } else if let sum = cost.instructions, let more = round.instructions {
        cost.instructions = sum + more
      } else {
        cost.instructions = nil
      }
      left -= count
    }
    return cost
  }

  private func measure(_ requests: Int) -> SpanCost {
    var configuration = ExporterConfiguration(version: "0.1.0")
    configuration.queue.spansMax = .max
    configuration.queue.bytesMax = .max
    let ledger = SpanLedger()
    let exporter = SpanExporter(
      configuration: configuration,
      resource: TelemetryResource(serviceName: "dynamo-bench", serviceVersion: "0.1.0", instanceID: "bench"),
      ledger: ledger, logger: quietLogger())
    let publisher = SpanPublisher(sink: exporter, ledger: ledger)
    var sample = SampleRequest()
    let wall = Machine.wallNanoseconds
    let counter = InstructionCounter(ProcessTree(root: getpid()))
    let before = counter.read()
    let began = threadNanoseconds()
    for index in 0..<requests {
      publisher.collect(now: UInt64(index)) { sample.write(to: &$0, now: wall) }
    }
    publisher.publish()
    var cost = SpanCost()
    cost.nanoseconds = threadNanoseconds() - began
    if let before, let after = counter.read() { cost.instructions = after.total - before.total }
    cost.spans = ledger.made
    cost.bytes = exporter.level.bytes
    // Frees what waits.
    exporter.shutdown(within: 0)
    return cost
  }
}

/// CPU time of this thread.
func threadNanoseconds() -> UInt64 {
  var time = timespec()
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
  return UInt64(time.tv_sec) * second + UInt64(time.tv_nsec)
}
