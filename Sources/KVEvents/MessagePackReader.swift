// Reads MessagePack out of borrowed bytes, value by value, without making objects of them.

internal import Base

/// Why bytes could not be read as what was asked for.
package enum MessagePackError: Error, Sendable, Equatable {
  /// The bytes end inside a value, or a length names more than there is.
  case truncated
  /// The byte 0xc1, which no value begins with.
  case unknownFormat
  /// A value of another type than the one asked for.
  case otherType
  /// An integer that the asked type cannot hold.
  case outOfRange
}

/// What a value is, told by its first byte (msgpack specification, "Formats").
package enum MessagePackKind: Sendable, Equatable {
  case none, boolean, integer, float, text, binary, array, map, extended
}

/// Walks MessagePack values in the order they were written.
///
/// Borrows `bytes`: neither the reader nor the slices it returns may outlive them. Reading allocates nothing. A length
/// is believed only as far as bytes remain, an element taking at least one, so a count that comes back is bounded by
/// the input's size. Skipping counts open values instead of recursing: depth costs no stack and has no limit.
///
/// After an error the position is unspecified: go back to a copy of the reader.
package struct MessagePackReader {
  private let bytes: UnsafeRawBufferPointer
  /// Offset of the next unread byte.
  package private(set) var position = 0

  /// Reads `bytes`.
  package init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

  /// Bytes that were not read yet.
  package var remaining: Int { bytes.count - position }

  /// What the next value is.
  package func peek() throws(MessagePackError) -> MessagePackKind {
    guard position < bytes.count else { throw .truncated }
    switch bytes[position] {
    case 0x00...0x7f, 0xcc...0xd3, 0xe0...0xff: return .integer
    case 0x80...0x8f, 0xde, 0xdf: return .map
    case 0x90...0x9f, 0xdc, 0xdd: return .array
    case 0xa0...0xbf, 0xd9...0xdb: return .text
    case 0xc0: return .none
    case 0xc2, 0xc3: return .boolean
    case 0xc4...0xc6: return .binary
    case 0xc7...0xc9, 0xd4...0xd8: return .extended
    case 0xca, 0xcb: return .float
    default: throw .unknownFormat
    }
  }

  /// Takes a nil if one is next, and says whether it was.
  package mutating func takeNil() throws(MessagePackError) -> Bool {
    guard position < bytes.count else { throw .truncated }
    guard bytes[position] == 0xc0 else { return false }
    position += 1
    return true
  }

  /// An integer as 64 bits: two's complement where it is negative.
  package mutating func integerBits() throws(MessagePackError) -> (bits: UInt64, isNegative: Bool) {
    let first = try byte()
    switch first {
    case 0x00...0x7f: return (UInt64(first), false)
    case 0xcc: return (UInt64(try byte()), false)
    case 0xcd: return (try bigEndian(2), false)
    case 0xce: return (try bigEndian(4), false)
    case 0xcf: return (try bigEndian(8), false)
    case 0xd0: return Self.signed(Int64(Int8(truncatingIfNeeded: try bigEndian(1))))
    case 0xd1: return Self.signed(Int64(Int16(truncatingIfNeeded: try bigEndian(2))))
    case 0xd2: return Self.signed(Int64(Int32(truncatingIfNeeded: try bigEndian(4))))
    case 0xd3: return Self.signed(Int64(bitPattern: try bigEndian(8)))
    case 0xe0...0xff: return Self.signed(Int64(Int8(bitPattern: first)))
    default: throw .otherType
    }
  }

  /// An integer of 0 and above.
  package mutating func unsigned() throws(MessagePackError) -> UInt64 {
    let (bits, isNegative) = try integerBits()
    if isNegative { throw .outOfRange }
    return bits
  }

  /// An integer from 0 to 2^32 - 1.
  package mutating func unsigned32() throws(MessagePackError) -> UInt32 {
    guard let value = UInt32(exactly: try unsigned()) else { throw .outOfRange }
    return value
  }

  /// Fills `target` with integers from 0 to 2^32 - 1: token ids, which are most of what engines send.
  package mutating func unsigned32s(
    into target: UnsafeMutableBufferPointer<UInt32>
  ) throws(MessagePackError) {
    var at = position
    for index in target.indices {
      if at + 5 <= bytes.count {
        let first = bytes[at]
        if first == 0xcd {
          target[index] = UInt32(
            UInt16(bigEndian: bytes.loadUnaligned(fromByteOffset: at + 1, as: UInt16.self)))
          at += 3
          continue
        }
        if first == 0xce {
          target[index] = UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: at + 1, as: UInt32.self))
          at += 5
          continue
        }
      }
      position = at
      target[index] = try unsigned32()
      at = position
    }
    position = at
  }

  /// A float of either width, or an integer, as a double.
  package mutating func double() throws(MessagePackError) -> Double {
    switch try peek() {
    case .integer:
      let (bits, isNegative) = try integerBits()
      return isNegative ? Double(Int64(bitPattern: bits)) : Double(bits)
    case .float:
      if try byte() == 0xcb { return Double(bitPattern: try bigEndian(8)) }
      return Double(Float(bitPattern: UInt32(truncatingIfNeeded: try bigEndian(4))))
    default: throw .otherType
    }
  }

  /// The UTF-8 bytes of a text, unchecked.
  package mutating func text() throws(MessagePackError) -> UnsafeRawBufferPointer {
    let first = try byte()
    switch first {
    case 0xa0...0xbf: return try slice(Int(first & 0x1f))
    case 0xd9...0xdb: return try slice(try length(1 << (first - 0xd9)))
    default: throw .otherType
    }
  }

  /// The content of a binary value.
  package mutating func binary() throws(MessagePackError) -> UnsafeRawBufferPointer {
    let first = try byte()
    guard (0xc4...0xc6).contains(first) else { throw .otherType }
    return try slice(try length(1 << (first - 0xc4)))
  }

  /// Opens an array: how many values follow as its elements.
  package mutating func arrayCount() throws(MessagePackError) -> Int {
    let first = try byte()
    let count: Int
    switch first {
    case 0x90...0x9f: count = Int(first & 0x0f)
    case 0xdc: count = try length(2)
    case 0xdd: count = try length(4)
    default: throw .otherType
    }
    guard count <= remaining else { throw .truncated }
    return count
  }

  /// Opens a map: how many pairs of key and value follow.
  package mutating func mapCount() throws(MessagePackError) -> Int {
    let first = try byte()
    let count: Int
    switch first {
    case 0x80...0x8f: count = Int(first & 0x0f)
    case 0xde: count = try length(2)
    case 0xdf: count = try length(4)
    default: throw .otherType
    }
    guard count <= remaining / 2 else { throw .truncated }
    return count
  }

  /// Passes over one value of any type with all that it holds.
  package mutating func skip() throws(MessagePackError) {
    var pending = 1
    while pending > 0 {
      pending += try skipHead() - 1
      // Each open value takes at least a byte: a lie is found before the walk gets long.
      if pending > remaining { throw .truncated }
    }
  }

  /// Passes over a scalar, or the head of a container; returns the number of values that then follow.
  private mutating func skipHead() throws(MessagePackError) -> Int {
    switch try peek() {
    case .none, .boolean: position += 1
    case .integer: _ = try integerBits()
    case .float: _ = try double()
    case .text: _ = try text()
    case .binary: _ = try binary()
    case .array: return try arrayCount()
    case .map: return try mapCount() * 2
    case .extended:
      let first = try byte()
      // A type byte stands before the content: fixext 1 to 16, or a length of 1, 2 or 4 bytes.
      let count = first >= 0xd4 ? 1 << Int(first - 0xd4) : try length(1 << (first - 0xc7))
      _ = try byte()
      _ = try slice(count)
    }
    return 0
  }

  private static func signed(_ value: Int64) -> (bits: UInt64, isNegative: Bool) {
    (UInt64(bitPattern: value), value < 0)
  }

  private mutating func byte() throws(MessagePackError) -> UInt8 {
    guard position < bytes.count else { throw .truncated }
    defer { position += 1 }
    return bytes[position]
  }

  private mutating func bigEndian(_ width: Int) throws(MessagePackError) -> UInt64 {
    guard remaining >= width else { throw .truncated }
    defer { position += width }
    switch width {
    case 1: return UInt64(bytes[position])
    case 2: return UInt64(UInt16(bigEndian: bytes.loadUnaligned(fromByteOffset: position, as: UInt16.self)))
    case 4: return UInt64(UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: position, as: UInt32.self)))
    default: return UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: position, as: UInt64.self))
    }
  }

  private mutating func length(_ width: UInt8) throws(MessagePackError) -> Int {
    Int(truncatingIfNeeded: try bigEndian(Int(width)))
  }

  private mutating func slice(_ count: Int) throws(MessagePackError) -> UnsafeRawBufferPointer {
    guard count <= remaining else { throw .truncated }
    defer { position += count }
    return bytes.slice(position..<position + count)
  }
}
