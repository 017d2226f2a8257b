// What is written reads back the same, through our reader and Foundation's.

import Base
import Foundation
import Testing

@testable import JSON

private func written(_ body: (inout ByteBuffer) -> Void) -> String {
  var buffer = ByteBuffer()
  body(&buffer)
  return buffer.text
}

@Suite struct WriterTests {
  @Test func stringsAreEscaped() {
    #expect(
      written { $0.append(jsonString: "a\"b\\c\n\r\t\u{8}\u{c}\u{1}\u{1f}/é😀") }
        == #""a\"b\\c\n\r\t\b\f\u0001\u001f/é😀""#)
    #expect(written { $0.append(jsonString: "") } == "\"\"")
  }

  @Test func invalidBytesAreReplaced() {
    let bytes: [UInt8] = [0x61, 0xff, 0xc3, 0xa9, 0xed, 0xa0, 0x80, 0x22, 0xc3]
    let text = written { buffer in bytes.withUnsafeBytes { buffer.append(jsonString: $0) } }
    #expect(text == "\"a\u{fffd}é\u{fffd}\u{fffd}\u{fffd}\\\"\u{fffd}\"")
  }

  @Test func everyScalarSurvivesTheRoundTrip() throws {
    for start in stride(from: UInt32(0), through: 0x10ffff, by: 977) {
      let scalars = (start..<(start + 40)).compactMap(Unicode.Scalar.init)
      let text = String(String.UnicodeScalarView(scalars))
      let json = Array(written { $0.append(jsonString: text) }.utf8)
      #expect(fault(json) == nil)
      #expect(try json.withUnsafeBytes { try JSONValue.parse($0) }.string == text)
    }
  }

  @Test func escapesAreDecoded() throws {
    let json = #""\"\\\/\b\f\n\r\t\u00e9\u65e5\ud83d\ude00x""#
    let value = try Array(json.utf8).withUnsafeBytes { try JSONValue.parse($0) }
    #expect(value.string == "\"\\/\u{8}\u{c}\n\r\té日😀x")
  }

  @Test func minifyingKeepsStrings() throws {
    let json = " { \"a b\" : [ 1 , \"c \\\" d\\\\\" ,\n{ } ] }\t"
    let text = written { buffer in Array(json.utf8).withUnsafeBytes { buffer.append(minified: $0) } }
    #expect(text == #"{"a b":[1,"c \" d\\",{}]}"#)
  }

  @Test func numbersAreJSON() {
    #expect(written { $0.append(jsonNumber: 0.5) } == "0.5")
    #expect(written { $0.append(jsonNumber: 1e-7) } == "1e-07")
    #expect(written { $0.append(jsonNumber: .nan) } == "null")
    #expect(fault("1e-07") == nil)
  }

  @Test func keysAreWrittenWithTheirColon() {
    #expect(written { $0.append(jsonKey: "model") } == "\"model\":")
  }
}

@Suite struct ValueTests {
  @Test func treesHoldWhatFoundationReads() throws {
    let json = #"{"a":[1,-2.5,true,false,null,"x\ny"],"b":{"c":{}},"d":9223372036854775807,"e":1e400}"#
    let value = try Array(json.utf8).withUnsafeBytes { try JSONValue.parse($0) }
    #expect(
      value["a"]?.array == [.integer(1), .double(-2.5), .bool(true), .bool(false), .null, .string("x\ny")])
    #expect(value["b"]?["c"]?.members?.isEmpty == true)
    #expect(value["d"]?.integer == .max)
    #expect(value["e"]?.double == .infinity)
    #expect(value["x"] == nil)
    let text = written { $0.append(value["a"] ?? .null) }
    let foundation = try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [Any]
    #expect(foundation?.count == 6)
  }

  @Test func theLastOfEqualKeysIsRead() throws {
    let value = try Array(#"{"a":1,"a":2}"#.utf8).withUnsafeBytes { try JSONValue.parse($0) }
    #expect(value["a"]?.integer == 2)
  }

  @Test func treesAreBounded() {
    let json = Array("[1,2,3,4]".utf8)
    #expect(throws: JSONError(.tooManyValues, at: 7)) {
      try json.withUnsafeBytes { try JSONValue.parse($0, valuesMax: 4) }
    }
  }
}
