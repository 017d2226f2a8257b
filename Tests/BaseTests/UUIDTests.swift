// UUIDs as text, both ways.

import Testing

@testable import Base

@Suite struct UUIDTests {
  private func parse(_ text: String) -> UUID? { Array(text.utf8).withUnsafeBytes { UUID($0) } }

  @Test func aDrawnUUIDReadsBackFromItsText() {
    var random = Xoshiro256(seed: 3)
    for _ in 0..<100 {
      let uuid = UUID(using: &random)
      var text = ByteBuffer()
      text.append(uuid)
      #expect(parse(text.text) == uuid)
      #expect(parse(text.text.uppercased()) == uuid)
      #expect(text.bytes[14] == UInt8(ascii: "4"))
      #expect("89ab".utf8.contains(text.bytes[19]))
    }
  }

  @Test(arguments: [
    "", "c0ffee00-0000-4000-8000-00000000000", "c0ffee00-0000-4000-8000-0000000000000",
    "c0ffee0000000-4000-8000-000000000000", "g0ffee00-0000-4000-8000-000000000000",
  ]) func otherTextIsNoUUID(_ text: String) {
    #expect(parse(text) == nil)
  }
}
