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
    // What lies behind the bound is never looked at: a head that is not whole by then is too large.
    self.count = min(count, limits.headBytesMax)
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
    // Locals, so that the loop runs in registers; what it found is stored once, at its end.
    let base = base
    let count = count
    var position = position
    var index = 0
    var present: UInt64 = 0
    var repeated: UInt64 = 0
    var step = HeadStep.needMore
    while position < count {
      if base[position] == UInt8(ascii: "\r") {
        step = Self.emptyLine(base, count, &position)
        break
      }
      if index == limits.fieldCountMax {
        step = .failed(.tooManyFields)
        break
      }
      let entry = entries + index
      var high: UInt32 = 0
      step = Self.fieldLine(base, count, &position, entry, &high)
      guard case .done = step else { break }
      if high != 0, rejectInvalidUTF8, !Self.isUTF8(base, entry.pointee) {
        step = .failed(.invalidUTF8)
        break
      }
      let start = Int(entry.pointee.nameStart)
      let known = KnownHeader(
        UnsafeRawBufferPointer(start: base + start, count: Int(entry.pointee.nameEnd) &- start))
      entry.pointee.known = known
      let bit = known.bit
      if present & bit == 0 {
        firstIndexes[Int(known.rawValue)] = UInt8(truncatingIfNeeded: index)
      }
      repeated |= present & bit
      present |= bit
      index &+= 1
      step = .needMore
    }
    self.position = position
    fieldCount = index
    self.present.bits = present & ~KnownHeader.other.bit
    self.repeated.bits = repeated & ~KnownHeader.other.bit
    return step
  }

  private static func emptyLine(_ base: UnsafePointer<UInt8>, _ count: Int, _ position: inout Int) -> HeadStep
  {
    guard position + 1 < count else { return .needMore }
    guard base[position + 1] == UInt8(ascii: "\n") else { return .failed(.bareCarriageReturn) }
    position += 2
    return .done
  }

  /// Parses one field line (RFC 9112 section 5) at `position` and moves behind its CRLF.
  @inline(__always)
  static func fieldLine(
    _ base: UnsafePointer<UInt8>, _ count: Int, _ position: inout Int,
    _ entry: UnsafeMutablePointer<FieldEntry>, _ high: inout UInt32
  ) -> HeadStep {
    // Wrapping arithmetic: every offset is at most `count`.
    let nameStart = position
    let colon = nameStart &+ cbytes_token_run(base + nameStart, count &- nameStart)
    guard colon < count else { return .needMore }
    guard base[colon] == UInt8(ascii: ":"), colon != nameStart else { return badName(base, nameStart, colon) }
    var start = colon &+ 1
    while start < count, isSpace(base[start]) { start &+= 1 }
    let lineEnd = start &+ cbytes_value_run(base + start, count &- start, &high)
    guard lineEnd &+ 1 < count else {
      return lineEnd < count && base[lineEnd] != UInt8(ascii: "\r") ? badValue(base[lineEnd]) : .needMore
    }
    guard base[lineEnd] == UInt8(ascii: "\r"), base[lineEnd &+ 1] == UInt8(ascii: "\n") else {
      return badValue(base[lineEnd])
    }
    var end = lineEnd
    while end > start, isSpace(base[end &- 1]) { end &-= 1 }
    entry.initialize(
      to: FieldEntry(nameStart: nameStart, nameEnd: colon, valueStart: start, valueEnd: end, known: .other))
    position = lineEnd &+ 2
    return .done
  }

  @inline(__always)
  private static func isSpace(_ byte: UInt8) -> Bool { byte <= 0x20 && (byte == 0x20 || byte == 0x09) }

  /// Says what is wrong with a name from `start` that ends at `end` without its colon.
  private static func badName(_ base: UnsafePointer<UInt8>, _ start: Int, _ end: Int) -> HeadStep {
    let byte = base[end]
    if byte == 0 { return .failed(.nulInHead) }
    if isSpace(byte) { return .failed(end == start ? .obsoleteFolding : .whitespaceBeforeColon) }
    if byte == UInt8(ascii: "\n") { return .failed(.bareLineFeed) }
    return .failed(.malformedFieldName)
  }

  /// Says what is wrong with the control byte inside or after a value.
  private static func badValue(_ byte: UInt8) -> HeadStep {
    switch byte {
    case 0: .failed(.nulInHead)
    case UInt8(ascii: "\n"): .failed(.bareLineFeed)
    case UInt8(ascii: "\r"): .failed(.bareCarriageReturn)
    default: .failed(.controlByteInValue)
    }
  }

  private static func isUTF8(_ base: UnsafePointer<UInt8>, _ entry: FieldEntry) -> Bool {
    let value = UnsafeBufferPointer(
      start: base + Int(entry.valueStart), count: Int(entry.valueEnd - entry.valueStart))
    return String(validating: value, as: UTF8.self) != nil
  }

  /// Parses `HTTP/1.x` and the CRLF after it (a request line's tail) at `position`.
  mutating func versionAndLineEnd() -> HeadStep {
    switch version(.malformedRequestLine) {
    case .done: break
    case .needMore: return .needMore
    case .failed(let error): return .failed(error)
    }
    guard position < count else { return .needMore }
    guard base[position] == UInt8(ascii: "\r") else {
      return .failed(base[position] == UInt8(ascii: "\n") ? .bareLineFeed : .malformedRequestLine)
    }
    guard position + 1 < count else { return .needMore }
    guard base[position + 1] == UInt8(ascii: "\n") else { return .failed(.bareCarriageReturn) }
    position += 2
    return .done
  }

  /// Reads `HTTP/1.x` at `position`. A line that ends before its eight bytes gives `malformed`; a well-formed version
  /// other than 1.0 and 1.1 is not supported.
  mutating func version(_ malformed: HTTP1ParseError) -> HeadStep {
    guard position + 8 <= count else {
      let rest = count - position
      return cbytes_find(base + position, rest, UInt8(ascii: "\n")) < rest ? .failed(malformed) : .needMore
    }
    let name = UnsafeRawBufferPointer(start: base + position, count: 8)
    if name.spells("HTTP/1.1") {
      minorVersion = 1
    } else if name.spells("HTTP/1.0") {
      minorVersion = 0
    } else {
      let isVersion =
        UnsafeRawBufferPointer(start: base + position, count: 5).spells("HTTP/")
        && isDigit(base[position + 5]) && base[position + 6] == UInt8(ascii: ".")
        && isDigit(base[position + 7])
      return .failed(isVersion ? .unsupportedVersion : malformed)
    }
    position += 8
    return .done
  }

  private func isDigit(_ byte: UInt8) -> Bool { byte >= UInt8(ascii: "0") && byte <= UInt8(ascii: "9") }
}
