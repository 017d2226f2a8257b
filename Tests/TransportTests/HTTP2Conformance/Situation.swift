// One situation of the HTTP/2 conformance suite: bytes that a caller sends, and the fate that the RFC gives them.

import Base
import EventLoop
import HTTP
import TestSupport
import Testing

@testable import Transport

/// What must come of a situation.
enum Fate: Sendable, Equatable {
  /// Request 1 is answered with that status, and the connection goes on.
  case answered(Int = 200)
  /// Nothing comes of it: no stream is reset, and the connection goes on.
  case ignored
  /// GOAWAY with one of these codes, and the connection is closed.
  case connectionError(Set<UInt32>)
  /// RST_STREAM on that stream with one of these codes, and the connection goes on.
  case streamError(Set<UInt32>, stream: UInt32 = 1)
  /// A malformed request (section 8.1.1) that the application never sees: RST_STREAM with PROTOCOL_ERROR, or 400.
  case malformed
  /// No HTTP/2 at all: refused.
  case closed
}

/// Error codes of RFC 9113 section 7.
enum Code {
  static let noError: UInt32 = 0
  static let protocolError: UInt32 = 1
  static let flowControl: UInt32 = 3
  static let streamClosed: UInt32 = 5
  static let frameSize: UInt32 = 6
  static let refusedStream: UInt32 = 7
  static let compression: UInt32 = 9
  static let calm: UInt32 = 11
}

struct Situation: Sendable, CustomTestStringConvertible {
  let name: String
  let bytes: [UInt8]
  let fate: Fate
  /// Answers wait until the bytes were all read, so that request 1 stays half-closed.
  var holds = false
  /// The bytes are the whole connection, preface and all.
  var isWhole = false

  init(_ name: String, _ bytes: [UInt8], _ fate: Fate, holds: Bool = false, isWhole: Bool = false) {
    self.name = name
    self.bytes = bytes
    self.fate = fate
    self.holds = holds
    self.isWhole = isWhole
  }

  var testDescription: String { name }
}

/// A frame that the server sent.
struct SaidFrame {
  let type: UInt8
  let flags: UInt8
  let stream: UInt32
  let payload: [UInt8]

  /// The 32-bit number at `offset` of the payload.
  func number(at offset: Int) -> UInt32 {
    payload.dropFirst(offset).prefix(4).reduce(0) { $0 << 8 | UInt32($1) }
  }

  static func all(in bytes: [UInt8]) -> [SaidFrame] {
    var frames: [SaidFrame] = []
    var rest = bytes[...]
    while rest.count >= 9 {
      let head = Array(rest.prefix(9))
      let length = Int(head[0]) << 16 | Int(head[1]) << 8 | Int(head[2])
      guard rest.count >= 9 + length else { break }
      let stream = head[5...8].reduce(UInt32(0)) { $0 << 8 | UInt32($1) } & 0x7fff_ffff
      frames.append(
        SaidFrame(
          type: head[3], flags: head[4], stream: stream, payload: Array(rest.dropFirst(9).prefix(length))))
      rest = rest.dropFirst(9 + length)
    }
    return frames
  }

  /// The status of an answer's first HEADERS, where it is one of the static table, or a literal of three digits.
  var status: Int? {
    var block = payload[...]
    // The encoder may say first how large its table is.
    while let first = block.first, first & 0xe0 == 0x20 {
      block = first & 0x1f == 0x1f ? block.dropFirst().drop { $0 & 0x80 != 0 } : block
      block = block.dropFirst()
    }
    guard let first = block.first else { return nil }
    let known: [UInt8: Int] = [
      0x88: 200, 0x89: 204, 0x8a: 206, 0x8b: 304, 0x8c: 400, 0x8d: 404, 0x8e: 500,
    ]
    if let status = known[first] { return status }
    let text = Array(block.dropFirst().prefix(4))
    if first & 0x0f == 8 || first == 0x48, text.count == 4, text[0] == 3 {
      return Int(String(decoding: text[1...], as: UTF8.self))
    }
    // The digits by Huffman: none but 1xx, 4xx and 5xx are sent so here.
    return 0
  }
}

/// One connection to a server on a played kernel.
final class ConformanceRig {
  let rig: ServerRig
  private var held: [RecordedExchange] = []
  private(set) var said: [SaidFrame] = []

  init(holds: Bool = false) throws {
    var limits = ServerLimits()
    limits.multiplexed = HTTP2MultiplexerLimits()
    rig = try ServerRig(limits: limits)
    if holds { rig.application.onRequest = { [weak self] in self?.held.append($0) } }
  }

