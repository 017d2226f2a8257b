// The lines of a request's span: one when it opens, one when it closes (DYN_LOGGING_SPAN_EVENTS).

package import Base

extension LogRecordWriter {
  /// Writes Dynamo's `SPAN_FIRST_ENTRY`.
  ///
  /// - Parameters:
  ///   - parent: the parent's span id; 0 for none.
  ///   - time: nanoseconds since the Unix epoch.
  package mutating func spanOpened(_ trace: LogTrace, parent: UInt64, at time: UInt64) {
    begin(.info, target: LogTarget.requestSpan, message: "SPAN_FIRST_ENTRY", at: time)
    if parent != 0 { field(LogKey.parentID, hex: parent) }
    self.trace(trace)
    end()
  }

  /// Writes Dynamo's `SPAN_CLOSED`, in whole microseconds: `busy` is the part of `duration` in which this process worked
  /// on the request, the rest it was idle.
  package mutating func spanClosed(
    _ trace: LogTrace, parent: UInt64, busy: Nanoseconds, duration: Nanoseconds, at time: UInt64
  ) {
    let busy = min(busy, duration)
    begin(.info, target: LogTarget.requestSpan, message: "SPAN_CLOSED", at: time)
    if parent != 0 { field(LogKey.parentID, hex: parent) }
    self.trace(trace)
    field(LogKey.busy, Int(busy / 1_000))
    field(LogKey.duration, Int(busy / 1_000) + Int((duration - busy) / 1_000))
    field(LogKey.idle, Int((duration - busy) / 1_000))
    end()
  }
}
