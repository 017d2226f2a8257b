// One worker as routing and dispatch see it: an immutable record in a snapshot.

package import OpenAI
package import Telemetry
package import Transport

/// Where a worker is known from.
package enum WorkerSource: Sendable {
  /// Named by `--worker`.
  case fixed
  /// Registered itself in the discovery folder.
  case file
  /// Registered itself in etcd.
  case etcd
  /// An endpoint of a Kubernetes service.
  case kubernetes
  /// Runs inside this process (`--simulate`).
  case simulated

  /// The word that `/health` shows.
  package var label: String {
    switch self {
    case .fixed: "static"
    case .file: "file"
    case .etcd: "etcd"
    case .kubernetes: "kubernetes"
    case .simulated: "simulated"
    }
  }
}

/// Whether a worker takes requests, and if not, why.
package enum WorkerState: Sendable {
  case ready
  /// Not asked yet.
  case unprobed
  /// The last probe failed; the text says how.
  case unreachable(String)
}

/// One worker. A change makes a new value in a new snapshot.
package struct Worker: Sendable {
  /// At most 2^53, so that JSON readers keep it: a hash of the URL for static workers, else the instance id.
  package let id: UInt64
  package let url: String
  package let upstream: Upstream
  package let source: WorkerSource
  package var state: WorkerState
  /// Names of the models it serves.
  package var models: [String]
  /// Which part of a request it does. One that only prefills never gets a whole request.
  package var role = WorkerRole.aggregated
  /// Tokens in a block of its KV cache.
  package var blockSize: Int
  /// Blocks that its KV cache holds.
  package var totalBlocks: Int
  /// True for `dynamo-worker`, which takes request ids unchanged and speaks trace context; false for a bare engine.
  package var isDynamoWorker: Bool
  package var engine = EngineKind.unknown
  /// Those of ``models`` that are LoRA adapters: their blocks are not the base model's.
  package var adapters: [String] = []
  /// Most tokens of a prompt and its answer, and requests that run at a time; nil when unknown.
  package var contextLength: Int?
  package var sequencesMax: Int?
  /// Most tokens of one step of its engine; nil when unknown.
  package var batchedTokensMax: Int?
  /// Times that its streams may go on elsewhere by its own word; the frontend may allow more.
  package var migrationLimit = 0
  /// Where it publishes its cache's events; empty when it does not.
  package var eventSources: [CacheEventSource] = []
  /// An operator takes it out of service: requests that it has go on, new ones go elsewhere.
  package var isDraining = false
  /// How its requests went lately, and what of them it is given because of that.
  package let tally: WorkerTally
  package var standing = WorkerStanding.full
  /// The routes that it serves; what it does not tell is tried, but for Anthropic's, which can be translated.
  package var endpoints = Worker.assumedEndpoints
  /// Whether its engine makes the tokens that are counted on here.
  package var prompts = PromptAgreement.unchecked

  package init(
    id: UInt64, url: String, upstream: Upstream, source: WorkerSource, state: WorkerState = .unprobed,
    models: [String] = [], blockSize: Int = 16, totalBlocks: Int = 16_384, isDynamoWorker: Bool = false,
    tally: WorkerTally = WorkerTally()
  ) {
    self.tally = tally
    self.id = id
    self.url = url
    self.upstream = upstream
    self.source = source
    self.state = state
    self.models = models
    self.blockSize = blockSize
    self.totalBlocks = totalBlocks
    self.isDynamoWorker = isDynamoWorker
  }

  /// What is taken for served by a worker that does not say.
  package static let assumedEndpoints = EndpointSet(Endpoint.allCases.filter { !$0.isAnthropic })

  /// True when it answers, and is known to the router.
  package var isReady: Bool {
    if case .ready = state { return true }
    return false
  }

  package var isEjected: Bool {
    if case .ejected = standing { return true }
    return false
  }

  /// True when requests may be sent there.
  package var takesRequests: Bool { isReady && !isDraining && !isEjected }

  /// Its state as one word, with what there is to say about it.
  package var stateInWords: (state: String, reason: String?) {
    switch state {
    case .unprobed: return ("unprobed", nil)
    case .unreachable(let reason): return ("unreachable", reason)
    case .ready: break
    }
    if isDraining { return ("draining", nil) }
    switch standing {
    case .full: return ("ready", nil)
    case .ejected(let reason): return ("ejected", reason)
    case .recovering: return ("recovering", "its share of requests grows")
    }
  }
}

/// A worker that takes requests, with what the spans of every request sent there say of it. One object a snapshot, so
/// that a request holds it by one reference.
package final class ReadyWorker: Sendable {
  package let facts: Worker
  /// For the span of an attempt that does all of a request.
  package let attemptAttributes: EncodedAttributes
  /// For one that does the part of ``Worker/role``, or of a decode where it is asked for no part of its own.
  package let partAttributes: EncodedAttributes
  /// For the span of a request that it served.
  package let servedAttributes: EncodedAttributes

  package init(_ facts: Worker) {
    self.facts = facts
    attemptAttributes = Self.attributes(facts, .aggregated)
    partAttributes = Self.attributes(facts, facts.role == .prefill ? .prefill : .decode)
    servedAttributes = EncodedAttributes { span in
      span.attribute(AttributeName.prefillWorkerID, id: facts.id)
      span.attribute(AttributeName.decodeWorkerID, id: facts.id)
    }
  }

  private static func attributes(_ facts: Worker, _ phase: WorkerRole) -> EncodedAttributes {
    EncodedAttributes { span in
      span.attribute(AttributeName.workerID, id: facts.id)
      span.attribute(AttributeName.dpRank, 0)
      span.attribute(AttributeName.phase, phase.rawValue)
      span.attribute(AttributeName.httpRequestMethod, "POST")
      if let url = try? WorkerURL.parse(facts.url).get() {
        span.attribute(AttributeName.serverAddress, url.host)
        span.attribute(AttributeName.serverPort, Int(url.port))
      }
    }
  }

  package var id: UInt64 { facts.id }
  package var upstream: Upstream { facts.upstream }
  package var isDynamoWorker: Bool { facts.isDynamoWorker }
}
