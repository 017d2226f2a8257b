// How serious a log line is, and which lines an operator wants to see.

internal import Base

/// Dynamo's five levels, and `off` for filters.
@usableFromInline
package enum LogLevel: UInt8, Sendable, Comparable {
  case trace
  case debug
  case info
  case warn
  case error
  case off

  /// The `level` field's value.
  package var text: StaticString {
    switch self {
    case .trace: "TRACE"
    case .debug: "DEBUG"
    case .info: "INFO"
    case .warn: "WARN"
    case .error: "ERROR"
    case .off: "OFF"
    }
  }

  /// Reads a level's name in any case.
  package init?(name: some StringProtocol) {
    switch name.lowercased() {
    case "trace": self = .trace
    case "debug": self = .debug
    case "info": self = .info
    case "warn", "warning": self = .warn
    case "error": self = .error
    case "off": self = .off
    default: return nil
    }
  }

  @inlinable
  package static func < (left: LogLevel, right: LogLevel) -> Bool { left.rawValue < right.rawValue }
}

/// The `target` values of our own lines. A filter names a target or the start of one.
@usableFromInline
package enum LogTarget {
  @inlinable package static var frontend: StaticString { "dynamo_frontend" }
  @inlinable package static var http: StaticString { "dynamo_frontend::http" }
  @inlinable package static var router: StaticString { "dynamo_frontend::router" }
  @inlinable package static var workers: StaticString { "dynamo_frontend::workers" }
  @inlinable package static var exporter: StaticString { "dynamo_telemetry::exporter" }
  @inlinable package static var requestTrace: StaticString { "dynamo_telemetry::request_trace" }
  @inlinable package static var logging: StaticString { "dynamo_telemetry::logging" }
  @inlinable package static var worker: StaticString { "dynamo_worker" }
  /// Dynamo's name for the lines of a request's span.
  @inlinable package static var requestSpan: StaticString { "request_span" }
  @inlinable package static var engine: StaticString { "dynamo_worker::engine" }
  @inlinable package static var traceStore: StaticString { "dynamo_trace_store" }
}

/// Seconds east of UTC at a time in seconds since the Unix epoch: summer time comes and goes.
package typealias UTCOffset = @Sendable (UInt64) -> Int

/// The two forms of a line.
package enum LogFormat: Sendable {
  /// One JSON object a line (DYN_LOGGING_JSONL).
  case jsonl
  /// Text for people.
  case readable
}

