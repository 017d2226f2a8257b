// The sinks behind request-trace records: a thread that writes files, and the log.

import Base
import EventLoop
import Logging
import Synchronization
import Telemetry

/// Takes records from the loops and never blocks them.
final class RequestTraceWriter: RequestTraceSink {
  let ratio: Double
  private let writer: LogWriter?
  private let file: RollingFile?
  private let log: (any LogSink)?
  private let taken = Atomic<Int>(0)

  /// Starts the writer's thread where there are files to write. Throws when it cannot be had.
  init(_ configuration: RequestTraceConfiguration, log output: LogOutput, console: any LogSink)
    throws(SystemError)
  {
    ratio = configuration.ratio
    log = configuration.writesToLog ? console : nil
    guard let rolling = configuration.file else {
      writer = nil
      file = nil
      return
    }
    let logger = output.logger("\(LogTarget.requestTrace)")
    let limiter = Mutex(LineLimiter(interval: 60 * second))
    let file = RollingFile(rolling) { cause in
      guard let suppressed = limiter.withLock({ $0.allow(at: Machine.monotonicNanoseconds) }) else { return }
      logger.error(
        "request-trace records are lost", metadata: ["cause": "\(cause)", "suppressed": "\(suppressed)"])
    }
    var limits = LogWriter.Limits()
    limits.bufferBytesMax = configuration.bufferBytes
    limits.gatherMilliseconds = Int32(clamping: configuration.flushInterval / millisecond)
    self.file = file
    writer = try LogWriter(output: file, limits: limits, thread: "request-trace") { _ in [] }
    logger.info("request-trace records are written", metadata: ["prefix": "\(rolling.prefix)"])
  }

  func write(_ lines: UnsafeRawBufferPointer) {
    taken.add(LogWriter.lineCount(lines), ordering: .relaxed)
    writer?.write(lines)
    log?.write(lines)
  }

  func register(on registry: MetricRegistry) {
    registry.observe(.requestTraceRecords, .counter) { [self] in Double(taken.load(ordering: .relaxed)) }
    guard let writer, let file else { return }
    registry.observe(.requestTraceDropped, .counter) { Double(writer.droppedLines) }
    registry.observe(.requestTraceFilesRemoved, .counter) { Double(file.removedFiles) }
  }

  /// Writes what waits, for at most `timeout`, and ends the thread.
  func stop(within timeout: Nanoseconds) { _ = writer?.stop(within: timeout) }
}