  deinit { held = [] }

  /// The caller sends `bytes`, `pieceBytes` at a time.
  func send(_ bytes: [UInt8], pieceBytes: Int = .max) {
    var offset = 0
    while offset < bytes.count, !rig.isClosed {
      let end = offset + min(pieceBytes, bytes.count - offset)
      rig.kernel.input[rig.caller, default: []].append(Array(bytes[offset..<end]))
      rig.kernel.queue([(rig.caller, .readable)])
      rig.turn()
      offset = end
    }
    rig.turn()
    hear()
  }

  private var heard: [UInt8] = []

  private func hear() {
    heard += rig.kernel.takeOutput(rig.caller)
    said = SaidFrame.all(in: heard)
  }

  /// What was held back is answered.
  func release() {
    for exchange in held where exchange.ends.isEmpty { exchange.respond(200, "hello") }
    held = []
    rig.turn()
    rig.turn()
    hear()
  }

  /// True when the connection still answers a PING.
  func isAlive() -> Bool {
    let word: [UInt8] = [9, 8, 7, 6, 5, 4, 3, 2]
    send(Frame.make(6, [UInt8](word)))
    return said.contains { $0.type == 6 && $0.flags & 1 == 1 && $0.payload == word } && !rig.isClosed
  }

  var goAway: SaidFrame? { said.last { $0.type == 7 } }

  func resets(_ stream: UInt32) -> [UInt32] {
    said.filter { $0.type == 3 && $0.stream == stream }.map { $0.number(at: 0) }
  }

  func status(_ stream: UInt32) -> Int? { said.first { $0.type == 1 && $0.stream == stream }?.status }

  /// Whether the answer on `stream` came to its end.
  func hasEnd(_ stream: UInt32) -> Bool {
    said.contains { ($0.type == 0 || $0.type == 1) && $0.stream == stream && $0.flags & 1 == 1 }
  }
}

extension Situation {
  /// Plays it whole and in pieces, and checks what came of it.
  func check(_ location: SourceLocation = #_sourceLocation) throws {
    // The library counts each read of a CONTINUATION frame's head as such a frame, and takes eight.
    let isSplit = SaidFrame.all(in: bytes).contains { $0.type == 1 && $0.flags & 4 == 0 || $0.type == 9 }
    for pieceBytes in [Int.max, isSplit ? 5 : 1] where pieceBytes == .max || bytes.count < 300 {
      let rig = try ConformanceRig(holds: holds)
      rig.send(isWhole ? bytes : Frame.preface + bytes, pieceBytes: pieceBytes)
      rig.release()
      try check(rig, location)
    }
  }

  private func check(_ rig: ConformanceRig, _ location: SourceLocation) throws {
    let told = "\(rig.said.map { ($0.type, $0.flags, $0.stream, $0.payload.prefix(24)) })"
    switch fate {
    case .answered(let status):
      #expect(rig.status(1) == status && rig.hasEnd(1), "\(told)", sourceLocation: location)
      #expect(rig.isAlive() && rig.goAway == nil, "\(told)", sourceLocation: location)
    case .ignored:
      #expect(rig.said.allSatisfy { $0.type != 3 }, "\(told)", sourceLocation: location)
      #expect(rig.isAlive() && rig.goAway == nil, "\(told)", sourceLocation: location)
    case .connectionError(let codes):
      let code = rig.goAway?.number(at: 4)
      #expect(code.map { codes.contains($0) } == true, "\(told)", sourceLocation: location)
      #expect(rig.rig.isClosed, "\(told)", sourceLocation: location)
    case .streamError(let codes, let stream):
      #expect(rig.resets(stream).contains { codes.contains($0) }, "\(told)", sourceLocation: location)
      #expect(rig.isAlive() && rig.goAway == nil, "\(told)", sourceLocation: location)
    case .malformed:
      #expect(rig.rig.application.exchanges.isEmpty, "\(told)", sourceLocation: location)
      #expect(
        rig.resets(1).contains(Code.protocolError) || rig.status(1) == 400, "\(told)",
        sourceLocation: location)
      #expect(rig.isAlive() && rig.goAway == nil, "\(told)", sourceLocation: location)
    case .closed:
      // Taken for HTTP/1.1 it is refused, and the connection lingers until the caller has read that.
      #expect(
        rig.rig.isClosed || !rig.rig.application.refusals.isEmpty, "\(told)", sourceLocation: location)
      #expect(rig.rig.application.exchanges.isEmpty, "\(told)", sourceLocation: location)
    }
  }
}
