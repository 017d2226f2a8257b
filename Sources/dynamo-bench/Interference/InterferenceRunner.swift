// Streams alone, then streams beside callers with long prompts, in turns over several servers.

import Base
import EventLoop

/// What to measure.
struct InterferenceOptions {
  var peers: [Peer]
  var streams: Int
  var callers: Int
  var promptWords: Int
  var rounds: Int
  var duration: Nanoseconds
  var seed: UInt64
}

/// The times between tokens of one run, in milliseconds.
struct TokenGaps: Equatable {
  var median: Double
  var tail: Double

  init(_ histogram: LatencyHistogram) {
    median = Double(histogram.value(at: 0.5)) / 1e6
    tail = Double(histogram.value(at: 0.99)) / 1e6
  }
}

/// One round of one peer.
struct InterferenceRound {
  var alone: TokenGaps
  var beside: TokenGaps
  /// Long prompts that were answered beside the streams.
  var prompts: Int
}

/// Runs a measurement from start to end.
final class InterferenceRunner {
  private static let workerCount = 2
  /// How long the callers are at work before the streams are watched: their connections are open and pools are warm.
  private static let lead = 500 * millisecond

  private let options: InterferenceOptions
  private let loop: EventLoop
  private var setting: PeerSetting
  private let worker: ChildProcess
  private var results: [String: [InterferenceRound]] = [:]
  private(set) var failures = 0

  init(_ options: InterferenceOptions, _ setting: PeerSetting, loop: EventLoop) throws(CompareError) {
    self.options = options
    self.loop = loop
    self.setting = setting
    worker = try self.setting.startWorkers(Self.workerCount)
  }

  /// Runs everything and returns the table.
  func run() throws(CompareError) -> String {
    defer { worker.stop() }
    var running: [RunningPeer] = []
    defer { for peer in running { peer.stop() } }
    for peer in options.peers {
      complain("starting \(peer.name)")
      running.append(try RunningPeer(peer, setting))
    }
    let workload = streams
    let pace =
      "/pace?ttft_ms=\(workload.firstTokenMilliseconds)&itl_ms=\(workload.tokenGapMilliseconds)&step=0"
    guard let port = setting.workers.first, ControlClient.get(port: port, pace) != nil else {
      throw .control("the fake worker")
    }
    for round in 1...options.rounds {
      for offset in running.indices {
        try measure(running[(offset + round - 1) % running.count], round)
      }
    }
    for peer in running where peer.peer.isTokenizing { failures += CompareRunner.untokenizedFailures(peer) }
    return Self.table(options.peers.map { ($0.name, results[$0.name] ?? []) })
  }

  /// A stream as in workload c.
  private var streams: Workload {
    var workload = Preset.c.workload
    workload.connections = options.streams
    return workload
  }

  private func measure(_ peer: RunningPeer, _ round: Int) throws(CompareError) {
    let alone = try watch(peer, round)
    let callers = try startCallers(peer, round)
    defer { callers.stop() }
    Clock.sleep(milliseconds: UInt32(Self.lead / millisecond))
    let beside = try watch(peer, round + options.rounds)
    let prompts = Self.finished(callers)
    if prompts.completed == 0 || prompts.failed > 0 {
      complain("\(peer.peer.name): \(prompts.completed) long prompts answered, \(prompts.failed) failed")
      complain(callers.logTail)
      failures += 1
    }
    let result = InterferenceRound(alone: alone, beside: beside, prompts: prompts.completed)
    results[peer.peer.name, default: []].append(result)
    complain(
      "round \(round) \(peer.peer.name): p99 between tokens \(fixed(alone.tail, 3)) ms alone, "
        + "\(fixed(beside.tail, 3)) ms beside \(prompts.completed) long prompts")
  }

  /// Watches the streams for one run.
  private func watch(_ peer: RunningPeer, _ round: Int) throws(CompareError) -> TokenGaps {
    var load = LoadOptions(targets: peer.targets(for: .c), workload: streams)
    load.model = setting.model
    load.duration = options.duration
    load.ramp = UInt64(25 * streams.tokenGapMilliseconds) * millisecond
    load.seed = options.seed &+ UInt64(round) &* 1_000
    do {
      let report = try LoadRunner(load, loop: loop).run()
      failures += report.failed
      for example in report.measurements.examples { complain("  \(example)") }
      return TokenGaps(report.measurements.tokenGap)
    } catch {
      throw .load(error)
    }
  }

  /// The callers in a process of their own, so that writing prompts does not delay the reading of tokens here. They are
  /// at work until after the streams' last one has ended.
  private func startCallers(_ peer: RunningPeer, _ round: Int) throws(CompareError) -> ChildProcess {
    let streamLife = UInt64(streams.tokens * streams.tokenGapMilliseconds) * millisecond
    let seconds = Double(Self.lead + options.duration + streamLife) / 1e9
    var command = [
      ownPath, "load", "--connections", String(options.callers), "--no-stream", "--tokens", "1",
      "--prompt-words", String(options.promptWords), "--model", setting.model, "--warm-up", "0",
      "--check", "count", "--seed", String(options.seed &+ UInt64(round) &* 1_000 &+ 500),
      "--duration", fixed(seconds, 3), "--json",
    ]
    for target in peer.targets(for: .c) { command += ["--url", "http://\(target.authority)"] }
    let log = "\(setting.directory)/callers-\(peer.peer.name.replacing(":", with: "-"))-\(round).log"
    return try ChildProcess("callers", command, logPath: log)
  }

  /// Waits for the callers' end and reads what they say.
  private static func finished(_ callers: ChildProcess) -> (completed: Int, failed: Int) {
    let limit = Clock.now + 120 * second
    while callers.isRunning, Clock.now < limit { Clock.sleep(milliseconds: 10) }
    let text = readFile(callers.logPath).map { String(decoding: $0, as: UTF8.self) } ?? ""
    return (figure("completed", in: text) ?? 0, figure("failed", in: text) ?? 0)
  }

  /// A whole number of a JSON object on one line.
  static func figure(_ name: String, in json: String) -> Int? {
    guard let range = json.firstRange(of: "\"\(name)\":") else { return nil }
    return Int(json[range.upperBound...].prefix { $0.isNumber })
  }

  /// Medians over the rounds; the difference is taken within each round.
  static func table(_ peers: [(name: String, rounds: [InterferenceRound])]) -> String {
    var table = TextTable([
      "between tokens, ms", "p50 alone", "p50 beside", "p99 alone", "p99 beside", "p99 added", "long prompts",
    ])
    for (name, rounds) in peers {
      func cell(_ value: (InterferenceRound) -> Double) -> String {
        median(rounds.map(value)).map { fixed($0, 3) } ?? "–"
      }
      table.add([
        name, cell(\.alone.median), cell(\.beside.median), cell(\.alone.tail), cell(\.beside.tail),
        cell { $0.beside.tail - $0.alone.tail }, grouped(rounds.reduce(0) { $0 + $1.prompts }),
      ])
    }
    return table.text
  }
}
