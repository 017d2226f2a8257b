// What the rounds of a comparison gave, and the tables made of it.

import Base

/// One run of one workload against one peer.
struct RoundResult {
  let round: Int
  let peer: String
  let workload: String
  let report: LoadReport
  /// Share of grouped prompts that went where most of their group went.
  let affinity: Double?
}

/// Memory of one peer, in MiB.
struct MemoryResult {
  var idle: Double
  var open: Double?
  var highest: Double?
}

/// All results, in the order in which they came.
struct Results {
  /// Peer that the others are set against within each round.
  static let reference = "nginx"

  var rounds: [RoundResult] = []
  var memory: [String: MemoryResult] = [:]
  var ready: [String: Double] = [:]
  var spansPerRequest: [String: Double] = [:]
  /// Median and 99th percentile of the time to the first token that a peer adds to the worker's own, by round.
  var added: [String: [(median: Double, tail: Double)]] = [:]
  var peers: [String] = []

  /// Markdown tables of everything.
  func text(presets: [Preset]) -> String {
    var parts = presets.map { workloadTable($0.rawValue) }
    parts.append(memoryTable)
    if !added.isEmpty { parts.append(latencyTable) }
    return parts.joined(separator: "\n")
  }

  private func runs(_ peer: String, _ workload: String) -> [RoundResult] {
    rounds.filter { $0.peer == peer && $0.workload == workload }
  }

  private func workloadTable(_ workload: String) -> String {
    let counted = rounds.contains { $0.workload == workload && $0.report.kiloInstructionsPerRequest != nil }
    let streamed = rounds.contains { $0.workload == workload && $0.report.stream }
    let grouped = rounds.contains { $0.workload == workload && $0.affinity != nil }
    var header = ["(\(workload))", "CPU µs/req", "lowest", "to \(Self.reference)"]
    if streamed { header.append("µs/token") }
    if counted { header += ["k-instr/req", "to \(Self.reference)"] }
    header += ["user %", "req/s"]
    if streamed { header += ["TTFT p50 ms", "p99"] } else { header += ["p50 ms", "p99"] }
    if grouped { header.append("affinity") }
    header.append("failed")
    var table = TextTable(header)
    for peer in peers {
      let runs = runs(peer, workload)
      guard !runs.isEmpty else { continue }
      var row = [peer]
      let cpu = runs.compactMap(\.report.cpuPerRequest)
      row.append(Self.cell(median(cpu)))
      row.append(Self.cell(cpu.min()))
      row.append(Self.cell(ratio(runs, workload) { $0.cpuPerRequest }, digits: 2))
      if streamed { row.append(Self.cell(median(runs.compactMap(\.report.cpuPerToken)))) }
      if counted {
        row.append(Self.cell(median(runs.compactMap(\.report.kiloInstructionsPerRequest))))
        row.append(Self.cell(ratio(runs, workload) { $0.kiloInstructionsPerRequest }, digits: 2))
      }
      row.append(Self.cell(median(runs.compactMap(\.report.userShare)).map { $0 * 100 }, digits: 0))
      row.append(Self.cell(median(runs.map(\.report.requestRate))))
      let times = runs.map { streamed ? $0.report.measurements.firstToken : $0.report.measurements.endToEnd }
      row.append(Self.cell(median(times.map { Double($0.value(at: 0.5)) / 1e6 })))
      row.append(Self.cell(median(times.map { Double($0.value(at: 0.99)) / 1e6 })))
      if grouped { row.append(Self.cell(median(runs.compactMap(\.affinity)), digits: 2)) }
      row.append(String(runs.map(\.report.failed).reduce(0, +)))
      table.add(row)
    }
    return table.text
  }

  /// Median over the rounds of a figure divided by the reference's in the same round.
  private func ratio(
    _ runs: [RoundResult], _ workload: String, _ figure: (LoadReport) -> Double?
  ) -> Double? {
    let references = self.runs(Self.reference, workload)
    return median(
      runs.compactMap { run in
        guard let mine = figure(run.report),
          let other = references.first(where: { $0.round == run.round }).flatMap({ figure($0.report) }),
          other > 0
        else { return nil }
        return mine / other
      })
  }

  private var memoryTable: String {
    var table = TextTable([
      "RSS, MiB", "started, idle", "1,000 open streams", "highest over the workloads", "first answer ms",
      "spans/req",
    ])
    for peer in peers {
      let memory = memory[peer]
      table.add([
        peer, Self.cell(memory?.idle, digits: 1), Self.cell(memory?.open, digits: 1),
        Self.cell(memory?.highest, digits: 1), Self.cell(ready[peer], digits: 0),
        Self.cell(spansPerRequest[peer], digits: 1),
      ])
    }
    return table.text
  }

  private var latencyTable: String {
    var table = TextTable(["TTFT added to direct", "p50 ms", "p99 ms"])
    for peer in peers {
      guard let rounds = added[peer] else { continue }
      table.add([
        peer, Self.signed(median(rounds.map(\.median))), Self.signed(median(rounds.map(\.tail))),
      ])
    }
    return table.text
  }

  private static func cell(_ value: Double?, digits: Int? = nil) -> String {
    guard let value else { return "–" }
    return digits.map { fixed(value, $0) } ?? readable(value)
  }

  private static func signed(_ value: Double?) -> String {
    value.map { ($0 < 0 ? "" : "+") + fixed($0, 3) } ?? "–"
  }
}
