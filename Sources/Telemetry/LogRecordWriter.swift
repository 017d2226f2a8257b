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

  var buffer = ByteBuffer()
  var clock: LogClock
  let isJSON: Bool
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
    clock = LogClock(utcOffset: configuration.utcOffset)
    isJSON = configuration.writesJSON
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
    beginHead(level, at: time)
    buffer.append(target)
    buffer.append(isJSON ? "\",\"message\":\"" as StaticString : ": " as StaticString)
    buffer.append(message)
    if isJSON { buffer.append(UInt8(ascii: "\"")) }
  }

  /// Starts a line; `message` is escaped and bounded as a value is.
  package mutating func begin(
    _ level: LogLevel, target: UnsafeRawBufferPointer, message: UnsafeRawBufferPointer, at time: UInt64
  ) {
    beginHead(level, at: time)
    LogText.append(escaped: target, to: &buffer)
    buffer.append(isJSON ? "\",\"message\":\"" as StaticString : ": " as StaticString)
    LogText.append(escaped: BoundedText.cut(message, to: LogRecordWriter.valueBytesMax), to: &buffer)
    if isJSON { buffer.append(UInt8(ascii: "\"")) }
  }

  /// Writes what stands before the target.
  private mutating func beginHead(_ level: LogLevel, at time: UInt64) {
    lineStart = buffer.count
    fieldCount = 0
    isSorted = true
    isTruncated = false
    previousKey = ""
    if isJSON {
      buffer.append("{\"time\":\"" as StaticString)
      clock.append(time, to: &buffer)
      buffer.append("\",\"level\":\"" as StaticString)
      buffer.append(level.text)
      buffer.append("\",\"target\":\"" as StaticString)
    } else {
      clock.append(time, to: &buffer)
      // Levels stand right-aligned in five places.
      buffer.append(level.text.utf8CodeUnitCount < 5 ? "  " as StaticString : " " as StaticString)
      buffer.append(level.text)
      buffer.append(UInt8(ascii: " "))
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

  /// Adds constant text, which must need no escapes.
  package mutating func field(_ key: StaticString, _ value: StaticString) {
    let count = value.utf8CodeUnitCount
    let bytes = UnsafeRawBufferPointer(start: value.utf8Start, count: count)
    assert(LogText.isPlain(bytes), "constants need no escapes")
    guard let room = beginField(key, valueBytes: count &+ 2) else { return }
    if isJSON || LogText.isBare(bytes) {
      putPlain(bytes, quoted: isJSON, at: room)
    } else {
      putPlain(bytes, quoted: true, at: room)
    }
  }

  /// Adds text of any origin.
  package mutating func field(_ key: StaticString, _ value: UnsafeRawBufferPointer) {
    let value = BoundedText.cut(value, to: LogRecordWriter.valueBytesMax)
    guard let room = beginField(key, valueBytes: value.count &+ 2) else { return }
    if isJSON, LogText.isPlain(value) {
      putPlain(value, quoted: true, at: room)
    } else {
      putText(value)
    }
  }

  /// Adds text.
  @_disfavoredOverload
  package mutating func field(_ key: StaticString, _ value: String) {
    var value = value
    value.withUTF8 { field(key, UnsafeRawBufferPointer($0)) }
  }

  /// Adds a number; beyond 2^53 it is written as text, so that every JSON reader keeps it.
  package mutating func field(_ key: StaticString, _ value: Int) {
    guard beginField(key, valueBytes: 24) != nil else { return }
    putNumber(value.magnitude, isNegative: value < 0)
  }

  /// Adds an id; beyond 2^53 it is written as text.
  package mutating func field(_ key: StaticString, id: UInt64) {
    guard beginField(key, valueBytes: 24) != nil else { return }
    putNumber(UInt(id), isNegative: false)
  }

  /// Adds a number with `fraction` digits after the point.
  package mutating func field(_ key: StaticString, _ value: Double, fraction: Int = 3) {
    guard beginField(key, valueBytes: 32) != nil else { return }
    buffer.append(double: value, fraction: fraction)
  }

  /// Adds a length of time in milliseconds with three digits after the point.
  package mutating func field(_ key: StaticString, milliseconds value: Nanoseconds) {
    guard beginField(key, valueBytes: 28) != nil else { return }
    buffer.append(milliseconds: value)
  }

  /// Adds a truth value.
  package mutating func field(_ key: StaticString, _ value: Bool) {
    guard beginField(key, valueBytes: 5) != nil else { return }
    buffer.append(value ? "true" as StaticString : "false" as StaticString)
  }

  /// Adds a UUID in its usual form.
  package mutating func field(_ key: StaticString, _ value: UUID) {
    guard beginField(key, valueBytes: 38) != nil else { return }
    quote()
    buffer.append(value)
    quote()
  }

  /// Adds 16 hexadecimal digits.
  package mutating func field(_ key: StaticString, hex value: UInt64) {
    guard beginField(key, valueBytes: 18) != nil else { return }
    quote()
    buffer.append(hex: value)
    quote()
  }

  /// Adds a trace id as 32 hexadecimal digits.
  package mutating func field(_ key: StaticString, _ value: TraceID) {
    guard beginField(key, valueBytes: 34) != nil else { return }
    quote()
    buffer.append(value)
    quote()
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
    case .text(var text):
      text.withUTF8 {
        putText(BoundedText.cut(UnsafeRawBufferPointer($0), to: LogRecordWriter.valueBytesMax))
      }
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

  /// Writes the key of a field and returns where its value goes, with room for `valueBytes`; nil when the line
  /// takes no more.
  private mutating func beginField(_ key: StaticString, valueBytes: Int) -> UnsafeMutableRawPointer? {
    guard admitField() else { return nil }
    if isSorted { isSorted = LogRecordWriter.ascends(previousKey, key) }
    previousKey = key
    let count = key.utf8CodeUnitCount
    let room = buffer.reserve(count &+ 4 &+ valueBytes)
    if isJSON {
      room.storeBytes(of: 0x222c, as: UInt16.self)  // ,"
      (room + 2).copyShort(from: key.utf8Start, count: count)
      (room + 2 + count).storeBytes(of: 0x3a22, as: UInt16.self)  // ":
      buffer.commit(count &+ 4)
      return room + 4 + count
    }
    room.storeBytes(of: UInt8(ascii: " "), as: UInt8.self)
    (room + 1).copyShort(from: key.utf8Start, count: count)
    (room + 1 + count).storeBytes(of: UInt8(ascii: "="), as: UInt8.self)
    buffer.commit(count &+ 2)
    return room + 2 + count
  }

  /// Writes a value that needs no escapes where ``beginField(_:valueBytes:)`` said.
  @inline(__always)
  private mutating func putPlain(
    _ value: UnsafeRawBufferPointer, quoted: Bool, at room: UnsafeMutableRawPointer
  ) {
    let count = value.count
    let start = quoted ? room + 1 : room
    if let source = value.baseAddress { start.copyShort(from: source, count: count) }
    guard quoted else {
      buffer.commit(count)
      return
    }
    room.storeBytes(of: UInt8(ascii: "\""), as: UInt8.self)
    (start + count).storeBytes(of: UInt8(ascii: "\""), as: UInt8.self)
    buffer.commit(count &+ 2)
  }

  private mutating func quote() {
    if isJSON { buffer.append(UInt8(ascii: "\"")) }
  }

  private mutating func putText(_ value: UnsafeRawBufferPointer) {
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
