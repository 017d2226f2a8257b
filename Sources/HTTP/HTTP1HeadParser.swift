// The HTTP/1.1 head parser: offsets into the caller's bytes, one field table that is used again and again.

internal import Base
internal import CBytes

/// Parses request and response heads, strictly (RFC 9112), without copying or allocating.
///
/// One parser serves all connections of a loop: what must survive between calls is the caller's `alreadyScanned`,
/// which starts at 0 for each head and is passed again with the same bytes and more. The table that a returned view
/// reads belongs to the parser, so that a view ends with the next parse. Not for use by two threads.
package final class HTTP1HeadParser {
  /// The bounds it enforces.
  package let limits: HTTP1Limits
  let entries: UnsafeMutablePointer<FieldEntry>
  let firstIndexes: UnsafeMutablePointer<UInt8>

  /// Creates a parser that enforces `limits`.
  package init(limits: HTTP1Limits = HTTP1Limits()) {
    var limits = limits
    // An index of the table must fit a byte, and offsets 32 bits.
    limits.fieldCountMax = min(max(limits.fieldCountMax, 1), 254)
    limits.headBytesMax = min(limits.headBytesMax, 1 << 30)
    limits.startLineBytesMax = min(limits.startLineBytesMax, limits.headBytesMax)
    self.limits = limits
    entries = .allocate(capacity: limits.fieldCountMax)
    firstIndexes = .allocate(capacity: 64)
    firstIndexes.initialize(repeating: 0, count: 64)
  }

  deinit {
    entries.deallocate()
    firstIndexes.deallocate()
  }

  /// Parses a request head at the start of `bytes`; one empty line before it is skipped (RFC 9112 section 2.2).
  package func parseRequest(_ bytes: UnsafeRawBufferPointer, alreadyScanned: inout Int) -> RequestResult {
    guard let base = bytes.baseAddress, !bytes.isEmpty else { return .needMore }
    var scan = HeadScan(base.assumingMemoryBound(to: UInt8.self), bytes.count, limits)
    var line = RequestLine()
    var step = resume(scan, alreadyScanned, isRequest: true)
    if case .done = step { step = scan.requestLine(&line) }
    if case .done = step { step = scan.fieldLines(entries, firstIndexes, rejectInvalidUTF8: true) }
    switch step {
    case .done: return finishRequest(scan, line)
    case .failed(let error): return .failed(error)
    case .needMore:
      alreadyScanned = scan.count
      if let error = boundError(scan, startLine: .requestLineTooLong) { return .failed(error) }
      return .needMore
    }
  }

  /// Parses the head of a response to a request with method `toMethod` at the start of `bytes`.
  package func parseResponse(_ bytes: UnsafeRawBufferPointer, alreadyScanned: inout Int, toMethod: Method)
    -> ResponseResult
  {
    guard let base = bytes.baseAddress, !bytes.isEmpty else { return .needMore }
    var scan = HeadScan(base.assumingMemoryBound(to: UInt8.self), bytes.count, limits)
    var status = 0
    var step = resume(scan, alreadyScanned, isRequest: false)
    if case .done = step { step = scan.statusLine(&status) }
    if case .done = step { step = scan.fieldLines(entries, firstIndexes, rejectInvalidUTF8: false) }
    switch step {
    case .done: return finishResponse(scan, status, toMethod)
    case .failed(let error): return .failed(error)
    case .needMore:
      alreadyScanned = scan.count
      if let error = boundError(scan, startLine: .malformedStatusLine) { return .failed(error) }
      return .needMore
    }
  }

  /// Looks only at what is new since the last call: lines that have become whole are judged at once, and the head
  /// is to be parsed from its start (`done`) when its empty line is there, or when its first line has just ended.
  private func resume(_ scan: HeadScan, _ alreadyScanned: Int, isRequest: Bool) -> HeadStep {
    if alreadyScanned <= 0 { return .done }
    let seen = min(alreadyScanned, scan.count)
    let newLine = seen + cbytes_find(scan.base + seen, scan.count - seen, UInt8(ascii: "\n"))
    if newLine == scan.count { return .needMore }
    var lineStart = seen
    while lineStart > 0, scan.base[lineStart - 1] != UInt8(ascii: "\n") { lineStart -= 1 }
    // Up to 2 the first line is the start line, perhaps after an empty one.
    if lineStart <= 2 { return .done }
    var lines = scan
    lines.position = lineStart
    return lines.fieldLines(entries, firstIndexes, rejectInvalidUTF8: isRequest)
  }

  /// Holds the limits against a head that is not whole; `startLine` says that its first line is too long.
  private func boundError(_ scan: HeadScan, startLine: HTTP1ParseError) -> HTTP1ParseError? {
    if scan.count > limits.startLineBytesMax {
      let start = scan.emptyLineLength
      let end = start + cbytes_find(scan.base + start, scan.count - start, UInt8(ascii: "\n"))
      // The line's CR may be there already.
      if end - start > limits.startLineBytesMax + 1 { return startLine }
    }
    return scan.count >= limits.headBytesMax ? .headTooLarge : nil
  }
}

/// How far a part of a head could be parsed.
enum HeadStep {
  case done
  case needMore
  case failed(HTTP1ParseError)
}
