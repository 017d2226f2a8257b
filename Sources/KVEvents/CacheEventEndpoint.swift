// From the endpoint that an engine is configured with to the address where we meet it.

/// Where a subscriber meets a publisher, and which of them listens.
package struct CacheEventEndpoint: Sendable, Equatable {
  /// A ZeroMQ address.
  package let address: String
  /// True when the engine connects, so that we listen.
  package let isBound: Bool

  /// An endpoint in our own terms.
  package init(address: String, isBound: Bool) {
    self.address = address
    self.isBound = isBound
  }

  /// The counterpart of `endpoint` in an engine's `--kv-events-config`.
  ///
  /// The engine binds wildcards (`tcp://*:P`, `tcp://[::]:P`, SGLang `0.0.0.0` too) and `ipc://`; to any other address
  /// it connects, loopback included, so we listen there. Rank r has port P + r (vLLM 0.32 and SGLang 0.5.23,
  /// `offset_endpoint_port`).
  ///
  /// - Parameters:
  ///   - host: name or address of the engine's machine; IPv6 with or without brackets.
  ///   - rank: data parallel rank.
  /// - Returns: nil when no other process can meet the engine there (`inproc://`), when a rank above 0 has no port to
  ///   add to, or when the port is none.
  package static func events(of endpoint: String, host: String, rank: Int) -> CacheEventEndpoint? {
    if endpoint.hasPrefix("ipc://") { return ipc(endpoint, rank: rank) }
    guard let (name, port) = parse(endpoint, rank: rank) else { return nil }
    if isWildcard(name) { return CacheEventEndpoint(address: tcp(host, port), isBound: false) }
    return CacheEventEndpoint(address: tcp(isAddress(name) ? name : "*", port), isBound: true)
  }

  /// The counterpart of `replay_endpoint`, which the engine binds whatever it is.
  package static func replay(of endpoint: String, host: String, rank: Int) -> CacheEventEndpoint? {
    if endpoint.hasPrefix("ipc://") { return ipc(endpoint, rank: rank) }
    guard let (name, port) = parse(endpoint, rank: rank) else { return nil }
    return CacheEventEndpoint(address: tcp(isWildcard(name) ? host : name, port), isBound: false)
  }

  /// True when we go there by TCP, to a machine of one of these names or addresses: IPv6 with or without brackets.
  package func isTCP(to hosts: [String]) -> Bool {
    guard !isBound, address.hasPrefix("tcp://") else { return false }
    let rest = address.dropFirst("tcp://".count)
    guard let colon = rest.lastIndex(of: ":") else { return false }
    let host = Self.bare(String(rest[..<colon]))
    return !host.isEmpty && hosts.contains { Self.bare($0) == host }
  }

  private static func bare(_ host: String) -> String {
    let inner = host.hasPrefix("[") && host.hasSuffix("]") ? String(host.dropFirst().dropLast()) : host
    return inner.lowercased()
  }

  private static func ipc(_ endpoint: String, rank: Int) -> CacheEventEndpoint? {
    rank == 0 ? CacheEventEndpoint(address: endpoint, isBound: false) : nil
  }

  private static func parse(_ endpoint: String, rank: Int) -> (host: String, port: Int)? {
    guard rank >= 0, endpoint.hasPrefix("tcp://") else { return nil }
    let rest = endpoint.dropFirst("tcp://".count)
    guard let colon = rest.lastIndex(of: ":"), let base = UInt16(rest[rest.index(after: colon)...]) else {
      return nil
    }
    let (port, overflows) = Int(base).addingReportingOverflow(rank)
    guard !overflows, (1...65_535).contains(port), colon > rest.startIndex else { return nil }
    return (String(rest[..<colon]), port)
  }

  private static func isWildcard(_ host: String) -> Bool {
    ["*", "0.0.0.0", "::", "[::]"].contains(host)
  }

  /// True for what libzmq can bind; it does not bind names of hosts.
  private static func isAddress(_ host: String) -> Bool {
    host.contains(":") || host.allSatisfy { $0 == "." || $0.isNumber }
  }

  private static func tcp(_ host: String, _ port: Int) -> String {
    host.contains(":") && !host.hasPrefix("[") ? "tcp://[\(host)]:\(port)" : "tcp://\(host):\(port)"
  }
}
