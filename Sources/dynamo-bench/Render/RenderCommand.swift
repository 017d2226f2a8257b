// `dynamo-bench render`: for tests, so hidden from the help.

internal import ArgumentParser
import Base
import Glibc

/// Renders a chat template for each line of standard input.
struct RenderCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "render", abstract: "Renders a chat template: JSON lines in, JSON lines out.",
    shouldDisplay: false)

  @Option(help: "File with the template; lines may bring their own.") var template: String?

  func run() throws {
    var source = ""
    if let template {
      guard let bytes = readFile(template) else { throw ValidationError("cannot read \(template)") }
      source = String(decoding: bytes, as: UTF8.self)
    }
    var renderer = LineRenderer(source: source)
    var out = ByteBuffer()
    while var line = readLine() {
      line.withUTF8 { renderer.answer(UnsafeRawBufferPointer($0), to: &out) }
      guard writeAll(1, out.text) else { return }
      out.removeAll()
    }
  }
}
