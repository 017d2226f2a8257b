// RFC 9113 sections 6 and 7: each kind of frame.

import Testing
import Transport

struct FrameConformanceTests {
  private static let upload = Frame.headers(Block.upload, flags: 4)
  private static let wrong: Fate = .connectionError([Code.protocolError])
  private static let size: Fate = .connectionError([Code.frameSize])

  static let data: [Situation] = [
    Situation("6.1 DATA on the connection", Frame.data([1], stream: 0), wrong),
    Situation("6.1 DATA with padding", upload + Frame.data([2, 1, 0, 0], flags: 9), .answered()),
    Situation("6.1 DATA of padding alone", upload + Frame.data([3, 0, 0, 0], flags: 9), .answered()),
    Situation(
      "6.1 DATA with as much padding as payload", upload + Frame.data([4, 0, 0, 0], flags: 9), wrong),
    Situation(
      "6.1 DATA with more padding than payload", upload + Frame.data([200, 0, 0, 0], flags: 9), wrong),
    Situation(
      "6.1 padded DATA without a length of padding", upload + Frame.data([], flags: 9),
      .connectionError([Code.frameSize, Code.protocolError])),
    Situation("6.1 DATA that is empty and the end", upload + Frame.data(), .answered()),
    Situation(
      "6.1 DATA in several frames",
      upload + Frame.data([1], flags: 0) + Frame.data([], flags: 0) + Frame.data([2]), .answered()),
  ]

  private static let dependency = Frame.word(0) + [15]

  static let headers: [Situation] = [
    Situation("6.2 HEADERS on the connection", Frame.headers(stream: 0), wrong),
    Situation(
      "6.2 HEADERS with padding", Frame.headers([3] + Block.get + [0, 0, 0], flags: 13), .answered()),
    Situation(
      "6.2 HEADERS with padding and priority",
      Frame.headers([1] + dependency + Block.get + [0], flags: 13 | 32), .answered()),
    Situation(
      "6.2 HEADERS with more padding than payload", Frame.headers([200] + Block.get, flags: 13), wrong),
    Situation(
      "6.2 HEADERS whose padding leaves no room for the priority",
      Frame.headers([9] + dependency + [0, 0, 0, 0], flags: 13 | 32), wrong),
    Situation(
      "6.2 HEADERS too short for their priority", Frame.headers([0, 0, 0], flags: 5 | 32),
      .connectionError([Code.frameSize, Code.protocolError])),
    Situation(
      "6.2 padded HEADERS without a length of padding", Frame.headers([], flags: 13),
      .connectionError([Code.frameSize, Code.protocolError])),
    Situation(
      "6.2 HEADERS and END_STREAM, then CONTINUATION",
      Frame.headers(Block.method, flags: 1) + Frame.continuation(Block.scheme + Block.path + Block.authority),
      .answered()),
    Situation("6.3 PRIORITY on the connection", Frame.priority(on: 1, stream: 0), wrong),
    Situation(
      "6.3 PRIORITY of four bytes", Frame.headers() + Frame.make(2, stream: 1, [0, 0, 0, 0]),
      .connectionError([Code.frameSize]), holds: true),
    Situation(
      "6.3 PRIORITY of six bytes", Frame.headers() + Frame.make(2, stream: 1, [0, 0, 0, 0, 0, 0]),
      .connectionError([Code.frameSize]), holds: true),
    Situation(
      "6.3 PRIORITY on an idle stream", Frame.priority(on: 5, stream: 3) + Frame.headers(), .answered()),
    Situation("6.4 RST_STREAM on the connection", Frame.reset(stream: 0), wrong),
    Situation("6.4 RST_STREAM of three bytes", upload + Frame.make(3, stream: 1, [0, 0, 8]), size),
    Situation("6.4 RST_STREAM of five bytes", upload + Frame.make(3, stream: 1, [0, 0, 0, 0, 8]), size),
    Situation("6.4 RST_STREAM of an idle stream", Frame.reset(stream: 9), wrong),
    Situation("6.4 RST_STREAM of an open stream", upload + Frame.reset(), .ignored),
    Situation("7 RST_STREAM with an unknown code", upload + Frame.reset(0xdead_beef), .ignored),
  ]

