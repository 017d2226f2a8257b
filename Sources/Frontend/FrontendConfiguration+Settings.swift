// The frontend's configuration read from its settings, and what of them has no effect yet.

internal import Base
internal import EventLoop
internal import HTTP
internal import OpenAI
package import Routing
package import Settings
package import Telemetry
internal import Transport
internal import Workers

extension FrontendConfiguration {
  /// Takes the settings. `processors` is the number of loops when none is asked for.
  package init(_ settings: SettingsValues, processors: Int) {
    self.init()
    host = settings.string("http-host")
    port = UInt16(settings.int("http-port"))
    readListeners(settings)
    threads = settings.optionalInt("threads") ?? processors
    wakeupInterval = UInt64(settings.int("DYN_HTTP_WAKEUP_INTERVAL_US")) * microsecond
    backlog = Int32(settings.int("DYN_HTTP_LISTEN_BACKLOG"))
    bodyMemoryMax = settings.int("DYN_HTTP_BODY_MEMORY_MB") << 20
    // What is larger than all memory together would wait in vain.
    bodyBytesMax = min(settings.int("DYN_HTTP_BODY_LIMIT_MB") << 20, bodyMemoryMax)
    bodyMemoryLoan = min(bodyBytesMax, bodyMemoryMax / 2)
    overloadStatus = settings.int("DYN_HTTP_OVERLOAD_STATUS_CODE")
    if let requests = settings.optionalInt("DYN_HTTP_REQUEST_LIMIT") {
      requestsMax = max(1, requests / threads)
    }
    memoryMax = settings.optionalInt("DYN_MEMORY_LIMIT_MB").map { $0 << 20 } ?? Machine.memoryLimit
    errorFormat = settings.string("DYN_ERROR_FORMAT") == "dynamo" ? .dynamo : .openAI
    passBodyVerbatim = settings.bool("DYN_PASS_BODY_VERBATIM")
    nameWorkerInResponse = settings.bool("DYN_HTTP_WORKER_ID_HEADER")
    let silence = settings.duration("DYN_HTTP_COMMIT_SILENCE_SECS")
    commentAfter = silence > 0 ? silence : nil
    gracePeriod = settings.duration("DYN_GRACEFUL_SHUTDOWN_GRACE_PERIOD_SECS")
    drainTimeout = settings.duration("DYN_HTTP_GRACEFUL_SHUTDOWN_TIMEOUT_SECS")
    initialWorkers = settings.int("router-min-initial-workers")
    hidesRouter = settings.bool("DYN_DISABLE_FRONTEND_ADMIN_API")
    enablesAnthropic = settings.bool("enable-anthropic-api")
    stripsPreamble = settings.bool("strip-anthropic-preamble")
    sessions = SessionMode(rawValue: settings.string("router-session-affinity-mode")) ?? .soft
    let queueTime = settings.duration("DYN_ROUTER_QUEUE_TIMEOUT_SECS")
    queueWait = queueTime > 0 ? queueTime : nil
    adminAddress = Self.sideAddress("admin-listen", settings)
    metricsAddress = Self.sideAddress("metrics-listen", settings)
    guardsSystemRoutes = settings.bool("DYN_API_KEY_SYSTEM_ROUTES")
    forwardsKey = settings.bool("DYN_API_KEY_FORWARD")
    tracing.sampler = Sampler(settings)
    var faults: [String] = []
    tracing.trust = CallerTrust(settings, faults: &faults)
    tracing.mergesRoot = settings.string("DYN_TRACE_SHAPE") == "dynamo"
    tracing.tracesSystemRoutes = settings.bool("DYN_TRACE_SYSTEM_ROUTES")
    retries = RetryRules(settings)
    migration.limit = settings.int("migration-limit")
    migration.sequenceMax = settings.optionalInt("migration-max-seq-len")
    readServerLimits(settings)
    readClientLimits(settings)
  }

  /// HTTP/2 as an edge gives it to callers from anywhere: windows as Envoy's edge profile has them; nil for none.
  private static func edge(streams: Int, _ http: HTTP1Limits) -> HTTP2MultiplexerLimits? {
    guard streams > 0 else { return nil }
    var limits = HTTP2MultiplexerLimits()
    limits.concurrentStreams = streams
    limits.headerListBytes = http.headBytesMax
    // The start line of HTTP/1.1 is four pseudo-headers here.
    limits.headerCount = http.fieldCountMax + 4
    limits.streamWindowBytes = 64 << 10
    limits.connectionWindowBytes = 1 << 20
    limits.outputBytes = 64 << 10
    return limits
  }

  private mutating func readServerLimits(_ settings: SettingsValues) {
    var http = HTTP1Limits()
    http.startLineBytesMax = settings.int("DYN_HTTP_REQUEST_LINE_LIMIT")
    http.fieldCountMax = min(settings.int("DYN_HTTP_HEADER_COUNT_LIMIT"), 254)
    http.headBytesMax = settings.int("DYN_HTTP_HEAD_LIMIT")
    server = ServerLimits(http: http)
    server.proxyPeers = Self.proxyPeers(settings)
    server.headTimeout = settings.duration("DYN_HTTP_REQUEST_HEAD_TIMEOUT_SECS")
    server.bodyGapTimeout = settings.duration("DYN_HTTP_REQUEST_BODY_TIMEOUT_SECS")
    let pace = settings.int("DYN_HTTP_REQUEST_BODY_LEAST_PACE")
    server.leastPace =
      pace == 0
      ? nil
      : LeastPace(bytesPerSecond: pace, grace: settings.duration("DYN_HTTP_REQUEST_BODY_GRACE_SECS"))
    server.writeStallTimeout = settings.duration("DYN_HTTP_WRITE_STALL_TIMEOUT_SECS")
    server.idleTimeout = settings.duration("DYN_HTTP_KEEP_ALIVE_TIMEOUT_SECS")
    server.multiplexed = Self.edge(streams: settings.int("DYN_HTTP2_STREAM_LIMIT"), http)
    if let connections = settings.optionalInt("DYN_HTTP_CONNECTION_LIMIT") {
      server.connectionsMax = max(1, connections / threads)
    }
  }

