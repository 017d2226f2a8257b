// OTLP's JSON turned into the protobuf that it stands for, so that one way leads into the store.
// Source: OTLP 1.x, "JSON Protobuf Encoding": ids in hexadecimal, 64-bit numbers as strings or numbers, enums as
// numbers, unknown keys passed over.

package import Base
internal import JSON
internal import Protobuf

/// Reads an `ExportTraceServiceRequest`.
package enum OTLPJSON {
  /// Most messages in one request, attributes and their values among them: its bytes alone would allow several times
  /// as many, none of which says anything, and the store's thread reads a request in one go.
  static let messagesMax = 1 << 20

  /// Appends the message that `json` stands for. What is no such JSON throws ``IngestError/malformed``, more messages
  /// than ``messagesMax`` ``IngestError/tooMany``; ids and nesting are judged with the message.
  package static func transcode(
    _ json: UnsafeRawBufferPointer, into out: inout ByteBuffer, messagesMax: Int = messagesMax
  ) throws(IngestError) {
    var reader = OTLPJSONReader(json, messagesMax: messagesMax)
    do throws(JSONError) {
      try reader.whole(into: &out)
    } catch {
      if reader.messages > messagesMax { throw .tooMany }
      throw error.reason == .tooDeep ? .tooDeep : .malformed
    }
  }
}

/// A message of OTLP as its JSON has it.
private enum JSONMessage: Int, CaseIterable {
  case request, resourceSpans, resource, scopeSpans, scope, span, event, link, status, keyValue, anyValue
  case arrayValue, keyValueList

  /// How a value is written.
  enum Kind {
    case message(JSONMessage)
    case list(JSONMessage)
    case text, hex, base64, bool, double
    case varint, fixed32, fixed64
  }

  /// Keys, field numbers and kinds.
  var fields: [Field] { Self.tables[rawValue] }

  typealias Field = (key: StaticString, number: Int, kind: Kind)

  /// By message; made once, since there is a message for each value of an attribute.
  private static let tables = allCases.map(\.table)

  /// Source: opentelemetry-proto: trace.proto, common.proto, resource.proto.
  private var table: [Field] {
    switch self {
    case .request: [("resourceSpans", 1, .list(.resourceSpans))]
    case .resourceSpans:
      [("resource", 1, .message(.resource)), ("scopeSpans", 2, .list(.scopeSpans)), ("schemaUrl", 3, .text)]
    case .resource: [("attributes", 1, .list(.keyValue)), ("droppedAttributesCount", 2, .varint)]
    case .scopeSpans:
      [("scope", 1, .message(.scope)), ("spans", 2, .list(.span)), ("schemaUrl", 3, .text)]
    case .scope:
      [
        ("name", 1, .text), ("version", 2, .text), ("attributes", 3, .list(.keyValue)),
        ("droppedAttributesCount", 4, .varint),
      ]
    case .span: Self.spanFields
    case .event:
      [
        ("timeUnixNano", 1, .fixed64), ("name", 2, .text), ("attributes", 3, .list(.keyValue)),
        ("droppedAttributesCount", 4, .varint),
      ]
    case .link:
      [
        ("traceId", 1, .hex), ("spanId", 2, .hex), ("traceState", 3, .text),
        ("attributes", 4, .list(.keyValue)), ("droppedAttributesCount", 5, .varint), ("flags", 6, .fixed32),
      ]
    case .status: [("message", 2, .text), ("code", 3, .varint)]
    case .keyValue: [("key", 1, .text), ("value", 2, .message(.anyValue))]
    case .anyValue:
      [
        ("stringValue", 1, .text), ("boolValue", 2, .bool), ("intValue", 3, .varint),
        ("doubleValue", 4, .double), ("arrayValue", 5, .message(.arrayValue)),
        ("kvlistValue", 6, .message(.keyValueList)), ("bytesValue", 7, .base64),
      ]
    case .arrayValue: [("values", 1, .list(.anyValue))]
    case .keyValueList: [("values", 1, .list(.keyValue))]
    }
  }

  private static let spanFields: [Field] = [
    ("traceId", 1, .hex), ("spanId", 2, .hex), ("traceState", 3, .text), ("parentSpanId", 4, .hex),
    ("name", 5, .text), ("kind", 6, .varint), ("startTimeUnixNano", 7, .fixed64),
    ("endTimeUnixNano", 8, .fixed64), ("attributes", 9, .list(.keyValue)),
    ("droppedAttributesCount", 10, .varint), ("events", 11, .list(.event)),
    ("droppedEventsCount", 12, .varint), ("links", 13, .list(.link)), ("droppedLinksCount", 14, .varint),
    ("status", 15, .message(.status)), ("flags", 16, .fixed32),
  ]
}

