// A request's steps as lines at DEBUG, for whoever asks where a request is. Where they are off each costs one comparison.

internal import Base
internal import EventLoop
internal import Routing
internal import Telemetry

extension InferenceExchange {
  /// Writes a line of this request at DEBUG, where those are asked for.
  @inline(__always)
  func tell(_ message: StaticString, _ fields: (inout LogRecordWriter) -> Void = { _ in }) {
    if service.logsSteps { writeStep(message, LogTarget.http, fields) }
  }

  /// The same of what the router did (`DYN_LOG=info,dynamo_frontend::router=debug` shows these alone).
  @inline(__always)
  func tellRouting(_ message: StaticString, _ fields: (inout LogRecordWriter) -> Void) {
    if service.logsRouting { writeStep(message, LogTarget.router, fields) }
  }

  func tellPrompt() {
    tell("prompt prepared") {
      $0.field(LogKey.blocks, prompt.blockCount)
      $0.field(LogKey.promptBytes, prompt.bytes)
      if let tokens = prompt.tokens { $0.field(LogKey.promptTokens, tokens) }
    }
  }

  func tellChoice(_ decision: RoutingDecision) {
    tellRouting("worker chosen") {
      $0.field(LogKey.blocks, prompt.blockCount)
      $0.field(LogKey.cost, decision.cost)
      $0.field(LogKey.overlapBlocks, decision.overlapBlocks)
      $0.field(LogKey.workerID, id: decision.worker)
    }
  }

  /// Writes a warning that the request is the occasion of.
  func warn(_ message: StaticString, _ fields: (inout LogRecordWriter) -> Void) {
    writeStep(message, LogTarget.http, level: .warn, fields)
  }

  @inline(never)
  private func writeStep(
    _ message: StaticString, _ target: StaticString, level: LogLevel = .debug,
    _ fields: (inout LogRecordWriter) -> Void
  ) {
    let now = times.wallTime(loop.system.monotonicNanoseconds())
    identity.xRequestID.withUnsafeBytes { xRequestID in
      let request = LogTrace(
        context: trace?.request, spanName: SpanName.httpRequest, requestID: identity.requestID,
        xRequestID: xRequestID)
      service.log { line in
        line.begin(level, target: target, message: message, at: now)
        line.trace(request)
        fields(&line)
        line.end()
      }
    }
  }
}
