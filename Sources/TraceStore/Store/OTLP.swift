// Field numbers of OTLP's trace messages, and how their bytes are looked into without decoding them whole.
// Source: opentelemetry-proto 1.x, trace.proto, common.proto, resource.proto.

internal import Base
internal import Protobuf

/// Reading of single fields. What is malformed reads as absent: ingest has refused it before.
enum OTLP {
  static var none: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: nil, count: 0) }

  /// The first length-delimited field `number` of `message`; nil when there is none.
  static func bytes(in message: UnsafeRawBufferPointer, field number: Int) -> UnsafeRawBufferPointer? {
    var found: UnsafeRawBufferPointer?
    forEach(message) { field in
      if found == nil, field.number == number { found = field.bytes }
    }
    return found
  }

  /// The Resource message within the fields of a ResourceSpans.
  static func resource(_ resourceFields: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
    bytes(in: resourceFields, field: 1) ?? none
  }

  /// Calls `body` with the fields of `message`, up to the first that is malformed.
  static func forEach(_ message: UnsafeRawBufferPointer, _ body: (ProtobufField) -> Void) {
    var reader = ProtobufReader(message)
    do throws(ProtobufError) {
      while let field = try reader.next() { body(field) }
    } catch {}
  }

  /// Eight bytes, most significant first; nil for another length.
  static func spanID(_ bytes: UnsafeRawBufferPointer) -> UInt64? {
    guard bytes.count == 8 else { return nil }
    return UInt64(bigEndian: bytes.loadUnaligned(as: UInt64.self))
  }
}

/// The value of an attribute, in place.
enum AttributeValue {
  case string(UnsafeRawBufferPointer)
  case bool(Bool)
  case int(Int64)
  case double(Double)
  /// An ArrayValue message.
  case array(UnsafeRawBufferPointer)
  /// A KeyValueList message.
  case keyValueList(UnsafeRawBufferPointer)
  case bytes(UnsafeRawBufferPointer)

  /// Reads an AnyValue message; nil when it holds no value.
  init?(_ message: UnsafeRawBufferPointer) {
    var value: AttributeValue?
    OTLP.forEach(message) { field in
      switch (field.number, field.value) {
      case (1, .bytes(let text)): value = .string(text)
      case (2, .varint(let flag)): value = .bool(flag != 0)
      case (3, .varint(let number)): value = .int(Int64(bitPattern: number))
      case (4, .fixed64(let bits)): value = .double(Double(bitPattern: bits))
      case (5, .bytes(let content)): value = .array(content)
      case (6, .bytes(let content)): value = .keyValueList(content)
      case (7, .bytes(let content)): value = .bytes(content)
      default: break
      }
    }
    guard let value else { return nil }
    self = value
  }

  /// Calls `body` with each element of an ArrayValue message.
  static func forEachElement(of array: UnsafeRawBufferPointer, _ body: (AttributeValue) -> Void) {
    OTLP.forEach(array) { field in
      if field.number == 1, let message = field.bytes, let value = AttributeValue(message) { body(value) }
    }
  }
}

/// Walks KeyValue messages.
enum AttributeReader {
  /// Calls `body` with key and value of each KeyValue that is field `number` of `message`.
  static func forEach(
    in message: UnsafeRawBufferPointer, field number: Int,
    _ body: (UnsafeRawBufferPointer, AttributeValue) -> Void
  ) {
    OTLP.forEach(message) { field in
      guard field.number == number, let pair = field.bytes else { return }
      var key = OTLP.none
      var value: AttributeValue?
      OTLP.forEach(pair) { part in
        if part.number == 1 { key = part.bytes ?? key }
        if part.number == 2 { value = part.bytes.flatMap(AttributeValue.init) }
      }
      if let value { body(key, value) }
    }
  }

  /// The value under `key`; nil when there is none.
  static func value(
    of key: UnsafeRawBufferPointer, in message: UnsafeRawBufferPointer, field number: Int
  ) -> AttributeValue? {
    var found: AttributeValue?
    forEach(in: message, field: number) { name, value in
      if found == nil, name.equals(key) { found = value }
    }
    return found
  }
}
