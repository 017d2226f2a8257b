// Paired, alternating rounds over several servers in front of the same fake workers.

import Base
import EventLoop

/// What to compare.
struct CompareOptions {
  var peers: [Peer]
  var presets: [Preset]
  var rounds: Int
  var duration: Nanoseconds
  var seed: UInt64
  var openStreams: Int
  /// Requests a second of the latency rounds; 0 leaves them out.
  var latencyRate: Double
  /// Where each run's figures are appended as a line of JSON.
  var jsonPath: String?
}

/// Runs a comparison from start to end.
final class CompareRunner {
  private static let workerCount = 4

  private let options: CompareOptions
  private let loop: EventLoop
  private var setting: PeerSetting
  private let worker: ChildProcess
  private var results = Results()
  /// Requests that each peer answered, measured or not.
  private var answered: [String: Int] = [:]
  private(set) var failures = 0

  init(_ options: CompareOptions, _ setting: PeerSetting, loop: EventLoop) throws(CompareError) {
    self.options = options
    self.loop = loop
    self.setting = setting
    worker = try self.setting.startWorkers(Self.workerCount)
    results.peers = options.peers.map(\.name)
  }

  /// Runs everything and returns the tables.
  func run() throws(CompareError) -> String {
    defer { worker.stop() }
    var running: [RunningPeer] = []
    defer { for peer in running { peer.stop() } }
    for peer in options.peers {
      complain("starting \(peer.name)")
      let started = try RunningPeer(peer, setting)
      running.append(started)
      results.ready[peer.name] = started.readyMilliseconds
    }
    // Start-up work of the servers must not fall into the first run.
    Clock.sleep(milliseconds: 1_000)
    for peer in running {
      results.memory[peer.peer.name] = MemoryResult(idle: Self.mebibytes(peer).current)
    }
    for round in 1...options.rounds { try runRound(round, running) }
    try finishTracing(running)
    for peer in running where peer.peer.isTokenizing { failures += Self.untokenizedFailures(peer) }
    for peer in running { results.memory[peer.peer.name]?.highest = Self.mebibytes(peer).highest }
    for peer in running { peer.stop() }
    running = []
    if options.openStreams > 0 { try measureOpenStreams() }
    return results.text(presets: options.presets)
  }

  // MARK: Rounds

  private func runRound(_ round: Int, _ running: [RunningPeer]) throws(CompareError) {
    for preset in options.presets {
      try setPace(preset.workload)
      // Another peer goes first in each round.
      for offset in running.indices {
        let peer = running[(offset + round - 1) % running.count]
        try measure(peer, preset, round)
      }
    }
    if options.latencyRate > 0 { try measureLatency(running, round) }
  }

  private func measure(_ peer: RunningPeer, _ preset: Preset, _ round: Int) throws(CompareError) {
    _ = try control("/reset")
    var load = LoadOptions(targets: peer.targets(for: preset), workload: preset.workload)
    load.model = setting.model
    load.duration = options.duration
    load.warmUpRequests = 2 * preset.workload.connections
    load.ramp = UInt64(25 * preset.workload.tokenGapMilliseconds) * millisecond
    load.seed = options.seed &+ UInt64(round) &* 1_000
    load.process = peer.process
    let report = try run(load)
    answered[peer.peer.name, default: 0] += report.completed + load.warmUpRequests
    let affinity = preset.workload.prefixGroups > 0 ? try groupAffinity() : nil
    let result = RoundResult(
      round: round, peer: peer.peer.name, workload: preset.rawValue, report: report, affinity: affinity)
    note(result)
  }

  private func note(_ result: RoundResult) {
    results.rounds.append(result)
    let report = result.report
    failures += report.failed
    let cpu = report.cpuPerRequest.map { readable($0) } ?? "–"
    complain(
      "round \(result.round) (\(result.workload)) \(result.peer): \(cpu) µs/req, "
        + "\(readable(report.requestRate)) req/s, \(report.failed) failed")
    for example in report.measurements.examples { complain("  \(example)") }
    guard let path = options.jsonPath else { return }
    let head =
      "{\"round\":\(result.round),\"workload\":\(quoted(result.workload)),\"peer\":\(quoted(result.peer)),"
    let affinity = result.affinity.map { fixed($0, 3) } ?? "null"
    if !appendFile(path, head + "\"affinity\":\(affinity),\"report\":\(report.json.dropLast())}\n") {
      complain("cannot write \(path)")
    }
  }

