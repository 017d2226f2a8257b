// What the frontend is told at start, as immutable values.

package import Base
package import EventLoop
package import OpenAI
package import Prompts
package import Telemetry
package import Tenants
package import Transport
package import Workers

/// Limits, deadlines and switches of the frontend.
package struct FrontendConfiguration: Sendable {
  package var host = "0.0.0.0"
  package var port: UInt16 = 8000
  /// What is listened on instead of host and port; empty for those.
  package var listen: [ListenAddress] = []
  /// Permissions of Unix sockets' files.
  package var unixSocketMode: UInt32 = 0o660
  /// Where the process that comes next asks for the listening sockets, and this one asks at start; nil for nowhere.
  package var handoverPath: String?
  /// Event loops, one thread each.
  package var threads = 1
  package var backlog: Int32 = 4096
  /// Least time between two wake-ups of a busy loop; 0 wakes for every event.
  package var wakeupInterval: Nanoseconds = 250 * microsecond
  /// Largest request body in bytes.
  package var bodyBytesMax = 45 * 1024 * 1024
  /// Memory that all request bodies may take together, in bytes.
  package var bodyMemoryMax = 512 * 1024 * 1024
  /// The last part of that memory, which one half-read body at a time may take of: with room for the largest, bodies
  /// that have come half never wait for one another alone.
  package var bodyMemoryLoan = 45 * 1024 * 1024
  /// Least bytes by which a body takes of that memory: small, so that it is used up by bytes and not by requests that
  /// wait for their answers.
  package var bodyMemoryStep = 1_024
  /// How long a request waits for memory for its body.
  package var bodyWait: Nanoseconds = 5 * second
  /// Requests of one loop that may wait for memory.
  package var bodyWaitersMax = 128
  package var overloadStatus = 529
  /// Inference requests in progress on one loop; past it new ones are refused.
  package var requestsMax = 16_384
  /// Resident memory of the process in bytes, near which work is refused; nil for no bound.
  package var memoryMax: Int?
  package var errorFormat = ErrorFormat.openAI
  /// Never ask a worker for usage on a stream whose caller did not.
  package var passBodyVerbatim = false
  /// Whether `x-dynamo-worker-id` names the chosen worker.
  package var nameWorkerInResponse = true
  /// Silence on a stream after which a comment is sent; nil sends none.
  package var commentAfter: Nanoseconds? = 15 * second
  /// After SIGTERM, how long requests are still taken while `/ready` says no.
  package var gracePeriod: Nanoseconds = 0
  /// How long open requests may run after that.
  package var drainTimeout: Nanoseconds = 5 * second
  /// Ready workers that must be known before `/ready` first says yes.
  package var initialWorkers = 0
  /// What `x-dynamo-session-id` means.
  package var sessions = SessionMode.soft
  /// How long a request may wait for a worker with room; nil for as long as its caller does.
  package var queueWait: Nanoseconds? = 60 * second
  /// How far failed requests are repeated.
  package var retries = RetryRules()
  /// How far running streams move to other workers.
  package var migration = MigrationRules()
  /// Prompts that are read where they are answered although the model has workers that prefill; nil for none.
  package var shortPrompts: ShortPrompts?
  /// Whether `/v1/router/state` and `/v1/router/explain` are not there.
  package var hidesRouter = false
  /// Whether Anthropic's API is served.
  package var enablesAnthropic = false
  /// Whether the system block by which Claude Code names its version is left out of its prompts.
  package var stripsPreamble = true
  package var compatibility = CompatibilityOptions()
  /// Proxies whose `forwarded` and `x-forwarded-*` are believed and passed on.
  package var trustedProxies = TrustedProxies()
  package var server = ServerLimits()
  package var client = ClientLimits()
  /// TLS of the listener; nil for plain text.
  package var security: SocketSecurity?
  package var tracing = TracingConfiguration()
  package var preprocess = PreprocessLimits()
  /// Makes tokens of prompts; nil where they are routed by bytes. The same for as long as the process runs.
  package var tokenizer: ModelTokenizer?
  /// Where state is changed; nil for nowhere.
  package var adminAddress: ListenAddress?
  /// Where metrics are instead of on the callers' port; nil for there.
  package var metricsAddress: ListenAddress?
  /// The API keys of which a request must present one; nil where none is asked for.
  package var keys: KeyRing?
  /// Whether that holds for health, readiness, metrics and version too.
  package var guardsSystemRoutes = false
  /// Whether the caller's key goes on to the worker although it was meant for here.
  package var forwardsKey = false
  /// The field line by which workers are told our own key; empty for none.
  package var workerAuthorization: [UInt8] = []

  /// Whether `authorization` and `x-api-key` are the worker's business.
  var passesCallersKey: Bool { workerAuthorization.isEmpty && (keys == nil || forwardsKey) }

  package init() {}

  /// Whether spans tell whom requests come from: where somebody has said which peers are proxies.
  var tellsClients: Bool { trustedProxies.ranges != nil || server.proxyPeers != nil }

  /// All that is listened on.
  package var addresses: [ListenAddress] { listen.isEmpty ? [.tcp(host: host, port: port)] : listen }
}

/// What of tracing is alive.
package struct TracingConfiguration: Sendable {
  /// Trace context is made, logged and passed on: when any of JSONL, export or the trace store is on.
  package var hasContext = false
  /// Spans are recorded and published.
  package var recordsSpans = false
  package var sampler = Sampler.parentBasedAlwaysOn
  /// Formats of the headers that carry traces.
  package var propagators = Propagators()
  /// Whose span becomes the parent of ours; with other callers a request begins a trace and links to theirs.
  package var trust = CallerTrust.always
  /// What is kept although the sampler said no.
  package var keep = TraceKeep.none
  /// The server span and `http-request` are one span of the latter's name (`DYN_TRACE_SHAPE=dynamo`).
  package var mergesRoot = false
  /// Requests to health, metrics and the like make spans too.
  package var tracesSystemRoutes = false

  package init() {}
}
