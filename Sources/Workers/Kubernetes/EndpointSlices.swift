// EndpointSlices (discovery.k8s.io/v1) as workers' URLs.

internal import Base
internal import JSON

/// The slices that are known, by name, with the servers of each.
///
/// Invariant: no more than ``serversMax`` servers are told of, whatever slices hold.
struct EndpointSlices {
  static let serversMax = 4_096
  static let slicesMax = 4_096

  private let portName: String
  private var slices: [String: [WorkerURL]] = [:]

  init(portName: String) { self.portName = portName }

  mutating func put(_ slice: JSONValue) {
    guard let name = slice["metadata"]?["name"]?.string else { return }
    guard slices[name] != nil || slices.count < Self.slicesMax else { return }
    slices[name] = servers(of: slice)
  }

  mutating func remove(_ slice: JSONValue) {
    if let name = slice["metadata"]?["name"]?.string { slices[name] = nil }
  }

  /// Every server once, in a fixed order: while endpoints move from one slice to another they are in both.
  var servers: [WorkerURL] {
    var seen: Set<WorkerURL> = []
    var result: [WorkerURL] = []
    for (_, servers) in slices.sorted(by: { $0.key < $1.key }) {
      for server in servers where result.count < Self.serversMax && seen.insert(server).inserted {
        result.append(server)
      }
    }
    return result
  }

  /// Endpoints that are ready; one that says nothing of it is (discovery.k8s.io/v1, EndpointConditions).
  private func servers(of slice: JSONValue) -> [WorkerURL] {
    guard let (port, scheme) = port(of: slice), slice["addressType"]?.string != "FQDN" else { return [] }
    var servers: [WorkerURL] = []
    for endpoint in slice["endpoints"]?.array ?? [] where endpoint["conditions"]?["ready"]?.bool != false {
      // All addresses of an endpoint are the same pod.
      guard let address = endpoint["addresses"]?.array?.first?.string else { continue }
      let host = address.contains(":") ? "[\(address)]" : address
      if case .success(let url) = WorkerURL.parse("\(scheme)://\(host):\(port)") { servers.append(url) }
    }
    return servers
  }

  private func port(of slice: JSONValue) -> (port: Int, scheme: String)? {
    let ports = slice["ports"]?.array ?? []
    guard
      let port = ports.first(where: { $0["name"]?.string == portName })
        ?? (ports.count == 1 ? ports[0] : nil),
      let number = port["port"]?.integer, (1...65_535).contains(number)
    else { return nil }
    switch port["appProtocol"]?.string?.lowercased() {
    case "https": return (number, "https")
    case "kubernetes.io/h2c", "h2c": return (number, "h2c")
    default: return (number, "http")
    }
  }
}
