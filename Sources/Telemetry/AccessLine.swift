// The one line of a finished request.

package import Base

/// What a finished request's line says. Slices are borrowed for the call; what is nil or empty is left out.
package struct AccessRecord {
  package var trace: LogTrace
  package var method = UnsafeRawBufferPointer(start: nil, count: 0)
  /// The target without its query.
  package var uri = UnsafeRawBufferPointer(start: nil, count: 0)
  package var model = UnsafeRawBufferPointer(start: nil, count: 0)
  package var endpoint: StaticString = ""
  /// `unary` or `stream`.
  package var requestType: StaticString = ""
  package var errorType: StaticString = ""
  package var status = 0
  package var outcome = RequestOutcome.success
  package var attempts = 1
  package var workerID: UInt64?
  /// From the head's first byte to the answer's end.
  package var elapsed: Nanoseconds = 0
  package var timeToFirstToken: Nanoseconds?
  package var averageInterTokenLatency: Nanoseconds?
  package var inputTokens: Int?
  package var outputTokens: Int?
  package var cachedTokens: Int?

  package init(trace: LogTrace) { self.trace = trace }
}

extension LogRecordWriter {
  /// Writes the whole line of a finished request.
  ///
  /// - Parameter time: nanoseconds since the Unix epoch.
  package mutating func access(
    _ record: AccessRecord, level: LogLevel = .info, target: StaticString = LogTarget.http, at time: UInt64
  ) {
    // Keys in their sorted order, so that nothing is moved afterwards.
    begin(level, target: target, message: "request completed", at: time)
    field(LogKey.attempts, record.attempts)
    if let latency = record.averageInterTokenLatency { field(LogKey.averageITL, milliseconds: latency) }
    if let tokens = record.cachedTokens { field(LogKey.cachedTokens, tokens) }
    field(LogKey.elapsed, milliseconds: record.elapsed)
    text(LogKey.endpoint, record.endpoint)
    text(LogKey.errorType, record.errorType)
    if let tokens = record.inputTokens { field(LogKey.inputTokens, tokens) }
    if !record.method.isEmpty { field(LogKey.method, record.method) }
    if !record.model.isEmpty { field(LogKey.model, record.model) }
    field(LogKey.outcome, record.outcome.text)
    if let tokens = record.outputTokens { field(LogKey.outputTokens, tokens) }
    field(LogKey.requestID, record.trace.requestID)
    text(LogKey.requestType, record.requestType)
    if let context = record.trace.context {
      field(LogKey.spanID, hex: context.spanID)
      field(LogKey.spanName, record.trace.spanName)
    }
    field(LogKey.status, record.status)
    if let context = record.trace.context { field(LogKey.traceID, context.traceID) }
    if let time = record.timeToFirstToken { field(LogKey.timeToFirstToken, milliseconds: time) }
    if !record.uri.isEmpty { field(LogKey.uri, record.uri) }
    if let worker = record.workerID { field(LogKey.workerID, id: worker) }
    if !record.trace.xRequestID.isEmpty { field(LogKey.xRequestID, record.trace.xRequestID) }
    end()
  }

  private mutating func text(_ key: StaticString, _ value: StaticString) {
    if value.utf8CodeUnitCount > 0 { field(key, value) }
  }
}
