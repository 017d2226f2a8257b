// How etcd is reached, under Dynamo's names.

internal import Base
internal import EventLoop
internal import TLS

/// Settings of the etcd client; ``EtcdSettings/faults()`` says what is wrong with them.
package struct EtcdSettings: Sendable, Equatable {
  /// `ETCD_ENDPOINTS`: URLs of the members, tried in turn.
  package var endpoints = ["http://localhost:2379"]
  /// `ETCD_AUTH_USERNAME` and `ETCD_AUTH_PASSWORD`; both or neither.
  package var username: String?
  package var password: String?
  /// `ETCD_AUTH_CA`: a PEM file of authorities to trust; nil for the machine's own.
  package var authorityPath: String?
  /// `ETCD_AUTH_CLIENT_CERT` and `ETCD_AUTH_CLIENT_KEY`: shown to members that ask; both or neither.
  package var certificatePath: String?
  package var keyPath: String?
  /// `ETCD_LEASE_TTL`, in seconds: how long a worker's records outlive its last sign of life.
  package var leaseSeconds = 10

  package init() {}

  /// Under the names above.
  package init(environment: [String: String]) {
    func variable(_ name: String) -> String? {
      guard let value = environment[name], !value.isEmpty else { return nil }
      return value
    }
    if let list = variable("ETCD_ENDPOINTS") {
      endpoints = list.split(separator: ",").compactMap { item in
        let words = item.split(whereSeparator: \.isWhitespace)
        // etcdctl takes endpoints without a scheme, and so do its users.
        return words.first.map { $0.contains("://") ? String($0) : "http://\($0)" }
      }
    }
    username = variable("ETCD_AUTH_USERNAME")
    password = variable("ETCD_AUTH_PASSWORD")
    authorityPath = variable("ETCD_AUTH_CA")
    certificatePath = variable("ETCD_AUTH_CLIENT_CERT")
    keyPath = variable("ETCD_AUTH_CLIENT_KEY")
    if let seconds = variable("ETCD_LEASE_TTL").flatMap({ Int($0) }) { leaseSeconds = seconds }
  }

  /// What cannot be used, as sentences; files are read.
  package func faults() -> [String] {
    var faults: [String] = []
    if endpoints.isEmpty { faults.append("ETCD_ENDPOINTS names no server") }
    for endpoint in endpoints {
      switch WorkerURL.parse(endpoint) {
      case .success(let url) where url.isPerAddress || url.isMultiplexed:
        faults.append("ETCD_ENDPOINTS '\(endpoint)': use http:// or https://")
      case .success: break
      case .failure(let refusal): faults.append("ETCD_ENDPOINTS '\(endpoint)': \(refusal.reason)")
      }
    }
    if (username == nil) != (password == nil) {
      faults.append("ETCD_AUTH_USERNAME and ETCD_AUTH_PASSWORD go together")
    }
    if (certificatePath == nil) != (keyPath == nil) {
      faults.append("ETCD_AUTH_CLIENT_CERT and ETCD_AUTH_CLIENT_KEY go together")
    }
    guard faults.isEmpty else { return faults }
    do throws(TLSError) { _ = try context() } catch { faults.append("TLS to etcd: \(error.reason)") }
    return faults
  }

  private var urls: [WorkerURL] { endpoints.compactMap { try? WorkerURL.parse($0).get() } }

  /// Nil where no member is reached by TLS.
  private func context() throws(TLSError) -> TLSContext? {
    guard urls.contains(where: \.isSecure) else { return nil }
    var identity: TLSIdentity?
    if let certificatePath, let keyPath {
      identity = TLSIdentity(certificatePath: certificatePath, keyPath: keyPath)
    }
    return try TLSContext(
      clientTrusting: authorityPath.map { .file($0) } ?? .system, identity: identity, protocols: ["http/1.1"])
  }

  /// How long one member may keep a worker waiting: of the third of a lease after which it is kept alive, two members may
  /// be silent before a third one saves it.
  var silence: Nanoseconds { min(8 * second, UInt64(max(leaseSeconds, 1)) * second / 4) }

  /// The way to the members. Throws what ``faults()`` would have told of TLS.
  func connector(
    on loop: EventLoop, silence: Nanoseconds = 8 * second, resolve: @escaping NameResolver.Resolve
  ) throws(TLSError) -> any APIConnector {
    HTTPAPIConnector(
      urls, context: try context(), loop: loop, resolver: NameResolver(loop: loop, resolve: resolve),
      silence: silence)
  }
}
