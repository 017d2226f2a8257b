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
    guard let base = bytes.baseAddress else { return .needMore }
    var scan = HeadScan(base.assumingMemoryBound(to: UInt8.self), bytes.count, limits)
    if alreadyScanned > 0 {
      switch resume(&scan, &alreadyScanned) {
      case .done: break
      case .needMore: return .needMore
      case .failed(let error): return .failed(error)
      }
    }
    var line = RequestLine()
    switch scan.requestLine(&line) {
    case .done: break
    case .needMore: return incomplete(scan, &alreadyScanned).map { .failed($0) } ?? .needMore
    case .failed(let error): return .failed(error)
    }
    switch scan.fieldLines(entries, firstIndexes, rejectInvalidUTF8: true) {
    case .done: break
    case .needMore: return incomplete(scan, &alreadyScanned).map { .failed($0) } ?? .needMore
    case .failed(let error): return .failed(error)
    }
    return finishRequest(scan, line)
  }

  /// Parses the head of a response to a request with method `toMethod` at the start of `bytes`.
  package func parseResponse(_ bytes: UnsafeRawBufferPointer, alreadyScanned: inout Int, toMethod: Method)
    -> ResponseResult
  {
    guard let base = bytes.baseAddress else { return .needMore }
    var scan = HeadScan(base.assumingMemoryBound(to: UInt8.self), bytes.count, limits)
    if alreadyScanned > 0 {
      switch resume(&scan, &alreadyScanned) {
      case .done: break
      case .needMore: return .needMore
      case .failed(let error): return .failed(error)
      }
    }
    var status = 0
    switch scan.statusLine(&status) {
    case .done: break
    case .needMore: return incomplete(scan, &alreadyScanned).map { .failed($0) } ?? .needMore
    case .failed(let error): return .failed(error)
    }
    switch scan.fieldLines(entries, firstIndexes, rejectInvalidUTF8: false) {
    case .done: break
    case .needMore: return incomplete(scan, &alreadyScanned).map { .failed($0) } ?? .needMore
    case .failed(let error): return .failed(error)
    }
    return finishResponse(scan, status, toMethod)
  }

  /// Looks only at what is new since the last call: lines that have become whole are judged at once, and the head
  /// is parsed from its start (`done`) when its empty line is there, or when its first line has just ended.
  private func resume(_ scan: inout HeadScan, _ alreadyScanned: inout Int) -> HeadStep {
    let seen = min(alreadyScanned, scan.count)
    let newLine = seen + cbytes_find(scan.base + seen, scan.count - seen, UInt8(ascii: "\n"))
    if newLine == scan.count {
      return incomplete(scan, &alreadyScanned).map { .failed($0) } ?? .needMore
    }
    var lineStart = seen
    while lineStart > 0, scan.base[lineStart - 1] != UInt8(ascii: "\n") { lineStart -= 1 }
    // Up to 2 the first line is the start line, perhaps after an empty one.
    if lineStart <= 2 { return .done }
    var lines = scan
    lines.position = lineStart
    switch lines.fieldLines(entries, firstIndexes, rejectInvalidUTF8: false) {
    case .done: return .done
    case .needMore: return incomplete(scan, &alreadyScanned).map { .failed($0) } ?? .needMore
    case .failed(let error): return .failed(error)
    }
  }

  /// Notes how far the bytes were looked at, and enforces the limits on a head that is not whole.
  private func incomplete(_ scan: HeadScan, _ alreadyScanned: inout Int) -> HTTP1ParseError? {
    alreadyScanned = scan.count
    if scan.count > limits.startLineBytesMax {
      let start = scan.emptyLineLength
      let end = start + cbytes_find(scan.base + start, scan.count - start, UInt8(ascii: "\n"))
      // The line's CR may be there already.
      if end - start > limits.startLineBytesMax + 1 { return .requestLineTooLong }
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
