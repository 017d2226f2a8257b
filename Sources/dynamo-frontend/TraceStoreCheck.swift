// What `doctor` says of the trace store inside the frontend: its limits, its ports, its file.

import Base
import EventLoop
import Exporter
import Frontend
import Glibc
import Settings
import TraceStore

/// Looks at what the store would use. Ports are taken for a moment and given back.
enum TraceStoreCheck {
  static func lines(_ settings: SettingsValues) -> [CheckLine] {
    guard settings.bool("trace-store") else { return [] }
    let store = TraceStoreConfiguration(settings, version: frontendVersion)
    let limits = "\(store.limits.bytesMax >> 20) MiB and \(store.limits.ageMax / second) s of traces"
    var lines = [CheckLine("trace store keeps \(limits)", .note)]
    let ports = [
      ("the page and queries", store.httpPort), ("OTLP over gRPC", store.otlpGRPCPort),
      ("OTLP over HTTP", store.otlpHTTPPort),
    ]
    for (purpose, port) in ports where port != 0 {
      lines.append(
        CheckLine("trace store, \(store.host):\(port) for \(purpose)", problem: whyTaken(store.host, port)))
    }
    if let file = store.file {
      let problem = TelemetryCheck.whyUnwritable(TelemetryCheck.parent(of: file))
      lines.append(CheckLine("trace store's file \(file)", problem: problem))
    }
    return lines
  }

  /// Why nobody can listen there; nil when somebody could.
  private static func whyTaken(_ host: String, _ port: UInt16) -> String? {
    do throws(SystemError) {
      close(try Sockets.listen(host: host, port: port, backlog: 1).descriptor)
      return nil
    } catch {
      return "\(error) (a frontend that runs already has it)"
    }
  }
}
