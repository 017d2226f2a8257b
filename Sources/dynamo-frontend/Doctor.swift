// `dynamo-frontend doctor`: every effective setting and where it came from, and what can be reached.

import Base
import EventLoop
import Exporter
import Frontend
import Glibc
import Prompts
import Settings
import TLS
import Tenants
import Transport
import Workers

/// Prints the settings and checks workers, discovery and collector. Nothing is changed.
enum Doctor {
  /// 0 when all that is configured can be reached, else 1.
  static func run(_ settings: SettingsValues, _ environment: [String: String]) -> Int32 {
    print("settings:")
    print(settings.reportText, terminator: "")
    var isWell = true
    func check(_ name: String, _ problem: String?) {
      print("\(problem == nil ? "ok     " : "PROBLEM")  \(name)\(problem.map { ": \($0)" } ?? "")")
      if problem != nil { isWell = false }
    }
    print("\nchecks:")
    for warning in settings.warnings + FrontendConfiguration.warnings(settings) {
      print("note     \(warning)")
    }
    ListenCheck.run(settings, environment, check)
    descriptors(settings, check)
    tls(settings, check)
    for fault in FrontendConfiguration.sideFaults(settings) { check("listeners", fault) }
    for fault in ShortPrompts.faults(settings) { check("router", fault) }
    if let path = settings.optionalString("api-key-file") {
      do throws(StartError) {
        let keys = try APIKeys().read(settings)
        check("API keys \(path): \(keys?.keys.count ?? 0) of \(keys?.tenants.count ?? 0) tenants", nil)
      } catch {
        check("API keys", error.description)
      }
    }
    WorkerCheck.run(settings, check)
    discovery(settings, environment, check)
    let telemetry = TelemetryCheck.lines(
      environment: environment, defaultName: "dynamo-frontend", version: frontendVersion,
      recordsRequests: true, now: Machine.wallNanoseconds)
    for line in telemetry + TraceStoreCheck.lines(settings) {
      print(line.text)
      if line.isProblem { isWell = false }
    }
    tokenizer(settings, check)
    if settings.bool("router-kv-events"), settings.string("router-mode") == "kv" {
      if let reason = WorkerDirectory.whyNoCacheEvents {
        print("note     engines' cache events are not followed: \(reason)")
      } else {
        print("ok       libzmq is there for engines' cache events")
      }
    }
    peers(settings, check)
    return isWell ? 0 : 1
  }

  /// One descriptor for each client and each worker connection: the limit has to be of that order.
  private static func descriptors(_ settings: SettingsValues, _ check: (String, String?) -> Void) {
    let limit = Machine.raiseDescriptorLimit()
    let wanted = max(4_096, settings.optionalInt("DYN_HTTP_CONNECTION_LIMIT") ?? 0)
    check(
      "\(limit) open files allowed",
      limit >= wanted ? nil : "\(wanted) connections need more: LimitNOFILE of the unit, or ulimit -Hn")
  }

  private static func discovery(
    _ settings: SettingsValues, _ environment: [String: String], _ check: (String, String?) -> Void
  ) {
    switch settings.string("discovery-backend") {
    case "file":
      let folder = DiscoveryFolder.resolve(environment: environment)
      check("discovery folder \(folder.path)", folderProblem(folder))
    case "etcd":
      let etcd = EtcdSettings(environment: environment)
      for fault in etcd.faults() { check("etcd", fault) }
      for endpoint in etcd.endpoints { check("etcd \(endpoint)", connectProblem(endpoint)) }
    case "kubernetes":
      let kubernetes = KubernetesSettings(environment: environment)
      for fault in kubernetes.faults() { check("kubernetes", fault) }
      if let server = kubernetes.server { check("kubernetes \(server)", connectProblem(server)) }
    default: break
    }
  }

  /// What the exchange of load with other frontends lacks.
  private static func peers(_ settings: SettingsValues, _ check: (String, String?) -> Void) {
    guard settings.bool("router-replica-sync") else { return }
    var configuration = WorkerDirectoryConfiguration()
    do {
      try FrontendProcess.readPeers(settings, &configuration)
      check(
        "other frontends (\(configuration.peers?.peers.count ?? 0))",
        configuration.peers?.fault ?? WorkerDirectory.whyNoCacheEvents)
    } catch {
      check("other frontends", "\(error)")
    }
  }

  private static func tls(_ settings: SettingsValues, _ check: (String, String?) -> Void) {
    var configuration = FrontendConfiguration(settings, processors: 1)
    do throws(TLSError) {
      try configuration.readCertificates(settings, counters: HandshakeCounters())
    } catch {
      check("TLS", error.reason)
      return
    }
    guard let days = configuration.certificateDaysLeft(unixSeconds: unixSeconds()) else { return }
    check("TLS certificate, \(days) days left", days < 0 ? "it has ended" : nil)
  }

  private static func tokenizer(_ settings: SettingsValues, _ check: (String, String?) -> Void) {
    guard let folder = settings.optionalString("model-path") else {
      print("note     no tokenizer (--model-path): prompts are routed by their bytes")
      return
    }
    do throws(ModelTokenizerError) {
      let tokenizer = try ModelTokenizer(folder: folder, seed: Machine.randomSeed())
      check("tokenizer \(folder): \(tokenizer.summary)", nil)
    } catch {
      switch error {
      case .noFolder: check("tokenizer \(folder)", "there is no such folder")
      case .refused(let reason): check("tokenizer \(folder)", "\(reason); prompts are routed by their bytes")
      }
    }
  }

  /// Why nothing can be connected to at `url`; nil when something can.
  private static func connectProblem(_ url: String) -> String? {
    switch WorkerURL.parse(url) {
    case .success(let url): Sockets.whyUnreachable(url.host, url.port)
    case .failure(let refusal): refusal.reason
    }
  }

  private static func folderProblem(_ folder: DiscoveryFolder) -> String? {
    do throws(DiscoveryFolderError) {
      try folder.prepare()
      return nil
    } catch {
      return error.reason
    }
  }
}
