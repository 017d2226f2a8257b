// The scanner accepts what RFC 8259 allows, and says where anything else goes wrong.

import Base
import Testing

@testable import JSON

/// Scans all of `text` and returns the error, nil when it is valid.
func fault(_ text: [UInt8]) -> JSONError? {
  text.withUnsafeBytes { bytes in
    var scanner = JSONScanner(bytes)
    do throws(JSONError) {
      try scanner.skipValue()
      try scanner.finish()
      return nil
    } catch {
      return error
    }
  }
}

func fault(_ text: String) -> JSONError? { fault(Array(text.utf8)) }

@Suite struct ScannerTests {
  static let valid = [
    "null", "true", " false ", "0", "-0", "-0.5e+10", "1E9", "12345678901234567890", "\"\"", "\"a\"", "[]",
    "{}", "[ ]", "{ }",
    "[1, \"two\", [3], {\"four\": 4}, null]", "{\"a\":{\"b\":[{},[],{\"c\":\"d\"}]},\"e\":-1.5}",
    #""\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00""#, "\"héllo 日本 😀 \u{10ffff}\u{7f}\"",
    "{\"a\":1,\"a\":2}", "\t\r\n [\n1\r,\t2 ] ",
  ]

  @Test(arguments: valid)
  func validTextIsAccepted(text: String) {
    #expect(fault(text) == nil)
  }

  @Test(arguments: valid)
  func everyTruncationIsAnErrorWithPosition(text: String) throws {
    let bytes = Array(text.utf8)
    let end = try #require(bytes.lastIndex { ![0x20, 0x09, 0x0a, 0x0d].contains($0) }) + 1
    let isNumber = text.allSatisfy { "-+.eE0123456789".contains($0) }
    for length in 0..<end {
      let error = fault(Array(bytes[..<length]))
      if isNumber, error == nil { continue }
      let found = try #require(error, "\(text) cut to \(length)")
      #expect(found.offset <= length)
    }
  }

