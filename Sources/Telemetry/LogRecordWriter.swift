// Builds log lines straight in a buffer: JSON objects in Dynamo's key order, or text for people.

package import Base

/// The identity that every line of a request carries. Slices are borrowed for the call.
package struct LogTrace {
  /// The span the line belongs to; nil while trace context is off.
  package var context: SpanContext?
  package var spanName: StaticString
  package var requestID: UUID
  package var xRequestID: UnsafeRawBufferPointer

  package init(
    context: SpanContext?, spanName: StaticString, requestID: UUID, xRequestID: UnsafeRawBufferPointer
  ) {
    self.context = context
    self.spanName = spanName
    self.requestID = requestID
    self.xRequestID = xRequestID
  }
}

/// Writes lines one after the other: begin, fields, ``end()``; then ``flush(to:)`` hands them over.
///
/// A JSON line has `time`, `level`, `target`, `message`, then all fields sorted by key. Fields may be given in
/// any order; giving them sorted is cheaper. Each key is given once. Values are bounded, and so is a line:
/// fields past the bound are left out and the line ends with `truncated`.
package struct LogRecordWriter: ~Copyable {
  /// Bytes of one value; longer ones are cut on a character's edge.
  package static let valueBytesMax = 1_024
  /// Bytes of one line after which it takes no more fields.
  package static let lineBytesMax = 8_192
  /// Fields of one line.
  package static let fieldCountMax = 64

  private var buffer = ByteBuffer()
  private var clock: LogClock
  private let isJSON: Bool
  private var lineStart = 0
  private var fieldCount = 0
  /// Where each field of the open line begins, from the line's start.
  private let fieldOffsets: UnsafeMutablePointer<UInt16>
  private var isSorted = true
  private var isTruncated = false
  private var previousKey: StaticString = ""

  /// Writes lines in the form that `configuration` asks for. It does not filter: ask
  /// ``LogConfiguration/isEnabled(_:target:)`` before building a line.
  package init(_ configuration: LogConfiguration) {
    clock = LogClock(utcOffsetSeconds: configuration.utcOffsetSeconds)
    isJSON = if case .jsonl = configuration.format { true } else { false }
    fieldOffsets = .allocate(capacity: LogRecordWriter.fieldCountMax)
  }

  deinit { fieldOffsets.deallocate() }

  /// The finished lines; valid until the next mutation.
  package var lines: UnsafeRawBufferPointer { buffer.readable }

  /// Hands the finished lines to `sink` and keeps the memory.
  package mutating func flush(to sink: any LogSink) {
    guard !buffer.isEmpty else { return }
    sink.write(buffer.readable)
    buffer.removeAll()
  }

  /// Starts a line with a constant message.
  ///
  /// - Parameter time: nanoseconds since the Unix epoch.
  package mutating func begin(
    _ level: LogLevel, target: StaticString, message: StaticString, at time: UInt64
  ) {
    begin(
      level, target: UnsafeRawBufferPointer(start: target.utf8Start, count: target.utf8CodeUnitCount),
      message: UnsafeRawBufferPointer(start: message.utf8Start, count: message.utf8CodeUnitCount), at: time)
  }

  /// Starts a line; `message` is escaped and bounded as a value is.
  package mutating func begin(
    _ level: LogLevel, target: UnsafeRawBufferPointer, message: UnsafeRawBufferPointer, at time: UInt64
  ) {
    lineStart = buffer.count
    fieldCount = 0
    isSorted = true
    isTruncated = false
    previousKey = ""
    let message = BoundedText.cut(message, to: LogRecordWriter.valueBytesMax)
    if isJSON {
      buffer.append("{\"time\":\"" as StaticString)
      clock.append(time, to: &buffer)
      buffer.append("\",\"level\":\"" as StaticString)
      buffer.append(level.text)
      buffer.append("\",\"target\":\"" as StaticString)
      LogText.append(escaped: target, to: &buffer)
      buffer.append("\",\"message\":\"" as StaticString)
      LogText.append(escaped: message, to: &buffer)
      buffer.append(UInt8(ascii: "\""))
    } else {
      clock.append(time, to: &buffer)
      // Levels stand right-aligned in five places.
      buffer.append(level.text.utf8CodeUnitCount < 5 ? "  " as StaticString : " " as StaticString)
      buffer.append(level.text)
      buffer.append(UInt8(ascii: " "))
      LogText.append(escaped: target, to: &buffer)
      buffer.append(": " as StaticString)
      LogText.append(escaped: message, to: &buffer)
    }
  }

  /// Closes the line.
  package mutating func end() {
    if !isSorted { sortFields() }
    if isTruncated {
      buffer.append(isJSON ? ",\"truncated\":true" as StaticString : " truncated=true" as StaticString)
    }
    buffer.append(isJSON ? "}\n" as StaticString : "\n" as StaticString)
  }

  // MARK: Fields

  /// Adds constant text.
  package mutating func field(_ key: StaticString, _ value: StaticString) {
    guard beginField(key) else { return }
    putText(UnsafeRawBufferPointer(start: value.utf8Start, count: value.utf8CodeUnitCount))
  }

  /// Adds text of any origin.
  package mutating func field(_ key: StaticString, _ value: UnsafeRawBufferPointer) {
    guard beginField(key) else { return }
    putText(value)
  }

  /// Adds text.
  @_disfavoredOverload
  package mutating func field(_ key: StaticString, _ value: String) {
    guard beginField(key) else { return }
    var value = value
    value.withUTF8 { putText(UnsafeRawBufferPointer($0)) }
  }

  /// Adds a number; beyond 2^53 it is written as text, so that every JSON reader keeps it.
  package mutating func field(_ key: StaticString, _ value: Int) {
    guard beginField(key) else { return }
    putNumber(value.magnitude, isNegative: value < 0)
  }

  /// Adds an id; beyond 2^53 it is written as text.
  package mutating func field(_ key: StaticString, id: UInt64) {
    guard beginField(key) else { return }
    putNumber(UInt(id), isNegative: false)
  }

  /// Adds a number with `fraction` digits after the point.
  package mutating func field(_ key: StaticString, _ value: Double, fraction: Int = 3) {
    guard beginField(key) else { return }
    buffer.append(double: value, fraction: fraction)
  }

  /// Adds a length of time in milliseconds with three digits after the point.
  package mutating func field(_ key: StaticString, milliseconds value: Nanoseconds) {
    guard beginField(key) else { return }
    let microseconds = value / 1_000
    buffer.append(decimal: microseconds / 1_000)
    let rest = UInt32(truncatingIfNeeded: microseconds % 1_000)
    let room = buffer.reserve(4).assumingMemoryBound(to: UInt8.self)
    room[0] = UInt8(ascii: ".")
    room[1] = UInt8(ascii: "0") + UInt8(truncatingIfNeeded: rest / 100)
    room[2] = UInt8(ascii: "0") + UInt8(truncatingIfNeeded: rest / 10 % 10)
    room[3] = UInt8(ascii: "0") + UInt8(truncatingIfNeeded: rest % 10)
    buffer.commit(4)
  }

  /// Adds a truth value.
  package mutating func field(_ key: StaticString, _ value: Bool) {
    guard beginField(key) else { return }
    buffer.append(value ? "true" as StaticString : "false" as StaticString)
  }

  /// Adds a UUID in its usual form.
  package mutating func field(_ key: StaticString, _ value: UUID) {
    guard beginField(key) else { return }
    if isJSON { buffer.append(UInt8(ascii: "\"")) }
    buffer.append(value)
    if isJSON { buffer.append(UInt8(ascii: "\"")) }
  }

  /// Adds 16 hexadecimal digits.
  package mutating func field(_ key: StaticString, hex value: UInt64) {
    guard beginField(key) else { return }
    if isJSON { buffer.append(UInt8(ascii: "\"")) }
    buffer.append(hex: value)
    if isJSON { buffer.append(UInt8(ascii: "\"")) }
  }

  /// Adds a trace id as 32 hexadecimal digits.
  package mutating func field(_ key: StaticString, _ value: TraceID) {
    guard beginField(key) else { return }
    if isJSON { buffer.append(UInt8(ascii: "\"")) }
    buffer.append(value)
    if isJSON { buffer.append(UInt8(ascii: "\"")) }
  }

  /// Adds the identity of a request: `request_id`, `x_request_id` and, while trace context is on, `span_id`,
  /// `span_name`, `trace_id`.
  package mutating func trace(_ trace: LogTrace) {
    field(LogKey.requestID, trace.requestID)
    if let context = trace.context {
      field(LogKey.spanID, hex: context.spanID)
      field(LogKey.spanName, trace.spanName)
      field(LogKey.traceID, context.traceID)
    }
    if !trace.xRequestID.isEmpty { field(LogKey.xRequestID, trace.xRequestID) }
  }

  /// Adds text under a key that is not a constant; for the façade, which sorts its keys beforehand.
  mutating func field(dynamic key: String, _ value: LogValue) {
    guard admitField() else { return }
    var key = key
    key.withUTF8 { bytes in
      let key = BoundedText.cut(UnsafeRawBufferPointer(bytes), to: 128)
      buffer.append(isJSON ? ",\"" as StaticString : " " as StaticString)
      LogText.append(escaped: key, to: &buffer)
      buffer.append(isJSON ? "\":" as StaticString : "=" as StaticString)
    }
    switch value {
    case .text(var text): text.withUTF8 { putText(UnsafeRawBufferPointer($0)) }
    case .int(let number): putNumber(number.magnitude, isNegative: number < 0)
    case .double(let number): buffer.append(number.isFinite ? number.description : "0")
    case .bool(let value): buffer.append(value ? "true" as StaticString : "false" as StaticString)
    }
  }

  // MARK: Private helpers

  @inline(__always)
  private mutating func admitField() -> Bool {
    guard fieldCount < LogRecordWriter.fieldCountMax,
      buffer.count - lineStart < LogRecordWriter.lineBytesMax
    else {
      isTruncated = true
      return false
    }
    // The offset fits 16 bits: a line is at most its bound and one value of escapes, 6 bytes for each byte.
    fieldOffsets[fieldCount] = UInt16(truncatingIfNeeded: buffer.count - lineStart)
    fieldCount += 1
    return true
  }

  private mutating func beginField(_ key: StaticString) -> Bool {
    guard admitField() else { return false }
    if isSorted { isSorted = LogRecordWriter.ascends(previousKey, key) }
    previousKey = key
    let count = key.utf8CodeUnitCount
    if isJSON {
      let room = buffer.reserve(count + 4)
      room.storeBytes(of: 0x222c, as: UInt16.self)  // ,"
      (room + 2).copyMemory(from: key.utf8Start, byteCount: count)
      (room + 2 + count).storeBytes(of: 0x3a22, as: UInt16.self)  // ":
      buffer.commit(count + 4)
    } else {
      buffer.append(UInt8(ascii: " "))
      buffer.append(key)
      buffer.append(UInt8(ascii: "="))
    }
    return true
  }

  private mutating func putText(_ value: UnsafeRawBufferPointer) {
    let value = BoundedText.cut(value, to: LogRecordWriter.valueBytesMax)
    if !isJSON, LogText.isBare(value) {
      buffer.append(value)
    } else {
      buffer.append(UInt8(ascii: "\""))
      LogText.append(escaped: value, to: &buffer)
      buffer.append(UInt8(ascii: "\""))
    }
  }

  private mutating func putNumber(_ magnitude: UInt, isNegative: Bool) {
    let asText = isJSON && magnitude > 1 << 53
    if asText { buffer.append(UInt8(ascii: "\"")) }
    if isNegative { buffer.append(UInt8(ascii: "-")) }
    buffer.append(decimal: magnitude)
    if asText { buffer.append(UInt8(ascii: "\"")) }
  }

  @inline(__always)
  private static func ascends(_ left: StaticString, _ right: StaticString) -> Bool {
    let a = left.utf8Start
    let b = right.utf8Start
    let count = min(left.utf8CodeUnitCount, right.utf8CodeUnitCount)
    var index = 0
    while index < count, a[index] == b[index] { index += 1 }
    if index == count { return left.utf8CodeUnitCount < right.utf8CodeUnitCount }
    return a[index] < b[index]
  }

  /// Puts the fields of the open line into the order of their keys.
  @inline(never)
  private mutating func sortFields() {
    let line = buffer.readable.slice(lineStart..<buffer.count)
    var fields: [[UInt8]] = []
    for index in 0..<fieldCount {
      let end = index + 1 < fieldCount ? Int(fieldOffsets[index + 1]) : line.count
      fields.append(Array(line.slice(Int(fieldOffsets[index])..<end)))
    }
    // A field is `,"key":value`; the quote after a key sorts before every byte that keys are made of.
    fields.sort { $0.lexicographicallyPrecedes($1) }
    buffer.truncate(to: lineStart + Int(fieldOffsets[0]))
    for field in fields { buffer.append(field) }
  }
}

/// A value of a field whose key is not a constant.
enum LogValue: Sendable {
  case text(String)
  case int(Int)
  case double(Double)
  case bool(Bool)
}
