// `dynamo-bench compare`.

internal import ArgumentParser
import Base
import EventLoop
import Glibc

/// Measures this frontend and its rivals under the same load and prints tables.
struct CompareCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "compare",
    abstract: "Paired, alternating runs of several servers in front of four fake workers.",
    discussion: """
      Peers: direct (the workers alone), nginx, haproxy, frontend[:MODE][:tokens][:h2c][:untraced] (MODE kv by \
      default, by the tokens of --model-path with tokens, workers in HTTP/2 with h2c, spans into a sink of its own \
      unless untraced), sglang[:POLICY][:traced], vllm[:POLICY] (cache_aware by default; from the \
      Python environment in --venv). Every ratio is to nginx in the same round. Exit status 1 when any answer was \
      wrong.
      """)

  @Option(help: "A server to compare; repeat it.") var peer: [String] = ["frontend", "nginx", "haproxy"]
  @Option(help: "Workloads, as letters.") var presets = "abcd"
  @Option(help: "Rounds over all peers.") var rounds = 5
  @Option(help: "Seconds of each run.") var duration = 4.0
  @Option(help: "Path of dynamo-frontend.") var frontend: String?
  @Option(help: "Folder with a tokenizer, for frontend:kv:tokens.") var modelPath: String?
  @Option(help: "Python environment with sglang-router and vllm-router.") var venv = ".venv/routers"
  @Option(help: "Seed of the prompts.") var seed: UInt64 = 1
  @Option(help: "Streams to hold open for the memory row; 0 leaves it out.") var openStreams = 1_000
  @Option(help: "Requests a second of the latency rounds; 0 leaves them out.") var latencyRate = 500.0
  @Option(help: "File to which the figures of each run are appended as JSON lines.") var json: String?
  @Flag(help: "Keep the folder with logs and configurations.") var keep = false

  func validate() throws {
    guard rounds >= 1, duration > 0, openStreams >= 0, latencyRate >= 0, !presets.isEmpty else {
      throw ValidationError("numbers must be positive")
    }
    for letter in presets where Preset(rawValue: String(letter)) == nil {
      throw ValidationError("no workload \(letter)")
    }
    _ = try Peer.parse(peer, modelPath: modelPath)
  }

  func run() throws {
    let signals = try ChildRegistry.endOnSignals()
    defer { withExtendedLifetime(signals) {} }
    Machine.raiseDescriptorLimit()
    let directory = try makeTemporaryFolder()
    if !keep { ChildRegistry.remove(folder: directory) }
    let options = CompareOptions(
      peers: try Peer.parse(peer, modelPath: modelPath),
      presets: presets.compactMap { Preset(rawValue: String($0)) }, rounds: rounds,
      duration: UInt64(duration * 1e9), seed: seed, openStreams: openStreams, latencyRate: latencyRate,
      jsonPath: json)
    var setting = PeerSetting(
      directory: directory, frontend: frontend ?? besideOwnPath("dynamo-frontend"), pythonEnvironment: venv,
      workers: [], workerProcess: 0, model: "bench")
    setting.modelPath = modelPath
    let loop = try EventLoop(index: 0, seed: seed)
    var keeps = true
    defer {
      if keeps { complain("logs and configurations are in \(directory)") } else { removeTree(directory) }
    }
    let runner = try CompareRunner(options, setting, loop: loop)
    say(try runner.run())
    keeps = keep || runner.failures > 0
    if runner.failures > 0 { throw ExitCode.failure }
  }
}
