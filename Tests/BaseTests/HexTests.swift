// Digits written eight at a time, ids in their usual form, decimals of every width.

import Base
import Testing

struct HexTests {
  @Test(arguments: [0, 1, 9, 10, 15, 16, 255, 0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210, UInt64.max])
  func sixteenDigitsEqualTheSlowForm(value: UInt64) {
    var buffer = ByteBuffer()
    buffer.append(hex: value)
    let text = buffer.text
    #expect(text == Hex.string(value))
  }

  @Test func aUUIDHasItsDashesVersionAndVariant() {
    var random = Xoshiro256(seed: 3)
    for _ in 0..<1000 {
      let uuid = UUID(using: &random)
      var buffer = ByteBuffer()
      buffer.append(uuid)
      let text = buffer.text
      let digits = Hex.string(uuid.high) + Hex.string(uuid.low)
      #expect(text.split(separator: "-").map(\.count) == [8, 4, 4, 4, 12])
      #expect(text.replacing("-", with: "") == digits)
      #expect(Array(text)[14] == "4")
      #expect("89ab".contains(Array(text)[19]))
    }
  }

  @Test(arguments: [0, 9, 10, 99, 100, 12345, -1, -987, Int.max, Int.min])
  func decimalsOfEveryWidth(value: Int) {
    var buffer = ByteBuffer()
    buffer.append(decimal: value)
    let text = buffer.text
    #expect(text == String(value))
  }

  @Test func fractionsAreRoundedAndPadded() {
    for (value, fraction, expected) in [
      (1.25, 3, "1.250"), (0.0004, 3, "0.000"), (0.0006, 3, "0.001"), (-2.5, 1, "-2.5"), (12.0, 0, "12"),
    ] {
      var buffer = ByteBuffer()
      buffer.append(double: value, fraction: fraction)
      let text = buffer.text
      #expect(text == expected)
    }
  }

  @Test func lowercaseParsesAndRefuses() {
    func parse(_ text: String) -> UInt64? { Array(text.utf8).withUnsafeBytes { Hex.lowercase($0) } }
    #expect(parse("00ff") == 255)
    #expect(parse("ffffffffffffffff") == .max)
    #expect(parse("") == nil)
    #expect(parse("FF") == nil)
    #expect(parse("0x1") == nil)
    #expect(parse("11111111111111111") == nil)
  }
}
