// The HTTP/1.1 body decoder: by length, by chunks, or until the connection closes.

internal import CBytes

internal import Base

/// What one step of decoding a body yields.
package enum BodyPiece {
  /// Body bytes: a slice of the input.
  case bytes(UnsafeRawBufferPointer)
  /// All input is consumed and the body is not over.
  case needMore
  /// The body is over. `trailers` holds validated `name: value` lines, each with its CRLF, forbidden names left out;
  /// valid until the decoder is used again or replaced.
  case end(trailers: UnsafeRawBufferPointer)
  /// Refuse and close.
  case failed(HTTP1ParseError)
}

/// Decodes one message's body. Call ``next(_:consumed:)`` until it asks for more, ends or fails.
///
/// It may stop after any byte and go on in the next input: only a size, counters and trailer bytes are kept.
///
/// States of a chunked body: `sizeStart` → `size` → (`extensions` →) `sizeEnd` → `data` → `dataCR` → `dataLF` →
/// `sizeStart` …; a size of 0 leads from `sizeEnd` to `trailers`, and their empty line to `done`.
package struct HTTP1BodyDecoder: ~Copyable {
  private enum State: UInt8 {
    case done, length, untilClose, failed
    case sizeStart, size, extensions, sizeEnd, data, dataCR, dataLF, trailers
  }

  private var state: State
  private var failure = HTTP1ParseError.truncatedBody
  private var digits: UInt8 = 0
  /// Bytes of the body or of the open chunk still to come; the size itself while it is read.
  private var remaining = 0
  private var extensions: ChunkExtensions
  private var trailers: TrailerReader
  /// Body bytes given out so far.
  package private(set) var bodyBytes = 0

  /// Creates a decoder for a body framed so.
  package init(_ framing: BodyFraming, limits: HTTP1Limits = HTTP1Limits()) {
    extensions = ChunkExtensions(limits)
    trailers = TrailerReader(limits)
    switch framing {
    case .none:
      state = .done
    case .length(let bytes):
      remaining = max(bytes, 0)
      state = remaining == 0 ? .done : .length
    case .chunked:
      state = .sizeStart
    case .untilClose:
      state = .untilClose
    }
  }

  /// True once the body is over.
  package var isComplete: Bool {
    if case .done = state { return true }
    return false
  }

  /// Decodes on from `input[consumed]` and moves `consumed` behind what was used. After `needMore` everything was
  /// used; after `end` the next message begins at `consumed`.
  package mutating func next(_ input: UnsafeRawBufferPointer, consumed: inout Int) -> BodyPiece {
    switch state {
    case .sizeStart:
      if let piece = wholeChunk(input, &consumed) { return .bytes(piece) }
      return chunked(input, &consumed)
    case .length, .untilClose: return plain(input, &consumed)
    case .done: return .end(trailers: trailers.lines)
    case .failed: return .failed(failure)
    default: return chunked(input, &consumed)
    }
  }

  /// Tells that the peer closed: the body's end when it is framed so, else a failure.
  package mutating func inputEnded() -> BodyPiece {
    switch state {
    case .untilClose, .done:
      state = .done
      return .end(trailers: trailers.lines)
    case .failed:
      return .failed(failure)
    default:
      return fail(.truncatedBody)
    }
  }

  private mutating func fail(_ error: HTTP1ParseError) -> BodyPiece {
    state = .failed
    failure = error
    return .failed(error)
  }

  private mutating func plain(_ input: UnsafeRawBufferPointer, _ consumed: inout Int) -> BodyPiece {
    let available = input.count - consumed
    guard available > 0 else { return .needMore }
    var count = available
    if case .length = state {
      count = min(available, remaining)
      remaining -= count
      if remaining == 0 { state = .done }
    }
    let start = consumed
    consumed += count
    bodyBytes += count
    return .bytes(input.slice(start..<consumed))
  }

  private mutating func chunked(_ input: UnsafeRawBufferPointer, _ consumed: inout Int) -> BodyPiece {
    while consumed < input.count {
      switch state {
      case .sizeStart:
        if wholeSizeLine(input, &consumed) { continue }
        remaining = 0
        digits = 0
        state = .size
      case .data:
        return data(input, &consumed)
      case .trailers:
        switch trailers.read(input, &consumed) {
        case .needMore: return .needMore
        case .failed(let error): return fail(error)
        case .done:
          state = .done
          return .end(trailers: trailers.lines)
        }
      default:
        if let error = byte(input[consumed]) { return fail(error) }
        consumed += 1
      }
    }
    return .needMore
  }

  /// The usual case: a whole chunk, `1*8HEXDIG CRLF data CRLF`, is in the input. Nil, and nothing done, when it is
  /// not, or when the chunk is the last.
  @inline(__always)
  private mutating func wholeChunk(_ input: UnsafeRawBufferPointer, _ consumed: inout Int)
    -> UnsafeRawBufferPointer?
  {
    guard let base = input.baseAddress, let (size, start) = Self.sizeLine(base, consumed, input.count) else {
      return nil
    }
    // At most 8 digits: no sum overflows.
    let end = start &+ size
    guard size > 0, end &+ 2 <= input.count, Self.isLineEnd(base + end) else { return nil }
    consumed = end &+ 2
    bodyBytes &+= size
    return UnsafeRawBufferPointer(start: base + start, count: size)
  }

  /// Takes the whole of `1*8HEXDIG CRLF`. False, and nothing done, when it is not in the input.
  private mutating func wholeSizeLine(_ input: UnsafeRawBufferPointer, _ consumed: inout Int) -> Bool {
    guard let base = input.baseAddress, let (size, start) = Self.sizeLine(base, consumed, input.count) else {
      return false
    }
    consumed = start
    remaining = size
    state = size == 0 ? .trailers : .data
    return true
  }

  /// The size that `1*8HEXDIG CRLF` at `from` tells, and where the data begins.
  @inline(__always)
  private static func sizeLine(_ base: UnsafeRawPointer, _ from: Int, _ count: Int) -> (
    size: Int, start: Int
  )? {
    var index = from
    var size = 0
    let last = min(count &- 2, from &+ 8)
    while index < last {
      let byte = base.load(fromByteOffset: index, as: UInt8.self)
      var digit = byte &- UInt8(ascii: "0")
      if digit > 9 {
        digit = (byte | 0x20) &- UInt8(ascii: "a")
        if digit > 5 { break }
        digit &+= 10
      }
      size = size &<< 4 | Int(digit)
      index &+= 1
    }
    guard index > from, index &+ 2 <= count, isLineEnd(base + index) else { return nil }
    return (size, index &+ 2)
  }

  @inline(__always)
  private static func isLineEnd(_ bytes: UnsafeRawPointer) -> Bool {
    UInt16(littleEndian: bytes.loadUnaligned(as: UInt16.self)) == 0x0a0d
  }

  /// Gives out chunk data, and takes the CRLF behind it along when it is there.
  private mutating func data(_ input: UnsafeRawBufferPointer, _ consumed: inout Int) -> BodyPiece {
    let count = min(input.count - consumed, remaining)
    let piece = input.slice(consumed..<consumed + count)
    consumed += count
    remaining -= count
    bodyBytes += count
    if remaining == 0 {
      if consumed + 1 < input.count, input[consumed] == UInt8(ascii: "\r"),
        input[consumed + 1] == UInt8(ascii: "\n")
      {
        consumed += 2
        state = .sizeStart
      } else {
        state = .dataCR
      }
    }
    return .bytes(piece)
  }

  /// Takes one byte of a size line, or of the CRLF behind a chunk.
  private mutating func byte(_ byte: UInt8) -> HTTP1ParseError? {
    switch state {
    case .size:
      return sizeByte(byte)
    case .extensions:
      guard byte == UInt8(ascii: "\r") else { return extensions.accept(byte) }
      guard extensions.mayEnd else { return .malformedChunkExtension }
      state = .sizeEnd
    case .sizeEnd:
      guard byte == UInt8(ascii: "\n") else { return .bareCarriageReturn }
      state = remaining == 0 ? .trailers : .data
    case .dataCR:
      guard byte == UInt8(ascii: "\r") else { return .malformedChunkEnd }
      state = .dataLF
    case .dataLF:
      guard byte == UInt8(ascii: "\n") else { return .malformedChunkEnd }
      state = .sizeStart
    default:
      break
    }
    return nil
  }

  private mutating func sizeByte(_ byte: UInt8) -> HTTP1ParseError? {
    if let digit = Hex.value(byte) {
      // 15 digits hold every size that an Int can; more are an attempt to overflow somebody, zeros included.
      guard digits < 15 else { return .chunkSizeOverflow }
      digits += 1
      remaining = remaining << 4 | Int(digit)
      return nil
    }
    guard digits > 0 else { return .malformedChunkSize }
    switch byte {
    case UInt8(ascii: "\r"):
      state = .sizeEnd
    case UInt8(ascii: ";"), 0x20, 0x09:
      extensions.begin()
      state = .extensions
      return extensions.accept(byte)
    case UInt8(ascii: "\n"):
      return .bareLineFeed
    default:
      return .malformedChunkSize
    }
    return nil
  }
}
