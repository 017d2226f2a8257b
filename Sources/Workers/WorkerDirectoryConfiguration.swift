// What the worker directory is told at start, and why it may refuse to.

package import Base
package import EventLoop
package import Routing
package import TLS

/// Settings of a ``WorkerDirectory``.
package struct WorkerDirectoryConfiguration: Sendable {
  /// URLs of static workers: `http://host[:port][/prefix]` or `dns+http://name:port`, `https` likewise.
  package var urls: [String] = []
  /// Those of static workers that only prefill.
  package var prefillURLs: [String] = []
  /// URLs of workers that run inside this process.
  package var simulatedURLs: [String] = []
  /// Where workers register themselves; nil for none.
  package var discoveryFolder: DiscoveryFolder?
  /// The etcd cluster in which they do; nil for none.
  package var etcd: EtcdSettings?
  /// The Kubernetes endpoints that are workers; nil for none. Of the three one at most is used, the first that is there.
  package var kubernetes: KubernetesSettings?
  /// Only workers registered in this namespace; nil for all.
  package var namespace: String?
  /// Only workers whose namespace begins with this; nil for all.
  package var namespacePrefix: String?
  /// Only this model is served; nil for all that workers list.
  package var modelName: String?
  /// Tokens in a cache block, whatever workers say.
  package var blockSizeOverride: Int?
  /// How workers are chosen; each model's routing state begins with it, but for the block size, which workers tell.
  package var routing = RoutingOptions()
  /// How workers of `https` URLs are verified.
  package var security = WorkerSecurityConfiguration()
  /// Engines that publish their cache's events are listened to.
  package var followsCacheEvents = false
  /// Engines' events are followed wherever they say that they are, not on their worker's own host alone.
  package var followsForeignEvents = false
  /// Prompts are hashed by their tokens here, not by their bytes: events of the other kind match nothing.
  package var hashesTokens = false
  /// Chats to ask an engine about when its worker becomes ready, with the ids that this process makes of them as an
  /// engine of that kind would; nil where it makes none.
  package var promptSamples: (@Sendable (_ engine: EngineKind, _ model: String) -> [PromptSample])?
  /// Sent to workers as a bearer token.
  package var apiKey: String?
  /// Between two probes of a ready worker.
  package var probeInterval: Nanoseconds = 30 * second
  /// Between two probes of a worker that was never ready.
  package var firstProbeInterval: Nanoseconds = second
  /// Between two probes of a worker that stopped answering.
  package var retryProbeInterval: Nanoseconds = 2 * second
  /// From a probe's connect to the end of its answer.
  package var probeTimeout: Nanoseconds = 5 * second
  /// Between two looks into the discovery folder where the kernel told of no change.
  package var scanInterval: Nanoseconds = second
  /// When failing requests take a worker out of service.
  package var outliers = OutlierRules()
  /// How idle workers are asked to generate; nil for not at all.
  package var canary: CanaryConfiguration?
  /// How load is exchanged with other frontends of the same workers; nil for not at all.
  package var peers: PeerExchangeSettings?
  /// Between two clearings of what has expired in the routing states.
  package var upkeepInterval: Nanoseconds = 5 * second
  /// Between two resolutions of a name.
  package var resolveInterval: Nanoseconds = 30 * second
  /// How long a model without ready workers stays known.
  package var modelMemory: Nanoseconds = 3_600 * second
  /// Workers held at most; past it further ones are logged once and ignored.
  package var workersMax = 4_096
  /// Models held at most; past it further ones are logged once and ignored.
  package var modelsMax = 1_024
  /// Gives all addresses of a name; may block, on a thread of its own.
  package var resolve: @Sendable (_ host: String, _ port: UInt16) -> [SocketAddress] = {
    SocketAddress.resolve(host: $0, port: $1)
  }

  package init() {}

  /// Where workers that register themselves are found; nil for nowhere.
  var discoverySource: WorkerSource? {
    if discoveryFolder != nil { return .file }
    if etcd != nil { return .etcd }
    return kubernetes != nil ? .kubernetes : nil
  }

  /// Makes the source that ``discoverySource`` names. Throws which file for TLS cannot be used.
  func makeSource(on loop: EventLoop) throws(TLSError) -> (any DiscoverySource)? {
    if let discoveryFolder { return FolderSource(discoveryFolder, interval: scanInterval, on: loop) }
    if let etcd {
      let connector = try etcd.connector(on: loop, resolve: resolve)
      return EtcdSource(EtcdClient(etcd, connector: connector, first: loop.random.next()), on: loop)
    }
    if let kubernetes {
      let connector = try kubernetes.connector(on: loop, resolve: resolve)
      return EndpointSliceSource(kubernetes, connector: connector, on: loop)
    }
    return nil
  }
}

/// Why a worker directory cannot start.
package enum WorkerDirectoryError: Error, Sendable, CustomStringConvertible {
  /// Every URL that cannot be used.
  case urls([WorkerURLFault])
  /// The discovery folder that the user named.
  case folder(DiscoveryFolderError)
  /// A certificate or key for TLS to workers.
  case tls(TLSError)
  /// What cannot be asked of workers.
  case canary(String)
  /// Why other frontends cannot be found.
  case peers(String)
  case system(SystemError)

  package var description: String {
    switch self {
    case .urls(let faults): "unusable worker URL " + faults.map(\.description).joined(separator: "; ")
    case .folder(let error): "discovery folder \(error)"
    case .tls(let error): "TLS to workers: \(error.reason)"
    case .canary(let fault): fault
    case .peers(let fault): "--router-replica-sync: \(fault)"
    case .system(let error): "\(error)"
    }
  }
}
