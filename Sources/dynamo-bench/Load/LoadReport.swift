// A run's figures as text and as one JSON object.

import Base

/// Figures of one run.
struct LoadReport {
  let completed: Int
  let failed: Int
  let tokens: Int
  let elapsed: Nanoseconds
  let measurements: Measurements
  let server: ServerCost?
  /// CPU time of the load generator itself: near `elapsed`, it is the generator that is measured.
  let generator: Nanoseconds
  let stream: Bool
  var openStreams: Int?
  var memoryBefore: ResidentMemory?
  var memoryOpen: ResidentMemory?

  init(
    _ options: LoadOptions, _ measurements: Measurements, elapsed: Nanoseconds, server: ServerCost?,
    generator: Nanoseconds
  ) {
    self.measurements = measurements
    completed = measurements.completed
    failed = measurements.failed
    tokens = measurements.tokens
    self.elapsed = elapsed
    self.server = server
    self.generator = generator
    stream = options.workload.stream
  }

  /// Answers a second.
  var requestRate: Double { elapsed == 0 ? 0 : Double(completed) * 1e9 / Double(elapsed) }

  /// Tokens a second.
  var tokenRate: Double { elapsed == 0 ? 0 : Double(tokens) * 1e9 / Double(elapsed) }

  /// Microseconds of the server's CPU time for each answer.
  var cpuPerRequest: Double? {
    guard let server, completed > 0 else { return nil }
    return Double(server.cpu.total) / 1e3 / Double(completed)
  }

  /// Microseconds of the server's CPU time for each token.
  var cpuPerToken: Double? {
    guard let server, tokens > 0 else { return nil }
    return Double(server.cpu.total) / 1e3 / Double(tokens)
  }

  /// Share of the server's CPU time that is user code, by the kernel's sampling.
  var userShare: Double? {
    guard let cpu = server?.cpu, cpu.user + cpu.system > 0 else { return nil }
    return Double(cpu.user) / Double(cpu.user + cpu.system)
  }

  /// Instructions of the server for each answer, in thousands.
  var kiloInstructionsPerRequest: Double? {
    guard let instructions = server?.instructions, completed > 0 else { return nil }
    return Double(instructions.total) / 1e3 / Double(completed)
  }

  /// Lines for a reader.
  var text: String {
    var lines: [String] = []
    if let openStreams { lines.append("open streams    \(openStreams), failed \(failed)") }
    lines.append(
      "answers         \(grouped(completed)) good, \(grouped(failed)) failed in \(fixed(Double(elapsed) / 1e9, 2)) s"
    )
    if completed > 0 {
      lines.append("rate            \(readable(requestRate)) req/s, \(readable(tokenRate)) tokens/s")
      if stream {
        lines.append("first token     \(Self.percentiles(measurements.firstToken))")
        lines.append("between tokens  \(Self.percentiles(measurements.tokenGap))")
      }
      lines.append("end to end      \(Self.percentiles(measurements.endToEnd))")
      if measurements.waited > 0 {
        lines.append("no free caller  \(grouped(measurements.waited)) requests waited")
      }
      let share = elapsed == 0 ? 0 : Double(generator) * 100 / Double(elapsed)
      lines.append("generator       \(fixed(share, 0)) % of one core")
    }
    lines += serverLines
    for (kind, count) in measurements.failures.sorted(by: { $0.key.rawValue < $1.key.rawValue }) {
      lines.append("failed          \(kind.rawValue): \(grouped(count))")
    }
    for example in measurements.examples { lines.append("  example       \(example)") }
    return lines.joined(separator: "\n") + "\n"
  }

