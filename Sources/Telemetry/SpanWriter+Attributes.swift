// Attributes of spans, events and links: KeyValue messages with typed values (common/v1/common.proto).

internal import Base
internal import Protobuf

// AnyValue's oneof: 1 string, 2 bool, 3 int, 4 double, 5 array.
private let stringTag: UInt8 = 0x0a
private let boolTag: UInt8 = 0x10
private let intTag: UInt8 = 0x18
private let doubleTag: UInt8 = 0x21
private let arrayTag: UInt8 = 0x2a

extension SpanWriter {
  /// Adds constant text.
  package mutating func attribute(_ key: StaticString, _ value: StaticString) {
    guard admitAttribute() else { return }
    putText(key, limits.cut(UnsafeRawBufferPointer(start: value.utf8Start, count: value.utf8CodeUnitCount)))
  }

  /// Adds text; cut to the bound, invalid UTF-8 replaced (one bad string would void the whole message).
  package mutating func attribute(_ key: StaticString, _ value: UnsafeRawBufferPointer) {
    guard admitAttribute() else { return }
    let value = limits.cut(value)
    if BoundedText.isASCII(value) {
      putText(key, value)
    } else {
      putRepaired(key, value)
    }
  }

  /// Adds text.
  @_disfavoredOverload
  package mutating func attribute(_ key: StaticString, _ value: String) {
    guard admitAttribute() else { return }
    var value = value
    value.withUTF8 { bytes in
      putText(key, limits.cut(UnsafeRawBufferPointer(bytes)))
    }
  }

  /// Adds a number.
  package mutating func attribute(_ key: StaticString, _ value: Int) {
    guard admitAttribute() else { return }
    let bits = UInt64(bitPattern: Int64(value))
    let keyBytes = key.utf8CodeUnitCount
    let room = buffer.reserve(keyBytes &+ 24)
    // The number goes first, so that its length is known when the lengths before it are written.
    var cursor = ProtobufCursor(room + (keyBytes &+ 7))
    cursor.put(varint: bits)
    let total = cursor.pointer - room
    cursor = ProtobufCursor(room)
    putHead(&cursor, key, valueBytes: total &- keyBytes &- 6)
    cursor.put(intTag)
    buffer.commit(total)
  }

  /// Adds an id: a number when every JSON reader keeps it (at most 2^53), else its digits as text.
  package mutating func attribute(_ key: StaticString, id: UInt64) {
    if id <= 1 << 53 {
      attribute(key, Int(id))
    } else {
      attribute(key, String(id))
    }
  }

  /// Adds a number with a fraction.
  package mutating func attribute(_ key: StaticString, _ value: Double) {
    guard admitAttribute() else { return }
    let room = buffer.reserve(key.utf8CodeUnitCount + 24)
    var cursor = ProtobufCursor(room)
    putHead(&cursor, key, valueBytes: 9)
    cursor.put(doubleTag)
    cursor.put(fixed64: value.bitPattern)
    buffer.commit(cursor.pointer - room)
  }

  /// Adds a truth value.
  package mutating func attribute(_ key: StaticString, _ value: Bool) {
    guard admitAttribute() else { return }
    let room = buffer.reserve(key.utf8CodeUnitCount + 24)
    var cursor = ProtobufCursor(room)
    putHead(&cursor, key, valueBytes: 2)
    cursor.put(boolTag)
    cursor.put(value ? 1 : 0)
    buffer.commit(cursor.pointer - room)
  }

  /// Adds a list of `count` numbers, of which `numbers` gives each; elements past the bound are left out.
  package mutating func attribute(_ key: StaticString, count: Int, numbers: (Int) -> Int) {
    putArray(key, count: count) { cursor, index in
      let bits = UInt64(bitPattern: Int64(numbers(index)))
      cursor.put(UInt8(truncatingIfNeeded: 1 + ProtobufSize.varint(bits)))
      cursor.put(intTag)
      cursor.put(varint: bits)
    }
  }

  /// Adds a list of `count` numbers with fractions; elements past the bound are left out.
  package mutating func attribute(_ key: StaticString, count: Int, fractions: (Int) -> Double) {
    putArray(key, count: count) { cursor, index in
      cursor.put(9)
      cursor.put(doubleTag)
      cursor.put(fixed64: fractions(index).bitPattern)
    }
  }

  /// Writes an array of numbers, of which `put` writes the length and the AnyValue, 12 bytes at most.
  @inline(__always)
  private mutating func putArray(
    _ key: StaticString, count: Int, _ put: (inout ProtobufCursor, Int) -> Void
  ) {
    guard admitAttribute() else { return }
    let count = min(count, limits.elementCountMax, 1_024)
    let keyBytes = key.utf8CodeUnitCount
    let room = buffer.reserve(keyBytes &+ 16 &+ count &* 13)
    // Lengths of two bytes, whatever they are: they are written when the elements are.
    let elements = room + (keyBytes &+ 11)
    var cursor = ProtobufCursor(elements)
    for index in 0..<count {
      cursor.put(0x0a)
      put(&cursor, index)
    }
    let arrayBytes = cursor.pointer - elements
    assert(keyBytes + arrayBytes < 1 << 14, "bounded by the count")
    cursor = ProtobufCursor(room)
    cursor.put(attributeTag)
    cursor.put(varint14: keyBytes &+ arrayBytes &+ 8)
    cursor.put(0x0a)
    cursor.put(UInt8(truncatingIfNeeded: keyBytes))
    cursor.put(key.utf8Start, count: keyBytes)
    cursor.put(0x12)
    cursor.put(varint14: arrayBytes &+ 3)
    cursor.put(arrayTag)
    cursor.put(varint14: arrayBytes)
    buffer.commit(keyBytes &+ 11 &+ arrayBytes)
  }

