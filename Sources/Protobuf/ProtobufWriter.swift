// The Protocol Buffers wire format, written straight into a ByteBuffer.
// Source of the rules: protobuf.dev "Encoding"; field numbers are the caller's.

public import Base

/// How a field's payload is laid out on the wire.
package enum ProtobufWireType: UInt8, Sendable {
  case varint = 0
  case fixed64 = 1
  case lengthDelimited = 2
  case fixed32 = 5
}

/// Sizes of encoded values, for writers that need a length before its content.
@usableFromInline
package enum ProtobufSize {
  /// Bytes that `value` takes as a varint, 1 to 10.
  @inlinable
  package static func varint(_ value: UInt64) -> Int {
    // Seven payload bits a byte: ceil(bits / 7) with at least one byte.
    (70 &- (value | 1).leadingZeroBitCount) / 7
  }

  /// Bytes that a tag for field `number` takes.
  @inlinable
  package static func tag(_ number: Int) -> Int { varint(UInt64(number) << 3) }

  /// Bytes of a length-delimited field: tag, length, and `count` bytes of content.
  @inlinable
  package static func field(_ number: Int, lengthDelimited count: Int) -> Int {
    tag(number) + varint(UInt64(count)) + count
  }
}

/// A write position in memory that the caller has reserved: the fast path of hot encoders.
///
/// Nothing is checked here: reserve the largest size first, then commit the distance that was written.
@usableFromInline
package struct ProtobufCursor {
  @usableFromInline package var pointer: UnsafeMutableRawPointer

  /// Starts writing at `pointer`.
  @inlinable
  package init(_ pointer: UnsafeMutableRawPointer) { self.pointer = pointer }

  /// Writes one byte.
  @inlinable
  package mutating func put(_ byte: UInt8) {
    pointer.storeBytes(of: byte, as: UInt8.self)
    pointer += 1
  }

  /// Writes `value` as a varint of 1 to 10 bytes.
  @inlinable
  package mutating func put(varint value: UInt64) {
    var value = value
    while value >= 0x80 {
      put(UInt8(truncatingIfNeeded: value) | 0x80)
      value >>= 7
    }
    put(UInt8(truncatingIfNeeded: value))
  }

  /// Writes `value`, less than 2^14, as a varint of two bytes, which readers take as any other.
  @inlinable
  package mutating func put(varint14 value: Int) {
    put(UInt8(truncatingIfNeeded: value) | 0x80)
    put(UInt8(truncatingIfNeeded: value >> 7))
  }

  /// Writes eight bytes, least significant first.
  @inlinable
  package mutating func put(fixed64 value: UInt64) {
    pointer.storeBytes(of: value.littleEndian, as: UInt64.self)
    pointer += 8
  }

  /// Writes eight bytes, most significant first, as ids are.
  @inlinable
  package mutating func put(bigEndian value: UInt64) {
    pointer.storeBytes(of: value.bigEndian, as: UInt64.self)
    pointer += 8
  }

  /// Writes four bytes, least significant first.
  @inlinable
  package mutating func put(fixed32 value: UInt32) {
    pointer.storeBytes(of: value.littleEndian, as: UInt32.self)
    pointer += 4
  }

  /// Copies `count` bytes from `source`.
  @inlinable
  package mutating func put(_ source: UnsafeRawPointer, count: Int) {
    pointer.copyShort(from: source, count: count)
    pointer += count
  }
}

extension ByteBuffer {
  /// Appends `value` as a varint.
  package mutating func append(varint value: UInt64) {
    let room = reserve(10)
    var cursor = ProtobufCursor(room)
    cursor.put(varint: value)
    commit(cursor.pointer - room)
  }

  /// Appends four bytes, least significant first.
  package mutating func append(fixed32 value: UInt32) {
    reserve(4).storeBytes(of: value.littleEndian, as: UInt32.self)
    commit(4)
  }

  /// Appends eight bytes, least significant first.
  package mutating func append(fixed64 value: UInt64) {
    reserve(8).storeBytes(of: value.littleEndian, as: UInt64.self)
    commit(8)
  }

  /// Appends the tag of field `number`.
  package mutating func append(tag number: Int, _ type: ProtobufWireType) {
    append(varint: UInt64(number) << 3 | UInt64(type.rawValue))
  }

  /// Appends a varint field: unsigned numbers, enums, booleans, and `int64` as two's complement.
  package mutating func append(field number: Int, varint value: UInt64) {
    append(tag: number, .varint)
    append(varint: value)
  }

  /// Appends a `fixed64` field.
  package mutating func append(field number: Int, fixed64 value: UInt64) {
    append(tag: number, .fixed64)
    append(fixed64: value)
  }

  /// Appends a `fixed32` field.
  package mutating func append(field number: Int, fixed32 value: UInt32) {
    append(tag: number, .fixed32)
    append(fixed32: value)
  }

  /// Appends a `bytes` or `string` field.
  package mutating func append(field number: Int, bytes: UnsafeRawBufferPointer) {
    append(tag: number, .lengthDelimited)
    append(varint: UInt64(bytes.count))
    append(bytes)
  }

  /// Appends a `string` field.
  package mutating func append(field number: Int, string: String) {
    var string = string
    string.withUTF8 { append(field: number, bytes: UnsafeRawBufferPointer($0)) }
  }

  /// Appends the tag and length of a message whose `count` bytes follow.
  package mutating func append(field number: Int, messageOf count: Int) {
    append(tag: number, .lengthDelimited)
    append(varint: UInt64(count))
  }

  /// Largest message that ``beginMessage(field:)`` can hold: three groups of seven bits.
  package static var paddedMessageBytesMax: Int { 1 << 21 - 1 }

  /// Appends a tag and a three-byte hole for the length, and returns the mark for ``endMessage(_:)``.
  ///
  /// The length becomes a varint padded to three bytes, which every reader accepts.
  package mutating func beginMessage(field number: Int) -> Int {
    append(tag: number, .lengthDelimited)
    _ = reserve(3)
    commit(3)
    return count
  }

  /// Fills in the length of the message that began at `mark`; it must not exceed ``paddedMessageBytesMax``.
  package mutating func endMessage(_ mark: Int) {
    let length = count - mark
    precondition(length <= ByteBuffer.paddedMessageBytesMax, "a padded message fits three length bytes")
    guard let base else { return }
    let hole = base + head + mark - 3
    hole.storeBytes(of: UInt8(truncatingIfNeeded: length) | 0x80, as: UInt8.self)
    hole.storeBytes(of: UInt8(truncatingIfNeeded: length >> 7) | 0x80, toByteOffset: 1, as: UInt8.self)
    hole.storeBytes(of: UInt8(truncatingIfNeeded: length >> 14), toByteOffset: 2, as: UInt8.self)
  }

  /// Appends a tag and room for a length of one byte, and returns the mark for ``endCompactMessage(_:)``.
  package mutating func beginCompactMessage(field number: Int) -> Int {
    append(tag: number, .lengthDelimited)
    append(UInt8(0))
    return count
  }

  /// Fills in the length of the message that began at `mark`, of any size; one of more than 127 bytes is moved for that.
  package mutating func endCompactMessage(_ mark: Int) {
    let length = count - mark
    let more = ProtobufSize.varint(UInt64(length)) - 1
    _ = reserve(more)
    guard let base else { return }
    let content = base + head + mark
    if more > 0 {
      (content + more).copyMemory(from: content, byteCount: length)
      commit(more)
    }
    var cursor = ProtobufCursor(content - 1)
    cursor.put(varint: UInt64(length))
  }
}
