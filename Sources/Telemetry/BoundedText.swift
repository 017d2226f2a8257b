// Text of callers made safe to record: cut to a bound on a character's edge, and valid UTF-8.

internal import Base

/// Checks on text that came from outside, for span attributes and log lines.
enum BoundedText {
  /// True when no byte has its high bit set.
  @inline(__always)
  static func isASCII(_ bytes: UnsafeRawBufferPointer) -> Bool {
    guard let base = bytes.baseAddress else { return true }
    let count = bytes.count
    let high: UInt64 = 0x8080_8080_8080_8080
    if count < 8 {
      var seen: UInt8 = 0
      for offset in 0..<count { seen |= base.load(fromByteOffset: offset, as: UInt8.self) }
      return seen < 0x80
    }
    // The last eight bytes are read with the loop's or once more, instead of a loop over the rest.
    var seen = base.loadUnaligned(fromByteOffset: count - 8, as: UInt64.self)
    var offset = 0
    while offset + 8 <= count {
      seen |= base.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
      offset += 8
    }
    return seen & high == 0
  }

  /// The longest start of `bytes` that has at most `limit` bytes and does not end inside a UTF-8 sequence.
  @inline(__always)
  static func cut(_ bytes: UnsafeRawBufferPointer, to limit: Int) -> UnsafeRawBufferPointer {
    bytes.count <= limit ? bytes : shorten(bytes, to: limit)
  }

  @inline(never)
  private static func shorten(_ bytes: UnsafeRawBufferPointer, to limit: Int) -> UnsafeRawBufferPointer {
    var end = limit
    // A sequence has at most three continuation bytes; more means that this is no UTF-8 anyway.
    while end > 0, limit - end < 4, bytes[end] & 0xc0 == 0x80 { end -= 1 }
    return bytes.slice(0..<(limit - end < 4 ? end : limit))
  }
}
