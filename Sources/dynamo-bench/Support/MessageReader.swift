// HTTP/1.1 framing, written apart from the product's codec so that a fault there cannot hide from the checks made here.

import Base
import CSystem
import Glibc

/// What ``MessageReader/next(_:_:)`` found.
enum MessagePiece {
  /// Start line and header lines without the blank line; valid while the input is.
  case head(UnsafeRawBufferPointer)
  /// Some bytes of the body.
  case body(UnsafeRawBufferPointer)
  /// The message is complete.
  case end
  /// All that can be read was read; bytes from the offset on must be offered again with more behind them.
  case needMore
  case broken(StaticString)
}

/// Reads one message after the other from one direction of a connection: heads, bodies by length, chunks or until close.
struct MessageReader {
  private enum State {
    case head
    case length(Int)
    case chunkSize
    case chunk(Int)
    case chunkEnd
    case trailers
    case untilClose
  }

  private static let headBytesMax = 64 << 10
  private let isRequest: Bool
  private var state = State.head
  /// True when the message said `connection: close`, or its body ends with the connection.
  private(set) var closes = false
  /// True when the request said `expect: 100-continue`.
  private(set) var expectsContinue = false

  init(isRequest: Bool) { self.isRequest = isRequest }

  /// True between two messages.
  var isIdle: Bool {
    if case .head = state { true } else { false }
  }

  /// True when the end of the connection is the proper end of the message under way.
  var endsAtClose: Bool {
    if case .untilClose = state { true } else { false }
  }

  /// The next piece of `input` from `offset` on, which is moved behind it.
  mutating func next(_ input: UnsafeRawBufferPointer, _ offset: inout Int) -> MessagePiece {
    while true {
      let rest = input.slice(offset..<input.count)
      switch state {
      case .head: return readHead(rest, &offset)
      case .length(let remaining):
        if remaining == 0 { return finish() }
        return readBody(rest, remaining, &offset) { .length($0) }
      case .chunkSize:
        guard let line = rest.line else {
          return rest.count > 1024 ? .broken("chunk size line too long") : .needMore
        }
        guard let size = Self.chunkSize(line) else { return .broken("bad chunk size") }
        offset += line.count + 2
        state = size == 0 ? .trailers : .chunk(size)
      case .chunk(let remaining):
        if remaining == 0 {
          state = .chunkEnd
          continue
        }
        return readBody(rest, remaining, &offset) { .chunk($0) }
      case .chunkEnd:
        guard rest.count >= 2 else { return .needMore }
        guard rest[0] == 0x0d, rest[1] == 0x0a else { return .broken("chunk does not end with CRLF") }
        offset += 2
        state = .chunkSize
      case .trailers:
        guard let line = rest.line else {
          return rest.count > Self.headBytesMax ? .broken("trailers too long") : .needMore
        }
        offset += line.count + 2
        if line.isEmpty { return finish() }
      case .untilClose:
        return readBody(rest, .max, &offset) { _ in .untilClose }
      }
    }
  }

  private mutating func finish() -> MessagePiece {
    state = .head
    return .end
  }

  private mutating func readBody(
    _ rest: UnsafeRawBufferPointer, _ remaining: Int, _ offset: inout Int, _ after: (Int) -> State
  ) -> MessagePiece {
    guard !rest.isEmpty else { return .needMore }
    let count = min(rest.count, remaining)
    offset += count
    state = after(remaining - count)
    return .body(rest.slice(0..<count))
  }

  private mutating func readHead(_ rest: UnsafeRawBufferPointer, _ offset: inout Int) -> MessagePiece {
    guard let count = rest.find("\r\n\r\n") else {
      return rest.count > Self.headBytesMax ? .broken("head too long") : .needMore
    }
    let head = rest.slice(0..<count)
    var length: Int?
    var chunked = false
    closes = false
    expectsContinue = false
    var position = (head.line?.count ?? head.count) + 2
    while position < head.count {
      let tail = head.slice(position..<head.count)
      let line = tail.line ?? tail
      position += line.count + 2
      guard let colon = line.firstIndex(of: UInt8(ascii: ":")) else {
        return .broken("header line without colon")
      }
      let name = line.slice(0..<colon)
      let value = line.slice((colon + 1)..<line.count).trimmed
      switch colon {
      case 14 where name.equalsIgnoringCase("content-length"):
        guard let number = value.decimal, length == nil else { return .broken("bad content-length") }
        length = number
      case 17 where name.equalsIgnoringCase("transfer-encoding"):
        guard value.equalsIgnoringCase("chunked"), !chunked else { return .broken("bad transfer-encoding") }
        chunked = true
      case 10 where name.equalsIgnoringCase("connection"): closes = value.equalsIgnoringCase("close")
      case 6 where name.equalsIgnoringCase("expect"):
        expectsContinue = value.equalsIgnoringCase("100-continue")
      default: break
      }
    }
    if chunked, length != nil { return .broken("both content-length and transfer-encoding") }
    offset += count + 4
    enterBody(head, length: length, chunked: chunked)
    return .head(head)
  }

  private mutating func enterBody(_ head: UnsafeRawBufferPointer, length: Int?, chunked: Bool) {
    let status = isRequest ? 200 : Self.status(head) ?? 0
    if (100..<200).contains(status) {
      state = .head
    } else if chunked {
      state = .chunkSize
    } else if let length {
      state = .length(length)
    } else if isRequest || status == 204 || status == 304 {
      state = .length(0)
    } else {
      state = .untilClose
      closes = true
    }
  }

  /// The status of a response head; nil when its first line is none.
  static func status(_ head: UnsafeRawBufferPointer) -> Int? {
    guard head.count >= 12, head.slice(0..<7).equals("HTTP/1."), head[8] == 0x20 else { return nil }
    return head.slice(9..<12).decimal
  }

  private static func chunkSize(_ line: UnsafeRawBufferPointer) -> Int? {
    var size = 0
    var digits = 0
    for byte in line {
      guard let nibble = Hex.value(byte) else {
        guard byte == UInt8(ascii: ";"), digits > 0 else { return nil }
        return size
      }
      digits += 1
      guard digits <= 15 else { return nil }
      size = size << 4 | Int(nibble)
    }
    return digits > 0 ? size : nil
  }
}

extension UnsafeRawBufferPointer {
  /// The bytes before the first CRLF; nil when there is none.
  var line: UnsafeRawBufferPointer? { find("\r\n").map { slice(0..<$0) } }

  /// Offset of `needle` at or behind `from`; nil when it does not occur.
  func find(_ needle: StaticString, from: Int = 0) -> Int? {
    guard from < count, let start = baseAddress else { return nil }
    let offset = csystem_find(start + from, count - from, needle.utf8Start, needle.utf8CodeUnitCount)
    return offset < 0 ? nil : from + offset
  }

  /// True when the bytes at `offset` are `text`.
  func has(_ text: StaticString, at offset: Int) -> Bool {
    let length = text.utf8CodeUnitCount
    guard let start = baseAddress, offset >= 0, offset + length <= count else { return false }
    return memcmp(start + offset, text.utf8Start, length) == 0
  }
}
