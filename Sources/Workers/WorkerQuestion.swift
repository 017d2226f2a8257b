// Asks one worker which models it serves, before anything runs: for `doctor`.

internal import Base
internal import EventLoop
internal import Transport

/// Why a worker did not tell its models, in words.
package struct WorkerQuestionFailure: Error, CustomStringConvertible {
  package let description: String
}

/// The frontend's own probe, asked once and waited for.
package enum WorkerQuestion {
  /// The models that the worker at `text` lists, by the URL, the key and the certificates that the frontend would use.
  /// Of a `dns+` name its first address is asked. Blocks, for the configuration's `probeTimeout` at most.
  package static func models(
    of text: String, _ configuration: WorkerDirectoryConfiguration
  ) throws(WorkerQuestionFailure) -> [String] {
    let url: WorkerURL
    switch WorkerURL.parse(text) {
    case .success(let parsed): url = parsed
    case .failure(let refusal): throw WorkerQuestionFailure(description: refusal.reason)
    }
    let addresses = SocketAddress.resolve(host: url.host, port: url.port)
    guard !addresses.isEmpty else { throw WorkerQuestionFailure(description: "its name has no address") }
    let upstream = Upstream(
      id: url.id, addresses: url.isPerAddress ? Array(addresses.prefix(1)) : addresses,
      authority: url.authority, pathPrefix: url.pathPrefix, security: try security(of: url, configuration),
      isMultiplexed: url.isMultiplexed)
    switch try ask(upstream, configuration) {
    case .success(let answer): return answer.models
    case .failure(let failure): throw WorkerQuestionFailure(description: failure.reason)
    }
  }

  private static func security(
    of url: WorkerURL, _ configuration: WorkerDirectoryConfiguration
  ) throws(WorkerQuestionFailure) -> SocketSecurity? {
    guard url.isSecure else { return nil }
    do {
      let security = try WorkerSecurity(configuration.security)
      try security.prepare()
      return security.security(of: url)
    } catch {
      throw WorkerQuestionFailure(description: "\(error)")
    }
  }

  /// A probe on a loop of its own, which ends with the report.
  private static func ask(
    _ upstream: Upstream, _ configuration: WorkerDirectoryConfiguration
  ) throws(WorkerQuestionFailure) -> ProbeOutcome {
    let loop: EventLoop
    do throws(SystemError) {
      loop = try EventLoop(index: 0, seed: 0)
    } catch {
      throw WorkerQuestionFailure(description: "\(error)")
    }
    let prober = HTTPWorkerProber(
      loop: loop, timeout: configuration.probeTimeout, apiKey: configuration.apiKey)
    var outcome = ProbeOutcome.failure(.silent)
    let probe = prober.probe(upstream, ProbeQuestions()) {
      outcome = $0
      loop.stop()
    }
    withExtendedLifetime(probe) { loop.run() }
    prober.close()
    return outcome
  }
}
