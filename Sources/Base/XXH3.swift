// XXH3 with 64 bits of result (Yann Collet, xxHash 0.8), in plain Swift: what names a block of a prompt.

/// XXH3-64 with a seed and the standard secret. Bytes are read as little-endian words, as the algorithm is defined.
///
/// The secret stands in the code as constants: with a constant seed the compiler folds secret and seed into one operand.
package enum XXH3 {
  /// The hash of `bytes`, which may have any length.
  @inlinable
  package static func hash(_ bytes: UnsafeRawBufferPointer, seed: UInt64 = 0) -> UInt64 {
    let count = bytes.count
    guard let base = bytes.baseAddress, count > 0 else { return empty(seed) }
    if count == 64 { return hash64(base, seed: seed) }
    if count <= 16 { return upTo16(base, count, seed) }
    if count <= 128 { return upTo128(base, count, seed) }
    return over128(base, count, seed)
  }

  /// The hash of the 64 bytes at `base`: one block of 16 tokens.
  @inlinable
  package static func hash64(_ base: UnsafeRawPointer, seed: UInt64) -> UInt64 {
    var sum = 64 &* prime1
    sum &+= mixed(base + 16, word4, word5, seed)
    sum &+= mixed(base + 32, word6, word7, seed)
    sum &+= mixed(base, word0, word1, seed)
    sum &+= mixed(base + 48, word2, word3, seed)
    return avalanche(sum)
  }

  /// The hash of `first` and `second` as 16 bytes, each word little-endian: one link of a chain of blocks.
  @inlinable
  package static func hash16(_ first: UInt64, _ second: UInt64, seed: UInt64) -> UInt64 {
    mixed9To16(first, second, 16, seed)
  }
}

// MARK: Up to 16 bytes

extension XXH3 {
  @usableFromInline
  static func empty(_ seed: UInt64) -> UInt64 { avalanche64(seed ^ word7 ^ word8) }

  @usableFromInline
  static func upTo16(_ base: UnsafeRawPointer, _ count: Int, _ seed: UInt64) -> UInt64 {
    if count > 8 { return mixed9To16(word(base), word(base + (count - 8)), count, seed) }
    if count >= 4 { return of4To8(base, count, seed) }
    let first = UInt64(base.load(as: UInt8.self))
    let middle = UInt64((base + (count >> 1)).load(as: UInt8.self))
    let last = UInt64((base + (count - 1)).load(as: UInt8.self))
    let combined = first << 16 | middle << 24 | last | UInt64(truncatingIfNeeded: count) << 8
    let flip = ((word0 & 0xffff_ffff) ^ (word0 >> 32)) &+ seed
    return avalanche64(combined ^ flip)
  }

  private static func of4To8(_ base: UnsafeRawPointer, _ count: Int, _ seed: UInt64) -> UInt64 {
    let seed = seed ^ UInt64(UInt32(truncatingIfNeeded: seed).byteSwapped) << 32
    let low = UInt64(halfWord(base))
    let high = UInt64(halfWord(base + (count - 4)))
    var value = (high &+ (low << 32)) ^ ((word1 ^ word2) &- seed)
    value ^= rotated(value, 49) ^ rotated(value, 24)
    value = value &* 0x9fb2_1c65_1e98_df25
    value ^= (value >> 35) &+ UInt64(truncatingIfNeeded: count)
    value = value &* 0x9fb2_1c65_1e98_df25
    return value ^ (value >> 28)
  }

  @inlinable
  static func mixed9To16(_ head: UInt64, _ tail: UInt64, _ count: Int, _ seed: UInt64) -> UInt64 {
    let low = head ^ ((word3 ^ word4) &+ seed)
    let high = tail ^ ((word5 ^ word6) &- seed)
    let sum = UInt64(truncatingIfNeeded: count) &+ low.byteSwapped &+ high &+ folded(low, high)
    return avalanche(sum)
  }
}

