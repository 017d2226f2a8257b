// Hexadecimal digits to and from numbers.

/// Hexadecimal conversion over bytes.
package enum Hex {
  /// The lowercase digit for a value from 0 to 15.
  @inlinable
  package static func digit(_ nibble: UInt8) -> UInt8 {
    nibble < 10 ? UInt8(ascii: "0") + nibble : UInt8(ascii: "a") + nibble - 10
  }

  /// The eight lowercase digits of `value` as bytes in memory order (first digit in the lowest byte).
  @inlinable
  package static func digits(_ value: UInt32) -> UInt64 {
    // Spread the nibbles over bytes, most significant first, then add '0', and the gap to 'a' where above 9.
    var x = UInt64(value.byteSwapped)
    x = (x | x << 16) & 0x0000_ffff_0000_ffff
    x = (x | x << 8) & 0x00ff_00ff_00ff_00ff
    x = (x >> 4 | x << 8) & 0x0f0f_0f0f_0f0f_0f0f
    let above = ((x + 0x0606_0606_0606_0606) >> 4) & 0x0101_0101_0101_0101
    return x + 0x3030_3030_3030_3030 + above * 0x27
  }

  /// The value of one digit in either case; nil for any other byte.
  @inlinable
  package static func value(_ byte: UInt8) -> UInt8? {
    switch byte {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
    case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
    case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
    default: nil
    }
  }

  /// Up to 16 lowercase digits as a number; nil when `bytes` is empty, longer, or has any other byte.
  package static func lowercase(_ bytes: UnsafeRawBufferPointer) -> UInt64? {
    guard (1...16).contains(bytes.count) else { return nil }
    var result: UInt64 = 0
    for byte in bytes {
      guard let nibble = value(byte), !(UInt8(ascii: "A")...UInt8(ascii: "F")).contains(byte) else {
        return nil
      }
      result = result << 4 | UInt64(nibble)
    }
    return result
  }

  /// `value` as 16 lowercase digits.
  package static func string(_ value: UInt64) -> String {
    let digits = String(value, radix: 16)
    return String(repeating: "0", count: 16 - digits.count) + digits
  }
}
