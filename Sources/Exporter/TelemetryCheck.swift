// What `doctor` says of telemetry: receivers, the spool, the files of request-trace records. Nothing is changed.

import Base
import EventLoop
import Glibc
import Telemetry

/// One line of a self-check.
package struct CheckLine: Sendable, Equatable {
  /// How it looks.
  package enum Verdict: Sendable, Equatable {
    case ok
    /// Neither good nor bad.
    case note
    case problem(String)
  }

  package let name: String
  package let verdict: Verdict

  package init(_ name: String, _ verdict: Verdict) {
    self.name = name
    self.verdict = verdict
  }

  /// A check that went well unless there is a `problem`.
  package init(_ name: String, problem: String?) {
    self.init(name, problem.map { .problem($0) } ?? .ok)
  }

  /// As it is printed.
  package var text: String {
    switch verdict {
    case .ok: "ok       \(name)"
    case .note: "note     \(name)"
    case .problem(let cause): "PROBLEM  \(name): \(cause)"
    }
  }

  package var isProblem: Bool {
    if case .problem = verdict { return true }
    return false
  }
}

/// Looks at what a service's telemetry would use.
package enum TelemetryCheck {
  /// All lines, in the order in which they are printed.
  ///
  /// - Parameter defaultName: the service's name where the environment gives none.
  /// - Parameter recordsRequests: whether the service writes request-trace records.
  /// - Parameter now: nanoseconds since the Unix epoch.
  package static func lines(
    environment: [String: String], defaultName: String, version: String, recordsRequests: Bool = false,
    now: UInt64
  ) -> [CheckLine] {
    let resource = TelemetryResource(
      environment: environment, defaultName: defaultName, version: version, instanceID: "")
    var lines = receiver(.traces, environment, version)
    if let spool = spool(environment, version) {
      lines.append(SpoolCheck.line(spool, service: resource.serviceName, now: now))
    }
    lines += receiver(.metrics, environment, version) + receiver(.logs, environment, version)
    if recordsRequests { lines += requestTrace(environment) }
    return lines
  }

  private static func receiver(
    _ signal: ExportSignal, _ environment: [String: String], _ version: String
  ) -> [CheckLine] {
    let name = signal == .traces ? "collector" : "collector of \(signal.label)"
    do throws(ExporterConfigurationError) {
      let found = try ExporterConfiguration.from(environment: environment, version: version, signal: signal)
      let warnings = found.warnings.map { CheckLine($0, .note) }
      guard let export = found.configuration else {
        let isOff = signal == .traces ? [CheckLine("span export is off (OTEL_EXPORT_ENABLED)", .note)] : []
        return warnings + isOff
      }
      return warnings + [
        CheckLine(
          "\(name) \(export.host):\(export.port)", problem: Sockets.whyUnreachable(export.host, export.port))
      ]
    } catch {
      return [CheckLine(name, .problem(error.message))]
    }
  }

  private static func spool(_ environment: [String: String], _ version: String) -> SpoolConfiguration? {
    (try? ExporterConfiguration.from(environment: environment, version: version))?.configuration?.spool
  }

  private static func requestTrace(_ environment: [String: String]) -> [CheckLine] {
    var warnings: [String] = []
    let found = RequestTraceConfiguration.from(environment: environment, warnings: &warnings)
    var lines = warnings.map { CheckLine($0, .note) }
    if let file = found?.file {
      let folder = parent(of: file.prefix)
      lines.append(
        CheckLine("request-trace records in \(file.path(0)) and on", problem: whyUnwritable(folder)))
    }
    return lines
  }

  /// The folder that holds `path`.
  package static func parent(of path: String) -> String {
    guard let slash = path.lastIndex(of: "/") else { return "." }
    return slash == path.startIndex ? "/" : String(path[..<slash])
  }

  /// Why no file can be made in `folder`; nil when one can.
  package static func whyUnwritable(_ folder: String) -> String? {
    var status = stat()
    guard stat(folder, &status) == 0 else { return "\(folder): \(String(cString: strerror(errno)))" }
    guard status.st_mode & S_IFMT == S_IFDIR else { return "\(folder) is no folder" }
    guard access(folder, W_OK | X_OK) == 0 else { return "\(folder): \(String(cString: strerror(errno)))" }
    return nil
  }
}

/// What lies in one service's spool.
private enum SpoolCheck {
  static func line(_ spool: SpoolConfiguration, service: String, now: UInt64) -> CheckLine {
    var status = stat()
    guard stat(spool.folder, &status) == 0 else {
      let name = "spool \(spool.folder), which is made at the start"
      return CheckLine(name, problem: TelemetryCheck.whyUnwritable(TelemetryCheck.parent(of: spool.folder)))
    }
    var files = 0
    var bytes = 0
    var oldest: UInt64?
    let name = SpoolFolder.fileName(service)
    for slot in 0..<SpoolFolder.slotsMax {
      let folder = slot == 0 ? "\(spool.folder)/\(name)" : "\(spool.folder)/\(name).\(slot)"
      for file in SpoolFolder.files(in: folder) {
        files += 1
        bytes += file.bytes
        oldest = min(oldest ?? file.stamp, file.stamp)
      }
    }
    var text = "spool \(spool.folder): \(files) files with \(bytes >> 10) KiB of \(spool.bytesMax >> 20) MiB"
    if let oldest { text += ", the oldest from \(now > oldest ? (now - oldest) / second : 0) s ago" }
    return CheckLine(text, problem: TelemetryCheck.whyUnwritable(spool.folder))
  }
}
