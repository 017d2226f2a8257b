// gzip both ways: whole, byte by byte, at every split point; bombs, torn and damaged members.

import Base
import Testing

@testable import HTTP

private func compress(_ pieces: [[UInt8]], with deflater: GzipDeflater) throws -> [UInt8] {
  var out = ByteBuffer()
  for piece in pieces { try piece.withUnsafeBytes { try deflater.append($0, to: &out) } }
  try deflater.finish(into: &out)
  return out.bytes
}

private func expand(_ pieces: [[UInt8]], max: Int = 1 << 20) throws -> [UInt8] {
  let inflater = try GzipInflater(outputBytesMax: max)
  var out = ByteBuffer()
  for piece in pieces { try piece.withUnsafeBytes { try inflater.receive($0, into: &out) } }
  try inflater.finish()
  return out.bytes
}

/// Text with repetitions and noise, so that members hold both kinds of codes.
private func sample(_ count: Int) -> [UInt8] {
  var random = Xoshiro256(seed: 11)
  return (0..<count).map { index in
    index % 3 == 0 ? UInt8(truncatingIfNeeded: random.next()) : UInt8(ascii: "a") + UInt8(index % 7)
  }
}

struct GzipTests {
  @Test(arguments: [0, 1, 300, 70_000])
  func whatWasCompressedExpandsToItself(count: Int) throws {
    let bytes = sample(count)
    let member = try compress([bytes], with: try GzipDeflater())
    #expect(Array(member.prefix(3)) == [0x1f, 0x8b, 8])
    #expect(try expand([member]) == bytes)
    #expect(try expand(member.map { [$0] }) == bytes)
  }

  /// `printf hello | gzip -n`: bytes that are not ours.
  @Test func memberOfAnotherProgramIsRead() throws {
    let member: [UInt8] = [
      0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x03, 0xcb, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00,
      0x86, 0xa6, 0x10, 0x36, 0x05, 0x00, 0x00, 0x00,
    ]
    #expect(String(decoding: try expand([member]), as: UTF8.self) == "hello")
  }

  @Test func everySplitOfTheInputGivesTheSameMember() throws {
    let bytes = sample(200)
    let deflater = try GzipDeflater()
    let whole = try compress([bytes], with: deflater)
    for cut in 0...bytes.count {
      let parts = [Array(bytes[..<cut]), Array(bytes[cut...])]
      #expect(try compress(parts, with: deflater) == whole)
    }
  }

  @Test func everySplitOfTheMemberExpandsAlike() throws {
    let bytes = sample(2_000)
    let member = try compress([bytes], with: try GzipDeflater())
    for cut in 0...member.count {
      #expect(try expand([Array(member[..<cut]), Array(member[cut...])]) == bytes)
    }
  }

  @Test func membersBehindEachOtherAreOneBody() throws {
    let deflater = try GzipDeflater()
    let first = try compress([sample(500)], with: deflater)
    let empty = try compress([], with: deflater)
    let body = first + empty + first
    for cut in [1, first.count - 1, first.count, first.count + 1, first.count + empty.count, body.count - 1] {
      #expect(try expand([Array(body[..<cut]), Array(body[cut...])]) == sample(500) + sample(500))
    }
  }

  @Test func everyTruncationIsNoticed() throws {
    let member = try compress([sample(100)], with: try GzipDeflater())
    for end in 0..<member.count {
      #expect(throws: GzipError.truncated) { try expand([Array(member[..<end])]) }
    }
  }

  @Test func damageIsNoticed() throws {
    let member = try compress([sample(100)], with: try GzipDeflater())
    // Magic, method, data, checksum, length.
    for index in [0, 1, 2, member.count - 20, member.count - 8, member.count - 1] {
      var damaged = member
      damaged[index] ^= 0x55
      #expect(throws: GzipError.self) { try expand([damaged]) }
    }
    #expect(throws: GzipError.malformed) { try expand([member + [0x00, 0x01, 0x02]]) }
  }

  @Test func bombIsStoppedAtItsBound() throws {
    let bomb = try compress([[UInt8](repeating: 0, count: 10 << 20)], with: try GzipDeflater())
    #expect(bomb.count < 20_000)
    let inflater = try GzipInflater(outputBytesMax: 100_000)
    var out = ByteBuffer()
    #expect(throws: GzipError.tooLarge) { try bomb.withUnsafeBytes { try inflater.receive($0, into: &out) } }
    #expect(out.count <= 100_000)
    #expect(out.capacity < 1 << 20)
    // It stays stopped until the body's end, and then takes another.
    #expect(throws: GzipError.tooLarge) {
      try [UInt8](bomb).withUnsafeBytes { try inflater.receive($0, into: &out) }
    }
    #expect(throws: GzipError.tooLarge) { try inflater.finish() }
    let small = try compress([sample(50)], with: try GzipDeflater())
    out.removeAll()
    try small.withUnsafeBytes { try inflater.receive($0, into: &out) }
    try inflater.finish()
    #expect(out.bytes == sample(50))
  }

  @Test func bodyThatJustFitsIsTaken() throws {
    let deflater = try GzipDeflater()
    for size in [1, 16 << 10, 16 << 10 + 1, 40_000] {
      let member = try compress([sample(size)], with: deflater)
      #expect(try expand([member], max: size) == sample(size))
      #expect(throws: GzipError.tooLarge) { try expand([member], max: size - 1) }
    }
  }

  @Test func compressedOutputIsBounded() throws {
    let deflater = try GzipDeflater(outputBytesMax: 1_000)
    #expect(throws: GzipError.tooLarge) { try compress([sample(50_000)], with: deflater) }
    // And the deflater goes on with the next member.
    #expect(try expand([try compress([sample(100)], with: deflater)]) == sample(100))
  }
}
