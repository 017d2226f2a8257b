// Comparisons and small parsers over slices of a receive buffer, without copies.

public import Glibc

extension UnsafeRawBufferPointer {
  /// The bytes of `range`, which must lie inside the buffer.
  @inlinable
  package func slice(_ range: Range<Int>) -> UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(rebasing: self[range])
  }

  /// True when the bytes equal `text` exactly.
  @inlinable
  package func equals(_ text: StaticString) -> Bool {
    guard count == text.utf8CodeUnitCount else { return false }
    guard let baseAddress else { return true }
    return memcmp(baseAddress, text.utf8Start, count) == 0
  }

  /// True when the bytes equal `other` exactly.
  @inlinable
  package func equals(_ other: UnsafeRawBufferPointer) -> Bool {
    guard count == other.count else { return false }
    guard let mine = baseAddress, let theirs = other.baseAddress else { return count == 0 }
    return memcmp(mine, theirs, count) == 0
  }

  /// True when the bytes equal `lowercase` with ASCII letters compared in either case.
  /// `lowercase` must be in lower case.
  @inlinable
  package func equalsIgnoringCase(_ lowercase: StaticString) -> Bool {
    guard count == lowercase.utf8CodeUnitCount else { return false }
    let expected = lowercase.utf8Start
    for index in 0..<count {
      var byte = self[index]
      if byte >= UInt8(ascii: "A"), byte <= UInt8(ascii: "Z") { byte |= 0x20 }
      if byte != expected[index] { return false }
    }
    return true
  }

  /// A number of 1 to 18 decimal digits and nothing else; nil otherwise.
  package var decimal: Int? {
    guard (1...18).contains(count) else { return nil }
    var result = 0
    for byte in self {
      guard byte >= UInt8(ascii: "0"), byte <= UInt8(ascii: "9") else { return nil }
      result = result * 10 + Int(byte - UInt8(ascii: "0"))
    }
    return result
  }

  /// The bytes without spaces and tabs at either end (RFC 9110 section 5.6.3, OWS).
  package var trimmed: UnsafeRawBufferPointer {
    var start = 0
    var end = count
    while start < end, self[start] == 0x20 || self[start] == 0x09 { start += 1 }
    while end > start, self[end - 1] == 0x20 || self[end - 1] == 0x09 { end -= 1 }
    return slice(start..<end)
  }

  /// A media type without its parameters, as `application/json` of `application/json; charset=utf-8`
  /// (RFC 9110 section 8.3.1).
  package var mediaType: UnsafeRawBufferPointer {
    slice(0..<(firstIndex(of: UInt8(ascii: ";")) ?? count)).trimmed
  }

  /// The text with `%XX` decoded, as model names in paths (`%2F` or a raw slash) and gRPC messages need it; any other
  /// byte stands for itself, invalid UTF-8 is replaced.
  package var percentDecoded: String {
    var bytes: [UInt8] = []
    var index = 0
    while index < count {
      if self[index] == UInt8(ascii: "%"), index + 2 < count, let high = Hex.value(self[index + 1]),
        let low = Hex.value(self[index + 2])
      {
        bytes.append(high << 4 | low)
        index += 3
      } else {
        bytes.append(self[index])
        index += 1
      }
    }
    return String(decoding: bytes, as: UTF8.self)
  }

  /// The bytes as text, with invalid UTF-8 replaced; for cold paths.
  package var text: String { String(decoding: self, as: UTF8.self) }
}

extension UnsafeMutableRawPointer {
  /// Copies `count` bytes from `source`, which must not overlap. Up to 64 bytes, the usual case for names and
  /// ids, go as two to four words that may overlap each other, at half the cost of a call to memmove.
  @inlinable
  package func copyShort(from source: UnsafeRawPointer, count: Int) {
    if count >= 16 {
      if count > 64 {
        copyMemory(from: source, byteCount: count)
        return
      }
      copyWord(SIMD16<UInt8>.self, from: source, at: 0)
      let last = count &- 16
      if count > 32 {
        copyWord(SIMD16<UInt8>.self, from: source, at: 16)
        copyWord(SIMD16<UInt8>.self, from: source, at: last &- 16)
      }
      copyWord(SIMD16<UInt8>.self, from: source, at: last)
    } else if count >= 8 {
      copyWord(UInt64.self, from: source, at: 0)
      copyWord(UInt64.self, from: source, at: count &- 8)
    } else if count >= 4 {
      copyWord(UInt32.self, from: source, at: 0)
      copyWord(UInt32.self, from: source, at: count &- 4)
    } else if count > 0 {
      copyWord(UInt8.self, from: source, at: 0)
      copyWord(UInt8.self, from: source, at: count / 2)
      copyWord(UInt8.self, from: source, at: count &- 1)
    }
  }

  @inlinable @inline(__always)
  func copyWord<Word: BitwiseCopyable>(_: Word.Type, from source: UnsafeRawPointer, at offset: Int) {
    storeBytes(
      of: source.loadUnaligned(fromByteOffset: offset, as: Word.self), toByteOffset: offset, as: Word.self)
  }
}
