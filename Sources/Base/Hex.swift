// Hexadecimal digits to and from numbers.

/// Hexadecimal conversion over bytes.
package enum Hex {
  /// The lowercase digit for a value from 0 to 15.
  @inlinable
  package static func digit(_ nibble: UInt8) -> UInt8 {
    nibble < 10 ? UInt8(ascii: "0") + nibble : UInt8(ascii: "a") + nibble - 10
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
