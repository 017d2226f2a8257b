// One pass over a head's bytes: the lines that requests and responses have in common.

internal import Base
internal import CBytes

/// The state of one pass. `position <= count`, and all before `position` has been judged.
struct HeadScan {
  let base: UnsafePointer<UInt8>
  let count: Int
  let limits: HTTP1Limits
  var position = 0
  var minorVersion: UInt8 = 0
  var fieldCount = 0
  var present = KnownHeaderSet()
  var repeated = KnownHeaderSet()

  @inline(__always)
  init(_ base: UnsafePointer<UInt8>, _ count: Int, _ limits: HTTP1Limits) {
    self.base = base
    self.count = count
    self.limits = limits
  }

  /// Length of the one empty line that may stand before a start line.
  var emptyLineLength: Int {
    count >= 2 && base[0] == UInt8(ascii: "\r") && base[1] == UInt8(ascii: "\n") ? 2 : 0
  }

  /// Parses field lines up to and with the empty line that ends the head.
  mutating func fieldLines(
    _ entries: UnsafeMutablePointer<FieldEntry>, _ firstIndexes: UnsafeMutablePointer<UInt8>,
    rejectInvalidUTF8: Bool
  ) -> HeadStep {
    while true {
      guard position < count else { return .needMore }
      if base[position] == UInt8(ascii: "\r") {
        guard position + 1 < count else { return .needMore }
        guard base[position + 1] == UInt8(ascii: "\n") else { return .failed(.bareCarriageReturn) }
        position += 2
        return position > limits.headBytesMax ? .failed(.headTooLarge) : .done
      }
      var entry = FieldEntry(nameStart: position, nameEnd: 0, valueStart: 0, valueEnd: 0, known: .other)
      var high: UInt32 = 0
      switch fieldLine(&entry, &high) {
      case .done: break
      case .needMore: return .needMore
      case .failed(let error): return .failed(error)
      }
      if position > limits.headBytesMax { return .failed(.headTooLarge) }
      if fieldCount == limits.fieldCountMax { return .failed(.tooManyFields) }
      if high != 0, rejectInvalidUTF8, !isUTF8(entry) { return .failed(.invalidUTF8) }
      entry.known = KnownHeader(
        UnsafeRawBufferPointer(
          start: base + Int(entry.nameStart), count: Int(entry.nameEnd - entry.nameStart)))
      note(entry.known, firstIndexes)
      entries[fieldCount] = entry
      fieldCount += 1
    }
  }

  @inline(__always)
  private mutating func note(_ known: KnownHeader, _ firstIndexes: UnsafeMutablePointer<UInt8>) {
    if case .other = known { return }
    if present.contains(known) {
      repeated.insert(known)
    } else {
      present.insert(known)
      firstIndexes[Int(known.rawValue)] = UInt8(truncatingIfNeeded: fieldCount)
    }
  }

  /// Parses one field line (RFC 9112 section 5) at `position` and moves behind its CRLF.
  @inline(__always)
  mutating func fieldLine(_ entry: inout FieldEntry, _ high: inout UInt32) -> HeadStep {
    let colon = position + cbytes_token_run(base + position, count - position)
    guard colon < count else { return .needMore }
    guard base[colon] == UInt8(ascii: ":"), colon > position else { return badName(at: colon) }
    var start = colon + 1
    while start < count, base[start] == 0x20 || base[start] == 0x09 { start += 1 }
    let lineEnd = start + cbytes_value_run(base + start, count - start, &high)
    guard lineEnd + 1 < count else {
      return lineEnd < count && base[lineEnd] != UInt8(ascii: "\r") ? badValue(at: lineEnd) : .needMore
    }
    guard base[lineEnd] == UInt8(ascii: "\r"), base[lineEnd + 1] == UInt8(ascii: "\n") else {
      return badValue(at: lineEnd)
    }
    var end = lineEnd
    while end > start, base[end - 1] == 0x20 || base[end - 1] == 0x09 { end -= 1 }
    entry.nameEnd = UInt32(truncatingIfNeeded: colon)
    entry.valueStart = UInt32(truncatingIfNeeded: start)
    entry.valueEnd = UInt32(truncatingIfNeeded: end)
    position = lineEnd + 2
    return .done
  }

  /// Says what is wrong with a name that ends at `end` without its colon.
  private func badName(at end: Int) -> HeadStep {
    let byte = base[end]
    let isSpace = byte == 0x20 || byte == 0x09
    if byte == 0 { return .failed(.nulInHead) }
    if end == position, isSpace { return .failed(.obsoleteFolding) }
    if isSpace { return .failed(.whitespaceBeforeColon) }
    if byte == UInt8(ascii: "\n") { return .failed(.bareLineFeed) }
    return .failed(.malformedFieldName)
  }

  /// Says what is wrong with the control byte at `end` inside or after a value.
  private func badValue(at end: Int) -> HeadStep {
    switch base[end] {
    case 0: .failed(.nulInHead)
    case UInt8(ascii: "\n"): .failed(.bareLineFeed)
    case UInt8(ascii: "\r"): .failed(.bareCarriageReturn)
    default: .failed(.controlByteInValue)
    }
  }

  private func isUTF8(_ entry: FieldEntry) -> Bool {
    let value = UnsafeBufferPointer(
      start: base + Int(entry.valueStart), count: Int(entry.valueEnd - entry.valueStart))
    return String(validating: value, as: UTF8.self) != nil
  }

  /// Parses `HTTP/1.x` and the CRLF after it (a request line's tail) at `position`.
  mutating func versionAndLineEnd() -> HeadStep {
    guard position + 10 <= count else {
      let rest = count - position
      // A line that ends early is malformed; one that merely has not arrived is not.
      return cbytes_find(base + position, rest, UInt8(ascii: "\n")) < rest
        ? .failed(.malformedRequestLine) : .needMore
    }
    switch version() {
    case .done: break
    case .needMore: return .needMore
    case .failed(let error): return .failed(error)
    }
    position += 10
    let cr = base[position - 2]
    let lf = base[position - 1]
    if cr == UInt8(ascii: "\r") {
      return lf == UInt8(ascii: "\n") ? .done : .failed(.bareCarriageReturn)
    }
    return .failed(cr == UInt8(ascii: "\n") ? .bareLineFeed : .malformedRequestLine)
  }

  /// Reads the eight bytes of `HTTP/d.d` at `position`, which must be there.
  mutating func version() -> HeadStep {
    let name = UnsafeRawBufferPointer(start: base + position, count: 8)
    if name.spells("HTTP/1.1") {
      minorVersion = 1
      return .done
    }
    if name.spells("HTTP/1.0") {
      minorVersion = 0
      return .done
    }
    let isVersion =
      UnsafeRawBufferPointer(start: base + position, count: 5).spells("HTTP/")
      && isDigit(base[position + 5]) && base[position + 6] == UInt8(ascii: ".") && isDigit(base[position + 7])
    return .failed(isVersion ? .unsupportedVersion : .malformedRequestLine)
  }

  func isDigit(_ byte: UInt8) -> Bool { byte >= UInt8(ascii: "0") && byte <= UInt8(ascii: "9") }
}