  @Test(arguments: [
    ("", JSONError.Reason.endOfInput, 0), ("  ", .endOfInput, 2), ("nul", .endOfInput, 3),
    ("nulx", .invalidLiteral, 0),
    ("True", .valueExpected, 0), ("trux", .invalidLiteral, 0), ("+1", .valueExpected, 0),
    ("-", .endOfInput, 1),
    ("-a", .invalidNumber, 1), ("01", .invalidNumber, 1), ("1.", .endOfInput, 2), ("1.x", .invalidNumber, 2),
    ("1e", .endOfInput, 2), ("1e+", .endOfInput, 3), ("1e+x", .invalidNumber, 3), (".5", .valueExpected, 0),
    ("[1,]", .valueExpected, 3), ("[,1]", .valueExpected, 1), ("[1 2]", .commaOrEndExpected, 3),
    ("[1", .endOfInput, 2), ("[1}", .commaOrEndExpected, 2), ("{\"a\":1]", .commaOrEndExpected, 6),
    ("{\"a\" 1}", .colonExpected, 5), ("{\"a\":}", .valueExpected, 5), ("{a:1}", .keyExpected, 1),
    ("{\"a\":1,}", .keyExpected, 7), ("{,}", .keyExpected, 1), ("{\"a\":1 \"b\":2}", .commaOrEndExpected, 7),
    ("1 2", .trailingBytes, 2), ("{}x", .trailingBytes, 2), ("null\0", .trailingBytes, 4),
    ("\"a", .endOfInput, 2), ("\"a\nb\"", .controlCharacter, 2), (#""\x""#, .invalidEscape, 1),
    (#""\u12g4""#, .invalidEscape, 1), (#""\u12"#, .endOfInput, 5), (#""\ud800""#, .loneSurrogate, 1),
    (#""\ude00""#, .loneSurrogate, 1), (#""\ud800\u0041""#, .loneSurrogate, 1),
    (#""\ud800\n""#, .loneSurrogate, 1),
    ("'a'", .valueExpected, 0), ("\u{feff}1", .valueExpected, 0), ("[1]]", .trailingBytes, 3),
    ("]", .valueExpected, 0),
  ])
  func faultsAreNamedAndPlaced(text: String, reason: JSONError.Reason, offset: Int) {
    #expect(fault(text) == JSONError(reason, at: offset), "\(text)")
  }

  @Test(
    arguments: [
      ([0x80], 0), ([0x61, 0xff], 1), ([0xc0, 0xaf], 0), ([0xc1, 0xbf], 0), ([0xe0, 0x9f, 0xbf], 0),
      ([0xed, 0xa0, 0x80], 0),
      ([0xf0, 0x8f, 0xbf, 0xbf], 0), ([0xf4, 0x90, 0x80, 0x80], 0), ([0xf5, 0x80, 0x80, 0x80], 0),
      ([0xc3], 0),
      ([0xe2, 0x82], 0), ([0xf0, 0x9f, 0x98], 0), ([0xc3, 0xa9, 0xc3], 2), ([0xe2, 0x28, 0xa1], 0),
    ] as [([UInt8], Int)])
  func invalidUTF8IsPlaced(bytes: [UInt8], at offset: Int) {
    for padding in [0, 1, 15, 16, 17, 63, 64, 65, 80, 200] {
      let text = [0x22] + [UInt8](repeating: 0x61, count: padding) + bytes + [0x22]
      #expect(fault(text) == JSONError(.invalidUTF8, at: 1 + padding + offset), "\(bytes) behind \(padding)")
    }
  }

  @Test func stopsAreFoundAtEveryDistance() {
    for length in 0..<200 {
      let plain = [UInt8](repeating: 0x61, count: length)
      #expect(fault([0x22] + plain + [0x22]) == nil)
      #expect(fault([0x22] + plain + [0x5c, 0x6e, 0x22]) == nil)
      #expect(fault([0x22] + plain + [0x1f] + plain + [0x22]) == JSONError(.controlCharacter, at: length + 1))
      #expect(fault([0x22] + plain) == JSONError(.endOfInput, at: length + 1))
      #expect(fault([0x22] + plain + [0xc3, 0xa9] + plain + [0x22]) == nil)
      // A byte above 0x7f behind the closing quote is not the string's.
      #expect(fault([0x22] + plain + [0x22, 0xc3]) == JSONError(.trailingBytes, at: length + 2))
    }
  }

  @Test func depthIsLimited() {
    func nested(_ depth: Int) -> String {
      String(repeating: "[", count: depth) + String(repeating: "]", count: depth)
    }
    #expect(fault(nested(128)) == nil)
    #expect(fault(nested(129)) == JSONError(.tooDeep, at: 128))
    let objects = String(repeating: "{\"a\":", count: 128)
    #expect(fault(objects + "1" + String(repeating: "}", count: 128)) == nil)
    #expect(fault(objects + "{") == JSONError(.tooDeep, at: 128 * 5))
  }

  @Test func mixedNestingMustCloseInOrder() {
    #expect(fault("[{\"a\":[{}]}]") == nil)
    #expect(fault("[{\"a\":[}]]") == JSONError(.valueExpected, at: 7))
    #expect(fault("[{\"a\":[1]]") == JSONError(.commaOrEndExpected, at: 9))
  }

  @Test func rangesCoverTheirValues() throws {
    let text = #" { "a" : [1, {"b": "}"}] , "c\n" : "x" , "d":-12 } "#
    try Array(text.utf8).withUnsafeBytes { bytes in
      var scanner = JSONScanner(bytes)
      try scanner.openObject()
      var seen: [String] = []
      while let key = try scanner.nextKey() {
        seen.append(key.decoded(in: bytes) + "=" + bytes.slice(try scanner.skipValue()).text)
      }
      try scanner.finish()
      #expect(seen == ["a=[1, {\"b\": \"}\"}]", "c\n=\"x\"", "d=-12"])
    }
  }

  @Test func wholeNumbersHaveTheirValue() throws {
    func integer(_ text: String) throws -> Int? {
      try Array(text.utf8).withUnsafeBytes {
        var scanner = JSONScanner($0)
        return try scanner.number().integer
      }
    }
    #expect(try integer("0") == 0)
    #expect(try integer("-17") == -17)
    #expect(try integer("9223372036854775807") == .max)
    #expect(try integer("-9223372036854775808") == .min)
    #expect(try integer("9223372036854775808") == nil)
    #expect(try integer("1.0") == nil)
    #expect(try integer("1e3") == nil)
  }

  @Test func escapedKeysAreEqualToPlainOnes() throws {
    let text = #"{"mod\u0065l":1}"#
    try Array(text.utf8).withUnsafeBytes { bytes in
      var scanner = JSONScanner(bytes)
      try scanner.openObject()
      let key = try #require(try scanner.nextKey())
      #expect(key.equals("model", in: bytes))
      #expect(!key.equals("models", in: bytes))
      #expect(key.hasEscapes)
    }
  }

  @Test func whiteSpaceOutsideStringsIsSeen() throws {
    for (text, expected) in [("{\"a b\":[1,2]}", false), ("{\"a\": 1}", true), ("[1,\n2]", true)] {
      try Array(text.utf8).withUnsafeBytes { bytes in
        var scanner = JSONScanner(bytes)
        try scanner.skipValue()
        #expect(scanner.sawWhitespace == expected)
      }
    }
  }

  @Test func mutatedTextNeverBreaksTheScanner() {
    var random = Xoshiro256(seed: 0x5eed)
    for _ in 0..<20_000 {
      var bytes = Array(Self.valid[Int(random.next() % UInt64(Self.valid.count))].utf8)
      for _ in 0...(random.next() % 3) where !bytes.isEmpty {
        let index = Int(random.next() % UInt64(bytes.count))
        switch random.next() % 3 {
        case 0: bytes[index] = UInt8(truncatingIfNeeded: random.next())
        case 1: bytes.remove(at: index)
        default: bytes.insert(bytes[Int(random.next() % UInt64(bytes.count))], at: index)
        }
      }
      if let error = fault(bytes) { #expect(error.offset <= bytes.count) }
    }
  }
}
