// Every format of MessagePack read, written, skipped and cut short.

import Base
import KVEvents
import Testing

@Suite struct MessagePackTests {
  private func read<Value>(
    _ bytes: [UInt8], _ body: (inout MessagePackReader) throws(MessagePackError) -> Value
  ) -> Result<Value, MessagePackError> {
    bytes.withUnsafeBytes { bytes in
      var reader = MessagePackReader(bytes)
      do throws(MessagePackError) {
        return .success(try body(&reader))
      } catch {
        return .failure(error)
      }
    }
  }

  @Test func integersReadBackInTheirShortestForm() {
    let sizes: [(UInt64, Int)] = [
      (0, 1), (0x7f, 1), (0x80, 2), (0xff, 2), (0x100, 3), (0xffff, 3), (0x1_0000, 5), (0xffff_ffff, 5),
      (0x1_0000_0000, 9), (.max, 9),
    ]
    for (value, size) in sizes {
      var out = ByteBuffer()
      MessagePackWriter.unsigned(value, to: &out)
      #expect(out.count == size)
      #expect(read(out.bytes) { reader throws(MessagePackError) in try reader.unsigned() } == .success(value))
    }
  }

  @Test(arguments: [
    ("ff", -1), ("e0", -32), ("d0 80", -128), ("d1 8000", -32768), ("d2 80000000", -2_147_483_648),
    ("d3 8000000000000000", Int64.min), ("d0 05", 5), ("d1 0005", 5), ("d2 00000005", 5),
    ("cf 0000000000000005", 5),
  ])
  func signedIntegersKeepTheirBits(_ text: String, _ value: Int64) {
    let bits = read(hex(text)) { reader throws(MessagePackError) in try reader.integerBits().bits }
    #expect(bits == .success(UInt64(bitPattern: value)))
    let unsigned = read(hex(text)) { reader throws(MessagePackError) in try reader.unsigned() }
    #expect(unsigned == (value < 0 ? .failure(.outOfRange) : .success(UInt64(value))))
  }

  @Test(arguments: [("cb 3ff8000000000000", 1.5), ("ca 3fc00000", 1.5), ("03", 3), ("ff", -1)])
  func numbersReadAsDoubles(_ text: String, _ value: Double) {
    #expect(read(hex(text)) { reader throws(MessagePackError) in try reader.double() } == .success(value))
  }

  @Test(arguments: [0, 31, 32, 255, 256, 65_535, 65_536])
  func textsAndBinariesOfEveryLengthFormReadBack(_ count: Int) {
    var out = ByteBuffer()
    MessagePackWriter.text(String(repeating: "x", count: count), to: &out)
    MessagePackWriter.binary([UInt8](repeating: 7, count: count), to: &out)
    let counts = read(out.bytes) { reader throws(MessagePackError) in
      [try reader.text().count, try reader.binary().count, reader.remaining]
    }
    #expect(counts == .success([count, count, 0]))
    let skipped = read(out.bytes) { reader throws(MessagePackError) in
      try reader.skip()
      try reader.skip()
      return reader.remaining
    }
    #expect(skipped == .success(0))
  }

  @Test(arguments: [0, 15, 16, 65_535, 65_536])
  func containersOfEveryLengthFormReadBack(_ count: Int) {
    var out = ByteBuffer()
    MessagePackWriter.array(count, to: &out)
    for _ in 0..<count { MessagePackWriter.none(to: &out) }
    MessagePackWriter.map(count, to: &out)
    for _ in 0..<2 * count { MessagePackWriter.none(to: &out) }
    let counts = read(out.bytes) { reader throws(MessagePackError) in
      let elements = try reader.arrayCount()
      for _ in 0..<elements { _ = try reader.takeNil() }
      let pairs = try reader.mapCount()
      for _ in 0..<2 * pairs { try reader.skip() }
      return [elements, pairs, reader.remaining]
    }
    #expect(counts == .success([count, count, 0]))
  }