private struct OTLPJSONReader: ~Copyable {
  private let bytes: UnsafeRawBufferPointer
  private var scanner: JSONScanner
  /// Values within values that are open.
  private var depth = 0
  /// Messages that were begun.
  private(set) var messages = 0
  private let messagesMax: Int
  /// Where text without its escapes is put together.
  private var scratch = ByteBuffer()

  init(_ bytes: UnsafeRawBufferPointer, messagesMax: Int) {
    self.bytes = bytes
    self.messagesMax = messagesMax
    scanner = JSONScanner(bytes)
  }

  mutating func whole(into out: inout ByteBuffer) throws(JSONError) {
    try message(.request, into: &out)
    try scanner.finish()
  }

  private mutating func message(_ kind: JSONMessage, into out: inout ByteBuffer) throws(JSONError) {
    // Each level may be moved for its length, so their number is bounded before that of the check.
    guard depth <= OTLPCheck.depthMax * 2 + 10 else { throw JSONError(.tooDeep, at: scanner.offset) }
    messages += 1
    guard messages <= messagesMax else { throw fault }
    depth += 1
    defer { depth -= 1 }
    let fields = kind.fields
    try scanner.openObject()
    while let key = try scanner.nextKey() {
      guard let field = fields.first(where: { key.equals($0.key, in: bytes) }), try scanner.kind() != .null
      else {
        try scanner.skipValue()
        continue
      }
      try value(field.kind, field.number, into: &out)
    }
  }

  private mutating func value(
    _ kind: JSONMessage.Kind, _ number: Int, into out: inout ByteBuffer
  ) throws(JSONError) {
    switch kind {
    case .message(let kind): try nested(kind, number, into: &out)
    case .list(let kind):
      try scanner.openArray()
      while try scanner.nextElement() { try nested(kind, number, into: &out) }
    case .text:
      scratch.removeAll()
      scratch.append(decoding: bytes.slice(try scanner.string().range))
      out.append(field: number, bytes: scratch.readable)
    case .hex:
      let id = try hex()
      out.append(field: number, bytes: id.readable)
    case .base64:
      let text = bytes.slice(try scanner.string().range)
      guard let content = Base64.decode(text, ofEitherAlphabet: true) else { throw fault }
      content.withUnsafeBytes { out.append(field: number, bytes: $0) }
    case .bool:
      let kind = try scanner.kind()
      guard kind == .true || kind == .false else { throw fault }
      try scanner.literal()
      out.append(field: number, varint: kind == .true ? 1 : 0)
    case .double: out.append(field: number, fixed64: try double().bitPattern)
    case .varint: out.append(field: number, varint: try integer())
    case .fixed64: out.append(field: number, fixed64: try integer())
    case .fixed32: out.append(field: number, fixed32: UInt32(truncatingIfNeeded: try integer()))
    }
  }

  private mutating func nested(
    _ kind: JSONMessage, _ number: Int, into out: inout ByteBuffer
  ) throws(JSONError) {
    let mark = out.beginCompactMessage(field: number)
    try message(kind, into: &out)
    out.endCompactMessage(mark)
  }

  // MARK: Values

  private var fault: JSONError { JSONError(.wrongKind, at: scanner.offset) }

  /// The text of a number, which may stand in quotes.
  private mutating func digits() throws(JSONError) -> String {
    if case .string = try scanner.kind() { return bytes.slice(try scanner.string().range).text }
    return bytes.slice(try scanner.number().range).text
  }

  /// A whole number, signed or not, as its 64 bits.
  private mutating func integer() throws(JSONError) -> UInt64 {
    let text = try digits()
    if let number = UInt64(text) { return number }
    guard let number = Int64(text) else { throw fault }
    return UInt64(bitPattern: number)
  }

  private mutating func double() throws(JSONError) -> Double {
    let text = try digits()
    switch text {
    case "NaN": return .nan
    case "Infinity": return .infinity
    case "-Infinity": return -.infinity
    default:
      guard let number = Double(text), number.isFinite else { throw fault }
      return number
    }
  }

  private mutating func hex() throws(JSONError) -> ByteBuffer {
    let digits = bytes.slice(try scanner.string().range)
    guard digits.count.isMultiple(of: 2) else { throw fault }
    var out = ByteBuffer()
    for index in stride(from: 0, to: digits.count, by: 2) {
      guard let high = Hex.value(digits[index]), let low = Hex.value(digits[index + 1]) else { throw fault }
      out.append(high << 4 | low)
    }
    return out
  }
}
