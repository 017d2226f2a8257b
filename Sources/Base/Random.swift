// Seeded randomness: one generator a loop, so that a test can replay it and an id costs a few instructions.

/// xoshiro256**, seeded through splitmix64 (Blackman and Vigna, public domain reference).
package struct Xoshiro256: RandomNumberGenerator {
  private var s0: UInt64
  private var s1: UInt64
  private var s2: UInt64
  private var s3: UInt64

  /// Creates a generator whose sequence is fixed by `seed`.
  package init(seed: UInt64) {
    var state = seed
    func next() -> UInt64 {
      state &+= 0x9e37_79b9_7f4a_7c15
      var z = state
      z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
      z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
      return z ^ (z >> 31)
    }
    s0 = next()
    s1 = next()
    s2 = next()
    s3 = next()
  }

  /// The next 64 random bits.
  package mutating func next() -> UInt64 {
    let product = s1 &* 5
    let result = (product << 7 | product >> 57) &* 9
    let t = s1 << 17
    s2 ^= s0
    s3 ^= s1
    s1 ^= s2
    s0 ^= s3
    s2 ^= t
    s3 = s3 << 45 | s3 >> 19
    return result
  }

  /// The next 64 random bits that are not all zero, as span ids must be.
  package mutating func nextNonZero() -> UInt64 {
    while true {
      let value = next()
      if value != 0 { return value }
    }
  }
}

/// A random (version 4) UUID (RFC 9562 section 5.4), kept as two words.
package struct UUID: Sendable, Equatable {
  package let high: UInt64
  package let low: UInt64

  /// Draws a UUID from `random`.
  package init(using random: inout Xoshiro256) {
    high = random.next() & ~0xf000 | 0x4000
    low = random.next() & ~(0b11 << 62) | (0b10 << 62)
  }

  /// Reads the usual form of 36 characters, in either case and of any version; nil for anything else.
  package init?(_ text: UnsafeRawBufferPointer) {
    guard text.count == 36 else { return nil }
    var words: (UInt64, UInt64) = (0, 0)
    var nibbles = 0
    for (index, byte) in text.enumerated() {
      if index == 8 || index == 13 || index == 18 || index == 23 {
        guard byte == UInt8(ascii: "-") else { return nil }
        continue
      }
      guard let nibble = Hex.value(byte) else { return nil }
      if nibbles < 16 {
        words.0 = words.0 << 4 | UInt64(nibble)
      } else {
        words.1 = words.1 << 4 | UInt64(nibble)
      }
      nibbles += 1
    }
    high = words.0
    low = words.1
  }
}

extension ByteBuffer {
  /// Appends the 36 characters of `uuid` in its usual lowercase form.
  package mutating func append(_ uuid: UUID) {
    let room = reserve(36).assumingMemoryBound(to: UInt8.self)
    var index = 0
    for nibble in 0..<32 {
      if nibble == 8 || nibble == 12 || nibble == 16 || nibble == 20 {
        room[index] = UInt8(ascii: "-")
        index += 1
      }
      let word = nibble < 16 ? uuid.high : uuid.low
      room[index] = Hex.digit(UInt8(truncatingIfNeeded: word >> UInt64(60 - (nibble & 15) * 4)) & 0xf)
      index += 1
    }
    tail += 36
  }
}
