// Decoding the escapes of JSON strings.

package import Base
internal import CBytes

extension ByteBuffer {
  /// Appends the contents of a JSON string with its escapes decoded. `contents` must have passed a ``JSONScanner``;
  /// of anything else the undecodable escapes are left out.
  package mutating func append(decoding contents: UnsafeRawBufferPointer) {
    guard let base = contents.bindMemory(to: UInt8.self).baseAddress else { return }
    var index = 0
    while index < contents.count {
      let byte = contents[index]
      guard byte == UInt8(ascii: "\\") else {
        let end = index + cbytes_find(base + index, contents.count - index, UInt8(ascii: "\\"))
        append(contents.slice(index..<end))
        index = end
        continue
      }
      guard index + 1 < contents.count else { return }
      let letter = contents[index + 1]
      index += 2
      switch letter {
      case UInt8(ascii: "b"): append(0x08)
      case UInt8(ascii: "f"): append(0x0c)
      case UInt8(ascii: "n"): append(0x0a)
      case UInt8(ascii: "r"): append(0x0d)
      case UInt8(ascii: "t"): append(0x09)
      case UInt8(ascii: "u"): append(escapedScalar: contents, from: &index)
      default: append(letter)
      }
    }
  }

  /// Appends the character of `\uXXXX` or of a surrogate pair, whose hexadecimal digits start at `index`.
  private mutating func append(escapedScalar contents: UnsafeRawBufferPointer, from index: inout Int) {
    guard var code = JSONScanner.hexQuad(contents, at: index) else { return }
    index += 4
    if (0xd800..<0xdc00).contains(code), index + 6 <= contents.count,
      let low = JSONScanner.hexQuad(contents, at: index + 2), (0xdc00..<0xe000).contains(low)
    {
      code = 0x10000 + (code - 0xd800) << 10 + (low - 0xdc00)
      index += 6
    }
    guard let scalar = Unicode.Scalar(code) else { return }
    for unit in UTF8.encode(scalar) ?? UTF8.encodedReplacementCharacter { append(unit) }
  }
}
