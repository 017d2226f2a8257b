// HTTP/1.1 head text as the field lines of libnghttp2: what was composed once goes out in either version.

internal import Base
internal import CNghttp2

/// Turns head text into the library's lines, which point into that text: it must stay until they were submitted (the
/// library copies them then). The text comes from composers of ours and from heads that the strict parser took, so it
/// is whole and holds no stray line ends.
enum HTTP2HeadLines {
  /// Fields that HTTP/2 forbids (RFC 9113 section 8.2.2).
  private static func isForbidden(_ name: UnsafeRawBufferPointer) -> Bool {
    switch name.count {
    case 2: name.equals("te")
    case 7: name.equals("upgrade")
    case 10: name.equals("connection") || name.equals("keep-alive")
    case 16: name.equals("proxy-connection")
    case 17: name.equals("transfer-encoding")
    default: false
    }
  }

  /// Reads the request head at the start of `text`. Returns its length; nil when it is not whole.
  static func request(_ text: inout ByteBuffer, isSecure: Bool, into lines: inout [nghttp2_nv]) -> Int? {
    lines.removeAll(keepingCapacity: true)
    let bytes = text.readable
    guard let lineEnd = bytes.firstIndex(of: UInt8(ascii: "\r")),
      let methodEnd = bytes[..<lineEnd].firstIndex(of: UInt8(ascii: " ")),
      let targetEnd = bytes[..<lineEnd].lastIndex(of: UInt8(ascii: " ")), targetEnd > methodEnd
    else { return nil }
    let scheme: StaticString = isSecure ? "https" : "http"
    lines.append(line(":method", bytes.slice(0..<methodEnd)))
    lines.append(
      line(":scheme", UnsafeRawBufferPointer(start: scheme.utf8Start, count: scheme.utf8CodeUnitCount)))
    lines.append(line(":path", bytes.slice(methodEnd + 1..<targetEnd)))
    return fields(&text, from: lineEnd + 2, keepsLines: true, ofRequest: true, into: &lines)
  }

  /// Writes the answer's lines; `text` holds what they point into.
  static func response(
    status: Int, _ fields: UnsafeRawBufferPointer, in text: inout ByteBuffer, into lines: inout [nghttp2_nv]
  ) {
    lines.removeAll(keepingCapacity: true)
    text.append(decimal: status)
    text.append("\r\n" as StaticString)
    text.append(fields)
    text.append("\r\n" as StaticString)
    lines.append(line(":status", text.readable.slice(0..<3)))
    _ = self.fields(&text, from: 5, keepsLines: true, into: &lines)
  }

  /// Reads `name: value CRLF` lines from `start` on, up to an empty line or the end. Returns where it stopped. `host`
  /// is the authority in a request's head and says nothing anywhere else.
  @discardableResult
  static func fields(
    _ text: inout ByteBuffer, from start: Int, keepsLines: Bool = false, ofRequest: Bool = false,
    into lines: inout [nghttp2_nv]
  ) -> Int {
    if !keepsLines { lines.removeAll(keepingCapacity: true) }
    let bytes = text.readable
    guard let base = bytes.baseAddress else { return start }
    // The buffer is ours to change: HTTP/2 has names in lower case (RFC 9113 section 8.2.1).
    let memory = UnsafeMutableRawPointer(mutating: base).assumingMemoryBound(to: UInt8.self)
    var position = start
    while position < bytes.count {
      if memory[position] == UInt8(ascii: "\r") { return position + 2 }
      var colon = position
      while colon < bytes.count, memory[colon] != UInt8(ascii: ":") {
        if memory[colon] >= UInt8(ascii: "A"), memory[colon] <= UInt8(ascii: "Z") { memory[colon] |= 0x20 }
        colon += 1
      }
      let rest = bytes.slice(min(colon + 1, bytes.count)..<bytes.count)
      let end = colon + 1 + (rest.firstIndex(of: UInt8(ascii: "\r")) ?? rest.count)
      guard end <= bytes.count else { return bytes.count }
      let name = bytes.slice(position..<colon)
      let value = bytes.slice(colon + 1..<end).trimmed
      if name.equals("host") {
        guard ofRequest else {
          position = min(end + 2, bytes.count)
          continue
        }
        lines.append(line(":authority", value))
        // Pseudo-headers come first (RFC 9113 section 8.3).
        lines.swapAt(lines.count - 1, 3 < lines.count ? 3 : lines.count - 1)
      } else if !isForbidden(name) {
        lines.append(line(name, value))
      }
      position = min(end + 2, bytes.count)
    }
    return position
  }

  private static func line(_ name: StaticString, _ value: UnsafeRawBufferPointer) -> nghttp2_nv {
    line(UnsafeRawBufferPointer(start: name.utf8Start, count: name.utf8CodeUnitCount), value)
  }

  /// The library's struct is not const-correct; it only reads.
  private static func line(_ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) -> nghttp2_nv {
    nghttp2_nv(
      name: UnsafeMutablePointer(mutating: name.bindMemory(to: UInt8.self).baseAddress),
      value: UnsafeMutablePointer(mutating: value.bindMemory(to: UInt8.self).baseAddress),
      namelen: name.count, valuelen: value.count, flags: UInt8(NGHTTP2_NV_FLAG_NONE.rawValue))
  }
}
