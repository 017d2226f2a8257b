// swift-log's façade over our own lines, for everything off the hot path.

package import Base
package import Logging
internal import Synchronization

/// Where a process's cold-path lines go: the form, the sink, and the clock that stamps them.
package final class LogOutput: Sendable {
  private let present: Mutex<LogConfiguration>
  package let sink: any LogSink
  private let wallNanoseconds: @Sendable () -> UInt64

  /// - Parameter wallNanoseconds: reads nanoseconds since the Unix epoch.
  package init(
    configuration: LogConfiguration, sink: any LogSink, wallNanoseconds: @escaping @Sendable () -> UInt64
  ) {
    present = Mutex(configuration)
    self.sink = sink
    self.wallNanoseconds = wallNanoseconds
  }

  /// What is logged now, and how it looks.
  package var configuration: LogConfiguration { present.withLock { $0 } }

  /// Whether lines of `level` about `target` are written now.
  package func isEnabled(_ level: LogLevel, target: StaticString) -> Bool {
    present.withLock { $0.isEnabled(level, target: target) }
  }

  fileprivate func level(ofTarget target: String) -> LogLevel {
    present.withLock { $0.level(ofTarget: target) }
  }

  /// Filters by `configuration` from now on; loggers that were made before follow. The form of lines stays.
  package func adoptFilter(of configuration: LogConfiguration) {
    present.withLock { $0.adoptFilter(of: configuration) }
  }

  /// A logger whose lines carry `target`.
  package func logger(_ target: String) -> Logger {
    Logger(label: target, factory: { TelemetryLogHandler(target: $0, output: self) })
  }

  /// The line that tells of `count` lost lines, with its newline; what the writer thread is given to report.
  package static func droppedLine(
    _ count: Int, configuration: LogConfiguration, at time: UInt64
  ) -> [UInt8] {
    var writer = LogRecordWriter(configuration)
    writer.begin(.warn, target: LogTarget.logging, message: "log lines were dropped", at: time)
    writer.field("count", count)
    writer.end()
    return Array(writer.lines)
  }

  fileprivate func write(_ event: LogEvent, target: String, metadata: Logger.Metadata) {
    var writer = LogRecordWriter(configuration)
    var target = target
    var message = event.message.description
    let time = wallNanoseconds()
    target.withUTF8 { target in
      message.withUTF8 { message in
        writer.begin(
          TelemetryLogHandler.level(event.level), target: UnsafeRawBufferPointer(target),
          message: UnsafeRawBufferPointer(message), at: time)
      }
    }
    let fields = metadata.map { key, value in
      (key: LogOutput.reserved.contains(key) ? "field." + key : key, value: LogOutput.value(value))
    }
    for field in fields.sorted(by: { $0.key.utf8.lexicographicallyPrecedes($1.key.utf8) }) {
      writer.field(dynamic: field.key, field.value)
    }
    writer.end()
    writer.flush(to: sink)
  }

  /// Keys that every line has; metadata of the same name would make a JSON object with two of them.
  private static let reserved: Set<String> = ["time", "level", "target", "message", "truncated"]

  /// Numbers stay numbers; lists and dictionaries become text.
  private static func value(_ value: Logger.MetadataValue) -> LogValue {
    switch value {
    case .string(let text): .text(text)
    case .stringConvertible(let number):
      switch number {
      case let number as Int: .int(number)
      case let number as any BinaryInteger: Int(exactly: number).map { .int($0) } ?? .text("\(number)")
      case let number as Double: .double(number)
      case let flag as Bool: .bool(flag)
      default: .text(number.description)
      }
    default: .text(value.description)
    }
  }
}

/// Writes what swift-log is given as lines of our own form.
package struct TelemetryLogHandler: LogHandler {
  package var metadata: Logger.Metadata = [:]
  package var metadataProvider: Logger.MetadataProvider?
  /// The level that the output's filter gives the target, unless somebody chose one for this logger.
  package var logLevel: Logger.Level {
    get { chosenLevel ?? TelemetryLogHandler.level(output.level(ofTarget: target)) }
    set { chosenLevel = newValue }
  }
  private var chosenLevel: Logger.Level?
  private let target: String
  private let output: LogOutput

  /// Logs `target` at the level that the output's filter gives it.
  package init(target: String, output: LogOutput) {
    self.target = target
    self.output = output
  }

  package subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  package func log(event: LogEvent) {
    // swift-log has no level above critical: what is off must be stopped here.
    guard output.level(ofTarget: target) != .off else { return }
    var merged = metadata
    if let provided = metadataProvider?.get() { merged.merge(provided) { $1 } }
    if let given = event.metadata { merged.merge(given) { $1 } }
    if let error = event.error { merged["error"] = "\(error)" }
    output.write(event, target: target, metadata: merged)
  }

  static func level(_ level: Logger.Level) -> LogLevel {
    switch level {
    case .trace: .trace
    case .debug: .debug
    case .info, .notice: .info
    case .warning: .warn
    case .error, .critical: .error
    }
  }

  private static func level(_ level: LogLevel) -> Logger.Level {
    switch level {
    case .trace: .trace
    case .debug: .debug
    case .info: .info
    case .warn: .warning
    case .error: .error
    case .off: .critical
    }
  }
}
