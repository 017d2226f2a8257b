// Server-sent events (WHATWG HTML section 9.2.6): every line end, every kind of event, in every cut.

import Base
import HTTP
import Testing

@Suite struct SSEScannerTests {
  private func scan(_ text: String, sourceLocation: SourceLocation = #_sourceLocation)
    -> (events: [EventSnapshot], rest: String)
  {
    EventVerifier.scan(Array(text.utf8), sourceLocation: sourceLocation)
  }

  private func data(_ text: String?) -> EventSnapshot { EventSnapshot(kind: .data, data: text) }

  @Test(arguments: ["\n", "\r\n", "\r"])
  func eventsAreFoundWithEveryLineEnd(end: String) {
    let text = "data: {\"a\":1}\(end)\(end)data:x\(end)\(end)data: [DONE]\(end)\(end)"
    let (events, rest) = scan(text)
    #expect(events == [data("{\"a\":1}"), data("x"), data("[DONE]")])
    #expect(rest.isEmpty)
  }

  @Test(arguments: [
    ("data: x\n\n", "x"), ("data:x\n\n", "x"), ("data:  x\n\n", " x"), ("data:\n\n", ""), ("data: \n\n", ""),
    ("data\n\n", ""), ("data: a:b\n\n", "a:b"), ("data: x \n\n", "x "), ("data:\tx\n\n", "\tx"),
    ("event: error\ndata: x\n\n", "x"), ("data: x\nid: 5\nretry: 9\n\n", "x"), (": hi\ndata: x\n\n", "x"),
  ])
  func payloadOfTheOnlyDataLineIsGiven(text: String, payload: String) {
    #expect(scan(text).events == [data(payload)])
  }

  @Test(arguments: [
    (": ping\n\n", SSEEventKind.comment), (":\n\n", .comment), (": a\n: b\n\n", .comment), ("\n", .other),
    ("event: x\n\n", .other), (": a\nid: 1\n\n", .other), ("datax: 1\n\n", .other), ("dat: 1\n\n", .other),
    ("Data: 1\n\n", .other), (" data: 1\n\n", .other), ("data: 1\ndata: 2\n\n", .severalDataLines),
    ("data\ndata\n\n", .severalDataLines), ("data: 1\nevent: x\ndata: 2\n\n", .severalDataLines),
  ])
  func otherEventsAreToldByTheirKind(text: String, kind: SSEEventKind) {
    let (events, rest) = scan(text)
    #expect(events == [EventSnapshot(kind: kind, data: nil)])
    #expect(rest.isEmpty)
  }

  @Test(arguments: [
    "data: x", "data: x\n", "data: x\r\n", "d", "data", "event: x\ndata: y\n", ": ping\n", "data: x\r\n\r",
  ])
  func incompleteEventsStay(text: String) {
    let (events, rest) = scan(text)
    #expect(events.isEmpty)
    #expect(rest == text)
  }

  @Test func tailAfterWholeEventsStays() {
    let (events, rest) = scan("data: a\n\ndata: b\n\ndata: c\n")
    #expect(events == [data("a"), data("b")])
    #expect(rest == "data: c\n")
  }

  @Test func extraEmptyLinesAreEventsOfTheirOwn() {
    let (events, _) = scan("data: a\n\n\n\ndata: b\n\n")
    #expect(events.filter { $0.kind == .data } == [data("a"), data("b")])
  }

  @Test func mixedLineEndsAreUnderstood() {
    let (events, rest) = scan("data: a\r\n\ndata: b\n\r\ndata: c\r\rdata: d\n\n")
    #expect(events.filter { $0.kind == .data } == [data("a"), data("b"), data("c"), data("d")])
    #expect(rest.isEmpty)
  }

  @Test func byteOrderMarkOpensTheStreamOnly() {
    #expect(scan("\u{feff}data: a\n\n").events == [data("a")])
    #expect(
      scan("data: a\n\n\u{feff}data: b\n\n").events == [data("a"), EventSnapshot(kind: .other, data: nil)])
    #expect(EventVerifier.scan([0xef, 0xbb]).events.isEmpty)
    #expect(EventVerifier.scan([0xef, 0x0a, 0x0a]).events.count == 1)
  }

  @Test(arguments: [1, 7, 15, 16, 17, 47, 48, 49, 63, 64, 65, 127, 128, 129, 200, 300])
  func payloadsOfEveryLengthAreWhole(length: Int) {
    // Control bytes below CR send the vector search to its closer look.
    let payload = String((0..<length).map { $0 % 13 == 5 ? "\t" : "x" })
    #expect(scan("data:\(payload)\n\ndata:\(payload)\r\n\r\n").events == [data(payload), data(payload)])
  }

  @Test func eventIsTheRangeOfItsBytes() {
    let text = ": c\n\ndata: a\r\n\r\ndata: b\n\n"
    Array(text.utf8).withUnsafeBytes { bytes in
      var scanner = SSEScanner()
      var from = 0
      var ranges: [Range<Int>] = []
      while let event = scanner.next(bytes, from: &from) { ranges.append(event.whole) }
      #expect(ranges == [0..<5, 5..<16, 16..<25])
    }
  }

  /// An independent reading of the standard's line rules, whole streams only.
  private func reference(_ text: String) -> [String] {
    let lines = Array(text.unicodeScalars.map { $0 }.split(separator: "\n", omittingEmptySubsequences: false))
    var result: [String] = []
    var payloads: [String] = []
    for line in lines.dropLast() {
      let text = String(String.UnicodeScalarView(line))
      if text.isEmpty {
        if payloads.count == 1 { result.append(payloads[0]) }
        payloads = []
      } else if text == "data" || text.hasPrefix("data:") {
        let value = text.dropFirst(5)
        payloads.append(String(value.first == " " ? value.dropFirst() : value))
      }
    }
    return result
  }

  @Test(arguments: ["\n", "\r\n", "\r"])
  func randomStreamsAgreeWithAPlainReading(end: String) {
    var random = Xoshiro256(seed: 3)
    let pieces = ["data: x", "data:", "data", "data:  y", ": c", "event: e", "", "", "", "id", "x: data: 1"]
    for _ in 0..<60 {
      let lines = (0..<Int.random(in: 1...14, using: &random)).map { _ in
        pieces.randomElement(using: &random) ?? ""
      }
      let text = lines.joined(separator: "\n") + "\n"
      let scanned = scan(text.replacing("\n", with: end))
      // A stream that ends in one CR may go on with LF.
      if end == "\n" { #expect(scanned.events.compactMap(\.data) == reference(text)) }
      if end != "\n" {
        let expected = reference(text)
        let found = scanned.events.compactMap(\.data)
        #expect(found == expected || (found == expected.dropLast() && !scanned.rest.isEmpty))
      }
    }
  }
}
