// Base64 by RFC 4648's own vectors, and what is none.

import Base
import Testing

struct Base64Tests {
  @Test(arguments: [
    ("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE="),
    ("foobar", "Zm9vYmFy"),
  ])
  func vectorsOfTheStandard(plain: String, encoded: String) {
    #expect(Base64.encode(plain.utf8) == encoded)
    #expect(Base64.decode(encoded) == Array(plain.utf8))
  }

  @Test func everyByteComesBack() {
    var random = Xoshiro256(seed: 5)
    for count in 0..<70 {
      let bytes = (0..<count).map { _ in UInt8(truncatingIfNeeded: random.next()) }
      #expect(Base64.decode(Base64.encode(bytes)) == bytes)
    }
  }

  @Test(arguments: ["Z", "Zg", "Zg=", "====", "Z===", "Zm9v!AAA", "Zg==Zg==", "Zm9 ", "-_-_"])
  func whatIsNoneIsRefused(text: String) { #expect(Base64.decode(text) == nil) }

  @Test(arguments: ["-_-_", "+/+/"])
  func theAlphabetForURLsIsReadWhereAskedFor(text: String) {
    let bytes = Array(text.utf8)
    let read = bytes.withUnsafeBytes { Base64.decode($0, ofEitherAlphabet: true) }
    #expect(read == [0xfb, 0xff, 0xbf])
    #expect((bytes.withUnsafeBytes { Base64.decode($0) } == nil) == text.contains("-"))
  }
}
