// A finished log line as an OTLP LogRecord (`opentelemetry/proto/logs/v1/logs.proto`).

package import Base
internal import JSON
internal import Protobuf

extension ByteBuffer {
  /// Appends a JSON line of ours as an entry of `ScopeLogs.log_records` (tag 2, length, LogRecord); false when it is none
  /// and nothing was appended.
  ///
  /// `message` becomes the body, `level` the severity; `trace_id` and `span_id` find their fields, and the rest, `target`
  /// among it, becomes attributes with their types.
  ///
  /// - Parameter observed: when it was taken up, in nanoseconds since the Unix epoch.
  package mutating func append(logRecordOf line: UnsafeRawBufferPointer, observed: UInt64) -> Bool {
    guard let value = try? JSONValue.parse(line, valuesMax: 256), let members = value.members,
      let body = value["message"]?.string
    else { return false }
    let mark = beginMessage(field: 2)
    let level = value["level"]?.string ?? ""
    if let time = value["time"]?.string.flatMap(LogLineTime.nanoseconds) { append(field: 1, fixed64: time) }
    if let severity = LogSeverity.number(level) { append(field: 2, varint: severity) }
    append(field: 3, string: level)
    let text = beginMessage(field: 5)
    append(field: 1, string: body)
    endMessage(text)
    for member in members {
      switch member.key {
      case "message", "level", "time": break
      case "trace_id": append(id: member.value.string, bytes: 16, field: 9, or: member)
      case "span_id": append(id: member.value.string, bytes: 8, field: 10, or: member)
      default: append(attribute: member)
      }
    }
    append(field: 11, fixed64: observed)
    endMessage(mark)
    return true
  }

  /// An id in its field, or as an attribute where it has another form.
  private mutating func append(id text: String?, bytes count: Int, field: Int, or member: JSONValue.Member) {
    var bytes: [UInt8] = []
    var digits = (text ?? "").utf8[...]
    while let high = digits.popFirst().flatMap(Hex.value), let low = digits.popFirst().flatMap(Hex.value) {
      bytes.append(high << 4 | low)
    }
    guard bytes.count == count, text?.utf8.count == count * 2 else { return append(attribute: member) }
    bytes.withUnsafeBytes { append(field: field, bytes: $0) }
  }

  private mutating func append(attribute member: JSONValue.Member) {
    let mark = beginMessage(field: 6)
    append(field: 1, string: member.key)
    let value = beginMessage(field: 2)
    switch member.value {
    case .string(let text): append(field: 1, string: text)
    case .bool(let flag): append(field: 2, varint: flag ? 1 : 0)
    case .integer(let number): append(field: 3, varint: UInt64(bitPattern: Int64(number)))
    case .double(let number): append(field: 4, fixed64: number.bitPattern)
    // Our lines hold no others.
    case .null, .array, .object: break
    }
    endMessage(value)
    endMessage(mark)
  }
}

/// Severity numbers of the log data model.
enum LogSeverity {
  static func number(_ level: String) -> UInt64? {
    switch level {
    case "TRACE": 1
    case "DEBUG": 5
    case "INFO": 9
    case "WARN": 13
    case "ERROR": 17
    default: nil
    }
  }
}

/// Reads the times that ``LogClock`` writes.
enum LogLineTime {
  /// Nanoseconds since the Unix epoch of `2025-11-20T10:31:02.114503Z`, or with a zone `+01:00`; nil for other text.
  static func nanoseconds(_ text: String) -> UInt64? {
    let bytes = Array(text.utf8)
    guard bytes.count == 27 || bytes.count == 32, bytes[10] == UInt8(ascii: "T"),
      bytes[19] == UInt8(ascii: ".")
    else { return nil }
    func number(_ range: Range<Int>) -> Int? {
      var value = 0
      for byte in bytes[range] {
        guard (48...57).contains(byte) else { return nil }
        value = value * 10 + Int(byte - 48)
      }
      return value
    }
    guard let year = number(0..<4), let month = number(5..<7), let day = number(8..<10),
      let hour = number(11..<13), let minute = number(14..<16), let second = number(17..<19),
      let microsecond = number(20..<26), (1...12).contains(month)
    else { return nil }
    var offset = 0
    if bytes.count == 32 {
      guard let hours = number(27..<29), let minutes = number(30..<32) else { return nil }
      offset = (hours * 60 + minutes) * 60 * (bytes[26] == UInt8(ascii: "-") ? -1 : 1)
    }
    // Days by the 400-year cycle, the year beginning in March (as in LogClock).
    let shiftedYear = month <= 2 ? year - 1 : year
    let era = shiftedYear / 400
    let yearOfEra = shiftedYear - era * 400
    let dayOfYear = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1
    let days = era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719_468
    let seconds = days * 86_400 + hour * 3_600 + minute * 60 + second - offset
    return seconds < 0 ? nil : UInt64(seconds) * 1_000_000_000 + UInt64(microsecond) * 1_000
  }
}
