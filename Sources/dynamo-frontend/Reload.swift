// SIGHUP: the configuration file is read again, and what is live in it takes effect: all of it, or nothing.

import EventLoop
import Frontend
import Logging
import Routing
import Settings
import Synchronization
import Telemetry
import Workers

/// Something that takes new settings while the process runs. All parts are asked before any takes effect.
struct ReloadPart: Sendable {
  /// What a part has made ready.
  struct Prepared {
    /// What changed beside the settings themselves, for the log: that a file was read anew, as a rule.
    var note: String?
    /// Puts it into force; cannot fail.
    let apply: @Sendable () -> Void
  }

  /// What it is, in the log of a fault.
  let name: String
  /// Files beside the configuration file that it reads, by these settings. Where there is one, SIGHUP has a meaning
  /// without a configuration file too.
  var files: @Sendable (SettingsValues) -> [String] = { _ in [] }
  /// Reads and checks all that the settings name, and changes nothing. Throws what is wrong.
  let prepare: @Sendable (SettingsValues) throws -> Prepared
}

/// Reads the configuration file, and the files that it names, again. A file with faults changes nothing.
final class Reload: Sendable {
  private let arguments: [String]
  private let environment: [String: String]
  private let parts: [ReloadPart]
  private let perform: @Sendable (@escaping @Sendable () -> Void) -> Void
  private let manager: ServiceManager?
  private let logger: Logger
  private let successes: Counter
  private let failures: Counter
  /// The settings in force.
  private let settings: Mutex<SettingsValues>

  /// - Parameters:
  ///   - settings: what the process started with, read from `arguments` and `environment`.
  ///   - perform: runs work on a thread that may wait for a disk, one piece after the other.
  init(
    _ settings: SettingsValues, arguments: [String], environment: [String: String], parts: [ReloadPart],
    manager: ServiceManager?, logger: Logger, registry: MetricRegistry,
    perform: @escaping @Sendable (@escaping @Sendable () -> Void) -> Void
  ) {
    self.arguments = arguments
    self.environment = environment
    self.parts = parts
    self.perform = perform
    self.manager = manager
    self.logger = logger
    successes = registry.counter(.reloads, labels: [("result", "success")])
    failures = registry.counter(.reloads, labels: [("result", "failure")])
    self.settings = Mutex(settings)
  }

  /// Has it done elsewhere: a loop must not wait for a disk. Readings follow one another there.
  func request() { perform { self.run() } }

  private func run() {
    manager?.reloading()
    let old = settings.withLock { $0 }
    guard let path = old.configurationPath else {
      let outcome = reloadFiles(old)
      manager?.ready(outcome)
      return
    }
    let new: SettingsValues
    do throws(SettingsError) {
      new = try SettingsParser.parse(
        .frontend, arguments: arguments, environment: environment, readFile: readSmallFile)
    } catch {
      refuse(path, error.faults.map(\.description))
      return
    }
    let settings = old.adoptingLive(new)
    let notes: [String]
    switch apply(settings) {
    case .success(let made): notes = made
    case .failure(let faults):
      refuse(path, faults.texts)
      return
    }
    self.settings.withLock { $0 = settings }
    report(path, old.changes(to: new), notes, warnings: new.warnings.filter { !old.warnings.contains($0) })
  }

  private struct Faults: Error { let texts: [String] }

  /// Prepares all parts, and puts them into force when none has a fault. Returns their notes.
  private func apply(_ settings: SettingsValues) -> Result<[String], Faults> {
    var prepared: [ReloadPart.Prepared] = []
    var faults: [String] = []
    for part in parts {
      do { prepared.append(try part.prepare(settings)) } catch { faults.append("\(part.name): \(error)") }
    }
    guard faults.isEmpty else { return .failure(Faults(texts: faults)) }
    for part in prepared { part.apply() }
    return .success(prepared.compactMap(\.note))
  }

  /// Without a configuration file the files that flags and variables name are all there is to read again. Returns what
  /// came of it.
  private func reloadFiles(_ settings: SettingsValues) -> String {
    guard parts.contains(where: { !$0.files(settings).isEmpty }) else {
      logger.warning("SIGHUP: there is no configuration file to read again; --config or DYN_CONFIG names one")
      return "serving; there is nothing to read again"
    }
    switch apply(settings) {
    case .success(let notes):
      successes.add()
      let changed = notes.joined(separator: ", ")
      logger.info("files are read again", metadata: ["changed": "\(changed)"])
      return "serving; read again: \(changed)"
    case .failure(let faults):
      failures.add()
      for fault in faults.texts {
        logger.error("files are not taken over: they have faults", metadata: ["fault": "\(fault)"])
      }
      return "serving as before; files have faults: \(faults.texts.joined(separator: "; "))"
    }
  }

  private func refuse(_ path: String, _ faults: [String]) {
    failures.add()
    for fault in faults {
      logger.error(
        "configuration is not taken over: the file has faults",
        metadata: ["file": "\(path)", "fault": "\(fault)"])
    }
    manager?.ready("serving as before; \(path) has faults: \(faults.joined(separator: "; "))")
  }

  private func report(_ path: String, _ changes: [SettingChange], _ notes: [String], warnings: [String]) {
    successes.add()
    for warning in warnings { logger.warning("\(warning)") }
    for change in changes where !change.isLive {
      logger.warning(
        "a setting changed that takes effect at the next start",
        metadata: [
          "setting": "\(change.environment)", "now": "\(change.old)", "next": "\(change.new)",
          "origin": "\(change.origin)",
        ])
    }
    let live = changes.filter(\.isLive).map(\.environment)
    let changed = live.isEmpty ? "nothing" : live.joined(separator: ", ")
    var metadata: Logger.Metadata = ["file": "\(path)", "changed": "\(changed)"]
    if !notes.isEmpty { metadata["files"] = "\(notes.joined(separator: ", "))" }
    logger.info("configuration is read again", metadata: metadata)
    manager?.ready("serving; read again, changed: \(changed)")
  }
}
