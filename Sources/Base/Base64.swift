// Base64 as RFC 4648 section 4 has it: the standard alphabet, with padding and without.

extension ByteBuffer {
  /// Appends `bytes` in base64, padded.
  package mutating func append(base64 bytes: UnsafeRawBufferPointer) {
    let alphabet: StaticString = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    func letter(_ index: UInt32) -> UInt8 { alphabet.utf8Start[Int(index & 63)] }
    for start in stride(from: 0, to: bytes.count, by: 3) {
      let count = min(3, bytes.count - start)
      var bits: UInt32 = 0
      for offset in 0..<3 { bits = bits << 8 | (offset < count ? UInt32(bytes[start + offset]) : 0) }
      append(letter(bits >> 18))
      append(letter(bits >> 12))
      append(count > 1 ? letter(bits >> 6) : UInt8(ascii: "="))
      append(count > 2 ? letter(bits) : UInt8(ascii: "="))
    }
  }
}

/// Encodes and decodes whole texts: for keys and values of services, not for streams.
package enum Base64 {
  /// The text of `bytes`; without padding where `isPadded` is false.
  package static func encode(_ bytes: some Collection<UInt8>, isPadded: Bool = true) -> String {
    var out = ByteBuffer(capacity: (bytes.count + 2) / 3 * 4)
    Array(bytes).withUnsafeBytes { out.append(base64: $0) }
    guard !isPadded else { return out.text }
    return String(out.text.prefix { $0 != "=" })
  }

  /// The bytes that `text` stands for; nil when it is not base64 with its padding.
  package static func decode(_ text: String) -> [UInt8]? {
    guard text.utf8.count % 4 == 0 else { return nil }
    return Array(text.utf8).withUnsafeBytes { decode($0) }
  }

  /// The bytes that `text` stands for, whose padding may be missing; nil on any other byte or an impossible length.
  /// Letters of section 5's alphabet for URLs count too where `ofEitherAlphabet` is true.
  package static func decode(_ text: UnsafeRawBufferPointer, ofEitherAlphabet: Bool = false) -> [UInt8]? {
    var count = text.count
    while count > 0, text.count - count < 2, text[count - 1] == UInt8(ascii: "=") { count -= 1 }
    guard count % 4 != 1 else { return nil }
    var out: [UInt8] = []
    out.reserveCapacity(count * 3 / 4)
    var bits: UInt32 = 0
    var held: UInt32 = 0
    for index in 0..<count {
      guard let value = value(text[index], ofEitherAlphabet) else { return nil }
      bits = bits << 6 | value
      held += 6
      if held >= 8 {
        held -= 8
        out.append(UInt8(truncatingIfNeeded: bits >> held))
      }
    }
    return out
  }

  private static func value(_ byte: UInt8, _ ofEitherAlphabet: Bool) -> UInt32? {
    switch byte {
    case UInt8(ascii: "A")...UInt8(ascii: "Z"): UInt32(byte - UInt8(ascii: "A"))
    case UInt8(ascii: "a")...UInt8(ascii: "z"): UInt32(byte - UInt8(ascii: "a")) + 26
    case UInt8(ascii: "0")...UInt8(ascii: "9"): UInt32(byte - UInt8(ascii: "0")) + 52
    case UInt8(ascii: "+"): 62
    case UInt8(ascii: "/"): 63
    case UInt8(ascii: "-") where ofEitherAlphabet: 62
    case UInt8(ascii: "_") where ofEitherAlphabet: 63
    default: nil
    }
  }
}
