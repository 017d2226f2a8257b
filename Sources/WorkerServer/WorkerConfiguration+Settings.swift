// From dynamo-worker's settings to a worker's configuration, with every fault at once.

package import Settings
internal import Base
internal import Engine
internal import Glibc
internal import HTTP
internal import Transport
internal import Workers

/// What is wrong with a worker's settings beyond what each says alone; and what is worth a warning.
package struct WorkerSettingsError: Error, Sendable, CustomStringConvertible {
  package let faults: [String]

  package var description: String { faults.joined(separator: "\n") }
}

extension WorkerConfiguration {
  /// Reads `settings` of ``SettingsTable/worker``. `environment` tells where the discovery folder is.
  package init(
    _ settings: SettingsValues, environment: [String: String]
  ) throws(WorkerSettingsError) {
    self.init()
    var faults: [String] = []
    readModel(settings)
    readEngine(settings, &faults)
    host = settings.string("host")
    port = UInt16(settings.int("port"))
    threads = settings.int("threads")
    advertiseURL = settings.optionalString("advertise-url")
    advertisesHTTP2 = settings.bool("advertise-h2c")
    readEndpoint(settings, &faults)
    switch settings.string("discovery-backend") {
    case "file":
      if let path = settings.optionalString("DYN_FILE_KV") {
        discoveryFolder = DiscoveryFolder(explicit: path)
      } else {
        discoveryFolder = DiscoveryFolder.resolve(environment: environment)
      }
    case "etcd":
      let etcd = EtcdSettings(environment: settings.effectiveEnvironment(environment))
      faults += etcd.faults()
      self.etcd = etcd
    // In Kubernetes the service of this pod does it, once the pod is ready.
    default: break
    }
    systemHost = settings.string("DYN_SYSTEM_HOST")
    let systemPort = settings.int("DYN_SYSTEM_PORT")
    self.systemPort = systemPort >= 0 ? UInt16(systemPort) : nil
    startupTime = settings.duration("startup-time")
    allowsCacheReset = settings.bool("enable-cache-reset")
    readCacheEvents(settings, &faults)
    readDeadlines(settings)
    guard faults.isEmpty else { throw WorkerSettingsError(faults: faults) }
  }

  /// Engine flags that go nowhere, and a registration that nobody elsewhere can use, as sentences for the log.
  package func warnings(passThrough: [String]) -> [String] {
    (loopbackWarning.map { [$0] } ?? []) + flagWarnings(passThrough)
  }

  private func flagWarnings(_ passThrough: [String]) -> [String] {
    if engineCommand != nil { return [] }
    let reason: String
    switch engine {
    case .simulated: reason = "the engine is simulated"
    case .openAI: reason = "the engine runs already"
    }
    return passThrough.filter { $0.hasPrefix("-") && $0 != "--" }.map {
      "engine flag \($0.split(separator: "=")[0]) has no effect: \(reason)"
    }
  }

  private mutating func readModel(_ settings: SettingsValues) {
    if let name = settings.optionalString("model") {
      model = name
      modelIsGiven = true
    } else if let path = settings.optionalString("model-path"), let last = path.split(separator: "/").last {
      model = String(last)
      modelIsGiven = true
    }
  }

  private mutating func readEngine(_ settings: SettingsValues, _ faults: inout [String]) {
    engineCommand = settings.optionalString("engine-command")
    engineArguments = settings.passThrough
    if engineCommand != nil, settings.optionalString("engine-url") == nil {
      faults.append("--engine-command needs --engine-url, where the engine will listen")
    }
    let url = settings.optionalString("engine-url")
    if settings.string("engine") == "openai" || (url != nil && !settings.isGiven("engine")) {
      guard let url else {
        faults.append("--engine openai needs --engine-url")
        return
      }
      engine = .openAI(url: url, apiKey: readKey(settings, &faults))
      return
    }
    if url != nil { faults.append("--engine-url needs --engine openai") }
    var simulated = EngineConfiguration()
    simulated.blockCount = settings.int("num-gpu-blocks-override")
    simulated.blockSize = settings.int("block-size")
    simulated.modelTokensMax = settings.optionalInt("max-model-len") ?? EngineConfiguration.usualModelTokens
    simulated.sequencesMax = settings.int("max-num-seqs")
    simulated.batchedTokensMax = settings.int("max-num-batched-tokens")
    simulated.prefixCaching = settings.bool("enable-prefix-caching")
    simulated.chunkedPrefill = settings.bool("enable-chunked-prefill")
    simulated.speedupRatio = settings.double("speedup-ratio")
    simulated.decodeSpeedupRatio = settings.double("decode-speedup-ratio")
    simulated.bytesPerToken = settings.int("kv-bytes-per-token")
    simulated.transferBandwidth = settings.double("kv-transfer-bandwidth")
    simulated.seed = UInt64(settings.int("seed"))
    faults += simulated.faults()
    engine = .simulated(simulated)
  }

