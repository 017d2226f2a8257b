// Finding whole events in a server-sent event stream.

internal import Base
internal import CBytes

/// What an event consists of.
package enum SSEEventKind: UInt8, Sendable {
  /// Exactly one `data` line, perhaps with other fields or comments; the usual token.
  case data
  /// Several `data` lines, whose payload is not contiguous.
  case severalDataLines
  /// Comments alone, as keep-alives are.
  case comment
  /// Other fields without data, or nothing but an empty line: a client dispatches nothing.
  case other
}

/// One whole event of a stream.
package struct SSEEvent {
  /// The event in the scanned input, from its first byte to the end of its empty line.
  package let whole: Range<Int>
  /// The payload of its only `data` line without the one space after the colon; nil unless ``kind`` is `data`.
  package let data: UnsafeRawBufferPointer?
  /// What it consists of.
  package let kind: SSEEventKind
}

/// Finds the events of a stream (WHATWG HTML, section 9.2.6) in decoded body bytes.
///
/// It knows nothing of the content and holds no bytes: an incomplete event stays with the caller, who offers it again
/// with more behind it. Kept is only how far that tail was looked at. Lines end in LF, CRLF or CR.
package struct SSEScanner: Sendable {
  /// Bytes of the incomplete event at `from` that hold no event end.
  private var scanned = 0
  private var isAtStart = true

  /// Creates a scanner for the start of a stream.
  package init() {}

  /// True when the next event is to be looked for from its first byte: a caller who knows it may skip it.
  package var isBetweenEvents: Bool { scanned == 0 && !isAtStart }

  /// The next whole event in `input` at or after `from`, which moves behind it; nil when only a part of one is there.
  /// After nil the next call must offer the bytes from `from` on again, at any address, with more behind them.
  package mutating func next(_ input: UnsafeRawBufferPointer, from: inout Int) -> SSEEvent? {
    guard let base = input.baseAddress?.assumingMemoryBound(to: UInt8.self) else { return nil }
    let count = input.count
    let start = from
    // The usual event, whole and alone: "data:" payload LF LF.
    if scanned == 0, start + 8 <= count, input.slice(start..<start + 5).spells("data:") {
      let end = start + 5 + cbytes_line_run(base + start + 5, count - start - 5)
      if end + 1 < count, base[end] == UInt8(ascii: "\n"), base[end + 1] == UInt8(ascii: "\n") {
        from = end + 2
        isAtStart = false
        return SSEEvent(whole: start..<end + 2, data: Self.payload(input, start + 5, end), kind: .data)
      }
    }
    return slow(input, base, &from)
  }

  @inline(__always)
  private static func payload(_ input: UnsafeRawBufferPointer, _ start: Int, _ end: Int)
    -> UnsafeRawBufferPointer
  {
    input.slice((start < end && input[start] == 0x20 ? start + 1 : start)..<end)
  }

  /// Everything but the usual event.
  private mutating func slow(_ input: UnsafeRawBufferPointer, _ base: UnsafePointer<UInt8>, _ from: inout Int)
    -> SSEEvent?
  {
    let count = input.count
    guard mayHoldEnd(base, from, count) else { return incomplete(count - from) }
    guard let textStart = afterByteOrderMark(base, from, count) else { return incomplete(count - from) }
    var lines = SSELines(position: textStart)
    guard lines.read(base, count) else { return incomplete(count - from) }
    let event = SSEEvent(
      whole: from..<lines.position,
      data: lines.dataLines == 1 ? Self.payload(input, lines.payloadStart, lines.payloadEnd) : nil,
      kind: lines.kind)
    from = lines.position
    scanned = 0
    isAtStart = false
    return event
  }

  private mutating func incomplete(_ bytes: Int) -> SSEEvent? {
    scanned = bytes
    return nil
  }

  /// Looks for two line ends in a row in what is new, so that a long event that comes in many reads is not read from
  /// its start each time.
  private func mayHoldEnd(_ base: UnsafePointer<UInt8>, _ from: Int, _ count: Int) -> Bool {
    guard scanned > 3 else { return true }
    var position = from + min(scanned, count - from) - 3
    while true {
      position += cbytes_line_run(base + position, count - position)
      guard position + 1 < count else { return false }
      let isCR = base[position] == UInt8(ascii: "\r")
      let next = base[position + 1]
      if next == UInt8(ascii: "\r") || (next == UInt8(ascii: "\n") && !isCR) { return true }
      position += 1
    }
  }

  /// Where the text begins: behind a byte order mark, which may only open the stream. Nil when that is not yet known.
  private func afterByteOrderMark(_ base: UnsafePointer<UInt8>, _ from: Int, _ count: Int) -> Int? {
    guard isAtStart, from < count, base[from] == 0xef else { return from }
    let rest = count - from
    if rest > 1, base[from + 1] != 0xbb { return from }
    if rest > 2 { return base[from + 2] == 0xbf ? from + 3 : from }
    return nil
  }
}

/// One pass over the lines of an event.
private struct SSELines {
  var position: Int
  var dataLines = 0
  var payloadStart = 0
  var payloadEnd = 0
  private var hasComment = false
  private var hasOtherField = false

  init(position: Int) { self.position = position }

  var kind: SSEEventKind {
    switch dataLines {
    case 0: hasComment && !hasOtherField ? .comment : .other
    case 1: .data
    default: .severalDataLines
    }
  }

  /// Reads lines up to and with the empty one; false when it is not there.
  mutating func read(_ base: UnsafePointer<UInt8>, _ count: Int) -> Bool {
    var previousWasBareCR = false
    while true {
      let end = position + cbytes_line_run(base + position, count - position)
      guard end < count else { return false }
      let isEmpty = end == position
      var next = end + 1
      var isBareCR = false
      if base[end] == UInt8(ascii: "\r") {
        if next < count {
          isBareCR = base[next] != UInt8(ascii: "\n")
          if !isBareCR { next += 1 }
        } else {
          // A CR that ends the input may be half of a CRLF, unless this stream has shown that it ends lines with CR.
          guard isEmpty, previousWasBareCR else { return false }
        }
      }
      if !isEmpty { classify(base, position, end) }
      position = next
      if isEmpty { return true }
      previousWasBareCR = isBareCR
    }
  }

  private mutating func classify(_ base: UnsafePointer<UInt8>, _ start: Int, _ end: Int) {
    if base[start] == UInt8(ascii: ":") {
      hasComment = true
      return
    }
    let isData = end - start >= 4 && UnsafeRawBufferPointer(start: base + start, count: 4).spells("data")
    guard isData, end - start == 4 || base[start + 4] == UInt8(ascii: ":") else {
      hasOtherField = true
      return
    }
    dataLines += 1
    // A field without a colon has an empty value.
    payloadStart = min(start + 5, end)
    payloadEnd = end
  }
}
