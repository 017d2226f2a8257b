// `dynamo-bench worker`.

internal import ArgumentParser
import Base
import EventLoop
import Glibc

/// Serves fake answers until it is stopped.
struct WorkerCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "worker",
    abstract: "A fake OpenAI-compatible worker: numbered tokens, one write for each.",
    discussion: """
      Each port speaks HTTP/1.1, and HTTP/2 to whoever begins with its preface (h2c): there the tokens of one \
      wake-up share a write for each connection. \
      GET /stats tells counters of each port and how well groups of equal prompt beginnings stayed together, \
      /reset clears them, /pace?ttft_ms=20&itl_ms=10 changes the pace of later answers.
      """)

  @Option(help: "Address to listen on.") var host = "127.0.0.1"
  @Option(help: "Port to listen on; 0 picks one. Repeat it for several workers.") var port: [UInt16] = []
  @Option(help: "Number of workers: with one port, that one and the following; with port 0, any.") var count =
    1
  @Option(help: "Model name.") var model = "bench"
  @Option(help: "Tokens of an answer whose request has no max_tokens.") var tokens = 128
  @Option(help: "Milliseconds before the first token.") var ttftMs = 0
  @Option(help: "Milliseconds between tokens; 0 sends them as fast as the socket takes them.") var itlMs = 0
  @Flag(help: "Give all streams their token in one step instead of a timer for each stream.") var step = false
  @Option(help: "Take the pace of a workload: a, b, c or d.") var preset: Preset?

  func validate() throws {
    guard count >= 1, tokens >= 1, ttftMs >= 0, itlMs >= 0 else {
      throw ValidationError("count and tokens are at least 1, times at least 0")
    }
    if count > 1, port.count > 1 { throw ValidationError("use --count with at most one --port") }
  }

  func run() throws {
    SignalSource.block([SIGTERM, SIGINT])
    Machine.raiseDescriptorLimit()
    let loop = try EventLoop(index: 0, seed: Machine.randomSeed())
    let signals = try SignalSource([SIGTERM, SIGINT], on: loop) { _ in loop.stop() }
    defer { withExtendedLifetime(signals) {} }
    var pace = Pace()
    pace.firstTokenDelay = UInt64(preset?.workload.firstTokenMilliseconds ?? ttftMs) * millisecond
    pace.tokenGap = UInt64(preset?.workload.tokenGapMilliseconds ?? itlMs) * millisecond
    pace.tokens = preset?.workload.tokens ?? tokens
    pace.step = step
    let worker = FakeWorker(loop: loop, model: model, pace: pace)
    for port in ports { say("listening on http://\(host):\(try worker.listen(host: host, port: port))\n") }
    loop.run()
    say(worker.stats + "\n")
  }

  private var ports: [UInt16] {
    if port.count > 1 { return port }
    let first = port.first ?? 0
    return (0..<count).map { first == 0 ? 0 : first + UInt16($0) }
  }
}

extension Preset: ExpressibleByArgument {}
