// `dynamo-bench load`.

internal import ArgumentParser
import Base
import EventLoop

/// Loads a server and prints what it saw; fails when any answer was wrong.
struct LoadCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "load",
    abstract: "Sends chat completions, checks every answer, reports latencies and the server's cost.",
    discussion: "Exit status 1 when an answer was wrong or missing.")

  @Option(help: "Server, as http://host:port. Repeat it to spread callers over several.") var url: [String]
  @Option(help: "Workload to start from: a, b, c or d; other options change it.") var preset: Preset?
  @Option(help: "Callers at the same time; the most in open loop.") var connections: Int?
  @Option(help: "Open loop: requests a second, at random times, whether or not earlier ones were answered.")
  var rate: Double?
  @Flag(inversion: .prefixedNo, help: "Ask for streams.") var stream: Bool?
  @Option(help: "Tokens to ask for (max_tokens).") var tokens: Int?
  @Option(help: "Words of a prompt, 4 bytes each.") var promptWords: Int?
  @Option(help: "Groups whose prompts share their first 90 %; 0 for none.") var prefixGroups: Int?
  @Option(help: "Model name in the requests.") var model = "bench"
  @Option(help: "Requests to send, instead of a duration.") var requests: Int?
  @Option(help: "Seconds during which requests are started.") var duration = 4.0
  @Option(help: "Requests to send before those that are measured.") var warmUp: Int?
  @Option(help: "Milliseconds over which the first requests are spread.") var rampMs: Int?
  @Option(help: "Seconds after which an answer is given up.") var timeout = 60.0
  @Option(help: "Seed of the prompts; each seed has its own.") var seed: UInt64 = 1
  @Flag(help: "Ask for usage on streams.") var usage = false
  @Flag(help: "Send an x-request-id with each request.") var requestIDs = false
  @Flag(help: "Use a new connection for each request.") var close = false
  @Option(help: "How answers are checked: numbered (the fake worker's), count, or shape.")
  var check = CheckMode.numbered
  @Option(help: "Process id of the server; it and its descendants are measured.") var pid: Int32?
  @Option(help: "Open this many streams, hold them and report the server's memory.") var openStreams: Int?
  @Option(help: "Seconds to hold them.") var hold = 2.0
  @Flag(help: "Print one JSON object.") var json = false

  func validate() throws {
    for text in url where Target.parse(text) == nil {
      throw ValidationError("not a URL of a server: \(text)")
    }
    let counts = [connections, tokens, promptWords, requests, openStreams].compactMap { $0 }
    guard counts.allSatisfy({ $0 >= 1 }), duration > 0, timeout > 0, rate ?? 1 > 0, (prefixGroups ?? 0) >= 0
    else {
      throw ValidationError("numbers must be positive")
    }
  }

  func run() throws {
    SignalSource.block([])
    Machine.raiseDescriptorLimit()
    if let pid, ProcessTree(root: pid).members.isEmpty { throw ValidationError("no process \(pid)") }
    let loop = try EventLoop(index: 0, seed: seed)
    let report = try LoadRunner(options, loop: loop).run()
    say(json ? report.json : report.text)
    if report.failed > 0 { throw ExitCode.failure }
  }

  private var options: LoadOptions {
    var workload = (preset ?? .a).workload
    workload.connections = connections ?? workload.connections
    workload.stream = stream ?? (openStreams != nil || workload.stream)
    workload.tokens = tokens ?? (openStreams != nil ? 100_000 : workload.tokens)
    workload.promptWords = promptWords ?? workload.promptWords
    workload.prefixGroups = prefixGroups ?? workload.prefixGroups
    var options = LoadOptions(targets: url.compactMap(Target.parse), workload: workload)
    options.model = model
    options.rate = rate
    options.requests = requests
    options.duration = UInt64(duration * 1e9)
    options.warmUpRequests = warmUp ?? 2 * workload.connections
    options.ramp = UInt64(rampMs ?? 25 * workload.tokenGapMilliseconds) * millisecond
    options.timeout = UInt64(timeout * 1e9)
    options.seed = seed
    options.includeUsage = usage
    options.requestIDs = requestIDs
    options.keepAlive = !close
    options.check = check
    options.process = pid
    options.openStreams = openStreams
    options.hold = UInt64(hold * 1e9)
    return options
  }
}

extension CheckMode: ExpressibleByArgument {}
