// The route table: which path and method mean what.

internal import Base
internal import HTTP
internal import OpenAI
internal import Workers

/// A route that the frontend answers itself.
enum SystemRoute {
  case health, live, ready, metrics, version, models
  /// The description of all routes, and a page that shows it.
  case openAPI, docs
  /// One model, by the percent-decoded name behind `/v1/models/`.
  case model(String)

  /// The path, with names that callers choose left open.
  var pattern: StaticString {
    switch self {
    case .health: "/health"
    case .live: "/live"
    case .ready: "/ready"
    case .metrics: "/metrics"
    case .version: "/version"
    case .models: "/v1/models"
    case .openAPI: "/openapi.json"
    case .docs: "/docs"
    case .model: "/v1/models/{model}"
    }
  }
}

extension Route {
  /// Whether a caller must show a key where there are keys; `systemToo` for what watches the server.
  func needsKey(systemToo: Bool) -> Bool {
    switch self {
    case .tokenize, .explain, .routerState, .system(.models), .system(.model): true
    case .system: systemToo
    // The first admits itself; the others answer nothing.
    case .inference, .wrongMethod, .unknown: false
    }
  }

  /// One that is answered by work and counts as a request of its key.
  var takesWork: Bool {
    switch self {
    case .tokenize, .explain: true
    default: false
    }
  }

  /// One of the routes that show the router's inside.
  var isAdministrative: Bool {
    switch self {
    case .explain, .routerState: true
    default: false
    }
  }
}

/// What a request head asks for.
enum Route {
  case inference(Endpoint)
  case tokenize(TokenizeRoute)
  /// A dry run of a request.
  case explain
  case routerState
  case system(SystemRoute)
  /// The path exists for the methods named.
  case wrongMethod(allow: String)
  case unknown

  /// The inference route of a path.
  static func endpoint(_ path: UnsafeRawBufferPointer) -> Endpoint? { Endpoint(path: withoutSlash(path)) }

  init(_ head: RequestHead) {
    let path = Self.withoutSlash(head.path)
    if let endpoint = Endpoint(path: path) {
      if case .post = head.method { self = .inference(endpoint) } else { self = .wrongMethod(allow: "POST") }
      return
    }
    if let route = Self.tokenizeRoute(path) {
      if case .post = head.method { self = .tokenize(route) } else { self = .wrongMethod(allow: "POST") }
      return
    }
    if path.equals("/v1/router/explain") {
      if case .post = head.method { self = .explain } else { self = .wrongMethod(allow: "POST") }
      return
    }
    if path.equals("/v1/router/state") {
      switch head.method {
      case .get, .head: self = .routerState
      default: self = .wrongMethod(allow: "GET, HEAD")
      }
      return
    }
    guard let route = Self.systemRoute(path) else {
      self = .unknown
      return
    }
    switch head.method {
    case .get, .head: self = .system(route)
    default: self = .wrongMethod(allow: "GET, HEAD")
    }
  }

  /// A slash at the end means nothing here: clients put it there by mistake, and a redirect would lose their POST.
  private static func withoutSlash(_ path: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
    path.count > 1 && path[path.count - 1] == UInt8(ascii: "/") ? path.slice(0..<path.count - 1) : path
  }

  private static func tokenizeRoute(_ path: UnsafeRawBufferPointer) -> TokenizeRoute? {
    if path.equals("/tokenize") { return .tokenize }
    if path.equals("/detokenize") { return .detokenize }
    return nil
  }

  private static func systemRoute(_ path: UnsafeRawBufferPointer) -> SystemRoute? {
    if path.equals("/v1/models") { return .models }
    if path.equals("/health") { return .health }
    if path.equals("/live") { return .live }
    if path.equals("/ready") { return .ready }
    if path.equals("/metrics") { return .metrics }
    if path.equals("/version") { return .version }
    if path.equals("/openapi.json") { return .openAPI }
    if path.equals("/docs") { return .docs }
    let prefix = "/v1/models/".utf8.count
    guard path.count > prefix, path.slice(0..<prefix).equals("/v1/models/") else { return nil }
    return .model(path.slice(prefix..<path.count).percentDecoded)
  }
}