  private mutating func readCacheEvents(_ settings: SettingsValues, _ faults: inout [String]) {
    cacheEvents.endpoint = CacheEventSettings.Place(settings.string("kv-events-endpoint"))
    cacheEvents.replayEndpoint = CacheEventSettings.Place(settings.string("kv-events-replay-endpoint"))
    cacheEvents.engineEndpoint = settings.optionalString("engine-kv-events-endpoint")
    cacheEvents.engineReplayEndpoint = settings.optionalString("engine-kv-events-replay-endpoint")
    faults += cacheEvents.faults()
    if case .simulated = engine, cacheEvents.engineEndpoint != nil {
      faults.append("--engine-kv-events-endpoint needs --engine openai")
    }
  }

  private func readKey(_ settings: SettingsValues, _ faults: inout [String]) -> String? {
    guard let path = settings.optionalString("worker-api-key-file") else { return nil }
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else {
      faults.append("--worker-api-key-file \(path): \(String(cString: strerror(errno)))")
      return nil
    }
    defer { _ = close(descriptor) }
    let key = withUnsafeTemporaryAllocation(byteCount: 4_096, alignment: 1) { buffer in
      let count = max(0, read(descriptor, buffer.baseAddress, buffer.count))
      return UnsafeRawBufferPointer(buffer).slice(0..<count).text.split(whereSeparator: \.isWhitespace).first
        .map(String.init)
    }
    guard let key, key.utf8.allSatisfy({ (0x21...0x7e).contains($0) }) else {
      faults.append("--worker-api-key-file \(path) holds no key")
      return nil
    }
    return key
  }

  private mutating func readEndpoint(_ settings: SettingsValues, _ faults: inout [String]) {
    namespace = settings.string("namespace")
    if let mode = settings.optionalString("disaggregation-mode") {
      role = mode == "prefill" ? .prefill : mode == "decode" ? .decode : .aggregated
    }
    migrationLimit = settings.int("migration-limit")
    if settings.bool("is-prefill-worker") { role = .prefill }
    if case .prefill = role { component = "prefill" }
    if let name = settings.optionalString("component") { component = name }
    if let url = settings.optionalString("endpoint") {
      let parts = url.hasPrefix("dyn://") ? url.dropFirst(6).split(separator: ".") : []
      if parts.count == 3 {
        namespace = String(parts[0])
        component = String(parts[1])
        endpoint = String(parts[2])
      } else {
        faults.append("--endpoint must be dyn://namespace.component.endpoint, not '\(url)'")
      }
    }
    for name in [namespace, component, endpoint] where !DiscoveryIdentity.isName(name) {
      faults.append("'\(name)' cannot name a namespace, component or endpoint")
    }
  }

  private mutating func readDeadlines(_ settings: SettingsValues) {
    serverLimits.headTimeout = settings.duration("DYN_HTTP_REQUEST_HEAD_TIMEOUT_SECS")
    serverLimits.bodyGapTimeout = settings.duration("DYN_HTTP_REQUEST_BODY_TIMEOUT_SECS")
    serverLimits.writeStallTimeout = settings.duration("DYN_HTTP_WRITE_STALL_TIMEOUT_SECS")
    serverLimits.idleTimeout = settings.duration("DYN_HTTP_KEEP_ALIVE_TIMEOUT_SECS")
    clientLimits.connectTimeout = settings.duration("DYN_HTTP_BACKEND_CONNECT_TIMEOUT_SECS")
    clientLimits.silenceTimeout = settings.optionalDuration("DYN_HTTP_BACKEND_STREAM_TIMEOUT_SECS")
    clientLimits.idleTimeout = settings.duration("DYN_HTTP_BACKEND_IDLE_TIMEOUT_SECS")
    drainGrace = settings.duration("DYN_GRACEFUL_SHUTDOWN_GRACE_PERIOD_SECS")
    drainTimeout = settings.duration("DYN_RUNTIME_GRACEFUL_SHUTDOWN_TIMEOUT_SECS")
  }
}