  private var serverLines: [String] {
    var lines: [String] = []
    if let server, let perRequest = cpuPerRequest {
      let perToken = cpuPerToken ?? 0
      let user = fixed((userShare ?? 0) * 100, 0)
      lines.append(
        "server CPU      \(readable(perRequest)) µs/req, \(readable(perToken)) µs/token, \(user) % of it user code"
      )
      if let instructions = server.instructions {
        let requests = Double(max(completed, 1)) * 1e3
        lines.append(
          "instructions    \(readable(Double(instructions.total) / requests)) k/req"
            + " (\(readable(Double(instructions.user) / requests)) user),"
            + " \(readable(Double(instructions.total) / 1e3 / Double(max(tokens, 1)))) k/token")
      } else {
        lines.append("instructions    n/a (not counted on this machine)")
      }
      lines.append(
        "server memory   \(Self.mebibytes(server.memory.current)) MiB,"
          + " highest \(Self.mebibytes(server.memory.highest)) MiB")
    }
    if let memoryBefore, let memoryOpen {
      lines.append(
        "server memory   \(Self.mebibytes(memoryBefore.current)) MiB before,"
          + " \(Self.mebibytes(memoryOpen.current)) MiB with the streams open")
    }
    return lines
  }

  /// One line of JSON.
  var json: String {
    var members = [
      "\"completed\":\(completed)", "\"failed\":\(failed)", "\"tokens\":\(tokens)",
      "\"elapsed_s\":\(fixed(Double(elapsed) / 1e9, 4))", "\"requests_per_s\":\(fixed(requestRate, 2))",
      "\"tokens_per_s\":\(fixed(tokenRate, 1))", "\"ttft_ms\":\(Self.json(measurements.firstToken))",
      "\"itl_ms\":\(Self.json(measurements.tokenGap))", "\"e2e_ms\":\(Self.json(measurements.endToEnd))",
      "\"generator_cpu_s\":\(fixed(Double(generator) / 1e9, 4))", "\"waited\":\(measurements.waited)",
      "\"bytes_received\":\(measurements.bytesReceived)",
    ]
    if let server {
      members.append("\"server_cpu_s\":\(fixed(Double(server.cpu.total) / 1e9, 4))")
      members.append("\"server_user_s\":\(fixed(Double(server.cpu.user) / 1e9, 2))")
      members.append("\"server_system_s\":\(fixed(Double(server.cpu.system) / 1e9, 2))")
      members.append("\"server_instructions_user\":\(server.instructions.map { String($0.user) } ?? "null")")
      members.append(
        "\"server_instructions_kernel\":\(server.instructions.map { String($0.kernel) } ?? "null")")
      members.append("\"server_rss_bytes\":\(server.memory.current)")
      members.append("\"server_rss_highest_bytes\":\(server.memory.highest)")
      members.append("\"server_cpu_us_per_request\":\(cpuPerRequest.map { fixed($0, 3) } ?? "null")")
    }
    if let openStreams { members.append("\"open_streams\":\(openStreams)") }
    if let memoryBefore { members.append("\"rss_before_bytes\":\(memoryBefore.current)") }
    if let memoryOpen { members.append("\"rss_open_bytes\":\(memoryOpen.current)") }
    let failures = measurements.failures.sorted { $0.key.rawValue < $1.key.rawValue }
      .map { "\(quoted($0.key.rawValue)):\($0.value)" }
    members.append("\"failures\":{\(failures.joined(separator: ","))}")
    members.append("\"examples\":[\(measurements.examples.map(quoted).joined(separator: ","))]")
    return "{\(members.joined(separator: ","))}\n"
  }

  static func mebibytes(_ bytes: Int) -> String { fixed(Double(bytes) / 1_048_576, 1) }

  private static let quantiles: [(String, Double)] = [
    ("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999),
  ]

  private static func percentiles(_ histogram: LatencyHistogram) -> String {
    let parts = quantiles.map { "\($0.0) \(milliseconds(histogram.value(at: $0.1)))" }
    return parts.joined(separator: "  ") + "  max \(milliseconds(histogram.maximum)) ms"
  }

  private static func json(_ histogram: LatencyHistogram) -> String {
    guard histogram.count > 0 else { return "null" }
    let parts = quantiles.map { "\"\($0.0)\":\(fixed(Double(histogram.value(at: $0.1)) / 1e6, 4))" }
    let mean = fixed(histogram.mean / 1e6, 4)
    return
      "{\"mean\":\(mean),\(parts.joined(separator: ",")),\"max\":\(fixed(Double(histogram.maximum) / 1e6, 4))}"
  }

  private static func milliseconds(_ value: Nanoseconds) -> String { fixed(Double(value) / 1e6, 3) }
}