  private mutating func readClientLimits(_ settings: SettingsValues) {
    client.connectTimeout = settings.duration("DYN_HTTP_BACKEND_CONNECT_TIMEOUT_SECS")
    client.silenceTimeout = settings.optionalDuration("DYN_HTTP_BACKEND_STREAM_TIMEOUT_SECS")
    client.idleTimeout = settings.duration("DYN_HTTP_BACKEND_IDLE_TIMEOUT_SECS")
  }

  /// Settings that are understood and have no effect in this version; each that was given earns one warning.
  private static let withoutEffect = ["prefill-worker"]

  /// Complete sentences about settings that were given and have no effect.
  package static func warnings(_ settings: SettingsValues) -> [String] {
    var warnings = withoutEffect.filter { settings.isGiven($0) }.map { name in
      "\(name) (\(settings.origin(name))) has no effect in this version"
    }
    let trust = CallerTrust(settings, faults: &warnings)
    if case .peers(let ranges) = trust, ranges.isEmpty {
      warnings.append(
        "DYN_TRACE_TRUST=trusted-peers trusts nobody: DYN_TRACE_TRUSTED_PEERS names no address or network")
    }
    return warnings
  }
}

extension CallerTrust {
  /// - Parameter faults: gets a sentence for each trusted peer that cannot be read; it is not trusted.
  init(_ settings: SettingsValues, faults: inout [String]) {
    var found: [String] = []
    self.init(
      settings.string("DYN_TRACE_TRUST"), peers: settings.list("DYN_TRACE_TRUSTED_PEERS"), faults: &found)
    faults += found.map { "DYN_TRACE_TRUSTED_PEERS (\(settings.origin("DYN_TRACE_TRUSTED_PEERS"))): \($0)" }
  }
}

extension Sampler {
  /// The sampler that the settings ask for.
  package init(_ settings: SettingsValues) {
    self.init(
      named: settings.optionalString("OTEL_TRACES_SAMPLER"),
      argument: settings.optionalDouble("OTEL_TRACES_SAMPLER_ARG"),
      ratio: settings.optionalDouble("OTEL_TRACES_SAMPLE_RATIO"))
  }
}

extension RoutingOptions {
  /// Takes the router's settings; `blockSize` is what the workers report where none is asked for.
  package init(_ settings: SettingsValues, blockSize: Int) {
    self.init()
    mode = RoutingMode(name: settings.string("router-mode")) ?? .kv
    self.blockSize = settings.optionalInt("kv-cache-block-size") ?? blockSize
    cost.overlapCredit = settings.double("router-kv-overlap-score-credit")
    cost.creditDecay = settings.double("router-kv-overlap-score-credit-decay")
    cost.hostCredit = settings.double("router-host-cache-hit-weight")
    cost.diskCredit = settings.double("router-disk-cache-hit-weight")
    cost.prefillScale = settings.double("router-prefill-load-scale")
    cost.activeRequestWeight = settings.double("router-decode-active-request-weight")
    cost.evictionWeight = settings.double("router-eviction-weight")
    cost.spreadsHotPrefixes = settings.bool("router-hot-prefix-spread")
    temperature = settings.double("router-temperature")
    tracksActiveBlocks = settings.bool("router-track-active-blocks")
    tracksOutputBlocks = settings.bool("router-track-output-blocks")
    tracksPrefillTokens = settings.bool("router-track-prefill-tokens")
    assumesReuse = settings.bool("router-assume-kv-reuse")
    predictedTTL = settings.optionalDuration("router-predicted-ttl-secs")
    if settings.string("router-approximate-cache-policy") == "lru" {
      cachePolicy = .leastRecentlyUsed
    } else {
      cachePolicy = .timeToLive(settings.duration("router-ttl-secs"))
    }
    bookingExpiry = settings.duration("DYN_ROUTER_ACTIVE_REQUEST_EXPIRY_SECS")
    indexBytesMax = settings.int("DYN_ROUTER_INDEX_LIMIT_MB") << 20
    busyBlocksShare = settings.optionalDouble("active-decode-blocks-threshold")
    busyPrefillTokens = settings.optionalInt("active-prefill-tokens-threshold")
    sessions = SessionAffinityOptions(
      life: settings.duration("router-session-affinity-ttl-secs"),
      sessionsMax: settings.int("DYN_ROUTER_SESSION_LIMIT"))
    if let threshold = settings.optionalDouble("router-queue-threshold") {
      var queue = QueueOptions(threshold: threshold)
      queue.policy =
        settings.string("router-queue-policy") == "wspt" ? .weightedShortestPrefill : .firstComeFirstServed
      queue.requestsPerWorkerMax = settings.int("DYN_ROUTER_QUEUE_REQUESTS_PER_WORKER")
      queue.tokensMax = settings.int("DYN_ROUTER_QUEUE_TOKENS")
      let newestFirst = settings.duration("DYN_ROUTER_QUEUE_NEWEST_FIRST_SECS")
      queue.newestFirstAfter = newestFirst > 0 ? newestFirst : nil
      self.queue = queue
    }
  }
}
