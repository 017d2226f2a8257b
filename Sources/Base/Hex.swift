// Hexadecimal digits to and from numbers.

internal import CBytes

/// Hexadecimal conversion over bytes.
@usableFromInline
package enum Hex {
  /// The lowercase digit for a value from 0 to 15.
  @inlinable
  package static func digit(_ nibble: UInt8) -> UInt8 {
    nibble < 10 ? UInt8(ascii: "0") + nibble : UInt8(ascii: "a") + nibble - 10
  }

  /// Writes the 16 lowercase digits of `value` at `room`, the highest first.
  package static func write(_ value: UInt64, to room: UnsafeMutableRawPointer) {
    cbytes_hex(value, room.assumingMemoryBound(to: UInt8.self))
  }

  /// The number that eight lowercase digits in memory order mean; nil when any byte is no lowercase digit.
  ///
  /// - Parameter digits: eight bytes as loaded from memory.
  package static func number(_ digits: UInt64) -> UInt32? {
    let word = digits.littleEndian
    let high: UInt64 = 0x8080_8080_8080_8080
    // Adding 128 - n to a byte below 128 sets its high bit just when the byte is at least n.
    let fromZero = word &+ 0x5050_5050_5050_5050
    let pastNine = word &+ 0x4646_4646_4646_4646
    let fromA = word &+ 0x1f1f_1f1f_1f1f_1f1f
    let pastF = word &+ 0x1919_1919_1919_1919
    guard word & high == 0, (fromZero & ~pastNine | fromA & ~pastF) & high == high else { return nil }
    var value = (word & 0x0f0f_0f0f_0f0f_0f0f) &+ ((fromA & high) >> 7) &* 9
    value = (value << 4 | value >> 8) & 0x00ff_00ff_00ff_00ff
    value = (value << 8 | value >> 16) & 0x0000_ffff_0000_ffff
    return UInt32(truncatingIfNeeded: value << 16 | value >> 32)
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
    guard bytes.count <= 16, let digits = bytes.baseAddress, bytes.count > 0 else { return nil }
    var result: UInt64 = 0
    for offset in 0..<bytes.count {
      let byte = digits.load(fromByteOffset: offset, as: UInt8.self)
      let number = byte &- UInt8(ascii: "0")
      let letter = byte &- UInt8(ascii: "a")
      if number < 10 {
        result = result << 4 | UInt64(number)
      } else if letter < 6 {
        result = result << 4 | UInt64(letter &+ 10)
      } else {
        return nil
      }
    }
    return result
  }

  /// `value` as 16 lowercase digits.
  package static func string(_ value: UInt64) -> String {
    let digits = String(value, radix: 16)
    return String(repeating: "0", count: 16 - digits.count) + digits
  }
}
