// The sockets that a frontend begins with: bound by itself, passed by the service manager, or taken over from the process
// before it.

package import EventLoop

/// Where the frontend serves, who is told of it, and who may take it over.
package struct FrontendSockets: Sendable {
  /// Why there is nothing to serve on.
  package struct Fault: Error, CustomStringConvertible {
    package let description: String
  }

  /// Listening sockets of callers.
  package let listeners: [Listener]
  /// Those that were passed for the admin listener, by the service manager or by the process before.
  package let admin: [Listener]
  /// Those of metrics, where they have a port of their own.
  package let metrics: [Listener]
  /// The process before this one, which serves until it is told to stop; nil for none.
  package let takeover: Takeover?
  /// Where a process after this one asks for the sockets; nil where none may.
  package let handoverPath: String?
  package let manager: ServiceManager?

  /// Sockets that were opened elsewhere.
  package init(
    listeners: [Listener], admin: [Listener] = [], metrics: [Listener] = [], takeover: Takeover? = nil,
    handoverPath: String? = nil,
    manager: ServiceManager? = nil
  ) {
    self.listeners = listeners
    self.admin = admin
    self.metrics = metrics
    self.takeover = takeover
    self.handoverPath = handoverPath
    self.manager = manager
  }

  /// Takes the sockets of the process that offers some at the configuration's hand-over path, else those that the
  /// service manager passed, else binds the configuration's addresses.
  package static func open(
    _ configuration: FrontendConfiguration, environment: [String: String]
  ) throws(Fault) -> FrontendSockets {
    let manager = ServiceManager(environment)
    if let path = configuration.handoverPath {
      let takeover: Takeover?
      do throws(Takeover.Failure) {
        takeover = try Takeover.begin(path: path)
      } catch {
        throw Fault(description: "cannot take over at \(path): \(error)")
      }
      if let takeover {
        return FrontendSockets(
          listeners: takeover.listeners.filter { $0.purpose == .main },
          admin: try side(
            .admin, configuration.adminAddress, of: named(takeover.listeners, configuration.adminAddress)),
          metrics: try side(
            .metrics, configuration.metricsAddress,
            of: named(takeover.listeners, configuration.metricsAddress)),
          takeover: takeover, handoverPath: path,
          manager: manager)
      }
    }
    let inherited: [Listener]
    do throws(InheritedListeners.Fault) {
      inherited = try InheritedListeners.take(environment)
    } catch {
      throw Fault(description: "socket activation: \(error)")
    }
    var listeners = inherited.filter { $0.purpose == .main }
    if listeners.isEmpty { listeners = try bind(configuration) }
    return FrontendSockets(
      listeners: listeners, admin: try side(.admin, configuration.adminAddress, of: inherited),
      metrics: try side(.metrics, configuration.metricsAddress, of: inherited),
      handoverPath: configuration.handoverPath, manager: manager)
  }

  /// Those that are where `address` says: the process before may have been told to listen elsewhere. Of ports the
  /// number counts: a host's name may stand for several addresses.
  static func named(_ taken: [Listener], _ address: ListenAddress?) -> [Listener] {
    taken.filter { listener in
      switch address {
      case .tcp(_, let port): !listener.address.isUnix && listener.address.port == port
      case .unix(let path): listener.address.unixPath == path
      case nil: false
      }
    }
  }

  /// The given ones of that purpose, else one at `address`; none where neither is there.
  private static func side(
    _ purpose: Listener.Purpose, _ address: ListenAddress?, of given: [Listener]
  ) throws(Fault) -> [Listener] {
    let given = given.filter { $0.purpose == purpose }
    guard given.isEmpty, let address else { return given }
    do throws(SystemError) {
      return [try Listener.bind(address, backlog: 128, mode: 0o600, purpose: purpose)]
    } catch {
      throw Fault(description: "cannot listen on \(address) for \(purpose.rawValue): \(error)")
    }
  }

  private static func bind(_ configuration: FrontendConfiguration) throws(Fault) -> [Listener] {
    var listeners: [Listener] = []
    for address in configuration.addresses {
      do throws(SystemError) {
        listeners.append(
          try Listener.bind(
            address, backlog: configuration.backlog, mode: configuration.unixSocketMode))
      } catch {
        throw Fault(description: "cannot listen on \(address): \(error)")
      }
    }
    return listeners
  }
}
