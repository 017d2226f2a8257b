// Decimal digits of a number, written at a pointer.

/// Decimal conversion over bytes.
@usableFromInline
package enum Decimal {
  /// Writes the digits of `value` at `room`, which must take 20 bytes, and returns how many they are.
  package static func write(_ value: UInt64, to room: UnsafeMutableRawPointer) -> Int {
    let room = room.assumingMemoryBound(to: UInt8.self)
    if value < 10 {
      room[0] = UInt8(truncatingIfNeeded: value) | 0x30
      return 1
    }
    let count = digitCount(value)
    var index = count
    var value = value
    while value > UInt64(UInt32.max) {
      let quotient = value / 10
      index &-= 1
      room[index] = UInt8(truncatingIfNeeded: value &- quotient &* 10) | 0x30
      value = quotient
    }
    var small = UInt32(truncatingIfNeeded: value)
    while index > 1 {
      // Two digits at a time: half the divisions.
      let quotient = small / 100
      let pair = small &- quotient &* 100
      let tens = pair / 10
      index &-= 2
      room[index] = UInt8(truncatingIfNeeded: tens) | 0x30
      room[index &+ 1] = UInt8(truncatingIfNeeded: pair &- tens &* 10) | 0x30
      small = quotient
    }
    if index == 1 { room[0] = UInt8(truncatingIfNeeded: small) | 0x30 }
    return count
  }

  /// Writes a length of time in milliseconds with three digits after the point, the rest cut off, at `room`, which must
  /// take 24 bytes, and returns how many bytes they are.
  package static func writeMilliseconds(_ value: Nanoseconds, to room: UnsafeMutableRawPointer) -> Int {
    let microseconds = value / 1_000
    let milliseconds = microseconds / 1_000
    let count = write(milliseconds, to: room)
    // Three digits with their point, least significant first in the word.
    let rest = UInt32(truncatingIfNeeded: microseconds &- milliseconds &* 1_000)
    let tens = rest / 10
    let hundreds = rest / 100
    let digits = (hundreds << 8) | ((tens &- hundreds &* 10) << 16) | ((rest &- tens &* 10) << 24)
    (room + count).storeBytes(of: (UInt32(0x3030_302e) | digits).littleEndian, as: UInt32.self)
    return count &+ 4
  }

  /// Decimal digits of `value`, which is not 0: the whole part of its logarithm may be one too small.
  private static func digitCount(_ value: UInt64) -> Int {
    let bits = 64 &- value.leadingZeroBitCount
    let guess = (bits &* 1_233) >> 12
    return guess &+ (value >= powersOfTen[guess] ? 1 : 0)
  }
}

/// 10 to the power of the index.
private let powersOfTen: [20 of UInt64] = [
  1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000, 1_000_000_000, 10_000_000_000,
  100_000_000_000, 1_000_000_000_000, 10_000_000_000_000, 100_000_000_000_000, 1_000_000_000_000_000,
  10_000_000_000_000_000, 100_000_000_000_000_000, 1_000_000_000_000_000_000, 10_000_000_000_000_000_000,
]
