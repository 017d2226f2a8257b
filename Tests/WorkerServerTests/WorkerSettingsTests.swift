// From command line and environment to a worker's configuration.

import Base
import Engine
import Settings
import Testing
import Transport
import Workers

@testable import WorkerServer

@Suite struct WorkerSettingsTests {
  private func read(_ arguments: [String], _ environment: [String: String] = [:]) throws
    -> WorkerConfiguration
  {
    let settings = try SettingsParser.parse(.worker, arguments: arguments, environment: environment)
    return try WorkerConfiguration(settings, environment: environment)
  }

  @Test func aTrustThatCanCutTracesInTwoEarnsAWarning() {
    func warning(_ word: String, _ peers: [String] = []) -> String? {
      var faults: [String] = []
      return CallerTrust(word, peers: peers, faults: &faults).workerWarning
    }
    #expect(warning("always") == nil)
    #expect(warning("never")?.contains("DYN_TRACE_TRUST=never") == true)
    // As the frontend's proxies are named in a file that both programs read.
    #expect(warning("trusted-peers", ["10.0.0.0/8"])?.contains("DYN_TRACE_TRUSTED_PEERS") == true)
    #expect(warning("trusted-peers")?.contains("DYN_TRACE_TRUSTED_PEERS") == true)
  }

  @Test func theDefaultsAreASimulatedWorkerInTheRuntimeFolder() throws {
    let configuration = try read([], ["XDG_RUNTIME_DIR": "/run/x"])
    #expect(configuration.model == "Qwen/Qwen3-0.6B" && !configuration.modelIsGiven)
    #expect(configuration.endpointURL == "dyn://dynamo.backend.generate")
    #expect(configuration.discoveryFolder?.path == "/run/x/dynamo")
    #expect(configuration.systemPort == nil)
    guard case .simulated(let engine) = configuration.engine else {
      Issue.record("the default engine is simulated")
      return
    }
    #expect(engine.blockSize == 16 && engine.blockCount == 16_384 && engine.sequencesMax == 256)
    #expect(engine.batchedTokensMax == 8_192 && engine.prefixCaching && engine.chunkedPrefill)
  }

  @Test func theMockersFlagsReachTheEngine() throws {
    let configuration = try read([
      "--model", "m", "--block-size=32", "--num-gpu-blocks-override", "99", "--max-num-seqs", "3",
      "--no-enable-prefix-caching", "--speedup-ratio", "0", "--max-model-len", "777",
    ])
    guard case .simulated(let engine) = configuration.engine else {
      Issue.record("the engine is simulated")
      return
    }
    #expect(engine.blockSize == 32 && engine.blockCount == 99 && engine.sequencesMax == 3)
    #expect(!engine.prefixCaching && engine.speedupRatio == 0 && engine.modelTokensMax == 777)
    #expect(configuration.model == "m" && configuration.modelIsGiven)
  }

  @Test func anEngineURLMeansAnAttachedEngine() throws {
    for arguments in [["--engine-url", "http://h:1"], ["--engine", "openai", "--engine-url", "http://h:1"]] {
      guard case .openAI(let url, let key) = try read(arguments).engine else {
        Issue.record("the engine is attached")
        return
      }
      #expect(url == "http://h:1" && key == nil)
    }
    #expect(throws: WorkerSettingsError.self) { try read(["--engine", "openai"]) }
    #expect(throws: WorkerSettingsError.self) { try read(["--engine", "sim", "--engine-url", "http://h:1"]) }
  }

  @Test func rolesAndEndpointsFollowDynamo() throws {
    let prefill = try read(["--is-prefill-worker"])
    #expect(prefill.role == .prefill && prefill.component == "prefill")
    #expect(try read(["--disaggregation-mode", "decode"]).role == .decode)
    let named = try read(["--endpoint", "dyn://a.b.c"])
    #expect(named.endpointURL == "dyn://a.b.c")
    #expect(throws: WorkerSettingsError.self) { try read(["--endpoint", "a.b.c"]) }
    let etcd = try read(["--discovery-backend", "etcd"])
    #expect(etcd.discoveryFolder == nil)
    #expect(etcd.etcd?.endpoints == ["http://localhost:2379"])
    #expect(etcd.etcd?.leaseSeconds == 10)
    #expect(try read(["--discovery-backend", "mem"]).discoveryFolder == nil)
  }

  @Test func engineFlagsAreNamedOnceEach() throws {
    let settings = try SettingsParser.parse(
      .worker, arguments: ["--enforce-eager", "--tensor-parallel-size", "2", "--", "--odd=1"],
      environment: [:])
    let configuration = try WorkerConfiguration(settings, environment: [:])
    let warnings = configuration.warnings(passThrough: settings.passThrough)
    #expect(warnings.count == 3)
    #expect(warnings[0].contains("--enforce-eager") && warnings[2].contains("--odd"))
  }

  @Test(arguments: [
    ("http://h", "h", 80, ""), ("http://h:8000/", "h", 8000, ""), ("HTTP://h:1/v1", "h", 1, ""),
    ("http://[::1]:9/a/v1/", "::1", 9, "/a"),
  ]) func engineURLsAreRead(_ text: String, _ host: String, _ port: UInt16, _ prefix: String) throws {
    let url = try EngineURL(text)
    #expect(url.host == host && url.port == port && url.pathPrefix == prefix)
  }

  @Test(arguments: ["https://h", "h:80", "http://", "http://h:0", "http://h:x", "http://u@h", "http://h?x"])
  func otherURLsAreRefused(_ text: String) {
    #expect(throws: WorkerStartError.self) { try EngineURL(text) }
  }
}