  /// One value of each format, with something inside where there is an inside.
  static let everyFormat = [
    "05", "81 a161 c0", "92 01 02", "a3616263", "c0", "c2", "c3", "c4 02 0102", "c5 0002 0102",
    "c6 00000002 0102",
    "c7 02 05 0102", "c8 0002 05 0102", "c9 00000002 05 0102", "ca 3fc00000", "cb 3ff8000000000000", "cc ff",
    "cd ffff", "ce ffffffff", "cf ffffffffffffffff", "d0 80", "d1 8000", "d2 80000000", "d3 8000000000000000",
    "d4 05 01", "d5 05 0102", "d6 05 01020304", "d7 05 0102030405060708",
    "d8 05 0102030405060708090a0b0c0d0e0f10", "d9 01 61", "da 0001 61", "db 00000001 61", "dc 0001 c0",
    "dd 00000001 91c0", "de 0001 01 92c0c0", "df 00000001 01 02", "e5",
  ]

  @Test(arguments: everyFormat)
  func everyFormatIsSkippedWholeAndFailsWhenCutAnywhere(_ text: String) {
    let bytes = hex(text)
    let skip: (inout MessagePackReader) throws(MessagePackError) -> Int = {
      reader throws(MessagePackError) in
      try reader.skip()
      return reader.position
    }
    #expect(read(bytes + [0xc0], skip) == .success(bytes.count))
    for count in 0..<bytes.count {
      #expect(read(Array(bytes[..<count]), skip) == .failure(.truncated))
    }
  }

  @Test func runsOfIntegersAreReadInEveryForm() {
    let values: [UInt32] = [0, 0x7f, 0x80, 0xff, 0x100, 0xffff, 0x1_0000, .max, 7, 0x8000, 300]
    for count in 0...values.count {
      var out = ByteBuffer()
      for value in values[..<count] { MessagePackWriter.unsigned(UInt64(value), to: &out) }
      let bytes = out.bytes
      let read: (Int) -> [UInt32]? = { end in
        var numbers = [UInt32](repeating: 0, count: count)
        let isWhole = bytes[..<end].withUnsafeBytes { bytes in
          var reader = MessagePackReader(bytes)
          return numbers.withUnsafeMutableBufferPointer { target in
            do throws(MessagePackError) {
              try reader.unsigned32s(into: target)
              return reader.remaining == 0
            } catch {
              return false
            }
          }
        }
        return isWhole ? numbers : nil
      }
      #expect(read(bytes.count) == Array(values[..<count]))
      for end in 0..<bytes.count { #expect(read(end) == nil) }
    }
  }

  @Test func nestingCostsNoStack() {
    let bytes = [UInt8](repeating: 0x91, count: 1_000_000) + [0xc0]
    let skipped = read(bytes) { reader throws(MessagePackError) in
      try reader.skip()
      return reader.remaining
    }
    #expect(skipped == .success(0))
  }

  @Test(arguments: [
    "dd ffffffff", "df ffffffff", "dc ffff c0", "de 0001 c0", "c6 ffffffff", "db ffffffff", "c9 ffffffff 01",
  ])
  func lengthsThatLieAreFoundAtOnce(_ text: String) {
    #expect(read(hex(text)) { reader throws(MessagePackError) in try reader.skip() }.failure == .truncated)
    let counts = [
      read(hex(text)) { reader throws(MessagePackError) in _ = try reader.arrayCount() }.failure,
      read(hex(text)) { reader throws(MessagePackError) in _ = try reader.mapCount() }.failure,
    ]
    #expect(counts.allSatisfy { $0 == .truncated || $0 == .otherType })
  }

  @Test func otherTypesAndTheUnusedByteAreRefused() {
    #expect(read([0xc1]) { reader throws(MessagePackError) in try reader.skip() }.failure == .unknownFormat)
    for text in Self.everyFormat {
      let bytes = hex(text)
      let kind = read(bytes) { reader throws(MessagePackError) in try reader.peek() }
      let failures: [(MessagePackKind, MessagePackError?)] = [
        (.integer, read(bytes) { reader throws(MessagePackError) in _ = try reader.integerBits() }.failure),
        (.text, read(bytes) { reader throws(MessagePackError) in _ = try reader.text() }.failure),
        (.binary, read(bytes) { reader throws(MessagePackError) in _ = try reader.binary() }.failure),
        (.array, read(bytes) { reader throws(MessagePackError) in _ = try reader.arrayCount() }.failure),
        (.map, read(bytes) { reader throws(MessagePackError) in _ = try reader.mapCount() }.failure),
      ]
      for (asked, failure) in failures {
        #expect(failure == (kind == .success(asked) ? nil : .otherType), "\(text) as \(asked)")
      }
    }
  }
}

extension Result {
  /// The failure, if it is one.
  var failure: Failure? {
    if case .failure(let error) = self { return error }
    return nil
  }
}
