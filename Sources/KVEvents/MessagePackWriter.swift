// Writes MessagePack values to a byte buffer, each in its shortest form, as msgspec does.

package import Base

/// MessagePack at the end of a byte buffer. Containers are opened with a count, and then hold that many values.
package enum MessagePackWriter {
  /// Writes nil.
  package static func none(to out: inout ByteBuffer) { out.append(0xc0 as UInt8) }

  /// Writes an integer of 0 and above.
  package static func unsigned(_ value: UInt64, to out: inout ByteBuffer) {
    switch value {
    case 0..<0x80: out.append(UInt8(value))
    case 0..<0x100: head(0xcc, value, 1, to: &out)
    case 0..<0x1_0000: head(0xcd, value, 2, to: &out)
    case 0..<0x1_0000_0000: head(0xce, value, 4, to: &out)
    default: head(0xcf, value, 8, to: &out)
    }
  }

  /// Writes a double as a 64-bit float.
  package static func double(_ value: Double, to out: inout ByteBuffer) {
    head(0xcb, value.bitPattern, 8, to: &out)
  }

  /// Writes a text.
  package static func text(_ text: String, to out: inout ByteBuffer) {
    let count = text.utf8.count
    if count < 32 {
      out.append(0xa0 | UInt8(count))
    } else {
      sized(0xd9, count, to: &out)
    }
    out.append(text)
  }

  /// Writes a binary value.
  package static func binary(_ bytes: [UInt8], to out: inout ByteBuffer) {
    sized(0xc4, bytes.count, to: &out)
    out.append(bytes)
  }

  /// Opens an array of `count` values.
  package static func array(_ count: Int, to out: inout ByteBuffer) {
    container(fixed: 0x90, wide: 0xdc, count, to: &out)
  }

  /// Opens a map of `count` pairs.
  package static func map(_ count: Int, to out: inout ByteBuffer) {
    container(fixed: 0x80, wide: 0xde, count, to: &out)
  }

  private static func container(fixed: UInt8, wide: UInt8, _ count: Int, to out: inout ByteBuffer) {
    precondition(count >= 0 && count <= UInt32.max, "a count fits 32 bits")
    if count < 16 {
      out.append(fixed | UInt8(count))
    } else if count < 0x1_0000 {
      head(wide, UInt64(count), 2, to: &out)
    } else {
      head(wide + 1, UInt64(count), 4, to: &out)
    }
  }

  /// A head with a length of 1, 2 or 4 bytes: `first`, `first` + 1 or `first` + 2.
  private static func sized(_ first: UInt8, _ count: Int, to out: inout ByteBuffer) {
    precondition(count >= 0 && count <= UInt32.max, "a length fits 32 bits")
    if count < 0x100 {
      head(first, UInt64(count), 1, to: &out)
    } else if count < 0x1_0000 {
      head(first + 1, UInt64(count), 2, to: &out)
    } else {
      head(first + 2, UInt64(count), 4, to: &out)
    }
  }

  private static func head(_ first: UInt8, _ value: UInt64, _ width: Int, to out: inout ByteBuffer) {
    out.append(first)
    for index in 1...width { out.append(UInt8(truncatingIfNeeded: value >> UInt64(8 * (width - index)))) }
  }
}
