// Reads OTLP bytes back into values that a test can compare, with this package's own Protobuf reader.

import Base
import Protobuf

@testable import Telemetry

/// A decoded AnyValue.
indirect enum DecodedValue: Equatable {
  case text(String)
  case bool(Bool)
  case int(Int)
  case double(Double)
  case array([DecodedValue])
  case none
}

/// A decoded KeyValue.
struct DecodedAttribute: Equatable {
  var key = ""
  var value = DecodedValue.none

  init(_ key: String, _ value: DecodedValue) {
    self.key = key
    self.value = value
  }

  init(_ bytes: UnsafeRawBufferPointer) throws {
    var reader = ProtobufReader(bytes)
    while let field = try reader.next() {
      if field.number == 1 { key = field.bytes?.text ?? "" }
      if field.number == 2, let bytes = field.bytes { value = try DecodedAttribute.value(bytes) }
    }
  }

  static func value(_ bytes: UnsafeRawBufferPointer) throws -> DecodedValue {
    var reader = ProtobufReader(bytes)
    var result = DecodedValue.none
    while let field = try reader.next() {
      switch (field.number, field.value) {
      case (1, .bytes(let text)): result = .text(text.text)
      case (2, .varint(let flag)): result = .bool(flag == 1)
      case (3, .varint(let number)): result = .int(Int(Int64(bitPattern: number)))
      case (4, .fixed64(let bits)): result = .double(Double(bitPattern: bits))
      case (5, .bytes(let list)):
        var elements: [DecodedValue] = []
        var items = ProtobufReader(list)
        while let item = try items.next() {
          if let bytes = item.bytes { elements.append(try value(bytes)) }
        }
        result = .array(elements)
      default: break
      }
    }
    return result
  }
}

/// A decoded Event or Link.
struct DecodedItem {
  var time: UInt64 = 0
  var name = ""
  var traceID: [UInt8] = []
  var spanID: [UInt8] = []
  var flags: UInt32 = 0
  var attributes: [DecodedAttribute] = []
  var droppedAttributes = 0
}

/// A decoded Span.
struct DecodedSpan {
  var traceID: [UInt8] = []
  var spanID: [UInt8] = []
  var parentID: [UInt8] = []
  var traceState = ""
  var name = ""
  var kind = 0
  var start: UInt64 = 0
  var end: UInt64 = 0
  var flags: UInt32 = 0
  var attributes: [DecodedAttribute] = []
  var droppedAttributes = 0
  var events: [DecodedItem] = []
  var droppedEvents = 0
  var links: [DecodedItem] = []
  var droppedLinks = 0
  var statusCode: Int?
  var statusMessage = ""

  subscript(_ key: String) -> DecodedValue? { attributes.first { $0.key == key }?.value }

  init(_ bytes: UnsafeRawBufferPointer) throws {
    var reader = ProtobufReader(bytes)
    while let field = try reader.next() {
      switch (field.number, field.value) {
      case (1, .bytes(let id)): traceID = Array(id)
      case (2, .bytes(let id)): spanID = Array(id)
      case (3, .bytes(let text)): traceState = text.text
      case (4, .bytes(let id)): parentID = Array(id)
      case (5, .bytes(let text)): name = text.text
      case (6, .varint(let value)): kind = Int(value)
      case (7, .fixed64(let time)): start = time
      case (8, .fixed64(let time)): end = time
      case (9, .bytes(let attribute)): attributes.append(try DecodedAttribute(attribute))
      case (10, .varint(let count)): droppedAttributes = Int(count)
      case (11, .bytes(let event)): events.append(try DecodedSpan.event(event))
      case (12, .varint(let count)): droppedEvents = Int(count)
      case (13, .bytes(let link)): links.append(try DecodedSpan.link(link))
      case (14, .varint(let count)): droppedLinks = Int(count)
      case (15, .bytes(let status)): try readStatus(status)
      case (16, .fixed32(let bits)): flags = bits
      default: throw ProtobufError.fieldNumber
      }
    }
  }

  private mutating func readStatus(_ bytes: UnsafeRawBufferPointer) throws {
    var reader = ProtobufReader(bytes)
    while let field = try reader.next() {
      if field.number == 2 { statusMessage = field.bytes?.text ?? "" }
      if field.number == 3 { statusCode = field.varint.map { Int($0) } }
    }
  }

  private static func event(_ bytes: UnsafeRawBufferPointer) throws -> DecodedItem {
    var item = DecodedItem()
    var reader = ProtobufReader(bytes)
    while let field = try reader.next() {
      switch (field.number, field.value) {
      case (1, .fixed64(let time)): item.time = time
      case (2, .bytes(let text)): item.name = text.text
      case (3, .bytes(let attribute)): item.attributes.append(try DecodedAttribute(attribute))
      case (4, .varint(let count)): item.droppedAttributes = Int(count)
      default: throw ProtobufError.fieldNumber
      }
    }
    return item
  }

  private static func link(_ bytes: UnsafeRawBufferPointer) throws -> DecodedItem {
    var item = DecodedItem()
    var reader = ProtobufReader(bytes)
    while let field = try reader.next() {
      switch (field.number, field.value) {
      case (1, .bytes(let id)): item.traceID = Array(id)
      case (2, .bytes(let id)): item.spanID = Array(id)
      case (4, .bytes(let attribute)): item.attributes.append(try DecodedAttribute(attribute))
      case (5, .varint(let count)): item.droppedAttributes = Int(count)
      case (6, .fixed32(let bits)): item.flags = bits
      default: throw ProtobufError.fieldNumber
      }
    }
    return item
  }

  /// The spans in entries of `ScopeSpans.spans`.
  static func all(in bytes: UnsafeRawBufferPointer) throws -> [DecodedSpan] {
    var spans: [DecodedSpan] = []
    var reader = ProtobufReader(bytes)
    while let field = try reader.next() {
      guard field.number == 2, let bytes = field.bytes else { throw ProtobufError.fieldNumber }
      spans.append(try DecodedSpan(bytes))
    }
    return spans
  }
}

/// Keeps what is published or written.
final class Collector: SpanSink, LogSink, @unchecked Sendable {
  // Unchecked: each test uses it from one thread.
  var batches: [SpanBatch] = []
  var text = ""

  func publish(_ batch: SpanBatch) { batches.append(batch) }
  func write(_ lines: UnsafeRawBufferPointer) { text += lines.text }
}

/// Runs `body` with the UTF-8 bytes of `text`.
func withBytes<Result>(_ text: String, _ body: (UnsafeRawBufferPointer) throws -> Result) rethrows -> Result {
  try Array(text.utf8).withUnsafeBytes(body)
}
