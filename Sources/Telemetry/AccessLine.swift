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
  /// The tenant's name.
  package var tenant = UnsafeRawBufferPointer(start: nil, count: 0)
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
    if isJSON, record.isPlain {
      accessJSON(record, level, target, time)
    } else {
      accessFields(record, level, target, time)
    }
  }

  /// The line by single fields: the form that every other line has, and what the fast way must equal.
  mutating func accessFields(
    _ record: AccessRecord, _ level: LogLevel, _ target: StaticString, _ time: UInt64
  ) {
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
    if !record.tenant.isEmpty { field(LogKey.tenant, record.tenant) }
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

  /// The same line written in one go into one reservation, at a third of the cost: this is the one line that
  /// every request pays for. Keys stand in their sorted order; a test holds it equal to the other way.
  private mutating func accessJSON(
    _ record: AccessRecord, _ level: LogLevel, _ target: StaticString, _ time: UInt64
  ) {
    buffer.append("{\"time\":\"" as StaticString)
    clock.append(time, to: &buffer)
    let room = buffer.reserve(AccessRecord.fixedBytesMax + record.textBytes + target.utf8CodeUnitCount)
    var line = LogCursor(room)
    line.put("\",\"level\":\"")
    line.put(level.text)
    line.put("\",\"target\":\"")
    line.put(target)
    line.put("\",\"message\":\"request completed\",\"attempts\":")
    line.put(decimal: record.attempts)
    if let latency = record.averageInterTokenLatency { line.put(",\"avg_itl_ms\":", milliseconds: latency) }
    if let tokens = record.cachedTokens { line.put(",\"cached_tokens\":", decimal: tokens) }
    line.put(",\"elapsed_ms\":", milliseconds: record.elapsed)
    line.put(",\"endpoint\":\"", text: record.endpoint)
    line.put(",\"error_type\":\"", text: record.errorType)
    if let tokens = record.inputTokens { line.put(",\"input_tokens\":", decimal: tokens) }
    line.put(",\"method\":\"", bytes: record.method)
    line.put(",\"model\":\"", bytes: record.model)
    line.put(",\"outcome\":\"", text: record.outcome.text)
    if let tokens = record.outputTokens { line.put(",\"output_tokens\":", decimal: tokens) }
    line.put(",\"request_id\":\"")
    line.put(record.trace.requestID)
    line.put("\"")
    line.put(",\"request_type\":\"", text: record.requestType)
    if let context = record.trace.context {
      line.put(",\"span_id\":\"")
      line.put(hex: context.spanID)
      line.put("\",\"span_name\":\"")
      line.put(record.trace.spanName)
      line.put("\",\"status\":")
      line.put(decimal: record.status)
      line.put(",\"tenant\":\"", bytes: record.tenant)
      line.put(",\"trace_id\":\"")
      line.put(hex: context.traceID.high)
      line.put(hex: context.traceID.low)
      line.put("\"")
    } else {
      line.put(",\"status\":", decimal: record.status)
      line.put(",\"tenant\":\"", bytes: record.tenant)
    }
    if let time = record.timeToFirstToken { line.put(",\"ttft_ms\":", milliseconds: time) }
    line.put(",\"uri\":\"", bytes: record.uri)
    if let worker = record.workerID { line.put(",\"worker_id\":", decimal: Int(worker)) }
    line.put(",\"x_request_id\":\"", bytes: record.trace.xRequestID)
    line.put("}\n")
    buffer.commit(line.pointer - room)
  }
}

extension AccessRecord {
  /// Bytes of keys, punctuation, numbers and ids of the longest line.
  fileprivate static let fixedBytesMax = 1_024

  /// Whether the fast way can write this line: no escapes, no cuts, no negative or very large numbers.
  fileprivate var isPlain: Bool {
    let textMax = LogRecordWriter.valueBytesMax
    guard method.count <= textMax, uri.count <= textMax, model.count <= textMax else { return false }
    guard trace.xRequestID.count <= textMax, tenant.count <= textMax else { return false }
    let numberMax: UInt64 = 1 << 53
    var numbers = attempts | status
    if let inputTokens { numbers |= inputTokens }
    if let outputTokens { numbers |= outputTokens }
    if let cachedTokens { numbers |= cachedTokens }
    guard UInt64(bitPattern: Int64(numbers)) < numberMax, workerID ?? 0 <= numberMax else { return false }
    return LogText.isPlain(method) && LogText.isPlain(uri) && LogText.isPlain(model)
      && LogText.isPlain(trace.xRequestID) && LogText.isPlain(tenant)
  }

  fileprivate var textBytes: Int {
    var count = method.count &+ uri.count &+ model.count
    count &+= trace.xRequestID.count &+ endpoint.utf8CodeUnitCount
    count &+= tenant.count
    count &+= errorType.utf8CodeUnitCount &+ requestType.utf8CodeUnitCount
    return count &+ trace.spanName.utf8CodeUnitCount
  }
}

/// A write position in reserved memory: the parts of a JSON line, unchecked.
private struct LogCursor {
  var pointer: UnsafeMutableRawPointer

  init(_ pointer: UnsafeMutableRawPointer) { self.pointer = pointer }

  @inline(__always)
  mutating func put(_ text: StaticString) {
    let count = text.utf8CodeUnitCount
    pointer.copyShort(from: text.utf8Start, count: count)
    pointer += count
  }

  @inline(__always)
  mutating func put(decimal value: Int) {
    pointer += Decimal.write(UInt64(truncatingIfNeeded: value), to: pointer)
  }

  @inline(__always)
  mutating func put(hex value: UInt64) {
    Hex.write(value, to: pointer)
    pointer += 16
  }

  mutating func put(_ uuid: UUID) {
    uuid.write(to: pointer)
    pointer += 36
  }

  mutating func put(_ key: StaticString, decimal value: Int) {
    put(key)
    put(decimal: value)
  }

  mutating func put(_ key: StaticString, milliseconds value: Nanoseconds) {
    put(key)
    pointer += Decimal.writeMilliseconds(value, to: pointer)
  }

  /// A key that ends in a quote, its value and the closing quote; nothing when the value is empty.
  mutating func put(_ key: StaticString, text: StaticString) {
    guard text.utf8CodeUnitCount > 0 else { return }
    put(key)
    put(text)
    pointer.storeBytes(of: UInt8(ascii: "\""), as: UInt8.self)
    pointer += 1
  }

  mutating func put(_ key: StaticString, bytes: UnsafeRawBufferPointer) {
    guard let source = bytes.baseAddress, bytes.count > 0 else { return }
    put(key)
    pointer.copyShort(from: source, count: bytes.count)
    pointer += bytes.count
    pointer.storeBytes(of: UInt8(ascii: "\""), as: UInt8.self)
    pointer += 1
  }
}
