// Comparing short byte runs with constant text a machine word at a time.

extension UnsafeRawBufferPointer {
  /// True when the bytes equal `text`, which must be as long as the buffer.
  ///
  /// Inlined, so that the constant's words become immediate operands.
  @inline(__always)
  func spells(_ text: StaticString) -> Bool {
    guard let base = baseAddress else { return false }
    return WordCompare.equal(base, text.utf8Start, text.utf8CodeUnitCount, caseBit: 0)
  }

  /// True when the bytes equal the lowercase `text`, of the buffer's length, in either case.
  ///
  /// Only for tokens (RFC 9110 section 5.6.2) against text of letters, digits and hyphens: setting the case bit
  /// maps no other token byte onto those.
  @inline(__always)
  func spellsToken(_ text: StaticString) -> Bool {
    guard let base = baseAddress else { return false }
    return WordCompare.equal(base, text.utf8Start, text.utf8CodeUnitCount, caseBit: 0x2020_2020_2020_2020)
  }
}

enum WordCompare {
  /// Compares `count` bytes by overlapping loads, with `caseBit` set in each byte of `left`.
  @inline(__always)
  static func equal(_ left: UnsafeRawPointer, _ right: UnsafePointer<UInt8>, _ count: Int, caseBit: UInt64)
    -> Bool
  {
    let right = UnsafeRawPointer(right)
    if count >= 8 {
      var offset = 0
      while offset + 8 <= count {
        if !same64(left, right, offset, caseBit) { return false }
        offset += 8
      }
      return offset == count || same64(left, right, count - 8, caseBit)
    }
    if count >= 4 {
      return same32(left, right, 0, caseBit) && same32(left, right, count - 4, caseBit)
    }
    let bit = UInt8(truncatingIfNeeded: caseBit)
    for offset in 0..<count {
      let byte = left.load(fromByteOffset: offset, as: UInt8.self) | bit
      if byte != right.load(fromByteOffset: offset, as: UInt8.self) { return false }
    }
    return true
  }

  @inline(__always)
  private static func same64(
    _ left: UnsafeRawPointer, _ right: UnsafeRawPointer, _ offset: Int, _ caseBit: UInt64
  ) -> Bool {
    left.loadUnaligned(fromByteOffset: offset, as: UInt64.self) | caseBit
      == right.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
  }

  @inline(__always)
  private static func same32(
    _ left: UnsafeRawPointer, _ right: UnsafeRawPointer, _ offset: Int, _ caseBit: UInt64
  ) -> Bool {
    left.loadUnaligned(fromByteOffset: offset, as: UInt32.self) | UInt32(truncatingIfNeeded: caseBit)
      == right.loadUnaligned(fromByteOffset: offset, as: UInt32.self)
  }
}
