// What a worker is told at start: engine, address, identity, deadlines.

package import Base
package import Engine
internal import HTTP
internal import KVEvents
package import Prompts
package import Transport
package import Workers

/// Everything a worker is told. Immutable once it runs.
package struct WorkerConfiguration: Sendable {
  /// What generates.
  package enum EngineKind: Sendable {
    /// The built-in simulated engine.
    case simulated(EngineConfiguration)
    /// A running server that speaks OpenAI's API, at an `http://` URL; `apiKey` goes into its `authorization`.
    case openAI(url: String, apiKey: String?)
  }

  /// The name that requests use for the model.
  package var model = "Qwen/Qwen3-0.6B"
  /// Somebody chose ``model``; otherwise an attached engine's own name for it is taken.
  package var modelIsGiven = false
  /// Makes the simulated engine's tokens of prompts, as the model's engine would; nil counts their bytes.
  package var tokenizer: ModelTokenizer?
  package var engine = EngineKind.simulated(.usual)
  /// A command, read by the shell, that starts the attached engine; nil when somebody else does.
  package var engineCommand: String?
  /// Appended to ``engineCommand`` as they are.
  package var engineArguments: [String] = []
  package var host = "127.0.0.1"
  /// 0 picks a free port.
  package var port: UInt16 = 0
  /// Event loops. A simulated engine lives on one, so it is always 1 there.
  package var threads = 1
  /// The URL to register; nil: `http://`, or `h2c://`, with the host and the real port.
  package var advertiseURL: String?
  /// Whether frontends are told to send many requests over few connections (HTTP/2 by prior knowledge).
  package var advertisesHTTP2 = false
  package var namespace = "dynamo"
  package var component = "backend"
  package var endpoint = "generate"
  package var role = WorkerRole.aggregated
  /// Times that streams of this worker may go on at another one; told in its card.
  package var migrationLimit = 0
  /// At most 2^53; nil draws one where the worker registers, and has it follow from the URL where it does not.
  package var instanceID: UInt64?
  /// Where to register; nil for not in a folder.
  package var discoveryFolder: DiscoveryFolder?
  /// The etcd cluster to register in; nil for none.
  package var etcd: EtcdSettings?
  /// The system server's address; a nil port means no system server, 0 picks one.
  package var systemHost = "0.0.0.0"
  package var systemPort: UInt16?
  /// How long after the start the worker registers and calls itself ready.
  package var startupTime: Nanoseconds = 0
  package var cacheEvents = CacheEventSettings()
  /// `POST /reset_prefix_cache` makes a simulated engine forget its cache.
  package var allowsCacheReset = false
  package var serverLimits = Self.serverLimits
  package var clientLimits = ClientLimits()
  /// Longest request body; more is 413.
  package var bodyBytesMax = 64 << 20
  /// Bytes of request bodies that one loop holds at once; more is 529.
  package var bodyMemoryMax = 512 << 20
  /// After the stop began, how long requests are still taken while the record is gone already.
  package var drainGrace: Nanoseconds = 0
  /// After that, how long open requests may take.
  package var drainTimeout: Nanoseconds = 900 * second
  package var version = "0.1.0"

  package init() {}

  /// Frontends are trusted with more streams of a connection than callers from anywhere.
  private static var serverLimits: ServerLimits {
    var limits = ServerLimits()
    var multiplexed = HTTP2MultiplexerLimits()
    multiplexed.concurrentStreams = 1_024
    multiplexed.idleFramesBurst = 10_000
    multiplexed.idleFramesPerSecond = 10_000
    multiplexed.rapidResetsBurst = 2_000
    multiplexed.rapidResetsPerSecond = 2_000
    limits.multiplexed = multiplexed
    return limits
  }

  /// Dynamo's name of the endpoint.
  package var endpointURL: String { "dyn://\(namespace).\(component).\(endpoint)" }

  /// True for a worker that writes records of its own: started anew at the same URL, it is another one.
  var registers: Bool { discoveryFolder != nil || etcd != nil }

  /// Where this worker is reached unless ``advertiseURL`` says otherwise. Who listens on all addresses is reached, on
  /// this machine, by the loopback one.
  var reachedHost: String { ["0.0.0.0", "::", ""].contains(host) ? "127.0.0.1" : host }

  /// What is wrong with registering under an address that means another machine to each who reads it; nil where
  /// nothing is.
  var loopbackWarning: String? {
    guard etcd != nil else { return nil }
    var host = reachedHost
    if let advertiseURL {
      guard case .success(let url) = WorkerURL.parse(advertiseURL) else { return nil }
      host = url.host
    }
    guard host == "localhost" || host == "::1" || host == "[::1]" || host.hasPrefix("127.") else {
      return nil
    }
    return
      "the URL that goes to etcd is on \(host), where only this machine's frontends find the worker: name another by --advertise-url, or --host"
  }

  /// The path of ``discoveryFolder``.
  package var discoveryPath: String? { discoveryFolder?.path }

  /// The members of ``etcd`` with host and port; nil when the worker does not register there.
  package var etcdEndpoints: [(url: String, host: String, port: UInt16)]? {
    etcd?.endpoints.compactMap { text in
      guard case .success(let url) = WorkerURL.parse(text) else { return nil }
      return (text, url.host, url.port)
    }
  }

  /// Why cache events can be neither published nor relayed on this machine; nil when they can.
  package static var cacheEventsProblem: String? { ZeroMQContext.unavailableReason }

  /// Why the discovery folder cannot be used; nil when it can, or when there is none. Makes it where it is missing.
  package var discoveryProblem: String? {
    do throws(DiscoveryFolderError) {
      try discoveryFolder?.prepare()
      return nil
    } catch {
      return error.reason
    }
  }
}

/// Why a worker could not start.
package struct WorkerStartError: Error, Sendable, CustomStringConvertible {
  package let description: String

  init(_ description: String) { self.description = description }
}
