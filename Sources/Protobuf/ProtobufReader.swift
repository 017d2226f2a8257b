// Reads the fields of one Protocol Buffers message out of borrowed bytes.

internal import Base

/// Why bytes are not a Protocol Buffers message.
package enum ProtobufError: Error, Sendable, Equatable {
  /// The bytes end inside a field.
  case truncated
  /// A varint longer than ten bytes, or one that does not fit 64 bits.
  case varintTooLong
  /// A field number of 0 or above 2^29 - 1.
  case fieldNumber
  /// A wire type that proto3 does not use (groups, 6, 7).
  case wireType
}

/// The payload of one field; slices point into the reader's bytes.
package enum ProtobufValue {
  case varint(UInt64)
  case fixed64(UInt64)
  case fixed32(UInt32)
  case bytes(UnsafeRawBufferPointer)
}

/// One field: its number and payload.
package struct ProtobufField {
  package let number: Int
  package let value: ProtobufValue

  /// The content of a length-delimited field; nil for the other types.
  package var bytes: UnsafeRawBufferPointer? {
    if case .bytes(let slice) = value { return slice }
    return nil
  }

  /// The content of a varint field; nil for the other types.
  package var varint: UInt64? {
    if case .varint(let number) = value { return number }
    return nil
  }

  /// The content of a `fixed64` field; nil for the other types.
  package var fixed64: UInt64? {
    if case .fixed64(let number) = value { return number }
    return nil
  }

  /// The content of a `fixed32` field; nil for the other types.
  package var fixed32: UInt32? {
    if case .fixed32(let number) = value { return number }
    return nil
  }
}

/// Walks the fields of one message in the order they were written.
///
/// Borrows `bytes`: neither the reader nor its fields may outlive them. Unknown fields are the caller's to skip.
package struct ProtobufReader {
  private let bytes: UnsafeRawBufferPointer
  /// Offset of the next unread byte.
  package private(set) var position = 0

  /// Reads `bytes`, the content of one message.
  package init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

  /// The next field, or nil at the end of the message.
  package mutating func next() throws(ProtobufError) -> ProtobufField? {
    guard position < bytes.count else { return nil }
    let tag = try varint()
    let number = tag >> 3
    guard number > 0, number < 1 << 29 else { throw .fieldNumber }
    guard let type = ProtobufWireType(rawValue: UInt8(truncatingIfNeeded: tag & 7)) else { throw .wireType }
    let value: ProtobufValue
    switch type {
    case .varint: value = .varint(try varint())
    case .fixed64: value = .fixed64(UInt64(littleEndian: try load(8).loadUnaligned(as: UInt64.self)))
    case .fixed32: value = .fixed32(UInt32(littleEndian: try load(4).loadUnaligned(as: UInt32.self)))
    case .lengthDelimited:
      let length = try varint()
      guard length <= UInt64(bytes.count - position) else { throw .truncated }
      value = .bytes(try load(Int(length)))
    }
    return ProtobufField(number: Int(number), value: value)
  }

  private mutating func load(_ count: Int) throws(ProtobufError) -> UnsafeRawBufferPointer {
    guard bytes.count - position >= count else { throw .truncated }
    defer { position += count }
    return bytes.slice(position..<position + count)
  }

  private mutating func varint() throws(ProtobufError) -> UInt64 {
    var result: UInt64 = 0
    var shift: UInt64 = 0
    while true {
      guard position < bytes.count else { throw .truncated }
      let byte = bytes[position]
      position += 1
      // The tenth byte holds the 64th bit only.
      if shift == 63, byte > 1 { throw .varintTooLong }
      result |= UInt64(byte & 0x7f) << shift
      if byte < 0x80 { return result }
      shift += 7
    }
  }
}