// MARK: 17 to 240 bytes

extension XXH3 {
  @usableFromInline
  static func upTo128(_ base: UnsafeRawPointer, _ count: Int, _ seed: UInt64) -> UInt64 {
    let end = base + count
    var sum = UInt64(truncatingIfNeeded: count) &* prime1
    if count > 32 {
      if count > 64 {
        if count > 96 {
          sum &+= mixed(base + 48, word12, word13, seed)
          sum &+= mixed(end - 64, word14, word15, seed)
        }
        sum &+= mixed(base + 32, word8, word9, seed)
        sum &+= mixed(end - 48, word10, word11, seed)
      }
      sum &+= mixed(base + 16, word4, word5, seed)
      sum &+= mixed(end - 32, word6, word7, seed)
    }
    sum &+= mixed(base, word0, word1, seed)
    sum &+= mixed(end - 16, word2, word3, seed)
    return avalanche(sum)
  }

  @usableFromInline
  static func over128(_ base: UnsafeRawPointer, _ count: Int, _ seed: UInt64) -> UInt64 {
    withUnsafeTemporaryAllocation(of: UInt64.self, capacity: 24) { words in
      guard let words = words.baseAddress else { return 0 }
      if count <= 240 {
        writeSecret(words, seed: 0)
        return upTo240(base, count, seed, UnsafeRawPointer(words))
      }
      writeSecret(words, seed: seed)
      return long(base, count, UnsafeRawPointer(words))
    }
  }

  private static func upTo240(
    _ base: UnsafeRawPointer, _ count: Int, _ seed: UInt64, _ secret: UnsafeRawPointer
  ) -> UInt64 {
    var sum = UInt64(truncatingIfNeeded: count) &* prime1
    for index in 0..<8 { sum &+= mixed(base + 16 &* index, secret + 16 &* index, seed) }
    sum = avalanche(sum)
    // 119 = 136 - 17: the last 16 bytes meet the end of the smallest secret that the algorithm allows.
    var tail = mixed(base + (count &- 16), secret + 119, seed)
    var index = 8
    while index < count >> 4 {
      tail &+= mixed(base + 16 &* index, secret + (16 &* (index &- 8) &+ 3), seed)
      index &+= 1
    }
    return avalanche(sum &+ tail)
  }
}

// MARK: Over 240 bytes

extension XXH3 {
  /// Eight sums that stripes of 64 bytes are added to. Locals, so that they live in registers.
  private struct Lanes {
    var a: UInt64 = 0x0000_0000_c2b2_ae3d
    var b: UInt64 = prime1
    var c: UInt64 = 0xc2b2_ae3d_27d4_eb4f
    var d: UInt64 = 0x1656_67b1_9e37_79f9
    var e: UInt64 = 0x85eb_ca77_c2b2_ae63
    var f: UInt64 = 0x0000_0000_85eb_ca77
    var g: UInt64 = 0x27d4_eb2f_1656_67c5
    var h: UInt64 = 0x0000_0000_9e37_79b1

    @inline(__always)
    mutating func add(_ stripe: UnsafeRawPointer, _ secret: UnsafeRawPointer) {
      add(stripe, secret, &a, &b)
      add(stripe + 16, secret + 16, &c, &d)
      add(stripe + 32, secret + 32, &e, &f)
      add(stripe + 48, secret + 48, &g, &h)
    }

    /// Each lane takes its neighbour's input as it is and its own as a product of halves.
    @inline(__always)
    private func add(
      _ input: UnsafeRawPointer, _ secret: UnsafeRawPointer, _ even: inout UInt64, _ odd: inout UInt64
    ) {
      let first = word(input)
      let second = word(input + 8)
      let firstKey = first ^ word(secret)
      let secondKey = second ^ word(secret + 8)
      even &+= second &+ (firstKey & 0xffff_ffff) &* (firstKey >> 32)
      odd &+= first &+ (secondKey & 0xffff_ffff) &* (secondKey >> 32)
    }

