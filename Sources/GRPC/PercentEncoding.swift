// Percent encoding as grpc-message uses it (gRPC over HTTP/2, "Status-Message").

import Base

/// Percent encoding of text in header values.
package enum PercentEncoding {
  /// Decodes `text`; nil when a `%` lacks its two digits or the result is not UTF-8.
  package static func decodeStrictly(_ text: some StringProtocol) -> String? {
    var out: [UInt8] = []
    var bytes = text.utf8.makeIterator()
    while let byte = bytes.next() {
      guard byte == UInt8(ascii: "%") else {
        out.append(byte)
        continue
      }
      guard let high = bytes.next().flatMap(Hex.value), let low = bytes.next().flatMap(Hex.value) else {
        return nil
      }
      out.append(high << 4 | low)
    }
    return String(validating: out, as: UTF8.self)
  }

  /// Encodes `text` so that only printable ASCII other than `%` remains.
  package static func encode(_ text: String) -> String {
    var out: [UInt8] = []
    for byte in text.utf8 {
      if (0x20...0x7e).contains(byte), byte != UInt8(ascii: "%") {
        out.append(byte)
      } else {
        out.append(UInt8(ascii: "%"))
        out.append(upper(byte >> 4))
        out.append(upper(byte & 0xf))
      }
    }
    return String(decoding: out, as: UTF8.self)
  }

  private static func upper(_ nibble: UInt8) -> UInt8 {
    nibble < 10 ? UInt8(ascii: "0") + nibble : UInt8(ascii: "A") + nibble - 10
  }
}
