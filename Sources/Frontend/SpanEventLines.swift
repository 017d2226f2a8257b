// The lines of the `http-request` span, where they are asked for.

internal import Base
internal import EventLoop
internal import Telemetry

extension InferenceExchange {
  func recordOpening() {
    writeSpanLine { $0.spanOpened($1, parent: $2, at: times.wall) }
  }

  /// Busy is what this process did for the request: decode, preprocess and route. The rest is workers, callers and
  /// networks.
  func recordClosing() {
    let duration = times.ended - times.parsed
    let busy = times.selected > times.bodyRead && times.bodyRead > 0 ? times.selected - times.bodyRead : 0
    let queued = times.released - min(times.queued, times.released)
    writeSpanLine {
      $0.spanClosed(
        $1, parent: $2, busy: busy - min(queued, busy), duration: duration, at: times.wallTime(times.ended))
    }
  }

  private func writeSpanLine(_ write: (inout LogRecordWriter, LogTrace, UInt64) -> Void) {
    guard let trace else { return }
    let parent = trace.request == trace.root ? trace.remoteParent : trace.root.spanID
    identity.xRequestID.withUnsafeBytes { xRequestID in
      let line = LogTrace(
        context: trace.request, spanName: SpanName.httpRequest, requestID: identity.requestID,
        xRequestID: xRequestID)
      service.log { write(&$0, line, parent) }
    }
  }
}
