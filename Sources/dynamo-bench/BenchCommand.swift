// dynamo-bench: the measuring tools of this project in one executable.

internal import ArgumentParser

@main
struct BenchCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "dynamo-bench",
    abstract: "Loads an OpenAI-compatible server, checks every answer, and measures what the server spends.",
    subcommands: [
      WorkerCommand.self, SinkCommand.self, LoadCommand.self, CompareCommand.self, TokenizeCommand.self,
      RenderCommand.self, IndexCommand.self, InterferenceCommand.self, SpansCommand.self,
    ])
}
