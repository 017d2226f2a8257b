// Stands in until Base has XXH3-64.

internal import Base

enum XXH3 {
  static func hash(_ bytes: UnsafeRawBufferPointer, seed: UInt64) -> UInt64 {
    var state = TokenStream.mix(seed ^ UInt64(bytes.count))
    for byte in bytes { state = (state ^ UInt64(byte)) &* 0x100_0000_01b3 }
    return TokenStream.mix(state)
  }
}
