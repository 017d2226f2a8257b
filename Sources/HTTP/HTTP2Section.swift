// A received header section as HTTP/1.1 text: one request model, two codecs.

internal import Base

/// Collects the lines of one section and writes them as the head, or the trailer lines, of HTTP/1.1: what reads them is
/// the same strict parser, so that a message means the same in both versions.
///
/// The pseudo-headers of a request come before its fields (RFC 9113 section 8.3, which the library enforces), so the
/// fields go straight into the text behind room for nothing; the start line is put before them at the end.
struct HTTP2Section: ~Copyable {
  private(set) var isOpen = false
  private(set) var isTrailers = false
  /// A request's head over its bounds: it is read to its end, for an answer, and not kept.
  private(set) var isTooLarge = false
  private(set) var start = 0
  /// Whose it is. Unowned in effect: the session owns streams while sections of theirs are open.
  private(set) var stream: HTTP2Stream?
  private var lines = 0
  private var listBytes = 0
  private var method = ByteBuffer()
  private var path = ByteBuffer()
  private var authority = ByteBuffer()
  /// Cookies that came as several lines are one for HTTP/1.1 (RFC 9113 section 8.2.3).
  private var cookies = ByteBuffer()
  private var hasLength = false
  private var hasStartLine = false
  private var isRequest = false

  mutating func begin(at start: Int, on stream: HTTP2Stream?, isRequest: Bool) {
    self.start = start
    self.stream = stream
    self.isRequest = isRequest
    isOpen = true
    isTooLarge = false
    lines = 0
    listBytes = 0
    hasLength = false
    hasStartLine = false
    method.removeAll()
    path.removeAll()
    authority.removeAll()
    cookies.removeAll()
  }

  /// Its stream is gone.
  mutating func drop() {
    isOpen = false
    stream = nil
  }

  /// Takes a line; false when it cannot be said in HTTP/1.1, or the section is over its bounds and no request's head.
  mutating func append(
    _ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer, isServer: Bool,
    limits: HTTP2MultiplexerLimits, to text: inout ByteBuffer
  ) -> Bool {
    if isTooLarge { return true }
    lines += 1
    listBytes += name.count + value.count + 32
    guard lines <= limits.headerCount, listBytes <= limits.headerListBytes else {
      isTooLarge = isRequest
      text.truncate(to: start)
      return isRequest
    }
    guard Self.isOneLine(value) else { return false }
    if name.first == UInt8(ascii: ":") { return take(pseudo: name, value, &text) }
    if isServer {
      if name.equals("cookie") {
        if !cookies.isEmpty { cookies.append("; " as StaticString) }
        cookies.append(value)
        return true
      }
      // The authority says the same; where they differ the parser refuses two hosts.
      if name.equals("host"), value.equals(authority.readable) { return true }
    }
    if name.equals("content-length") { hasLength = true }
    text.append(name)
    text.append(": " as StaticString)
    text.append(value)
    text.append("\r\n" as StaticString)
    return true
  }

  private mutating func take(
    pseudo name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer, _ text: inout ByteBuffer
  ) -> Bool {
    if name.equals(":status") {
      guard let status = value.decimal, value.count == 3 else { return false }
      hasStartLine = true
      text.beginResponse(status: status)
      return true
    }
    hasStartLine = true
    guard !value.contains(0x20) else { return false }
    if name.equals(":method") {
      method.append(value)
    } else if name.equals(":path") {
      path.append(value)
    } else if name.equals(":authority") {
      authority.append(value)
    }
    return true
  }

  /// The library checks values too; a line break in one would be a smuggled line here.
  private static func isOneLine(_ value: UnsafeRawBufferPointer) -> Bool {
    value.allSatisfy { $0 >= 0x20 || $0 == 0x09 }
  }

  /// Completes the text and returns where it lies.
  mutating func finish(isServer: Bool, endsStream: Bool, in text: inout ByteBuffer) -> Range<Int> {
    isOpen = false
    stream = nil
    isTrailers = !hasStartLine
    if !hasStartLine { return start..<text.count }
    if isServer { finishRequest(endsStream: endsStream, in: &text) }
    text.endHead()
    return start..<text.count
  }

  /// Puts the request line before the fields. A body of unknown length is told as a chunked one.
  private mutating func finishRequest(endsStream: Bool, in text: inout ByteBuffer) {
    var fields = ByteBuffer(capacity: text.count - start)
    fields.append(text.readable.slice(start..<text.count))
    text.truncate(to: start)
    text.beginRequest(method.readable, target: path.readable)
    if !authority.isEmpty {
      text.append("host: " as StaticString)
      text.append(authority.readable)
      text.append("\r\n" as StaticString)
    }
    text.append(fields.readable)
    if !cookies.isEmpty {
      text.append("cookie: " as StaticString)
      text.append(cookies.readable)
      text.append("\r\n" as StaticString)
    }
    if !endsStream, !hasLength { text.append("transfer-encoding: chunked\r\n" as StaticString) }
  }
}
