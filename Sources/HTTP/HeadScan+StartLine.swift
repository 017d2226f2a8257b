// Request lines, request targets and status lines.

internal import Base
internal import CBytes

extension HeadScan {
  /// Parses `method SP target SP version CRLF` (RFC 9112 section 3), after one empty line at most.
  mutating func requestLine(_ line: inout RequestLine) -> HeadStep {
    guard skipEmptyLine() else { return .needMore }
    let start = position
    let methodEnd = start + cbytes_token_run(base + start, count - start)
    guard methodEnd < count else { return .needMore }
    guard base[methodEnd] == UInt8(ascii: " "), methodEnd > start else {
      return .failed(base[methodEnd] == 0 ? .nulInHead : .malformedRequestLine)
    }
    line.methodStart = UInt32(truncatingIfNeeded: start)
    line.methodEnd = UInt32(truncatingIfNeeded: methodEnd)
    position = methodEnd + 1
    guard position < count else { return .needMore }
    line.method = Method(UnsafeRawBufferPointer(start: base + start, count: methodEnd - start))
    switch target(&line) {
    case .done: break
    case .needMore: return .needMore
    case .failed(let error): return .failed(error)
    }
    if position - start > limits.startLineBytesMax { return .failed(.requestLineTooLong) }
    guard position < count else { return .needMore }
    guard base[position] == UInt8(ascii: " ") else {
      let isLineEnd = base[position] == UInt8(ascii: "\r") || base[position] == UInt8(ascii: "\n")
      return .failed(isLineEnd ? .malformedRequestLine : .malformedTarget)
    }
    line.targetEnd = UInt32(truncatingIfNeeded: position)
    position += 1
    let step = versionAndLineEnd()
    if case .done = step, position - start - 2 > limits.startLineBytesMax {
      return .failed(.requestLineTooLong)
    }
    return step
  }

  /// Skips one empty line; false when it has only half arrived, or nothing follows it yet.
  private mutating func skipEmptyLine() -> Bool {
    guard base[0] == UInt8(ascii: "\r") else { return true }
    guard count > 1 else { return false }
    position = emptyLineLength
    return position < count
  }

  /// Parses a request target (RFC 9112 section 3.2) at `position`, up to the first byte that cannot belong to it.
  private mutating func target(_ line: inout RequestLine) -> HeadStep {
    line.targetStart = UInt32(truncatingIfNeeded: position)
    let first = base[position]
    if case .connect = line.method {
      return authority(&line, isWholeTarget: true)
    }
    if first == UInt8(ascii: "/") {
      return pathAndQuery(&line)
    }
    if first == UInt8(ascii: "*") {
      guard case .options = line.method else { return .failed(.malformedTarget) }
      line.pathStart = UInt32(truncatingIfNeeded: position)
      position += 1
      line.pathEnd = UInt32(truncatingIfNeeded: position)
      return .done
    }
    switch scheme() {
    case .done: break
    case .needMore: return .needMore
    case .failed(let error): return .failed(error)
    }
    switch authority(&line, isWholeTarget: false) {
    case .done: break
    case .needMore: return .needMore
    case .failed(let error): return .failed(error)
    }
    return pathAndQuery(&line)
  }

  /// Moves over `http://` or `https://` in either case.
  private mutating func scheme() -> HeadStep {
    let rest = UnsafeRawBufferPointer(start: base + position, count: count - position)
    for prefix in ["http://", "https://"] as [StaticString] {
      let length = prefix.utf8CodeUnitCount
      if rest.count >= length {
        guard rest.slice(0..<length).equalsIgnoringCase(prefix) else { continue }
        position += length
        return .done
      }
      let begun = UnsafeRawBufferPointer(start: prefix.utf8Start, count: rest.count)
      if rest.equalsIgnoringCase(begun) { return .needMore }
    }
    return .failed(.malformedTarget)
  }

  /// Moves over the authority of an absolute or authority form. Userinfo is refused (RFC 9110 section 4.2.4).
  private mutating func authority(_ line: inout RequestLine, isWholeTarget: Bool) -> HeadStep {
    let start = position
    while position < count {
      let byte = base[position]
      if byte <= 0x20 || byte == UInt8(ascii: "/") || byte == UInt8(ascii: "?") { break }
      position += 1
    }
    guard position < count else { return .needMore }
    let text = UnsafeRawBufferPointer(start: base + start, count: position - start)
    guard HostSyntax.isValid(text) else { return .failed(.malformedTarget) }
    line.authorityStart = UInt32(truncatingIfNeeded: start)
    line.authorityEnd = UInt32(truncatingIfNeeded: position)
    if isWholeTarget {
      line.pathStart = line.authorityStart
      line.pathEnd = line.authorityEnd
    }
    return .done
  }