  /// Adds a list of texts; elements past the bound are left out.
  package mutating func attribute(_ key: StaticString, _ values: [String]) {
    guard var array = beginArray(key) else { return }
    for value in values {
      var value = value
      value.withUTF8 { append(UnsafeRawBufferPointer($0), to: &array) }
    }
    endArray(array)
  }

  // MARK: Arrays, element by element

  /// An array value that is being written; at most one is open.
  private struct OpenArray {
    fileprivate let keyValueMark: Int
    fileprivate let valueMark: Int
    fileprivate let arrayMark: Int
    fileprivate var elementCount = 0
  }

  /// Opens an array attribute, or returns nil when the span takes no more attributes.
  private mutating func beginArray(_ key: StaticString) -> OpenArray? {
    guard admitAttribute() else { return nil }
    let keyValueMark = buffer.beginMessage(field: Int(attributeTag >> 3))
    buffer.append(
      field: 1, bytes: UnsafeRawBufferPointer(start: key.utf8Start, count: key.utf8CodeUnitCount))
    let valueMark = buffer.beginMessage(field: 2)
    let arrayMark = buffer.beginMessage(field: 5)
    return OpenArray(keyValueMark: keyValueMark, valueMark: valueMark, arrayMark: arrayMark)
  }

  /// Appends text; cut and repaired like a single value.
  private mutating func append(_ value: UnsafeRawBufferPointer, to array: inout OpenArray) {
    guard admitElement(&array) else { return }
    let value = limits.cut(value)
    if BoundedText.isASCII(value) {
      putElement(value)
    } else {
      var repaired = String(decoding: value, as: UTF8.self)
      repaired.withUTF8 { putElement(limits.cut(UnsafeRawBufferPointer($0))) }
    }
  }

  /// Closes the array.
  private mutating func endArray(_ array: OpenArray) {
    buffer.endMessage(array.arrayMark)
    buffer.endMessage(array.valueMark)
    buffer.endMessage(array.keyValueMark)
  }

  private mutating func admitElement(_ array: inout OpenArray) -> Bool {
    guard array.elementCount < limits.elementCountMax, buffer.count - array.arrayMark < limits.spanBytesMax
    else { return false }
    array.elementCount += 1
    return true
  }

  private mutating func putElement(_ value: UnsafeRawBufferPointer) {
    buffer.append(
      field: 1, messageOf: ProtobufSize.field(1, lengthDelimited: value.count))
    buffer.append(field: 1, bytes: value)
  }

  // MARK: Private helpers

  /// Writes the attribute's tag and lengths, its key, and the head of an AnyValue of `valueBytes` <= 11 bytes.
  @inline(__always)
  private func putHead(_ cursor: inout ProtobufCursor, _ key: StaticString, valueBytes: Int) {
    let keyBytes = key.utf8CodeUnitCount
    assert(keyBytes < 100, "keys are short constants, so that every length here is one byte")
    cursor.put(attributeTag)
    cursor.put(UInt8(truncatingIfNeeded: keyBytes + valueBytes + 4))
    cursor.put(0x0a)
    cursor.put(UInt8(truncatingIfNeeded: keyBytes))
    cursor.put(key.utf8Start, count: keyBytes)
    cursor.put(0x12)
    cursor.put(UInt8(truncatingIfNeeded: valueBytes))
  }

  /// Writes a string attribute whose bytes are valid UTF-8 within the bound.
  @inline(__always)
  private mutating func putText(_ key: StaticString, _ value: UnsafeRawBufferPointer) {
    let keyBytes = key.utf8CodeUnitCount
    let valueBytes = value.count
    guard let source = value.baseAddress, keyBytes &+ valueBytes <= 121 else {
      putLongText(key, value)
      return
    }
    let room = buffer.reserve(144)
    var cursor = ProtobufCursor(room)
    cursor.put(attributeTag)
    cursor.put(UInt8(truncatingIfNeeded: keyBytes &+ valueBytes &+ 6))
    cursor.put(0x0a)
    cursor.put(UInt8(truncatingIfNeeded: keyBytes))
    cursor.put(key.utf8Start, count: keyBytes)
    cursor.put(0x12)
    cursor.put(UInt8(truncatingIfNeeded: valueBytes &+ 2))
    cursor.put(stringTag)
    cursor.put(UInt8(truncatingIfNeeded: valueBytes))
    cursor.put(source, count: valueBytes)
    buffer.commit(keyBytes &+ valueBytes &+ 8)
  }

  /// The same for text whose lengths take more than one byte, and for none at all.
  @inline(never)
  private mutating func putLongText(_ key: StaticString, _ value: UnsafeRawBufferPointer) {
    let keyBytes = key.utf8CodeUnitCount
    let valueBytes = ProtobufSize.field(1, lengthDelimited: value.count)
    let keyValueBytes =
      ProtobufSize.field(1, lengthDelimited: keyBytes) + ProtobufSize.field(2, lengthDelimited: valueBytes)
    buffer.append(tag: Int(attributeTag >> 3), .lengthDelimited)
    buffer.append(varint: UInt64(keyValueBytes))
    buffer.append(field: 1, bytes: UnsafeRawBufferPointer(start: key.utf8Start, count: keyBytes))
    buffer.append(field: 2, messageOf: valueBytes)
    buffer.append(field: 1, bytes: value)
  }

  /// Writes text that is not plain ASCII, with replacement characters where it is not UTF-8.
  @inline(never)
  private mutating func putRepaired(_ key: StaticString, _ value: UnsafeRawBufferPointer) {
    var repaired = String(decoding: value, as: UTF8.self)
    repaired.withUTF8 { bytes in
      putText(key, limits.cut(UnsafeRawBufferPointer(bytes)))
    }
  }
}