    @inline(__always)
    mutating func scramble(_ secret: UnsafeRawPointer) {
      a = scrambled(a, word(secret))
      b = scrambled(b, word(secret + 8))
      c = scrambled(c, word(secret + 16))
      d = scrambled(d, word(secret + 24))
      e = scrambled(e, word(secret + 32))
      f = scrambled(f, word(secret + 40))
      g = scrambled(g, word(secret + 48))
      h = scrambled(h, word(secret + 56))
    }

    private func scrambled(_ lane: UInt64, _ key: UInt64) -> UInt64 {
      ((lane ^ (lane >> 47)) ^ key) &* 0x9e37_79b1
    }

    func merged(_ secret: UnsafeRawPointer, from start: UInt64) -> UInt64 {
      var sum = start
      sum &+= folded(a ^ word(secret), b ^ word(secret + 8))
      sum &+= folded(c ^ word(secret + 16), d ^ word(secret + 24))
      sum &+= folded(e ^ word(secret + 32), f ^ word(secret + 40))
      sum &+= folded(g ^ word(secret + 48), h ^ word(secret + 56))
      return avalanche(sum)
    }
  }

  /// Blocks of 16 stripes, the lanes scrambled after each; then the rest, and the last 64 bytes once more.
  private static func long(_ base: UnsafeRawPointer, _ count: Int, _ secret: UnsafeRawPointer) -> UInt64 {
    var lanes = Lanes()
    var cursor = base
    let last = base + (count &- 64)
    let end = base + (count &- 1)
    while end - cursor >= 1024 {
      for stripe in 0..<16 { lanes.add(cursor + 64 &* stripe, secret + 8 &* stripe) }
      lanes.scramble(secret + 128)
      cursor += 1024
    }
    let stripes = (end - cursor) / 64
    var stripe = 0
    while stripe < stripes {
      lanes.add(cursor + 64 &* stripe, secret + 8 &* stripe)
      stripe &+= 1
    }
    lanes.add(last, secret + 121)
    return lanes.merged(secret + 11, from: UInt64(truncatingIfNeeded: count) &* prime1)
  }
}

// MARK: Building blocks

extension XXH3 {
  @inlinable @inline(__always)
  static func word(_ pointer: UnsafeRawPointer) -> UInt64 {
    UInt64(littleEndian: pointer.loadUnaligned(as: UInt64.self))
  }

  private static func halfWord(_ pointer: UnsafeRawPointer) -> UInt32 {
    UInt32(littleEndian: pointer.loadUnaligned(as: UInt32.self))
  }

  private static func rotated(_ value: UInt64, _ bits: UInt64) -> UInt64 {
    value << bits | value >> (64 - bits)
  }

  /// Both halves of the 128-bit product, xored.
  @inlinable @inline(__always)
  static func folded(_ a: UInt64, _ b: UInt64) -> UInt64 {
    let product = a.multipliedFullWidth(by: b)
    return product.high ^ product.low
  }

  @inlinable @inline(__always)
  static func mixed(_ base: UnsafeRawPointer, _ low: UInt64, _ high: UInt64, _ seed: UInt64) -> UInt64 {
    folded(word(base) ^ (low &+ seed), word(base + 8) ^ (high &- seed))
  }

  private static func mixed(_ base: UnsafeRawPointer, _ secret: UnsafeRawPointer, _ seed: UInt64) -> UInt64 {
    mixed(base, word(secret), word(secret + 8), seed)
  }

  @inlinable @inline(__always)
  static func avalanche(_ value: UInt64) -> UInt64 {
    var value = value
    value ^= value >> 37
    value = value &* 0x1656_6791_9e37_79f9
    return value ^ (value >> 32)
  }

