// EndpointSlices (discovery.k8s.io/v1) as workers' URLs.

internal import Base
internal import JSON

/// The slices that are known, by name, with the servers of each.
///
/// Invariant: no more than ``serversMax`` servers are told of, whatever slices hold.
struct EndpointSlices {
  static let serversMax = 4_096
  static let slicesMax = 4_096

  private struct Server {
    let url: WorkerURL
    /// The pod and its port; nil where the endpoint names no pod.
    let place: String?
    let isIPv6: Bool
  }

  private let portName: String
  private var slices: [String: [Server]] = [:]

  init(portName: String) { self.portName = portName }

  mutating func put(_ slice: JSONValue) {
    guard let name = slice["metadata"]?["name"]?.string else { return }
    guard slices[name] != nil || slices.count < Self.slicesMax else { return }
    slices[name] = servers(of: slice)
  }

  mutating func remove(_ slice: JSONValue) {
    if let name = slice["metadata"]?["name"]?.string { slices[name] = nil }
  }

  /// Every server once, in a fixed order: while endpoints move from one slice to another they are in both, and a pod with
  /// addresses of both families is in slices of both. IPv4 goes first.
  var servers: [WorkerURL] {
    var seen: Set<WorkerURL> = []
    var places: Set<String> = []
    var result: [WorkerURL] = []
    let all = slices.sorted(by: { $0.key < $1.key }).flatMap(\.value)
    for server in all.filter({ !$0.isIPv6 }) + all.filter(\.isIPv6) where result.count < Self.serversMax {
      guard seen.insert(server.url).inserted else { continue }
      if let place = server.place, !places.insert(place).inserted { continue }
      result.append(server.url)
    }
    return result
  }

  /// Endpoints that are ready; one that says nothing of it is (discovery.k8s.io/v1, EndpointConditions).
  private func servers(of slice: JSONValue) -> [Server] {
    guard let (port, scheme) = port(of: slice), slice["addressType"]?.string != "FQDN" else { return [] }
    let isIPv6 = slice["addressType"]?.string == "IPv6"
    var servers: [Server] = []
    for endpoint in slice["endpoints"]?.array ?? [] where endpoint["conditions"]?["ready"]?.bool != false {
      // All addresses of an endpoint are the same pod.
      guard let address = endpoint["addresses"]?.array?.first?.string else { continue }
      let host = address.contains(":") ? "[\(address)]" : address
      if case .success(let url) = WorkerURL.parse("\(scheme)://\(host):\(port)") {
        let pod = endpoint["targetRef"]?["uid"]?.string ?? endpoint["targetRef"]?["name"]?.string
        servers.append(Server(url: url, place: pod.map { "\($0):\(port)" }, isIPv6: isIPv6))
      }
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
