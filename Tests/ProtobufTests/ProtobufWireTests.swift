// The wire format both ways: sizes, padding, and every way that bytes can be wrong.

import Base
import Testing

@testable import Protobuf

/// Numbers at each change of a varint's length.
private let edges: [UInt64] = {
  var values: [UInt64] = [0, 1, 300, .max]
  for bits in stride(from: UInt64(7), to: 64, by: 7) { values += [1 << bits - 1, 1 << bits] }
  return values
}()

@Suite struct ProtobufWireTests {
  private func fields(_ bytes: [UInt8]) -> Result<[String], ProtobufError> {
    bytes.withUnsafeBytes { bytes in
      var reader = ProtobufReader(bytes)
      var found: [String] = []
      do throws(ProtobufError) {
        while let field = try reader.next() {
          switch field.value {
          case .varint(let value): found.append("\(field.number):v\(value)")
          case .fixed64(let value): found.append("\(field.number):q\(value)")
          case .fixed32(let value): found.append("\(field.number):d\(value)")
          case .bytes(let slice): found.append("\(field.number):b\(slice.text)")
          }
        }
        return .success(found)
      } catch {
        return .failure(error)
      }
    }
  }

  @Test func varintsOfEveryLengthReadBackAndHaveTheSizeForetold() {
    for value in edges {
      var buffer = ByteBuffer()
      buffer.append(varint: value)
      #expect(buffer.count == ProtobufSize.varint(value))
      buffer.removeAll()
      buffer.append(field: 5, varint: value)
      #expect(fields(buffer.bytes) == .success(["5:v\(value)"]))
    }
  }

  @Test func allFieldTypesReadBack() {
    var buffer = ByteBuffer()
    buffer.append(field: 1, varint: 7)
    buffer.append(field: 2, fixed64: 1 << 63)
    buffer.append(field: 16, fixed32: 0x300)
    buffer.append(field: 536_870_911, string: "héllo")
    buffer.append(field: 3, bytes: UnsafeRawBufferPointer(start: nil, count: 0))
    #expect(
      fields(buffer.bytes)
        == .success(["1:v7", "2:q9223372036854775808", "16:d768", "536870911:bhéllo", "3:b"]))
  }

  @Test(arguments: [0, 1, 127, 128, 16_383, 16_384, 70_000]) func paddedLengthsReadBack(_ count: Int) {
    var buffer = ByteBuffer()
    buffer.append(UInt8(0xff))
    buffer.consume(1)
    let mark = buffer.beginMessage(field: 2)
    for _ in 0..<count { buffer.append(UInt8(ascii: "x")) }
    buffer.endMessage(mark)
    #expect(buffer.count == count + 4)
    #expect(fields(buffer.bytes) == .success(["2:b" + String(repeating: "x", count: count)]))
  }

  @Test(arguments: [0, 1, 127, 128, 16_383, 16_384, 1 << 21])
  func compactMessagesHaveTheirShortestLength(count: Int) {
    var buffer = ByteBuffer()
    buffer.append(UInt8(0xff))
    buffer.consume(1)
    let outer = buffer.beginCompactMessage(field: 2)
    let inner = buffer.beginCompactMessage(field: 3)
    for index in 0..<count { buffer.append(UInt8(ascii: "a") + UInt8(index % 26)) }
    buffer.endCompactMessage(inner)
    buffer.endCompactMessage(outer)
    var plain = ByteBuffer()
    var content = ByteBuffer()
    buffer.bytes.suffix(count).withUnsafeBytes { content.append(field: 3, bytes: $0) }
    plain.append(field: 2, bytes: content.readable)
    #expect(buffer.bytes == plain.bytes)
  }

  @Test func knownAccessorsGiveNilForOtherTypes() throws {
    var buffer = ByteBuffer()
    buffer.append(field: 1, varint: 9)
    buffer.append(field: 2, string: "a")
    buffer.append(field: 3, fixed64: 3)
    buffer.append(field: 4, fixed32: 4)
    var reader = ProtobufReader(buffer.readable)
    let number = try #require(try reader.next())
    #expect(number.varint == 9 && number.bytes == nil && number.fixed64 == nil && number.fixed32 == nil)
    let text = try #require(try reader.next())
    #expect(text.bytes?.text == "a" && text.varint == nil)
    #expect(try reader.next()?.fixed64 == 3)
    #expect(try reader.next()?.fixed32 == 4)
    #expect(try reader.next() == nil)
  }

  @Test func everyCutInsideAFieldIsTruncated() {
    var buffer = ByteBuffer()
    buffer.append(field: 1, string: "abc")
    let first = buffer.count
    buffer.append(field: 2, fixed64: 1)
    let second = buffer.count
    buffer.append(field: 3, fixed32: 1)
    let third = buffer.count
    buffer.append(field: 4, varint: 300)
    let whole = buffer.bytes
    for count in 0...whole.count {
      let result = fields(Array(whole[..<count]))
      let isEdge = [0, first, second, third, whole.count].contains(count)
      if case .success = result { #expect(isEdge) } else { #expect(result == .failure(.truncated)) }
    }
  }

  @Test func hostileBytesAreRefused() {
    let long = [UInt8](repeating: 0x80, count: 10)
    #expect(fields([0x08] + long + [0x01]) == .failure(.varintTooLong))
    #expect(fields([0x08] + [UInt8](repeating: 0xff, count: 9) + [0x02]) == .failure(.varintTooLong))
    #expect(
      fields([0x08] + [UInt8](repeating: 0xff, count: 9) + [0x01]) == .success(["1:v\(UInt64.max)"]))
    #expect(fields([0x00, 0x01]) == .failure(.fieldNumber))
    #expect(fields([0x80, 0x80, 0x80, 0x80, 0x10, 0x01]) == .failure(.fieldNumber))
    #expect(fields([0x0b]) == .failure(.wireType))
    #expect(fields([0x0e]) == .failure(.wireType))
    // A length near 2^64 must not wrap.
    #expect(fields([0x0a] + [UInt8](repeating: 0xff, count: 9) + [0x01]) == .failure(.truncated))
  }
}