  static let settings: [Situation] = [
    Situation("6.5 SETTINGS on a stream", Frame.make(4, stream: 1), wrong),
    Situation("6.5 acknowledgement with a payload", Frame.make(4, flags: 1, [0, 3, 0, 0, 0, 1]), size),
    Situation("6.5 SETTINGS of five bytes", Frame.make(4, [0, 3, 0, 0, 0]), size),
    Situation("6.5 SETTINGS of seven bytes", Frame.make(4, [0, 3, 0, 0, 0, 1, 0]), size),
    Situation("6.5.2 ENABLE_PUSH of 0", Frame.settings((2, 0)) + Frame.headers(), .answered()),
    Situation("6.5.2 ENABLE_PUSH of 1", Frame.settings((2, 1)) + Frame.headers(), .answered()),
    Situation("6.5.2 ENABLE_PUSH of 2", Frame.settings((2, 2)), wrong),
    Situation(
      "6.5.2 INITIAL_WINDOW_SIZE of 2^31-1", Frame.settings((4, 0x7fff_ffff)) + Frame.headers(), .answered()),
    Situation(
      "6.5.2 INITIAL_WINDOW_SIZE of 2^31", Frame.settings((4, 0x8000_0000)),
      .connectionError([Code.flowControl])),
    Situation("6.5.2 MAX_FRAME_SIZE of 16,383", Frame.settings((5, 16_383)), wrong),
    Situation("6.5.2 MAX_FRAME_SIZE of 16,384", Frame.settings((5, 16_384)) + Frame.headers(), .answered()),
    Situation(
      "6.5.2 MAX_FRAME_SIZE of 2^24-1", Frame.settings((5, 0xff_ffff)) + Frame.headers(), .answered()),
    Situation("6.5.2 MAX_FRAME_SIZE of 2^24", Frame.settings((5, 0x100_0000)), wrong),
    Situation("6.5.2 HEADER_TABLE_SIZE of 0", Frame.settings((1, 0)) + Frame.headers(), .answered()),
    Situation(
      "6.5.2 HEADER_TABLE_SIZE of 2^32-1", Frame.settings((1, 0xffff_ffff)) + Frame.headers(), .answered()),
    Situation("6.5.2 MAX_CONCURRENT_STREAMS of 0", Frame.settings((3, 0)) + Frame.headers(), .answered()),
    Situation(
      "6.5.2 MAX_HEADER_LIST_SIZE of 2^32-1", Frame.settings((6, 0xffff_ffff)) + Frame.headers(), .answered()),
    Situation("6.5.2 an unknown setting", Frame.settings((0x7777, 7)) + Frame.headers(), .answered()),
    Situation(
      "6.5.3 the same setting twice: the last one counts", Frame.settings((4, 1), (4, 100)) + Frame.headers(),
      .answered()),
    Situation(
      "6.5.3 an acknowledgement nobody waits for", Frame.make(4, flags: 1) + Frame.make(4, flags: 1),
      .connectionError([Code.protocolError])
    ),
  ]