  /// Moves over a path and a query; every `%` must begin two hexadecimal digits other than `00`.
  private mutating func pathAndQuery(_ line: inout RequestLine) -> HeadStep {
    line.pathStart = UInt32(truncatingIfNeeded: position)
    switch run(isQuery: false) {
    case .done: break
    case .needMore: return .needMore
    case .failed(let error): return .failed(error)
    }
    line.pathEnd = UInt32(truncatingIfNeeded: position)
    guard base[position] == UInt8(ascii: "?") else { return .done }
    position += 1
    line.queryStart = UInt32(truncatingIfNeeded: position)
    return run(isQuery: true)
  }

  /// Moves over path or query bytes and percent-encoded triplets, to a byte that is neither.
  @inline(__always)
  private mutating func run(isQuery: Bool) -> HeadStep {
    while true {
      let rest = count &- position
      position &+=
        isQuery
        ? cbytes_class_run(base + position, rest, UInt8(CBYTES_QUERY))
        : cbytes_path_run(base + position, rest)
      guard position < count else { return .needMore }
      guard base[position] == UInt8(ascii: "%") else { return .done }
      // Each digit is judged as it comes: a line must never end while more bytes of it are asked for.
      guard position + 1 < count else { return .needMore }
      guard let high = Hex.value(base[position + 1]) else { return .failed(.malformedTarget) }
      guard position + 2 < count else { return .needMore }
      guard let low = Hex.value(base[position + 2]), high | low != 0 else { return .failed(.malformedTarget) }
      position += 3
    }
  }

  /// Parses `version SP status [SP reason] CRLF` (RFC 9112 section 4). Many servers leave out the space before an
  /// empty reason.
  mutating func statusLine(_ status: inout Int) -> HeadStep {
    let start = position
    switch version(.malformedStatusLine) {
    case .done: break
    case .needMore: return .needMore
    case .failed(let error): return .failed(error)
    }
    // " 200" and the byte after it.
    guard position + 5 <= count else {
      let rest = count - position
      return cbytes_find(base + position, rest, UInt8(ascii: "\n")) < rest
        ? .failed(.malformedStatusLine) : .needMore
    }
    let digits = UnsafeRawBufferPointer(start: base + position + 1, count: 3)
    guard base[position] == UInt8(ascii: " "), let code = digits.decimal, (100...599).contains(code),
      base[position + 4] == UInt8(ascii: " ") || base[position + 4] == UInt8(ascii: "\r")
    else { return .failed(.malformedStatusLine) }
    status = code
    var high: UInt32 = 0
    let reason = position + 4
    let lineEnd = reason + cbytes_value_run(base + reason, count - reason, &high)
    if lineEnd - start > limits.startLineBytesMax { return .failed(.malformedStatusLine) }
    guard lineEnd < count else { return .needMore }
    guard base[lineEnd] == UInt8(ascii: "\r") else {
      return .failed(base[lineEnd] == UInt8(ascii: "\n") ? .bareLineFeed : .malformedStatusLine)
    }
    guard lineEnd + 1 < count else { return .needMore }
    guard base[lineEnd + 1] == UInt8(ascii: "\n") else { return .failed(.bareCarriageReturn) }
    position = lineEnd + 2
    return .done
  }
}

/// The syntax of `host [":" port]`, as in the Host field and in authorities (RFC 9110 section 7.2).
enum HostSyntax {
  /// True for a name, IPv4 address or bracketed IPv6 address, with an optional port; false when empty.
  ///
  /// Narrower than RFC 3986: no registered name holds a sub-delimiter, and a comma there would look like two fields
  /// that were merged.
  static func isValid(_ text: UnsafeRawBufferPointer) -> Bool {
    guard let start = text.baseAddress?.assumingMemoryBound(to: UInt8.self), !text.isEmpty else {
      return false
    }
    var end: Int
    if text[0] == UInt8(ascii: "[") {
      end = 1
      while end < text.count, text[end] != UInt8(ascii: "]") {
        let isPart =
          Hex.value(text[end]) != nil || text[end] == UInt8(ascii: ":") || text[end] == UInt8(ascii: ".")
        guard isPart else { return false }
        end += 1
      }
      guard end < text.count, end > 2 else { return false }
      end += 1
    } else {
      end = cbytes_class_run(start, text.count, UInt8(CBYTES_HOST))
      guard end > 0 else { return false }
    }
    if end == text.count { return true }
    guard text[end] == UInt8(ascii: ":"), text.count - end <= 6 else { return false }
    for index in (end + 1)..<text.count {
      guard start[index] >= UInt8(ascii: "0"), start[index] <= UInt8(ascii: "9") else { return false }
    }
    return true
  }
}
