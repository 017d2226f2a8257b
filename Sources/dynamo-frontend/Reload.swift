// SIGHUP: the configuration file is read again, and what is live in it takes effect.

import EventLoop
import Frontend
import Logging
import Routing
import Settings
import Synchronization
import Telemetry
import Tenants
import Workers

/// Reads the configuration file, and the certificate files that it names, again. A file with faults changes nothing.
final class Reload: Sendable {
  private let arguments: [String]
  private let environment: [String: String]
  private let directory: WorkerDirectory
  private let frontend: FrontendControl
  private let log: LogOutput
  private let logger: Logger
  private let configure: @Sendable (SettingsValues) throws -> FrontendConfiguration
  /// The settings in force.
  private let settings: Mutex<SettingsValues>

  /// - Parameters:
  ///   - settings: what the process started with, read from `arguments` and `environment`.
  ///   - configure: makes the frontend's configuration from settings, as at start; throws for certificate files that
  ///     cannot be used.
  init(
    _ settings: SettingsValues, arguments: [String], environment: [String: String],
    directory: WorkerDirectory, frontend: FrontendControl, log: LogOutput,
    configure: @escaping @Sendable (SettingsValues) throws -> FrontendConfiguration
  ) {
    self.arguments = arguments
    self.environment = environment
    self.directory = directory
    self.frontend = frontend
    self.log = log
    logger = log.logger("\(LogTarget.frontend)")
    self.configure = configure
    self.settings = Mutex(settings)
  }

  /// Has the control thread do it: a loop must not wait for a disk. Readings follow one another there.
  func request() {
    directory.perform { self.run() }
  }

  private func run() {
    let old = settings.withLock { $0 }
    guard let path = old.configurationPath else {
      reloadCertificates(old)
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
    let configuration: FrontendConfiguration
    do {
      configuration = try configure(settings)
    } catch {
      refuse(path, ["\(error)"])
      return
    }
    do throws(WorkerDirectoryError) {
      try directory.adopt(
        urls: settings.list("worker"), weights: RoutingOptions(settings, blockSize: 16).weights)
    } catch {
      refuse(path, ["\(new.origin("worker")): \(error)"])
      return
    }
    let filter = LogConfiguration(environment: settings.effectiveEnvironment(environment))
    log.adoptFilter(of: filter)
    frontend.adopt(configuration)
    report(configuration)
    self.settings.withLock { $0 = settings }
    report(
      path, old.changes(to: new),
      warnings: new.warnings.filter { !old.warnings.contains($0) } + filter.warnings)
  }

  /// Without a configuration file there is nothing else to read again.
  private func reloadCertificates(_ settings: SettingsValues) {
    let namesFiles = ["tls-cert-path", "api-key-file"].contains { settings.optionalString($0) != nil }
    guard namesFiles else {
      logger.warning("SIGHUP: there is no configuration file to read again; --config or DYN_CONFIG names one")
      return
    }
    do {
      let configuration = try configure(settings)
      frontend.adopt(configuration)
      report(configuration)
    } catch {
      logger.error(
        "certificate and keys are not taken over: the files have faults", metadata: ["fault": "\(error)"])
    }
  }

  private func report(_ configuration: FrontendConfiguration) {
    if let keys = configuration.keys {
      logger.info(
        "API keys are read again",
        metadata: ["keys": "\(keys.keys.count)", "tenants": "\(keys.tenants.count)"])
    }
    guard let days = configuration.certificateDaysLeft(unixSeconds: unixSeconds()) else { return }
    logger.info("certificate is read again", metadata: ["days_left": "\(days)"])
  }

  private func refuse(_ path: String, _ faults: [String]) {
    for fault in faults {
      logger.error(
        "configuration is not taken over: the file has faults",
        metadata: ["file": "\(path)", "fault": "\(fault)"])
    }
  }

  private func report(_ path: String, _ changes: [SettingChange], warnings: [String]) {
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
    logger.info(
      "configuration is read again",
      metadata: ["file": "\(path)", "changed": "\(live.isEmpty ? "nothing" : live.joined(separator: ", "))"])
  }
}