  static let others: [Situation] = [
    Situation(
      "6.6 PUSH_PROMISE by a caller", upload + Frame.make(5, flags: 4, stream: 1, Frame.word(2) + Block.get),
      wrong),
    Situation(
      "6.6 PUSH_PROMISE on the connection", Frame.make(5, flags: 4, stream: 0, Frame.word(2) + Block.get),
      wrong),
    Situation("6.7 PING", Frame.ping, .ignored),
    Situation("6.7 acknowledgement of no PING", Frame.make(6, flags: 1, [1, 2, 3, 4, 5, 6, 7, 8]), .ignored),
    Situation("6.7 PING on a stream", Frame.make(6, stream: 1, [1, 2, 3, 4, 5, 6, 7, 8]), wrong),
    Situation("6.7 PING of seven bytes", Frame.make(6, [1, 2, 3, 4, 5, 6, 7]), size),
    Situation("6.7 PING of nine bytes", Frame.make(6, [1, 2, 3, 4, 5, 6, 7, 8, 9]), size),
    Situation("6.7 PING without a payload", Frame.make(6), size),
    Situation("6.8 GOAWAY on a stream", Frame.make(7, stream: 1, Frame.word(0) + Frame.word(0)), wrong),
    Situation("6.8 GOAWAY of seven bytes", Frame.make(7, [0, 0, 0, 0, 0, 0, 0]), size),
    Situation("6.9 WINDOW_UPDATE of the connection", Frame.window(1) + Frame.headers(), .answered()),
    Situation("6.9 WINDOW_UPDATE of the connection by 0", Frame.window(0), wrong),
    // An error of a stream may be taken for one of the connection (section 5.4.2).
    Situation(
      "6.9 WINDOW_UPDATE of a stream by 0", upload + Frame.window(0, stream: 1),
      .connectionError([Code.protocolError])),
    Situation("6.9 WINDOW_UPDATE of three bytes", Frame.make(8, [0, 0, 1]), size),
    Situation("6.9 WINDOW_UPDATE of five bytes", Frame.make(8, [0, 0, 0, 0, 1]), size),
    Situation("6.9 reserved bit of WINDOW_UPDATE", Frame.window(0x8000_0001) + Frame.headers(), .answered()),
    Situation(
      "6.9.1 window of the connection over 2^31-1", Frame.window(0x7fff_ffff),
      .connectionError([Code.flowControl])),
    Situation(
      "6.9.1 window of the connection over 2^31-1 in two steps",
      Frame.window(0x4000_0000) + Frame.window(0x4000_0000), .connectionError([Code.flowControl])),
    Situation(
      "6.9.1 window of a stream over 2^31-1", upload + Frame.window(0x7fff_ffff, stream: 1),
      .streamError([Code.flowControl])),
    // The RFC has the connection end; the library ends each stream whose window it is.
    Situation(
      "6.9.2 SETTINGS that bring a stream's window over 2^31-1",
      upload + Frame.window(0x7000_0000, stream: 1) + Frame.settings((4, 0x7fff_ffff)),
      .streamError([Code.flowControl])),
    Situation(
      "6.10 CONTINUATION on the connection", Frame.headers(flags: 1) + Frame.continuation([], stream: 0),
      wrong),
    Situation("6.10 CONTINUATION behind a whole block", upload + Frame.continuation([]), wrong),
    Situation(
      "6.10 CONTINUATION behind DATA", upload + Frame.data([1], flags: 0) + Frame.continuation([]), wrong),
    Situation(
      "6.10 CONTINUATION behind CONTINUATION that ended the block",
      Frame.headers(flags: 1) + Frame.continuation([]) + Frame.continuation([]), wrong),
    Situation(
      "6.10 CONTINUATION without a payload", Frame.headers(flags: 1) + Frame.continuation([]), .answered()),
    Situation(
      "6.10 CONTINUATION without end",
      Frame.headers(flags: 1) + (0..<200).flatMap { _ in Frame.continuation([], flags: 0) },
      .connectionError([Code.calm, Code.protocolError])),
  ]

  @Test(arguments: data + headers + settings + others) func fate(_ situation: Situation) throws {
    try situation.check()
  }

  /// Section 6.8: what was begun before a caller's GOAWAY is still answered.
  @Test(arguments: [0, 0xdead_beef] as [UInt32]) func aCallerThatGoesGetsItsAnswer(code: UInt32) throws {
    let rig = try ConformanceRig(holds: true)
    rig.send(Frame.preface + Frame.headers() + Frame.goAway(code, debug: [1, 2, 3]))
    rig.release()
    #expect(rig.status(1) == 200 && rig.hasEnd(1))
  }

  /// Section 6.9: not a byte more than the caller's window.
  @Test func theCallersWindowIsKept() throws {
    let rig = try ConformanceRig()
    rig.send(Frame.client + Frame.settings((4, 2)) + Frame.headers())
    func sent() -> Int {
      rig.said.filter { $0.type == 0 && $0.stream == 1 }.reduce(0) { $0 + $1.payload.count }
    }
    #expect(sent() == 2 && !rig.hasEnd(1))
    // Below zero: one byte more is owed before one can be sent (section 6.9.2).
    rig.send(Frame.settings((4, 1)) + Frame.window(1, stream: 1))
    #expect(sent() == 2 && !rig.hasEnd(1))
    rig.send(Frame.window(1, stream: 1))
    #expect(sent() == 3 && !rig.hasEnd(1))
    rig.send(Frame.settings((4, 65_535)))
    #expect(sent() == 5 && rig.hasEnd(1))
  }

  /// Section 6.9.1: more than our window ends the stream or the connection.
  @Test func ourWindowIsKept() throws {
    let rig = try ConformanceRig(holds: true)
    rig.rig.application.onHead = { $0.exchange.pauseBody() }
    rig.send(Frame.preface + Frame.headers(Block.upload, flags: 4))
    let piece = Frame.data([UInt8](repeating: 1, count: 16_384), flags: 0)
    for _ in 0..<40 where !rig.rig.isClosed { rig.send(piece) }
    #expect(rig.goAway?.number(at: 4) == Code.flowControl || rig.resets(1).contains(Code.flowControl))
  }

  /// Section 6.7: the answer has the same eight bytes.
  @Test func aPingComesBack() throws {
    let rig = try ConformanceRig()
    rig.send(Frame.preface + Frame.ping)
    #expect(rig.said.filter { $0.type == 6 }.map(\.payload) == [[1, 2, 3, 4, 5, 6, 7, 8]])
  }
}
