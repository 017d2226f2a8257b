// The admin listener: all that changes the state of a running frontend, and what watches it, on a socket of its own.

internal import Base
package import EventLoop
internal import HTTP
internal import Logging
internal import OpenAI
package import Tenants
internal import Transport

/// What came of a change.
package enum AdminOutcome: Sendable, Equatable {
  case done
  /// There is no worker of that id.
  case unknownWorker
  /// The worker was not named by `--worker` or here: whoever registered it takes it away.
  case notStatic
  case refused(String)
}

/// Does what the admin listener is asked for. Called on a loop, and must not hold it: `done` may be called later, on any
/// thread, once.
package protocol Administration: AnyObject, Sendable {
  /// Takes a worker out of service, or back.
  func drain(_ worker: UInt64, _ isDraining: Bool, _ done: @escaping @Sendable (AdminOutcome) -> Void)
  func addWorker(_ url: String, _ done: @escaping @Sendable (AdminOutcome) -> Void)
  func removeWorker(_ worker: UInt64, _ done: @escaping @Sendable (AdminOutcome) -> Void)
  /// Reads configuration, keys and certificates again, as SIGHUP does.
  func reload()
}

/// A listener beside the one of callers.
package struct SideListener: Sendable {
  /// `admin` or `metrics`, for the log.
  package let name: String
  package let listeners: [Listener]
  /// What callers must show; nil asks for nothing, for a socket that the system guards.
  package let token: KeyDigest?
  /// Who does what is asked for; nil where nothing can be changed.
  package let administration: (any Administration)?

  package init(
    name: String, listeners: [Listener], token: KeyDigest? = nil, administration: (any Administration)? = nil
  ) {
    self.name = name
    self.listeners = listeners
    self.token = token
    self.administration = administration
  }
}

/// What a request to a side listener asks for.
enum AdminRoute: Equatable {
  case drain(worker: UInt64, isDraining: Bool)
  case addWorker
  case removeWorker(UInt64)
  case reload
  case wrongMethod(allow: String)

  /// Nil for what the admin listener does not have of its own.
  init?(_ head: RequestHead) {
    let parts = head.path.text.split(separator: "/", omittingEmptySubsequences: false).dropFirst()
    guard parts.first == "admin" else { return nil }
    let rest = Array(parts.dropFirst())
    let worker = rest.count > 1 && rest[0] == "workers" ? UInt64(rest[1]) : nil
    switch (rest.count, rest.first, worker) {
    case (1, "reload", _): self = Self.only(.post, head, .reload)
    case (1, "workers", _): self = Self.only(.post, head, .addWorker)
    case (2, _, let worker?): self = Self.only(.delete, head, .removeWorker(worker))
    case (3, _, let worker?) where rest[2] == "drain" || rest[2] == "undrain":
      self = Self.only(.post, head, .drain(worker: worker, isDraining: rest[2] == "drain"))
    default: return nil
    }
  }

  private static func only(_ method: HTTP.Method, _ head: RequestHead, _ route: AdminRoute) -> AdminRoute {
    head.method == method ? route : .wrongMethod(allow: "\(method.name)")
  }
}

/// The application of a side listener, on one loop.
final class AdminApplication: ServerApplication {
  private let service: FrontendLoop
  private let listener: SideListener
  private let logger: Logger

  init(_ service: FrontendLoop, _ listener: SideListener, logger: Logger) {
    self.service = service
    self.listener = listener
    self.logger = logger
  }

  func exchangeBegan(
    _ exchange: any ServerExchange, _ head: RequestHead, began: Nanoseconds
  ) -> any ServerExchangeHandler {
    func refuse(_ error: APIError) -> any ServerExchangeHandler {
      ErrorExchange(service: service, exchange: exchange, head: head, began: began, error)
    }
    if let error = refusal(head.fields) { return refuse(error) }
    if let administration = listener.administration, let route = AdminRoute(head) {
      if case .wrongMethod(let allow) = route {
        return refuse(.methodNotAllowed(head.methodText.text, allow: allow))
      }
      return AdminExchange(service, exchange, route, administration, logger)
    }
    switch Route(head) {
    case .system(let route):
      return SystemExchange(
        service: service, exchange: exchange, route: route, head: head, showsTenants: true)
    case .routerState where listener.administration != nil:
      let pooled = PooledExchange(service: service, exchange: exchange)
      pooled.job = RouterStateJob(service: service)
      return pooled
    case .wrongMethod(let allow):
      return refuse(.methodNotAllowed(head.methodText.text, allow: allow))
    default:
      return refuse(.notFound(method: head.methodText.text, path: head.path.text))
    }
  }

  private func refusal(_ fields: HeaderFields) -> APIError? {
    guard let token = listener.token else { return nil }
    guard fields.count(of: .authorization) == 1, let value = fields.first(.authorization),
      let shown = KeyRing.bearer(value)
    else { return .invalidAPIKey(isMissing: true) }
    return KeyDigest(of: shown).matches(token) ? nil : .invalidAPIKey(isMissing: false)
  }

  func refused(_ refusal: Refusal, body: inout ByteBuffer) { service.refused(refusal, body: &body) }
}
