// `dynamo-bench index`.

internal import ArgumentParser

/// Measures the index of engines' events: no server, no socket.
struct IndexCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "index",
    abstract: "Measures how fast cache events are applied and prompts are looked up.",
    shouldDisplay: false)

  @Option(help: "Workers.") var workers = 64
  @Option(help: "Blocks that each worker holds.") var blocks = 16_384
  @Option(help: "Blocks of a prompt.") var prompt = 512
  @Option(help: "Random seed.") var seed: UInt64 = 1

  func validate() throws {
    guard workers > 0, blocks > 0, prompt > 0 else { throw ValidationError("all sizes must be above 0") }
  }

  func run() {
    IndexRun(workers: workers, blocks: blocks, prompt: prompt, seed: seed).run()
  }
}
