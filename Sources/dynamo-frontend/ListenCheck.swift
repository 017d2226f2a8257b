// What `doctor` says of where the frontend would listen: whether it can, and what is in the way.

import EventLoop
import Frontend
import Glibc
import Settings

/// Listens for a moment on each address and gives it back.
enum ListenCheck {
  static func run(
    _ settings: SettingsValues, _ environment: [String: String], _ check: (String, String?) -> Void
  ) {
    for fault in FrontendConfiguration.listenerFaults(settings) { check("sockets", fault) }
    let configuration = FrontendConfiguration(settings, processors: 1)
    if let path = configuration.handoverPath {
      if Listener.isInUse(path: path) {
        check("sockets: a frontend that runs would hand them over at \(path)", nil)
        return
      }
    }
    for address in configuration.addresses { check("listening on \(address)", whyNot(address)) }
  }

  /// Why nobody can listen there; nil when somebody could.
  private static func whyNot(_ address: ListenAddress) -> String? {
    do throws(SystemError) {
      let listener = try Listener.bind(address, backlog: 1)
      listener.removeFile()
      close(listener.descriptor)
      return nil
    } catch {
      return "\(error)\(hint(error.code, address))"
    }
  }

  private static func hint(_ code: Int32, _ address: ListenAddress) -> String {
    switch (code, address) {
    case (EADDRINUSE, .tcp(_, let port)):
      SocketOwner.describe(port: port).map { "; \($0) listens there" } ?? ""
    case (EACCES, .tcp(_, let port)) where port < 1_024:
      "; ports below 1024 need CAP_NET_BIND_SERVICE, or a socket that systemd passes"
    case (EADDRNOTAVAIL, .tcp(let host, _)): "; no interface of this machine has the address \(host)"
    case (ENOENT, .tcp(let host, _)): "; the name \(host) has no address"
    case (ENOENT, .unix): "; there is no such folder"
    default: ""
    }
  }
}
