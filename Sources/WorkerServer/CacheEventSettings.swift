// Where a worker publishes its engine's cache events, and where an attached engine publishes its own.

internal import KVEvents

/// What a worker is told about cache events. Addresses are libzmq's, as in vLLM's `--kv-events-config`.
package struct CacheEventSettings: Sendable, Equatable {
  /// Where to publish.
  package enum Place: Sendable, Equatable {
    /// A free port, reached as the worker's HTTP port is.
    case automatic
    case off
    /// `tcp://HOST:PORT` (0 picks a port) or `ipc://PATH`.
    case at(String)

    /// Reads a setting: `auto`, `off` or an address.
    init(_ text: String) {
      switch text {
      case "auto": self = .automatic
      case "off", "": self = .off
      default: self = .at(text)
      }
    }
  }

  package var endpoint = Place.off
  package var replayEndpoint = Place.automatic
  /// The attached engine's own publisher, in the engine's terms; nil asks the engine.
  package var engineEndpoint: String?
  package var engineReplayEndpoint: String?

  /// Publishes nothing.
  package init() {}

  /// Every fault, in words that name the flag.
  func faults() -> [String] {
    var faults: [String] = []
    for (flag, place) in [
      ("--kv-events-endpoint", endpoint), ("--kv-events-replay-endpoint", replayEndpoint),
    ] {
      if case .at(let text) = place, !Self.isAddress(text) {
        faults.append("\(flag) must be auto, off, tcp://HOST:PORT or ipc://PATH, not '\(text)'")
      }
    }
    for (flag, text) in [
      ("--engine-kv-events-endpoint", engineEndpoint),
      ("--engine-kv-events-replay-endpoint", engineReplayEndpoint),
    ] {
      if let text, !Self.isAddress(text) || Self.port(of: text) == 0 {
        faults.append("\(flag) must be tcp://HOST:PORT or ipc://PATH, not '\(text)'")
      }
    }
    if engineReplayEndpoint != nil, engineEndpoint == nil {
      faults.append("--engine-kv-events-replay-endpoint needs --engine-kv-events-endpoint")
    }
    if case .at = endpoint, let reason = ZeroMQContext.unavailableReason {
      faults.append("--kv-events-endpoint cannot be used: \(reason)")
    }
    return faults
  }

  /// The sockets of `rank`; nil when nothing is published, or when there is no port left for that rank.
  ///
  /// - Parameter host: numeric address that the worker listens on.
  func publication(host: String, rank: Int) -> CacheEventPublication? {
    let free = "tcp://\(Self.bindable(host)):*"
    var publication: CacheEventPublication
    switch endpoint {
    case .off: return nil
    case .automatic: publication = CacheEventPublication(endpoint: free)
    case .at(let text):
      guard let address = Self.address(text, rank: rank) else { return nil }
      publication = CacheEventPublication(endpoint: address)
    }
    switch replayEndpoint {
    case .off: break
    case .automatic:
      let isFile = publication.endpoint.hasPrefix("ipc://")
      publication.replayEndpoint = isFile ? publication.endpoint + "-replay" : free
    case .at(let text):
      guard let address = Self.address(text, rank: rank) else { return nil }
      publication.replayEndpoint = address
    }
    publication.rank = rank
    return publication
  }

  /// How subscribers are told of `bound`, the address that a socket for `place` got: with `*` for the host where that is
  /// the worker's own, which is vLLM's sign for a publisher that is connected to.
  static func announced(_ bound: String, for place: Place, isPublisher: Bool) -> String {
    guard bound.hasPrefix("tcp://"), let port = port(of: bound) else { return bound }
    if case .at(let text) = place, !isPublisher, let colon = text.lastIndex(of: ":"), !text.contains("*") {
      return "\(text[..<colon]):\(port)"
    }
    return "tcp://*:\(port)"
  }

  // MARK: Addresses

  private static func isAddress(_ text: String) -> Bool {
    if text.hasPrefix("ipc://") { return text.utf8.count > 6 && text.utf8.count < 100 }
    guard text.hasPrefix("tcp://"), let colon = text.lastIndex(of: ":"), port(of: text) != nil else {
      return false
    }
    return text.distance(from: text.startIndex, to: colon) > 6 && text.utf8.count <= 256
  }

  /// The port of a `tcp://` address.
  private static func port(of text: String) -> UInt16? {
    guard let colon = text.lastIndex(of: ":") else { return nil }
    return UInt16(text[text.index(after: colon)...])
  }

  /// `text` as rank `rank` binds it: vLLM adds the rank to the port. Port 0 becomes libzmq's `*`.
  private static func address(_ text: String, rank: Int) -> String? {
    guard text.hasPrefix("tcp://") else { return rank == 0 ? text : "\(text)-\(rank)" }
    guard let colon = text.lastIndex(of: ":"), let port = port(of: text) else { return nil }
    if port == 0 { return "\(text[..<colon]):*" }
    guard Int(port) + rank <= 65_535 else { return nil }
    return "\(text[..<colon]):\(Int(port) + rank)"
  }

  private static func bindable(_ host: String) -> String {
    if ["", "0.0.0.0", "::", "*"].contains(host) { return "*" }
    return host.contains(":") ? "[\(host)]" : host
  }
}
