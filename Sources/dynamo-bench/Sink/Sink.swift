// A cheap OTLP receiver: gRPC over HTTP/2 with prior knowledge, counters, and ways to be a bad receiver.

import Base
import EventLoop
import GRPC
import Glibc
import HTTP
import Transport

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
final class Sink: HTTP2Application, TimerHandler {
  private struct Answer {
    let due: Nanoseconds
    let call: GRPCServerCall
    let status: GRPCStatus
    let connection: HTTP2ServerConnection
  }

  let loop: EventLoop
  let faults: SinkFaults
  var counters = SinkCounters()
  private var server: HTTP2Server?
  private var listener: Int32?
  private let timer = Timer()
  private var delayed: [Answer] = []

  init(loop: EventLoop, faults: SinkFaults) {
    self.loop = loop
    self.faults = faults
  }

  /// Listens on `host` and `port` (0 picks one) and returns the port.
  func listen(host: String, port: UInt16) throws(SystemError) -> UInt16 {
    let (descriptor, address) = try Sockets.listen(host: host, port: port)
    listener = descriptor
    var limits = HTTP2ServerLimits()
    limits.session.streamWindowBytes = 8 << 20
    limits.session.connectionWindowBytes = 16 << 20
    // An exporter that is measured may be silent for long, and a stalled call is meant to stay open.
    limits.firstRequestTimeout = 3600 * second
    limits.idleTimeout = 3600 * second
    let server = HTTP2Server(loop: loop, application: self, limits: limits)
    try server.listen(on: descriptor)
    self.server = server
    return address.port
  }

  func acceptsConnection() -> Bool {
    counters.connections += 1
    return !faults.refuse
  }

  func received(_ exchange: HTTP2Exchange, on connection: HTTP2ServerConnection) {
    let call = GRPCServerCall(exchange)
    guard let status = take(call), !connection.isClosed else { return }
    guard faults.delay > 0 else { return answer(call, status, on: connection) }
    delayed.append(Answer(due: loop.now + faults.delay, call: call, status: status, connection: connection))
    if !timer.isArmed { loop.arm(timer, at: loop.now + faults.delay, self) }
  }

  func timerFired(_ timer: Timer) {
    while let first = delayed.first, first.due <= loop.now {
      delayed.removeFirst()
      answer(first.call, first.status, on: first.connection)
    }
    if let next = delayed.first { loop.arm(timer, at: next.due, self) }
  }

  private func answer(_ call: GRPCServerCall, _ status: GRPCStatus, on connection: HTTP2ServerConnection) {
    guard !connection.isClosed else { return }
    do {
      if case .ok = status.code {
        // An empty ExportTraceServiceResponse: all was taken.
        try call.succeed(on: connection.session, message: UnsafeRawBufferPointer(start: nil, count: 0))
      } else {
        try call.fail(on: connection.session, status)
      }
      connection.flush()
    } catch {
      connection.close()
    }
  }

  /// Counts `call` and says how to answer; nil means not at all.
  private func take(_ call: GRPCServerCall) -> GRPCStatus? {
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
    guard let calls = faults.dieAfterCalls, counters.calls >= calls, let listener else { return }
    server?.closeAll()
    close(listener)
    self.listener = nil
  }
}
