// How the Kubernetes API server is reached from a pod, and which endpoints are workers.

internal import Base
internal import EventLoop
internal import Glibc
internal import TLS

/// Settings of the Kubernetes discovery; ``faults()`` says what is wrong with them.
package struct KubernetesSettings: Sendable, Equatable {
  /// Where a pod finds its service account.
  private static let account = "/var/run/secrets/kubernetes.io/serviceaccount"

  /// The API server's URL; nil outside of a cluster.
  package var server: String?
  /// Read again for each request: the kubelet replaces the token long before it ends.
  package var tokenPath = "\(account)/token"
  /// A PEM file of authorities to trust.
  package var authorityPath = "\(account)/ca.crt"
  package var namespace: String?
  /// Which EndpointSlices are those of workers; they carry their service's labels.
  package var labelSelector = "app.kubernetes.io/name=dynamo-worker"
  /// The name of the port that requests go to; where a slice has but one port, that one.
  package var portName = "http"

  package init() {}

  /// As a pod's environment has it.
  package init(environment: [String: String]) {
    func variable(_ name: String) -> String? {
      guard let value = environment[name], !value.isEmpty else { return nil }
      return value
    }
    if let url = variable("DYN_KUBE_API_SERVER") {
      server = url
    } else if let host = variable("KUBERNETES_SERVICE_HOST") {
      let port = variable("KUBERNETES_SERVICE_PORT_HTTPS") ?? variable("KUBERNETES_SERVICE_PORT") ?? "443"
      server = "https://\(host.contains(":") ? "[\(host)]" : host):\(port)"
    }
    let folder = variable("DYN_KUBE_SERVICE_ACCOUNT") ?? Self.account
    tokenPath = "\(folder)/token"
    authorityPath = "\(folder)/ca.crt"
    namespace =
      variable("DYN_KUBE_NAMESPACE") ?? variable("POD_NAMESPACE") ?? Self.line(of: "\(folder)/namespace")
    if let selector = variable("DYN_KUBE_LABEL_SELECTOR") { labelSelector = selector }
    if let name = variable("DYN_KUBE_PORT_NAME") { portName = name }
  }

  /// What cannot be used, as sentences; files are read.
  package func faults() -> [String] {
    guard let server else {
      return [
        "no Kubernetes API server: KUBERNETES_SERVICE_HOST is not set; outside of a pod name one by DYN_KUBE_API_SERVER"
      ]
    }
    var faults: [String] = []
    switch WorkerURL.parse(server) {
    case .success(let url) where url.isPerAddress || url.isMultiplexed:
      faults.append("Kubernetes API server '\(server)': use https:// or http://")
    case .success: break
    case .failure(let refusal): faults.append("Kubernetes API server '\(server)': \(refusal.reason)")
    }
    if let namespace {
      if !DiscoveryIdentity.isName(namespace) { faults.append("'\(namespace)' is no Kubernetes namespace") }
    } else {
      faults.append("no Kubernetes namespace: set DYN_KUBE_NAMESPACE")
    }
    guard faults.isEmpty else { return faults }
    do throws(TLSError) { _ = try context() } catch { faults.append("TLS to Kubernetes: \(error.reason)") }
    return faults
  }

  /// The token as it is now; nil where there is none.
  func token() -> String? { Self.line(of: tokenPath) }

  private var url: WorkerURL? { server.flatMap { try? WorkerURL.parse($0).get() } }

  private func context() throws(TLSError) -> TLSContext? {
    guard url?.isSecure == true else { return nil }
    return try TLSContext(clientTrusting: .file(authorityPath), protocols: ["http/1.1"])
  }

  /// The way to the API server. Throws what ``faults()`` would have told of TLS.
  func connector(on loop: EventLoop, resolve: @escaping NameResolver.Resolve) throws(TLSError)
    -> any APIConnector
  {
    HTTPAPIConnector(
      url.map { [$0] } ?? [], context: try context(), loop: loop,
      resolver: NameResolver(loop: loop, resolve: resolve))
  }

  /// The first word of a small file.
  private static func line(of path: String) -> String? {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return nil }
    defer { _ = close(descriptor) }
    return withUnsafeTemporaryAllocation(byteCount: 16 * 1024, alignment: 1) { buffer in
      let count = max(0, read(descriptor, buffer.baseAddress, buffer.count))
      let word = UnsafeRawBufferPointer(buffer).slice(0..<count).text.split(whereSeparator: \.isWhitespace)
        .first.map(String.init)
      // It goes into a header field.
      return word.flatMap { $0.utf8.allSatisfy { (0x21...0x7e).contains($0) } ? $0 : nil }
    }
  }
}
