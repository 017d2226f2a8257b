// The older search by `tags`: logfmt pairs that must all occur in a trace.

internal import Base

/// `service.name=frontend http.status_code=200 name="a b"`, with bounds on the trace's length.
package struct TagQuery {
  struct Pair: Equatable {
    let key: [UInt8]
    let value: [UInt8]
  }

  let pairs: [Pair]
  /// Nanoseconds of the whole trace.
  package var durationMin: UInt64 = 0
  package var durationMax = UInt64.max

  /// Reads logfmt: `key=value` with blanks between; values may be quoted, with `\"` and `\\` inside.
  package init(logfmt text: [UInt8]) throws(TraceQLError) {
    var pairs: [Pair] = []
    var index = 0
    while index < text.count {
      if text[index] == 0x20 {
        index += 1
        continue
      }
      let start = index
      while index < text.count, text[index] != UInt8(ascii: "="), text[index] != 0x20 { index += 1 }
      let key = Array(text[start..<index])
      guard index < text.count, text[index] == UInt8(ascii: "="), !key.isEmpty else {
        throw TraceQLError(position: start, message: "tags must be key=value pairs")
      }
      index += 1
      let value = try Self.value(text, &index)
      pairs.append(Pair(key: key, value: value))
      guard pairs.count <= 32 else { throw TraceQLError(position: start, message: "too many tags") }
    }
    self.pairs = pairs
  }

  private static func value(_ text: [UInt8], _ index: inout Int) throws(TraceQLError) -> [UInt8] {
    var value: [UInt8] = []
    guard index < text.count, text[index] == UInt8(ascii: "\"") else {
      while index < text.count, text[index] != 0x20 {
        value.append(text[index])
        index += 1
      }
      return value
    }
    let start = index
    index += 1
    while index < text.count {
      let byte = text[index]
      index += 1
      if byte == UInt8(ascii: "\"") { return value }
      if byte == UInt8(ascii: "\\"), index < text.count {
        value.append(text[index])
        index += 1
      } else {
        value.append(byte)
      }
    }
    throw TraceQLError(position: start, message: "a quoted tag value is not closed")
  }

  /// True when each pair is found on some span of the trace, or on its resource, and the length fits.
  func matches(_ trace: TraceView) -> Bool {
    let duration = trace.trace.duration
    guard duration >= durationMin, duration <= durationMax else { return false }
    return pairs.allSatisfy { pair in
      trace.spans.indices.contains { matches(pair, $0, trace) }
    }
  }

  private func matches(_ pair: Pair, _ index: Int, _ trace: TraceView) -> Bool {
    let field: SpanField =
      switch String(decoding: pair.key, as: UTF8.self) {
      case "name": .intrinsic(.name)
      case "status", "status.code": .intrinsic(.status)
      case "kind": .intrinsic(.kind)
      case "root.name": .intrinsic(.rootName)
      case "root.service.name": .intrinsic(.rootServiceName)
      default: .attribute(.any, pair.key)
      }
    return trace.holds(field, index) { $0.isSpelled(pair.value) }
  }
}

extension SpanValue {
  /// True when the value, written as text, is exactly `text`.
  fileprivate func isSpelled(_ text: [UInt8]) -> Bool {
    switch self {
    case .none: return false
    case .string(let value): return text.withUnsafeBytes { value.equals($0) }
    case .array(let content):
      var found = false
      AttributeValue.forEachElement(of: content) { if !found { found = SpanValue($0).isSpelled(text) } }
      return found
    case .bool(let flag): return String(decoding: text, as: UTF8.self) == (flag ? "true" : "false")
    case .int(let number): return String(decoding: text, as: UTF8.self) == String(number)
    case .double(let number): return Double(String(decoding: text, as: UTF8.self)) == number
    case .duration: return false
    case .status(let code): return String(decoding: text, as: UTF8.self) == SpanNames.status(code)
    case .kind(let kind): return String(decoding: text, as: UTF8.self) == SpanNames.kind(kind)
    }
  }
}

/// The words of queries and answers for kinds and states.
enum SpanNames {
  static func status(_ code: UInt64) -> String {
    switch code {
    case 1: "ok"
    case 2: "error"
    default: "unset"
    }
  }

  static func kind(_ kind: UInt64) -> String {
    switch kind {
    case 1: "internal"
    case 2: "server"
    case 3: "client"
    case 4: "producer"
    case 5: "consumer"
    default: "unspecified"
    }
  }
}