/// What is logged, and how it looks. Immutable once read.
package struct LogConfiguration: Sendable {
  package var format: LogFormat
  /// Readable lines have colours. They get them on the writer's thread, from JSON lines.
  package var isColoured = false
  /// Lines are exported as log records too, which are made of JSON lines.
  package var isExported = false
  /// The zone in which times are written (DYN_LOG_USE_LOCAL_TZ); nil for UTC, which ends in `Z`.
  package var utcOffset: UTCOffset?
  /// Lines are written when a request's span opens and closes (DYN_LOGGING_SPAN_EVENTS).
  package var logsSpanEvents = false
  /// The level for targets that no directive names.
  package private(set) var defaultLevel: LogLevel
  /// Targets with a level of their own, longest first, so that the first match is the best one.
  package private(set) var directives: [(target: String, level: LogLevel)]
  /// What could not be read, one message each.
  package private(set) var warnings: [String]

  /// Directives of one filter that are read; more are ignored with a warning.
  private static let directiveCountMax = 64

  /// Logs at `level` and above, whatever the target.
  package init(format: LogFormat = .readable, level: LogLevel = .info, utcOffset: UTCOffset? = nil) {
    self.format = format
    self.utcOffset = utcOffset
    defaultLevel = level
    directives = []
    warnings = []
  }

  /// Whether loops write JSON lines: where that is what is asked for, and where the writer's thread makes others of them.
  var writesJSON: Bool {
    if case .jsonl = format { return true }
    return rendersLater
  }

  /// Whether JSON lines become readable ones on the writer's thread.
  package var rendersLater: Bool {
    if case .jsonl = format { return false }
    return isColoured || isExported
  }

  /// Whether colours are wanted on a terminal: unless `NO_COLOR` (no-color.org), Dynamo's switch or a terminal that
  /// knows none says no.
  package static func wantsColours(environment: [String: String]) -> Bool {
    (environment["NO_COLOR"] ?? "").isEmpty && environment["TERM"] != "dumb"
      && !EnvironmentName.isTrue(environment[EnvironmentName.disableANSI])
  }

  /// Reads `DYN_LOGGING_CONSOLE_FORMAT`, `DYN_LOGGING_JSONL` and `DYN_LOG`.
  ///
  /// - Parameter utcOffset: the local zone, when DYN_LOG_USE_LOCAL_TZ asks for it.
  package init(environment: [String: String], utcOffset: UTCOffset? = nil) {
    self.init(utcOffset: utcOffset)
    let console = environment[EnvironmentName.loggingConsoleFormat]?.lowercased() ?? ""
    switch console {
    case "jsonl": format = .jsonl
    case "readable": format = .readable
    default:
      if !console.isEmpty {
        warnings.append("\(EnvironmentName.loggingConsoleFormat) is readable or jsonl, not \(console)")
      }
      format = EnvironmentName.isTrue(environment[EnvironmentName.loggingJSONL]) ? .jsonl : .readable
    }
    logsSpanEvents = EnvironmentName.isTrue(environment[EnvironmentName.loggingSpanEvents])
    apply(filter: environment[EnvironmentName.log] ?? "")
  }

  /// Applies a filter: `level`, `target=level` or `target:level`, with commas between.
  ///
  /// As in Dynamo, a filter that names targets but no level of its own silences all other targets. Parts that
  /// cannot be read are left out with a warning; if nothing is left, the level stays.
  package mutating func apply(filter: String) {
    var level: LogLevel?
    var found: [(target: String, level: LogLevel)] = []
    for part in filter.split(separator: ",") {
      let part = part.filter { $0 != " " && $0 != "\t" }
      if part.isEmpty { continue }
      if let plain = LogLevel(name: part) {
        level = plain
      } else if let directive = LogConfiguration.directive(part), found.count < Self.directiveCountMax {
        found.removeAll { $0.target == directive.target }
        found.append(directive)
      } else {
        warnings.append("\(EnvironmentName.log) has a part that is not level or target=level: \(part)")
      }
    }
    if let level {
      defaultLevel = level
    } else if !found.isEmpty {
      defaultLevel = .off
    }
    if level != nil || !found.isEmpty {
      directives = found.sorted { $0.target.utf8.count > $1.target.utf8.count }
    }
  }

  /// Takes the levels of `other`, and nothing else.
  mutating func adoptFilter(of other: LogConfiguration) {
    defaultLevel = other.defaultLevel
    directives = other.directives
  }

  private static func directive(_ part: String) -> (target: String, level: LogLevel)? {
    guard !part.contains("["), let separator = part.lastIndex(where: { $0 == "=" || $0 == ":" }) else {
      return nil
    }
    let target = part[..<separator]
    guard let level = LogLevel(name: part[part.index(after: separator)...]), !target.isEmpty else {
      return nil
    }
    return (String(target), level)
  }

  /// Whether lines of `level` about `target` are written.
  package func isEnabled(_ level: LogLevel, target: StaticString) -> Bool {
    if directives.isEmpty { return level >= defaultLevel }
    let bytes = UnsafeRawBufferPointer(start: target.utf8Start, count: target.utf8CodeUnitCount)
    return level >= self.level(of: bytes)
  }

  /// The least level at which `target` is written.
  package func level(ofTarget target: String) -> LogLevel {
    var target = target
    return target.withUTF8 { level(of: UnsafeRawBufferPointer($0)) }
  }

  private func level(of target: UnsafeRawBufferPointer) -> LogLevel {
    for directive in directives where target.starts(with: directive.target.utf8) { return directive.level }
    return defaultLevel
  }
}
