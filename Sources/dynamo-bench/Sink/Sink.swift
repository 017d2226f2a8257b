// A cheap OTLP receiver: gRPC over HTTP/2 with prior knowledge, counters, and ways to be a bad receiver.

import Base
import EventLoop
import GRPC
import HTTP

/// How the sink misbehaves, for tests of what a bad receiver does to a sender.
struct SinkFaults {
  /// Connections are closed as soon as they come.
  var refuse = false
  /// Calls are read and never answered.
  var stall = false
  /// After this many calls the listener and all connections are closed for good.
  var dieAfterCalls: Int?
  /// Calls are answered with this gRPC status.
  var status: GRPCCode?
  /// Only so many calls get that status; nil for all.
  var statusCalls: Int?
  /// Answers wait this long.
  var delay: Nanoseconds = 0
}

/// Totals since the start or the last reset.
struct SinkCounters {
  var connections = 0
  var calls = 0
  /// Calls that were answered with OK.
  var accepted = 0
  /// Spans of those calls.
  var spans = 0
  /// Bytes of all messages.
  var bytes = 0
  /// Calls answered with an error on purpose.
  var rejected = 0
  /// Calls that were no OTLP message.
  var malformed = 0
  /// Calls of other services than traces; taken and not looked into.
  var others = 0

  var json: String {
    """
    {"connections":\(connections),"calls":\(calls),"accepted":\(accepted),"spans":\(spans),"bytes":\(bytes),\
    "rejected":\(rejected),"malformed":\(malformed),"others":\(others)}
    """
  }
}

/// The receiver on one loop.
final class Sink {
  let loop: EventLoop
  let faults: SinkFaults
  var counters = SinkCounters()
  private var listener: Listener?
  private var connections: [ObjectIdentifier: SinkConnection] = [:]

  init(loop: EventLoop, faults: SinkFaults) {
    self.loop = loop
    self.faults = faults
  }

  /// Listens on `host` and `port` (0 picks one) and returns the port.
  func listen(host: String, port: UInt16) throws(SystemError) -> UInt16 {
    let (descriptor, address) = try Sockets.listen(host: host, port: port)
    listener = try Listener(descriptor, loop) { [unowned self] accepted in accept(accepted) }
    return address.port
  }

  private func accept(_ descriptor: Int32) {
    counters.connections += 1
    guard !faults.refuse, let connection = SinkConnection(descriptor, self) else {
      loop.system.close(descriptor)
      return
    }
    connections[ObjectIdentifier(connection)] = connection
  }

  func closed(_ connection: SinkConnection) { connections[ObjectIdentifier(connection)] = nil }

  /// Counts `call` and says how to answer; nil means not at all.
  func take(_ call: GRPCServerCall) -> GRPCStatus? {
    counters.calls += 1
    defer { dieIfDue() }
    if faults.stall { return nil }
    if let status = faults.status, counters.rejected < faults.statusCalls ?? .max {
      counters.rejected += 1
      return GRPCStatus(status, "as told")
    }
    switch call.message {
    case .failure(let fault):
      counters.malformed += 1
      return fault.status
    case .success(let message):
      counters.bytes += message.count
      guard call.path.equals("/opentelemetry.proto.collector.trace.v1.TraceService/Export") else {
        counters.others += 1
        return GRPCStatus(.ok)
      }
      guard let spans = SpanCount.of(message) else {
        counters.malformed += 1
        return GRPCStatus(.invalidArgument, "no ExportTraceServiceRequest")
      }
      counters.accepted += 1
      counters.spans += spans
      return GRPCStatus(.ok)
    }
  }

  private func dieIfDue() {
    guard let calls = faults.dieAfterCalls, counters.calls >= calls, listener != nil else { return }
    listener?.close()
    listener = nil
    for connection in connections.values { connection.close() }
  }
}
