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

extension UUID {
  /// Writes the 36 characters of the usual lowercase form at `room`.
  package func write(to room: UnsafeMutableRawPointer) {
    // 8-4-4-4-12 digits: 16 of each half in a row, then the groups move apart for the dashes between them.
    Hex.write(low, to: room + 20)
    let fourth = room.loadUnaligned(fromByteOffset: 20, as: UInt32.self)
    Hex.write(high, to: room)
    let second = room.loadUnaligned(fromByteOffset: 8, as: UInt32.self)
    let third = room.loadUnaligned(fromByteOffset: 12, as: UInt32.self)
    room.storeBytes(of: second, toByteOffset: 9, as: UInt32.self)
    room.storeBytes(of: third, toByteOffset: 14, as: UInt32.self)
    room.storeBytes(of: fourth, toByteOffset: 19, as: UInt32.self)
    let dash = UInt8(ascii: "-")
    room.storeBytes(of: dash, toByteOffset: 8, as: UInt8.self)
    room.storeBytes(of: dash, toByteOffset: 13, as: UInt8.self)
    room.storeBytes(of: dash, toByteOffset: 18, as: UInt8.self)
    room.storeBytes(of: dash, toByteOffset: 23, as: UInt8.self)
  }
}

extension ByteBuffer {
  /// Appends the 36 characters of `uuid` in its usual lowercase form.
  package mutating func append(_ uuid: UUID) {
    uuid.write(to: reserve(36))
    commit(36)
  }
}
