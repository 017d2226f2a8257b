// What of the frontend can change while it runs: one part for each of those who take it.

import EventLoop
import Frontend
import Glibc
import Logging
import Routing
import Settings
import Telemetry
import Tenants
import Workers

extension ReloadPart {
  /// Limits, deadlines, switches and certificates.
  ///
  /// - Parameter configure: makes the frontend's configuration from settings, as at start.
  static func frontend(
    _ control: FrontendControl, keys: APIKeys,
    configure: @escaping @Sendable (SettingsValues) throws -> FrontendConfiguration
  ) -> ReloadPart {
    ReloadPart(
      name: "frontend",
      files: { settings in
        ["tls-cert-path", "tls-key-path", "tls-client-ca-cert-path", "api-key-file"].compactMap {
          settings.optionalString($0)
        }
      },
      prepare: { settings in
        let configuration = try configure(settings)
        var notes: [String] = []
        if let days = configuration.certificateDaysLeft(unixSeconds: unixSeconds()) {
          notes.append("certificate with \(days) days left")
        }
        if let keys = configuration.keys { notes.append("\(keys.keys.count) API keys") }
        return Prepared(note: notes.isEmpty ? nil : notes.joined(separator: ", ")) {
          keys.adopt(configuration.keys)
          control.adopt(configuration)
        }
      })
  }

  /// Static workers, the certificates for those of https URLs, and the weights of routing.
  static func workers(_ directory: WorkerDirectory) -> ReloadPart {
    let files = ["DYN_WORKER_TLS_CA_PATH", "DYN_WORKER_TLS_CERT_PATH", "DYN_WORKER_TLS_KEY_PATH"]
    return ReloadPart(
      name: "workers",
      files: { settings in files.compactMap { settings.optionalString($0) } },
      prepare: { settings in
        do throws(WorkerDirectoryError) {
          let apply = try directory.prepare(
            urls: settings.list("worker"), weights: RoutingOptions(settings, blockSize: 16).weights)
          let hasFiles = files.contains { settings.optionalString($0) != nil }
          return Prepared(note: hasFiles ? "certificates for workers" : nil, apply: apply)
        } catch {
          if case .tls = error { throw StartError("\(error)") }
          throw StartError("\(settings.origin("worker")): \(error)")
        }
      })
  }

  /// Which lines are logged. Entries of the filter that cannot be read are warned about, as at start.
  static func log(_ log: LogOutput, environment: [String: String]) -> ReloadPart {
    ReloadPart(name: "log") { settings in
      let filter = LogConfiguration(environment: settings.effectiveEnvironment(environment))
      return Prepared {
        log.adoptFilter(of: filter)
        let logger = log.logger("\(LogTarget.frontend)")
        for warning in filter.warnings { logger.warning("\(warning)") }
      }
    }
  }
}
