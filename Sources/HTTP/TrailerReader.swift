// The trailer section of a chunked body.

internal import Base
internal import CBytes

/// Gathers, checks and filters trailer lines (RFC 9112 section 7.1.2). It copies: trailers are rare and small.
struct TrailerReader: ~Copyable {
  /// Whole lines that may be passed on, then the line that is being gathered.
  private var buffer = ByteBuffer()
  /// Bytes of `buffer` that hold whole lines.
  private var kept = 0
  private var totalBytes = 0
  private let limits: HTTP1Limits

  init(_ limits: HTTP1Limits) { self.limits = limits }

  /// The lines that may be passed on, each with its CRLF.
  var lines: UnsafeRawBufferPointer { buffer.readable.slice(0..<kept) }

  /// Reads on from `input[consumed]`; `done` when the empty line has been read.
  mutating func read(_ input: UnsafeRawBufferPointer, _ consumed: inout Int) -> HeadStep {
    // Usually there are none.
    if buffer.isEmpty, consumed + 1 < input.count, input[consumed] == UInt8(ascii: "\r"),
      input[consumed + 1] == UInt8(ascii: "\n")
    {
      consumed += 2
      return .done
    }
    while consumed < input.count {
      let rest = input.slice(consumed..<input.count)
      guard let start = rest.baseAddress?.assumingMemoryBound(to: UInt8.self) else { break }
      let newLine = cbytes_find(start, rest.count, UInt8(ascii: "\n"))
      let taken = min(newLine + 1, rest.count)
      totalBytes += taken
      if totalBytes > limits.trailerBytesMax { return .failed(.trailersTooLarge) }
      buffer.append(rest.slice(0..<taken))
      consumed += taken
      if newLine == rest.count { return .needMore }
      switch lineEnded() {
      case .needMore: continue
      case let step: return step
      }
    }
    return .needMore
  }

  /// Judges the line that has just become whole: `needMore` when another must follow.
  private mutating func lineEnded() -> HeadStep {
    let bytes = buffer.readable
    let line = bytes.slice(kept..<bytes.count)
    if line.count == 2, line[0] == UInt8(ascii: "\r") {
      buffer.truncate(to: kept)
      return .done
    }
    guard let base = line.baseAddress?.assumingMemoryBound(to: UInt8.self) else { return .needMore }
    var position = 0
    var entry = FieldEntry(nameStart: 0, nameEnd: 0, valueStart: 0, valueEnd: 0, known: .other)
    var high: UInt32 = 0
    let step = withUnsafeMutablePointer(to: &entry) {
      HeadScan.fieldLine(base, line.count, &position, $0, &high)
    }
    switch step {
    case .done: break
    // The line ends in LF, so more bytes would not help it.
    case .needMore: return .failed(.malformedTrailer)
    case .failed(let error): return .failed(error)
    }
    guard position == line.count else { return .failed(.bareCarriageReturn) }
    if isForbidden(line.slice(0..<Int(entry.nameEnd))) {
      buffer.truncate(to: kept)
    } else {
      kept = bytes.count
    }
    return .needMore
  }

  /// Names that frame, route, modify or authenticate a message must not come late (RFC 9110 section 6.5.1): they are
  /// dropped, so that nobody behind us merges them into a head.
  private func isForbidden(_ name: UnsafeRawBufferPointer) -> Bool {
    switch KnownHeader(name) {
    case .host, .contentLength, .transferEncoding, .connection, .contentType, .contentEncoding, .contentRange,
      .expect, .te, .trailer, .upgrade, .keepAlive, .proxyConnection, .proxyAuthenticate, .proxyAuthorization,
      .http2Settings, .authorization, .wwwAuthenticate, .cookie, .setCookie, .xAPIKey, .cacheControl, .pragma,
      .range, .maxForwards, .date, .location, .retryAfter, .vary, .allow, .xRequestID, .requestID,
      .traceparent, .tracestate, .baggage, .b3, .xB3TraceID, .xB3SpanID, .xB3ParentSpanID, .xB3Sampled,
      .xB3Flags,
      .forwarded, .xForwardedFor, .xForwardedHost, .xForwardedProto, .xDynamoWorkerID:
      true
    default:
      false
    }
  }
}
