// `dynamo-bench tokenize`.

internal import ArgumentParser

/// Encodes lines with a model's tokenizer, or measures it.
struct TokenizeCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "tokenize",
    abstract: "Encodes text with a model's tokenizer.json, or measures how fast that goes.",
    discussion: """
      Each line on standard input is a JSON string, answered by a line with its ids; an object with "text" and "special" \
      adds the file's special tokens; an object with "ids" is answered by their text.
      """,
    shouldDisplay: false)

  @Option(help: "Folder that holds tokenizer.json.") var model: String
  @Option(help: "Print megabytes a second over this file instead.") var measure: String?
  @Flag(help: "Use the cache of encoded prefixes.") var cached = false

  func run() throws {
    let start = processorSeconds()
    let run = try TokenizeRun(folder: model)
    let loadMilliseconds = (processorSeconds() - start) * 1_000
    if let measure {
      try run.measure(measure, loadMilliseconds: loadMilliseconds)
    } else {
      try run.answerLines(cached: cached)
    }
  }
}
