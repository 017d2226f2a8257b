// `dynamo-bench interference`.

internal import ArgumentParser
import EventLoop

/// Measures what callers with long prompts do to the streams of others.
struct InterferenceCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "interference",
    abstract: "The time between tokens of running streams, alone and while others send long prompts.",
    discussion: """
      Starts two fake workers (a token each 10 ms) and each peer in front of them, as `compare` does, and measures in \
      each round the streams alone and then beside the callers, who run in a process of their own and are told new \
      prompts. A word of a prompt is at least one token. Exit status 1 when any answer was wrong.
      """)

  @Option(help: "A server to measure, named as for `compare`; repeat it.") var peer: [String] = ["frontend"]
  @Option(help: "Streams whose tokens are watched.") var streams = 64
  @Option(help: "Callers with long prompts.") var callers = 8
  @Option(help: "Words of a long prompt, 4 bytes each.") var promptWords = 60_000
  @Option(help: "Rounds.") var rounds = 5
  @Option(help: "Seconds of each run.") var duration = 5.0
  @Option(help: "Path of dynamo-frontend.") var frontend: String?
  @Option(help: "Folder with a tokenizer, for frontend:kv:tokens.") var modelPath: String?
  @Option(help: "Seed of the prompts.") var seed: UInt64 = 1
  @Flag(help: "Keep the folder with logs and configurations.") var keep = false

  func validate() throws {
    guard streams >= 1, callers >= 1, promptWords >= 1, rounds >= 1, duration > 0 else {
      throw ValidationError("numbers must be positive")
    }
    _ = try Peer.parse(peer, modelPath: modelPath)
  }

  func run() throws {
    let signals = try ChildRegistry.endOnSignals()
    defer { withExtendedLifetime(signals) {} }
    Machine.raiseDescriptorLimit()
    let directory = try makeTemporaryFolder()
    if !keep { ChildRegistry.remove(folder: directory) }
    var setting = PeerSetting(
      directory: directory, frontend: frontend ?? besideOwnPath("dynamo-frontend"), pythonEnvironment: "",
      workers: [], workerProcess: 0, model: "bench")
    setting.modelPath = modelPath
    let options = InterferenceOptions(
      peers: try Peer.parse(peer, modelPath: modelPath), streams: streams, callers: callers,
      promptWords: promptWords, rounds: rounds, duration: UInt64(duration * 1e9), seed: seed)
    var keeps = true
    defer {
      if keeps { complain("logs and configurations are in \(directory)") } else { removeTree(directory) }
    }
    let runner = try InterferenceRunner(options, setting, loop: try EventLoop(index: 0, seed: seed))
    say(try runner.run())
    keeps = keep || runner.failures > 0
    if runner.failures > 0 { throw ExitCode.failure }
  }
}
