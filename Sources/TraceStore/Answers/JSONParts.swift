// Small parts of the answers' JSON: lists and objects with their commas, attribute values, base64.

internal import Base
internal import JSON
internal import Protobuf

/// Writes brackets and commas around elements.
struct JSONList {
  private let open: UInt8
  private let close: UInt8
  private var isEmpty = true

  init(open: UInt8 = UInt8(ascii: "["), close: UInt8 = UInt8(ascii: "]")) {
    self.open = open
    self.close = close
  }

  /// To be called before each element.
  mutating func next(_ out: inout ByteBuffer) {
    out.append(isEmpty ? open : UInt8(ascii: ","))
    isEmpty = false
  }

  /// Closes the list, which may be empty.
  func end(_ out: inout ByteBuffer) {
    if isEmpty { out.append(open) }
    out.append(close)
  }
}

/// Writes braces, commas and keys of an object.
struct JSONObject {
  private var list = JSONList(open: UInt8(ascii: "{"), close: UInt8(ascii: "}"))

  /// To be called before each value.
  mutating func key(_ name: StaticString, _ out: inout ByteBuffer) {
    list.next(&out)
    out.append(jsonKey: name)
  }

  func end(_ out: inout ByteBuffer) { list.end(&out) }
}

extension ByteBuffer {
  /// Appends a number as protobuf's JSON writes 64-bit ones.
  mutating func append(quotedDecimal value: UInt64) {
    append(UInt8(ascii: "\""))
    append(decimal: value)
    append(UInt8(ascii: "\""))
  }

  /// Appends standard base64 with padding, in quotes.
  mutating func append(quotedBase64 bytes: UnsafeRawBufferPointer) {
    append(UInt8(ascii: "\""))
    append(base64: bytes)
    append(UInt8(ascii: "\""))
  }

  /// Appends the list of `KeyValue`s that are field `number` of `message`.
  mutating func append(keyValuesOf message: UnsafeRawBufferPointer, field number: Int) {
    var list = JSONList()
    AttributeReader.forEach(in: message, field: number) { key, value in
      list.next(&self)
      append(key: key, value: value)
    }
    list.end(&self)
  }

  /// Appends `{"key":...,"value":{...}}`.
  mutating func append(key: UnsafeRawBufferPointer, value: AttributeValue) {
    append("{\"key\":" as StaticString)
    append(jsonString: key)
    append(",\"value\":" as StaticString)
    append(value)
    append(UInt8(ascii: "}"))
  }

  /// Appends an AnyValue. Recursion is bounded by what ingest lets in.
  mutating func append(_ value: AttributeValue) {
    switch value {
    case .string(let text):
      append("{\"stringValue\":" as StaticString)
      append(jsonString: text)
    case .bool(let flag):
      append("{\"boolValue\":" as StaticString)
      append(jsonBool: flag)
    case .int(let number):
      append("{\"intValue\":\"" as StaticString)
      append(decimal: Int(number))
      append(UInt8(ascii: "\""))
    case .double(let number):
      append("{\"doubleValue\":" as StaticString)
      append(protobufDouble: number)
    case .array(let content):
      append("{\"arrayValue\":{\"values\":" as StaticString)
      var list = JSONList()
      AttributeValue.forEachElement(of: content) { element in
        list.next(&self)
        append(element)
      }
      list.end(&self)
      append(UInt8(ascii: "}"))
    case .keyValueList(let content):
      append("{\"kvlistValue\":{\"values\":" as StaticString)
      append(keyValuesOf: content, field: 1)
      append(UInt8(ascii: "}"))
    case .bytes(let content):
      append("{\"bytesValue\":" as StaticString)
      append(quotedBase64: content)
    }
    append(UInt8(ascii: "}"))
  }

  /// Appends a double as protobuf's JSON has it: whole numbers without a point, what is not finite as text.
  mutating func append(protobufDouble number: Double) {
    if number.isNaN {
      append("\"NaN\"" as StaticString)
    } else if number.isInfinite {
      append(number < 0 ? "\"-Infinity\"" as StaticString : "\"Infinity\"")
    } else if number == number.rounded(), number.magnitude < 1e15 {
      append(decimal: Int(number))
    } else {
      append(jsonNumber: number)
    }
  }
}
