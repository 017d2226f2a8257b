// Where request-trace records go, by Dynamo's variables (docs.nvidia.com/dynamo, "Request Trace Reference", 1.6).

package import Base
import Telemetry

/// The sinks of request-trace records, and which requests are recorded.
package struct RequestTraceConfiguration: Sendable, Equatable {
  /// Nil without the sink `file`.
  package var file: RollingFileConfiguration?
  /// Records go to stderr beside the log lines.
  package var writesToLog = false
  /// Bytes of records that may wait for the disk; past it records are dropped and counted.
  package var bufferBytes = 1 << 20
  /// How long the writer gathers records after the first one.
  package var flushInterval: Nanoseconds = second
  /// Share of requests that are recorded.
  package var ratio = 1.0

  private static let defaultPrefix = "/tmp/dynamo-request-trace"

  /// Reads the variables; nil when records are not asked for. What is wrong is warned of and ignored.
  package static func from(
    environment: [String: String], warnings: inout [String]
  ) -> RequestTraceConfiguration? {
    guard EnvironmentName.isTrue(environment[EnvironmentName.requestTrace]) else { return nil }
    var configuration = RequestTraceConfiguration()
    var file = RollingFileConfiguration(
      prefix: environment[EnvironmentName.requestTracePath].flatMap { $0.isEmpty ? nil : $0 } ?? defaultPrefix
    )
    switch environment[EnvironmentName.requestTraceFormat] {
    case "jsonl": file.compresses = false
    case "jsonl_gz", "", nil: break
    default:
      warnings.append("\(EnvironmentName.requestTraceFormat) is unknown and is ignored; jsonl_gz is used")
    }
    func number(_ name: String, _ range: ClosedRange<Int>) -> Int? {
      guard let text = environment[name], !text.isEmpty else { return nil }
      if let value = Int(text), range.contains(value) { return value }
      warnings.append("\(name) is no number from \(range.lowerBound) to \(range.upperBound) and is ignored")
      return nil
    }
    if let bytes = number(EnvironmentName.requestTraceRollBytes, 1...1 << 40) { file.bytesMax = bytes }
    file.linesMax = number(EnvironmentName.requestTraceRollLines, 1...1 << 40)
    if let files = number(EnvironmentName.requestTraceFiles, 1...100_000) { file.filesMax = files }
    if let bytes = number(EnvironmentName.requestTraceBuffer, 65_536...1 << 30) {
      configuration.bufferBytes = bytes
    }
    if let milliseconds = number(EnvironmentName.requestTraceFlush, 1...3_600_000) {
      configuration.flushInterval = Nanoseconds(milliseconds) * millisecond
    }
    if let text = environment[EnvironmentName.requestTraceRatio], !text.isEmpty {
      if let ratio = Double(text), (0...1).contains(ratio) {
        configuration.ratio = ratio
      } else {
        warnings.append("\(EnvironmentName.requestTraceRatio) is no number from 0 to 1 and is ignored")
      }
    }
    let sinks = environment[EnvironmentName.requestTraceSinks].flatMap { $0.isEmpty ? nil : $0 } ?? "file"
    for sink in sinks.split(separator: ",") {
      switch sink.filter({ $0 != " " }) {
      case "file": configuration.file = file
      case "stderr": configuration.writesToLog = true
      case let name: warnings.append("\(EnvironmentName.requestTraceSinks): there is no sink '\(name)' here")
      }
    }
    return configuration.file == nil && !configuration.writesToLog ? nil : configuration
  }
}