  /// Time to the first token at a steady rate, against the workers alone in the same round.
  private func measureLatency(_ running: [RunningPeer], _ round: Int) throws(CompareError) {
    var workload = Preset.a.workload
    workload.stream = true
    workload.connections = 64
    try setPace(workload)
    let direct = try timeToFirstToken(
      setting.workers.map { Target(host: "127.0.0.1", port: $0) }, workload, round)
    for peer in running {
      if case .direct = peer.peer.kind { continue }
      let mine = try timeToFirstToken(peer.targets(for: .c), workload, round)
      answered[peer.peer.name, default: 0] += mine.answered
      results.added[peer.peer.name, default: []].append(
        (mine.median - direct.median, mine.tail - direct.tail))
    }
  }

  private func timeToFirstToken(
    _ targets: [Target], _ workload: Workload, _ round: Int
  ) throws(CompareError) -> (median: Double, tail: Double, answered: Int) {
    var load = LoadOptions(targets: targets, workload: workload)
    load.model = setting.model
    load.duration = options.duration
    load.rate = options.latencyRate
    load.seed = options.seed &+ UInt64(round) &* 1_000 &+ 7
    load.warmUpRequests = workload.connections
    let report = try run(load)
    failures += report.failed
    let histogram = report.measurements.firstToken
    return (
      Double(histogram.value(at: 0.5)) / 1e6, Double(histogram.value(at: 0.99)) / 1e6,
      report.completed + load.warmUpRequests
    )
  }

  // MARK: Memory and spans

  private func measureOpenStreams() throws(CompareError) {
    _ = try control("/pace?ttft_ms=0&itl_ms=2000&step=0")
    for peer in options.peers {
      if case .direct = peer.kind { continue }
      let running = try RunningPeer(peer, setting)
      defer { running.stop() }
      var workload = Preset.c.workload
      workload.tokens = 100_000
      var load = LoadOptions(targets: running.targets(for: .c), workload: workload)
      load.model = setting.model
      load.openStreams = options.openStreams
      load.process = running.process
      let report = try run(load)
      failures += report.failed
      if report.openStreams == options.openStreams, let memory = report.memoryOpen {
        results.memory[peer.name]?.open = Double(memory.current) / 1_048_576
      } else {
        complain("\(peer.name): \(report.openStreams ?? 0) of \(options.openStreams) streams opened")
        failures += 1
      }
    }
  }

  /// Waits until exporters have sent what they hold, then divides spans by requests.
  private func finishTracing(_ running: [RunningPeer]) throws(CompareError) {
    guard running.contains(where: { $0.sink != nil }) else { return }
    Clock.sleep(milliseconds: 6_000)
    for peer in running {
      guard let sink = peer.sink else { continue }
      let requests = answered[peer.peer.name] ?? 0
      let spans = sink.spans
      results.spansPerRequest[peer.peer.name] = requests == 0 ? 0 : Double(spans) / Double(requests)
      if spans == 0 {
        complain("\(peer.peer.name) is called traced and exported no span: its figures are without tracing")
        failures += 1
      }
    }
  }

  /// A fault when the figures of a peer that is called tokenizing are not those of tokens.
  static func untokenizedFailures(_ peer: RunningPeer) -> Int {
    guard let prompts = peer.untokenizedPrompts else {
      complain("\(peer.peer.name): no answer from its /metrics")
      return 1
    }
    if prompts > 0 {
      complain(
        "\(peer.peer.name) routed \(grouped(prompts)) prompts by bytes: the tokenizer or its template failed")
    }
    return prompts > 0 ? 1 : 0
  }

  private static func mebibytes(_ peer: RunningPeer) -> (current: Double, highest: Double) {
    let memory = ProcessTree(root: peer.process).memory
    return (Double(memory.current) / 1_048_576, Double(memory.highest) / 1_048_576)
  }

  // MARK: Helpers

  private func run(_ load: LoadOptions) throws(CompareError) -> LoadReport {
    do {
      return try LoadRunner(load, loop: loop).run()
    } catch {
      throw .load(error)
    }
  }

  private func setPace(_ workload: Workload) throws(CompareError) {
    _ = try control(
      "/pace?ttft_ms=\(workload.firstTokenMilliseconds)&itl_ms=\(workload.tokenGapMilliseconds)&step=0")
  }

  private func groupAffinity() throws(CompareError) -> Double? {
    let text = try control("/stats")
    guard let range = text.firstRange(of: "\"group_affinity\":") else { return nil }
    return Double(text[range.upperBound...].prefix { $0.isNumber || $0 == "." })
  }

  private func control(_ path: String) throws(CompareError) -> String {
    guard let port = setting.workers.first, let text = ControlClient.get(port: port, path) else {
      throw .control("the fake worker")
    }
    return text
  }
}
