// What an operator changes while the directory runs: workers out of service and back, static workers more or fewer.

internal import EventLoop
internal import Transport

/// What came of an operator's change.
package enum WorkerChange: Sendable, Equatable {
  case done
  /// There is no worker of that id.
  case unknown
  /// It registered itself, or is one address of a name.
  case notStatic
  case refused(String)
}

extension WorkerDirectory {
  /// Takes a worker out of service: requests that it has go on, new ones go elsewhere; or takes it back. It stays so
  /// until it leaves: one that registers itself anew is another.
  package func drain(
    _ worker: UInt64, _ isDraining: Bool, _ done: @escaping @Sendable (WorkerChange) -> Void
  ) {
    onControl { control in
      guard let member = control.member(worker) else { return done(.unknown) }
      member.drain(isDraining)
      done(.done)
    }
  }

  /// Adds a static worker, until the configuration file is read again and has others.
  package func add(url text: String, _ done: @escaping @Sendable (WorkerChange) -> Void) {
    onControl { control in
      var faults: [WorkerURLFault] = []
      let urls = Self.parse([text], control.security, &faults)
      guard let url = urls.first else {
        return done(.refused(faults.first?.reason ?? "it names no worker"))
      }
      done(control.addFixed(url) ? .done : .refused("this worker is there already"))
    }
  }

  /// Removes a static worker; its requests go on.
  package func remove(_ worker: UInt64, _ done: @escaping @Sendable (WorkerChange) -> Void) {
    onControl { control in
      guard let member = control.member(worker) else { return done(.unknown) }
      done(control.removeFixed(member.url) ? .done : .notStatic)
    }
  }
}

extension DirectoryControl {
  /// Workers of https URLs are spoken to by the certificates of now.
  func renewSecurity() {
    for member in order {
      guard let old = member.worker.upstream.security, let new = security.renewed(old) else { continue }
      member.secured(by: new)
    }
  }

  /// False when it is there already.
  func addFixed(_ url: WorkerURL) -> Bool {
    guard !fixed.contains(url) else { return false }
    adopt(fixed: fixed + [url])
    return true
  }

  /// False when no configured URL is this one.
  func removeFixed(_ url: WorkerURL) -> Bool {
    guard fixed.contains(url), !url.isPerAddress else { return false }
    adopt(fixed: fixed.filter { $0 != url })
    return true
  }
}
