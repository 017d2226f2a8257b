// Digits, hexadecimal and short copies: the fast forms against the plain ones, at every length.

import Testing

@testable import Base

@Suite struct TextWritingTests {
  @Test func everyDigitCountIsWrittenWhole() {
    var values: [UInt64] = [0, UInt64(UInt32.max), UInt64(UInt32.max) + 1, .max]
    var power: UInt64 = 1
    for _ in 0..<19 {
      power *= 10
      values += [power - 1, power, power + 1]
    }
    for value in values {
      var buffer = ByteBuffer()
      buffer.append(decimal: value)
      #expect(buffer.text == String(value))
    }
  }

  @Test(arguments: [0, -1, 7, -1234, .max, .min]) func signedNumbersKeepTheirSign(_ value: Int) {
    var buffer = ByteBuffer()
    buffer.append(decimal: value)
    #expect(buffer.text == String(value))
  }

  @Test func sixteenHexadecimalDigitsReadBack() {
    var random = Xoshiro256(seed: 11)
    for value in [0, 1, 0x9a, 0x0123_4567_89ab_cdef, .max] + (0..<200).map({ _ in random.next() }) {
      var buffer = ByteBuffer()
      buffer.append(hex: value)
      #expect(buffer.text == Hex.string(value))
      #expect(Hex.lowercase(buffer.readable) == value)
    }
  }

  @Test func eightDigitsAreReadOnlyWhenAllAreLowercaseDigits() {
    for position in 0..<8 {
      for byte in UInt8.min...UInt8.max {
        var text = Array("0f9a3c7e".utf8)
        text[position] = byte
        let word = text.withUnsafeBytes { $0.loadUnaligned(as: UInt64.self) }
        let plain = text.withUnsafeBytes { Hex.lowercase($0) }
        #expect(Hex.number(word).map { UInt64($0) } == plain)
      }
    }
  }

  @Test func shortCopiesMoveEveryByteAndNoMore() {
    let source = (0..<80).map { UInt8($0 + 1) }
    for count in 0...80 {
      var target = [UInt8](repeating: 0xee, count: 81)
      target.withUnsafeMutableBytes { target in
        source.withUnsafeBytes { source in
          guard let to = target.baseAddress, let from = source.baseAddress else { return }
          to.copyShort(from: from, count: count)
        }
      }
      #expect(Array(target[..<count]) == Array(source[..<count]))
      #expect(target[count...].allSatisfy { $0 == 0xee })
    }
  }
}
