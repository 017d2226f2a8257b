// RFC 7541: header blocks that are right in odd ways, and those that are wrong and end the connection.

import Testing

struct HeaderCompressionTests {
  private static let wrong: Fate = .connectionError([Code.compression])

  private static func block(_ more: [UInt8]) -> [UInt8] { Frame.headers(Block.get(more)) }

  /// `x-a: 1`, which the decoder is to remember.
  private static let remembered: [UInt8] = [0x40] + Block.text("x-a") + Block.text("1")

  static let situations: [Situation] = [
    Situation("2.3.3 index 0", block([0x80]), wrong),
    Situation("2.3.3 index beyond both tables", block([0xc6]), wrong),
    Situation("2.3.3 index of a name beyond both tables", block([0x7e, 1, 97]), wrong),
    Situation("2.3.3 the highest index of the static table", block([0xbd]), .answered()),
    Situation("2.3.3 index 62 while the dynamic table is empty", block([0xbe]), wrong),
    Situation("2.3.3 a remembered field in the same block", block(remembered + [0xbe]), .answered()),
    Situation(
      "2.3.3 a remembered field in the next block",
      block(remembered) + Frame.headers(Block.get([0xbe]), stream: 3), .answered()),
    Situation("2.3.3 a field that is remembered once, asked for twice", block(remembered + [0xbf]), wrong),
    Situation(
      "4.1 a field that is longer than the table",
      block([0x40] + Block.text("x-a") + Block.text(String(repeating: "a", count: 4_200)) + [0xbe]), wrong),
    Situation("4.2 size 0 at a block's beginning", Frame.headers([0x20] + Block.get), .answered()),
    Situation(
      "4.2 the size that was agreed", Frame.headers([0x3f] + Block.rest(4_096 - 31) + Block.get), .answered()),
    Situation(
      "4.2 a size over the one that was agreed", Frame.headers([0x3f] + Block.rest(4_097 - 31) + Block.get),
      wrong),
    Situation(
      "4.2 a size that no number holds",
      Frame.headers([0x3f, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f] + Block.get), wrong),
    Situation("4.2 two sizes", Frame.headers([0x20, 0x3f] + Block.rest(100 - 31) + Block.get), .answered()),
    Situation(
      "4.2 a size in the middle of a block", Frame.headers(Block.get([0x20]) + Block.field("x", "1")), wrong),
    Situation("4.2 a size at a block's end", block([0x20]), wrong),
    Situation(
      "4.3 a size of 0 forgets", block(remembered) + Frame.headers([0x20] + Block.get([0xbe]), stream: 3),
      wrong),
    Situation(
      "4.4 the older field makes room",
      Frame.headers(
        [0x3f] + Block.rest(40 - 31)
          + Block.get(remembered + [0x40] + Block.text("x-b") + Block.text("2") + [0xbf])), wrong),
    Situation("5.1 a number that overflows", block([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]), wrong),
    Situation(
      "5.1 a number with leading zeros", block([0x00, 0x7f, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00]), wrong),
    Situation("5.1 a number that is cut", block([0xff, 0x80]), wrong),
    Situation("5.2 a length that the block does not have", block([0x00, 0x05, 97]), wrong),
    Situation("5.2 a length of 2^28", block([0x00, 0x7f, 0x80, 0x80, 0x80, 0x7f]), wrong),
    Situation("5.2 a name without a value", block([0x00, 0x01, 120]), wrong),
    Situation("5.2 a name by Huffman", block([0x00, 0x81, 0xf3, 0x01, 97]), .answered()),
    Situation("5.2 Huffman with padding of zeros", block([0x00, 0x01, 120, 0x81, 0x18]), wrong),
    Situation("5.2 Huffman with padding of eight ones", block([0x00, 0x01, 120, 0x82, 0x1f, 0xff]), wrong),
    Situation("5.2 Huffman with EOS", block([0x00, 0x01, 120, 0x84, 0xff, 0xff, 0xff, 0xff]), wrong),
    Situation("5.2 Huffman that is cut in a letter", block([0x00, 0x01, 120, 0x81, 0xfe]), wrong),
    Situation(
      "6.2.2 literal without indexing", block([0x00] + Block.text("x") + Block.text("1")), .answered()),
    Situation(
      "6.2.2 what was not indexed is not there", block([0x00] + Block.text("x") + Block.text("1") + [0xbe]),
      wrong),
    Situation(
      "6.2.3 literal that is never indexed", block([0x10] + Block.text("x") + Block.text("1")), .answered()),
    Situation(
      "6.2.3 what is never indexed is not there", block([0x10] + Block.text("x") + Block.text("1") + [0xbe]),
      wrong),
    Situation(
      "6.2.1 an indexed name and another value",
      Frame.headers(Block.method + Block.scheme + [0x44] + Block.text("/a") + Block.authority), .answered()),
  ]

  @Test(arguments: situations) func fate(_ situation: Situation) throws { try situation.check() }

  /// Section 4.3: a block is decoded also where nobody wants it, as the next one stands on it.
  @Test func aRefusedRequestsBlockCounts() throws {
    let rig = try ConformanceRig()
    let refused = Block.get(Self.remembered + Block.field("X", "1"))
    rig.send(Frame.preface + Frame.headers(refused) + Frame.headers(Block.get([0xbe]), stream: 3))
    #expect(rig.resets(1).contains(Code.protocolError) || rig.status(1) == 400)
    #expect(rig.status(3) == 200 && rig.hasEnd(3) && rig.goAway == nil)
  }
}
