// RFC 9113 sections 3 to 5: the preface, frames, header blocks and the states of streams.

import Testing

struct FramingConformanceTests {
  private static let interleaved: [(String, [UInt8])] = [
    ("PING", Frame.ping), ("DATA", Frame.data([1])), ("HEADERS of another stream", Frame.headers(stream: 3)),
    ("HEADERS of the same stream", Frame.headers()), ("PRIORITY", Frame.priority(on: 0, stream: 1)),
    ("RST_STREAM", Frame.reset()), ("SETTINGS", Frame.settings()), ("WINDOW_UPDATE", Frame.window(1)),
    ("GOAWAY", Frame.goAway()), ("an unknown frame", Frame.make(0xbb, stream: 1, [1])),
    ("CONTINUATION of another stream", Frame.continuation([], stream: 3)),
  ]

  static let prefaces: [Situation] = [
    Situation("3.4 preface and empty SETTINGS", Frame.preface, .ignored, isWhole: true),
    Situation("3.4 request right behind the preface", Frame.headers(), .answered()),
    Situation(
      "3.4 PING before SETTINGS", Frame.client + Frame.ping, .connectionError([Code.protocolError]),
      isWhole: true),
    Situation(
      "3.4 HEADERS before SETTINGS", Frame.client + Frame.headers(), .connectionError([Code.protocolError]),
      isWhole: true),
    Situation(
      "3.4 an acknowledgement before SETTINGS", Frame.client + Frame.make(4, flags: 1),
      .connectionError([Code.protocolError]),
      isWhole: true),
    Situation(
      "3.4 an unknown frame before SETTINGS", Frame.client + Frame.make(0xbb),
      .connectionError([Code.protocolError]), isWhole: true),
    Situation(
      "3.4 preface with a wrong end", Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\rX".utf8), .closed, isWhole: true),
    Situation(
      "3.4 another version in the preface", Array("PRI * HTTP/2.1\r\n\r\nSM\r\n\r\n".utf8) + Frame.settings(),
      .closed, isWhole: true),
    Situation(
      "3.4 HTTP/1.1 in the middle of the preface", Array("PRI * HTTP/2.0\r\n\r\nGET / HTTP/1.1\r\n\r\n".utf8),
      .closed, isWhole: true),
    Situation(
      "3.4 the preface twice", Frame.preface, .connectionError([Code.protocolError, Code.frameSize])),
  ]

  static let frames: [Situation] =
    [
      Situation("4.1 unknown frame type on the connection", Frame.make(0xbb, [1, 2, 3]), .ignored),
      Situation(
        "4.1 unknown frame type on an idle stream", Frame.make(0xbb, stream: 1, [1]) + Frame.headers(),
        .answered()),
      Situation(
        "4.1 unknown frame type in a body",
        Frame.headers(Block.upload, flags: 4) + Frame.make(0xbb, stream: 1) + Frame.data(), .answered()),
      Situation(
        "4.1 undefined flags of PING", Frame.make(6, flags: 0xfe, [0, 0, 0, 0, 0, 0, 0, 1]), .ignored),
      Situation("4.1 undefined flags of HEADERS", Frame.headers(flags: 0xd5 & ~8 & ~32), .answered()),
      Situation(
        "4.1 undefined flags of DATA", Frame.headers(Block.upload, flags: 4) + Frame.data([1], flags: 0xf7),
        .answered()),
      Situation("4.1 undefined flags of SETTINGS", Frame.make(4, flags: 0xfe), .ignored),
      Situation("4.1 reserved bit of HEADERS", Frame.headers(stream: 0x8000_0001), .answered()),
      Situation(
        "4.1 reserved bit of PING", Frame.make(6, stream: 0x8000_0000, [0, 0, 0, 0, 0, 0, 0, 1]), .ignored),
      Situation(
        "4.2 DATA of 16,384 bytes",
        Frame.headers(Block.upload, flags: 4) + Frame.data([UInt8](repeating: 1, count: 16_384)), .answered()),
      Situation(
        "4.2 DATA of 16,385 bytes",
        Frame.headers(Block.upload, flags: 4) + Frame.data([UInt8](repeating: 1, count: 16_385)),
        .connectionError([Code.frameSize])),
      Situation(
        "4.2 HEADERS of 16,385 bytes",
        Frame.headers(Block.get(Block.field("x", String(repeating: "a", count: 16_373)))),
        .connectionError([Code.frameSize])),
      // The library takes a longer one, so that here only the bound of all fields holds.
      Situation(
        "4.2 CONTINUATION of 16,399 bytes",
        Frame.headers(flags: 1)
          + Frame.continuation(Block.field("x", String(repeating: "a", count: 16_390))), .answered()),
      Situation(
        "4.2 SETTINGS of 16,386 bytes", Frame.make(4, [UInt8](repeating: 0, count: 16_386)),
        .connectionError([Code.frameSize])),
      Situation(
        "4.2 unknown frame of 16,385 bytes", Frame.make(0xbb, [UInt8](repeating: 0, count: 16_385)),
        .connectionError([Code.frameSize])),
      Situation(
        "4.2 a frame that promises 2^24-1 bytes", Frame.head(0, stream: 1, length: 0xff_ffff),
        .connectionError([Code.frameSize])),
      Situation(
        "4.3 a block in three frames",
        Frame.headers(Block.method, flags: 1) + Frame.continuation(Block.scheme, flags: 0)
          + Frame.continuation(Block.path + Block.authority), .answered()),
      Situation(
        "4.3 a block that cannot be decoded", Frame.headers(Block.get([0x80])),
        .connectionError([Code.compression])),
    ]
    + interleaved.map { name, bytes in
      Situation(
        "4.3 \(name) in the middle of a block", Frame.headers(flags: 1) + bytes,
        .connectionError([Code.protocolError]))
    }

  /// A request whose answer is held back: half-closed on the caller's side.
  private static let halfClosed = Frame.headers()
  /// One that the caller has taken back.
  private static let taken = Frame.headers(Block.upload, flags: 4) + Frame.reset()
  private static let closedCodes: Set<UInt32> = [Code.streamClosed]

  static let states: [Situation] = [
    Situation("5.1 idle: DATA", Frame.data([1]), .connectionError([Code.protocolError, Code.streamClosed])),
    Situation("5.1 idle: RST_STREAM", Frame.reset(), .connectionError([Code.protocolError])),
    Situation("5.1 idle: WINDOW_UPDATE", Frame.window(1, stream: 1), .connectionError([Code.protocolError])),
    Situation(
      "5.1 idle: CONTINUATION", Frame.continuation(Block.get), .connectionError([Code.protocolError])),
    Situation("5.1 idle: PRIORITY", Frame.priority(on: 0, stream: 1) + Frame.headers(), .answered()),
    Situation(
      "5.1 open: WINDOW_UPDATE",
      Frame.headers(Block.upload, flags: 4) + Frame.window(1, stream: 1) + Frame.data(), .answered()),
    Situation(
      "5.1 open: PRIORITY",
      Frame.headers(Block.upload, flags: 4) + Frame.priority(on: 0, stream: 1) + Frame.data(), .answered()),
    Situation(
      "5.1 half-closed: DATA", halfClosed + Frame.data([1]), .connectionError(closedCodes), holds: true),
    Situation(
      "5.1 half-closed: HEADERS", halfClosed + Frame.headers(), .connectionError(closedCodes), holds: true),
    Situation(
      "5.1 half-closed: CONTINUATION", halfClosed + Frame.continuation(Block.get),
      .connectionError([Code.protocolError]), holds: true),
    Situation(
      "5.1 half-closed: WINDOW_UPDATE", halfClosed + Frame.window(1, stream: 1), .answered(), holds: true),
    Situation(
      "5.1 half-closed: PRIORITY", halfClosed + Frame.priority(on: 0, stream: 1), .answered(), holds: true),
    Situation("5.1 half-closed: RST_STREAM", halfClosed + Frame.reset(), .ignored, holds: true),
    Situation(
      "5.1 closed: CONTINUATION", Frame.headers() + Frame.continuation(Block.get),
      .connectionError([Code.protocolError])),
    Situation("5.1 closed: WINDOW_UPDATE", Frame.headers() + Frame.window(1, stream: 1), .answered()),
    Situation("5.1 closed: PRIORITY", Frame.headers() + Frame.priority(on: 0, stream: 1), .answered()),
    Situation("5.1 closed: RST_STREAM", Frame.headers() + Frame.reset(), .ignored),
    Situation("5.1 reset by the caller: DATA", taken + Frame.data([1]), .ignored),
    Situation("5.1 reset by the caller: HEADERS", taken + Frame.headers(), .ignored),
    Situation("5.1 reset by the caller: WINDOW_UPDATE", taken + Frame.window(1, stream: 1), .ignored),
    Situation("5.1 reset by the caller: RST_STREAM", taken + Frame.reset(), .ignored),
    Situation(
      "5.1.1 a stream with an even number", Frame.headers(stream: 2), .connectionError([Code.protocolError])),
    // The library cannot tell it from a stream that is over, and passes over it.
    Situation(
      "5.1.1 a number that is lower than the last", Frame.headers(stream: 5) + Frame.headers(stream: 3),
      .ignored),
    Situation("5.1.1 numbers that leave some out", Frame.headers() + Frame.headers(stream: 9), .answered()),
    Situation("5.1.1 the highest number", Frame.headers() + Frame.headers(stream: 0x7fff_ffff), .answered()),
    Situation(
      "5.1.2 more streams than the server takes at once",
      (0...100).flatMap { Frame.headers(stream: 2 * $0 + 1) },
      .streamError([Code.refusedStream, Code.protocolError], stream: 201), holds: true),
    Situation(
      "5.3 HEADERS with a priority", Frame.headers(Frame.word(0) + [15] + Block.get, flags: 5 | 32),
      .answered()),
    Situation("5.5 an unknown setting", Frame.settings((0xff, 1)) + Frame.headers(), .answered()),
  ]

  @Test(arguments: prefaces + frames + states) func fate(_ situation: Situation) throws {
    try situation.check()
  }

  /// Section 3.4: the server's own preface is a SETTINGS frame, which comes first; it acknowledges the caller's.
  @Test func theServersPrefaceComesFirst() throws {
    let rig = try ConformanceRig()
    rig.send(Frame.preface)
    let first = try #require(rig.said.first)
    #expect(first.type == 4 && first.flags == 0 && first.stream == 0)
    #expect(rig.said.contains { $0.type == 4 && $0.flags == 1 && $0.payload.isEmpty })
  }

  /// Section 5.1: frames of a stream that is over may be passed over. Their header blocks are decoded all the same.
  @Test(arguments: [Frame.data([1]), Frame.headers(), Frame.window(1, stream: 1), Frame.reset()])
  func whatComesForAStreamThatIsOverIsPassedOver(bytes: [UInt8]) throws {
    let rig = try ConformanceRig()
    rig.send(Frame.preface + Frame.headers())
    #expect(rig.status(1) == 200 && rig.hasEnd(1))
    rig.send(bytes + Frame.headers(stream: 3))
    #expect(rig.status(3) == 200 && rig.goAway == nil && rig.rig.application.exchanges.count == 2)
  }

  /// Section 5.4.1: GOAWAY names the last stream that was acted on.
  @Test func goAwayNamesTheLastStream() throws {
    let rig = try ConformanceRig()
    rig.send(Frame.preface + Frame.headers() + Frame.headers(stream: 7) + Frame.make(6, stream: 1, [1]))
    #expect(rig.goAway?.number(at: 0) == 7)
  }
}