  private static func avalanche64(_ value: UInt64) -> UInt64 {
    var value = value
    value ^= value >> 33
    value = value &* 0xc2b2_ae3d_27d4_eb4f
    value ^= value >> 29
    value = value &* 0x1656_67b1_9e37_79f9
    return value ^ (value >> 32)
  }
}

// MARK: The standard secret, as little-endian words

extension XXH3 {
  @inlinable static var prime1: UInt64 { 0x9e37_79b1_85eb_ca87 }
  @inlinable static var word0: UInt64 { 0xbe4b_a423_396c_feb8 }
  @inlinable static var word1: UInt64 { 0x1cad_21f7_2c81_017c }
  @inlinable static var word2: UInt64 { 0xdb97_9083_e96d_d4de }
  @inlinable static var word3: UInt64 { 0x1f67_b3b7_a4a4_4072 }
  @inlinable static var word4: UInt64 { 0x78e5_c0cc_4ee6_79cb }
  @inlinable static var word5: UInt64 { 0x2172_ffcc_7dd0_5a82 }
  @inlinable static var word6: UInt64 { 0x8e24_43f7_7446_08b8 }
  @inlinable static var word7: UInt64 { 0x4c26_3a81_e690_35e0 }
  @inlinable static var word8: UInt64 { 0xcb00_c391_bb52_283c }
  @inlinable static var word9: UInt64 { 0xa32e_531b_8b65_d088 }
  @inlinable static var word10: UInt64 { 0x4ef9_0da2_9748_6471 }
  @inlinable static var word11: UInt64 { 0xd8ac_dea9_46ef_1938 }
  @inlinable static var word12: UInt64 { 0x3f34_9ce3_3f76_faa8 }
  @inlinable static var word13: UInt64 { 0x1d4f_0bc7_c7bb_dcf9 }
  @inlinable static var word14: UInt64 { 0x3159_b4cd_4be0_518a }
  @inlinable static var word15: UInt64 { 0x6473_78d9_c97e_9fc8 }
  @inlinable static var word16: UInt64 { 0xc3eb_d334_83ac_c5ea }
  @inlinable static var word17: UInt64 { 0xeb63_13fa_ffa0_81c5 }
  @inlinable static var word18: UInt64 { 0x49da_f0b7_51dd_0d17 }
  @inlinable static var word19: UInt64 { 0x9e68_d429_2655_16d3 }
  @inlinable static var word20: UInt64 { 0xfca1_477d_58be_162b }
  @inlinable static var word21: UInt64 { 0xce31_d07a_d1b8_f88f }
  @inlinable static var word22: UInt64 { 0x2804_1695_8f3a_cb45 }
  @inlinable static var word23: UInt64 { 0x7e40_4bbb_cafb_d7af }

  /// Writes the secret as `seed` changes it: even words plus the seed, odd words minus it.
  private static func writeSecret(_ words: UnsafeMutablePointer<UInt64>, seed: UInt64) {
    words[0] = word0 &+ seed
    words[1] = word1 &- seed
    words[2] = word2 &+ seed
    words[3] = word3 &- seed
    words[4] = word4 &+ seed
    words[5] = word5 &- seed
    words[6] = word6 &+ seed
    words[7] = word7 &- seed
    words[8] = word8 &+ seed
    words[9] = word9 &- seed
    words[10] = word10 &+ seed
    words[11] = word11 &- seed
    words[12] = word12 &+ seed
    words[13] = word13 &- seed
    words[14] = word14 &+ seed
    words[15] = word15 &- seed
    words[16] = word16 &+ seed
    words[17] = word17 &- seed
    words[18] = word18 &+ seed
    words[19] = word19 &- seed
    words[20] = word20 &+ seed
    words[21] = word21 &- seed
    words[22] = word22 &+ seed
    words[23] = word23 &- seed
    if UInt64(1).littleEndian != 1 {
      for index in 0..<24 { words[index] = words[index].littleEndian }
    }
  }
}
