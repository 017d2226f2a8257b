// The hands of the admin listener: what it is asked for goes to the workers' directory and to the reload.

import Base
import EventLoop
import Frontend
import Settings
import Synchronization
import Tenants
import Workers

/// Passes changes on to those who make them.
final class Administrator: Administration {
  private let directory: WorkerDirectory
  /// There once the frontend is, which the reload changes.
  private let reloading = Mutex<@Sendable () -> Void>({})

  init(_ directory: WorkerDirectory) { self.directory = directory }

  func reloads(by reload: Reload) { reloading.withLock { $0 = { reload.request() } } }

  func drain(_ worker: UInt64, _ isDraining: Bool, _ done: @escaping @Sendable (AdminOutcome) -> Void) {
    directory.drain(worker, isDraining) { done(AdminOutcome($0)) }
  }

  func addWorker(_ url: String, _ done: @escaping @Sendable (AdminOutcome) -> Void) {
    directory.add(url: url) { done(AdminOutcome($0)) }
  }

  func removeWorker(_ worker: UInt64, _ done: @escaping @Sendable (AdminOutcome) -> Void) {
    directory.remove(worker) { done(AdminOutcome($0)) }
  }

  func reload() { reloading.withLock { $0 }() }

  /// The listeners beside the one of callers, for those of `sockets` that are there.
  func sides(_ sockets: FrontendSockets, _ settings: SettingsValues) throws(StartError) -> [SideListener] {
    var sides: [SideListener] = []
    if !sockets.admin.isEmpty {
      let token = try Self.token(settings)
      // Sockets that were passed or taken over are where the settings do not say.
      for listener in sockets.admin {
        if let fault = FrontendConfiguration.adminFault(listener.address, hasToken: token != nil) {
          throw StartError("admin listener \(listener.address): \(fault)")
        }
      }
      sides.append(
        SideListener(name: "admin", listeners: sockets.admin, token: token, administration: self))
    }
    if !sockets.metrics.isEmpty { sides.append(SideListener(name: "metrics", listeners: sockets.metrics)) }
    return sides
  }

  private static func token(_ settings: SettingsValues) throws(StartError) -> KeyDigest? {
    guard let path = settings.optionalString("admin-token-file") else { return nil }
    switch readSmallFile(path) {
    case .failed(let reason): throw StartError("admin token file \(path): \(reason)")
    case .text(let text):
      let token = Array((text.split(whereSeparator: \.isNewline).first ?? "").utf8)
      guard token.count >= 16 else {
        throw StartError("admin token file \(path): its first line has fewer than 16 characters")
      }
      return token.withUnsafeBytes { KeyDigest(of: $0) }
    }
  }
}

extension AdminOutcome {
  fileprivate init(_ change: WorkerChange) {
    switch change {
    case .done: self = .done
    case .unknown: self = .unknownWorker
    case .notStatic: self = .notStatic
    case .refused(let reason): self = .refused(reason)
    }
  }
}
