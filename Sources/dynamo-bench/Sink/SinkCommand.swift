// `dynamo-bench sink`.

internal import ArgumentParser
import Base
import EventLoop
import GRPC
import Glibc

/// Receives spans until it is stopped.
struct SinkCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "sink",
    abstract: "A cheap OTLP/gRPC receiver that counts calls, spans and bytes.",
    discussion:
      "GET /stats on the stats port tells the counters, /reset clears them; they are printed at the end.")

  @Option(help: "Address to listen on.") var host = "127.0.0.1"
  @Option(help: "Port for OTLP over gRPC, in clear text; 0 picks one.") var port: UInt16 = 4317
  @Option(help: "Port for the counters over HTTP; 0 picks one.") var statsPort: UInt16 = 0
  @Flag(help: "Close each connection as soon as it comes.") var refuse = false
  @Flag(help: "Read calls and never answer.") var stall = false
  @Option(help: "Close everything for good after this many calls.") var dieAfter: Int?
  @Option(help: "Answer with this gRPC status code, 0 to 16.") var status: Int?
  @Option(help: "Only this many calls get that status.") var statusCalls: Int?
  @Option(help: "Milliseconds to wait before each answer.") var delayMs = 0

  func validate() throws {
    if let status, GRPCCode(rawValue: status) == nil { throw ValidationError("no gRPC status: \(status)") }
    if delayMs < 0 || dieAfter ?? 1 < 1 { throw ValidationError("numbers must be positive") }
  }

  func run() throws {
    SignalSource.block([SIGTERM, SIGINT])
    Machine.raiseDescriptorLimit()
    let loop = try EventLoop(index: 0, seed: Machine.randomSeed())
    let signals = try SignalSource([SIGTERM, SIGINT], on: loop) { _ in loop.stop() }
    defer { withExtendedLifetime(signals) {} }
    let sink = Sink(loop: loop, faults: faults)
    say("listening on http://\(host):\(try sink.listen(host: host, port: port))\n")
    let (descriptor, address) = try Sockets.listen(host: host, port: statsPort)
    let stats = try Listener(descriptor, loop) { accepted in _ = StatsConnection(accepted, sink) }
    defer { stats.close() }
    say("stats on http://\(host):\(address.port)/stats\n")
    loop.run()
    say(sink.counters.json + "\n")
  }

  private var faults: SinkFaults {
    var faults = SinkFaults()
    faults.refuse = refuse
    faults.stall = stall
    faults.dieAfterCalls = dieAfter
    faults.status = status.flatMap(GRPCCode.init(rawValue:))
    faults.statusCalls = statusCalls
    faults.delay = UInt64(delayMs) * millisecond
    return faults
  }
}
