// What a parsed request or response head tells: borrowed views over the bytes that were parsed.

/// How a message's body is delimited (RFC 9112 section 6).
package enum BodyFraming: Sendable {
  /// There is no body, whatever the fields say.
  case none
  /// Exactly this many bytes follow.
  case length(Int)
  /// Chunks follow, then trailers.
  case chunked
  /// Bytes follow until the connection closes; responses only.
  case untilClose
}

/// A request's head. A view: valid only until the parser's next parse, and while the parsed bytes stay in place.
package struct RequestHead {
  /// The method; ``methodText`` has the name when it is `other`.
  package let method: Method
  /// 0 or 1.
  package let minorVersion: UInt8
  /// Whether the connection may be used again once the exchange is over.
  package let keepAlive: Bool
  /// True when the client waits for a 100 before it sends the body (HTTP/1.1 only).
  package let expectsContinue: Bool
  /// How the body is delimited; never `untilClose`.
  package let framing: BodyFraming
  /// The header fields.
  package let fields: HeaderFields
  /// It came over HTTP/2: `minorVersion` then says how it is told here.
  package var isMultiplexed = false
  @usableFromInline let line: RequestLine

  /// The method's name as sent.
  @inlinable package var methodText: UnsafeRawBufferPointer { fields.slice(line.methodStart, line.methodEnd) }
  /// The whole request target as sent, in any of its four forms (RFC 9112 section 3.2).
  @inlinable package var target: UnsafeRawBufferPointer { fields.slice(line.targetStart, line.targetEnd) }
  /// The target's path, not percent-decoded. `/` when an absolute target has none; `*` and a CONNECT's authority
  /// stand for themselves.
  @inlinable
  package var path: UnsafeRawBufferPointer {
    line.pathStart == line.pathEnd ? rootPath : fields.slice(line.pathStart, line.pathEnd)
  }
  /// The query without its question mark; nil when the target has none.
  @inlinable
  package var query: UnsafeRawBufferPointer? {
    line.queryStart == 0 ? nil : fields.slice(line.queryStart, line.targetEnd)
  }
  /// True when an absolute or authority form was sent, as to a forward proxy.
  package var isAbsolute: Bool { line.authorityEnd != 0 }
}

/// Offsets of the parts of a request line.
@usableFromInline
struct RequestLine {
  @usableFromInline var methodStart: UInt32 = 0
  @usableFromInline var methodEnd: UInt32 = 0
  @usableFromInline var targetStart: UInt32 = 0
  @usableFromInline var targetEnd: UInt32 = 0
  @usableFromInline var pathStart: UInt32 = 0
  @usableFromInline var pathEnd: UInt32 = 0
  /// First byte of the query; 0 when there is none.
  @usableFromInline var queryStart: UInt32 = 0
  var authorityStart: UInt32 = 0
  /// End of an absolute or authority form's authority; 0 in the other forms.
  var authorityEnd: UInt32 = 0
  var method = Method.other
}

/// The path of an absolute target that has none.
@usableFromInline
var rootPath: UnsafeRawBufferPointer {
  let text: StaticString = "/"
  return UnsafeRawBufferPointer(start: text.utf8Start, count: 1)
}

/// A response's head. A view: valid only until the parser's next parse, and while the parsed bytes stay in place.
package struct ResponseHead {
  /// 100 to 599.
  package let status: Int
  /// 0 or 1.
  package let minorVersion: UInt8
  /// Whether the connection may be used again once the exchange is over.
  package let keepAlive: Bool
  /// How the body is delimited, the request's method considered.
  package let framing: BodyFraming
  /// The header fields.
  package let fields: HeaderFields
}

/// What a parse of a request head came to.
package enum RequestResult {
  /// The head is not whole; call again with the same bytes and more.
  case needMore
  /// The head, and the number of bytes it takes; the body begins there.
  case head(RequestHead, length: Int)
  /// Refuse and close.
  case failed(HTTP1ParseError)
}

/// What a parse of a response head came to.
package enum ResponseResult {
  /// The head is not whole; call again with the same bytes and more.
  case needMore
  /// The head, and the number of bytes it takes; the body begins there. A status below 200 is interim: parse again
  /// after it.
  case head(ResponseHead, length: Int)
  /// The upstream cannot be trusted: close.
  case failed(HTTP1ParseError)
}
