// Header field names that this package acts on, and how they are recognised.

/// A field name that some part of the package acts on; every other name is `other`.
///
/// Recognition is exact but for letter case: `x_request_id` is `other`, so that a name with underscores never
/// stands in for one with hyphens.
@usableFromInline
package enum KnownHeader: UInt8, Sendable, CaseIterable {
  case other, host, contentLength, transferEncoding, connection, contentType, expect, xRequestID, requestID,
    traceparent, tracestate, baggage, authorization, accept, acceptEncoding, contentEncoding, te, trailer,
    upgrade, keepAlive, proxyConnection, proxyAuthenticate, proxyAuthorization, date, server, userAgent,
    retryAfter, cacheControl, traceresponse, serverTiming, xAccelBuffering, forwarded, xForwardedFor,
    xForwardedProto, xForwardedHost, xDynamoWorkerID, via, origin, cookie, setCookie, xAPIKey, location,
    allow, vary, range, contentRange, maxForwards, pragma, wwwAuthenticate, http2Settings,
    xDynamoSessionID, xDynamoRequestPriority, xDynamoWorkerInstanceID,
    b3, xB3TraceID, xB3SpanID, xB3ParentSpanID, xB3Sampled, xB3Flags, xTenantID

  /// Recognises a field name. `name` must be a token (RFC 9110 section 5.6.2).
  package init(_ name: UnsafeRawBufferPointer) {
    switch name.count {
    case ...9: self = Self.short(name)
    case 10...12: self = Self.middle(name)
    default: self = Self.long(name)
    }
  }

  /// The name in lower case; empty for `other`.
  package var name: StaticString {
    switch self {
    case .other: ""
    case .host: "host"
    case .contentLength: "content-length"
    case .transferEncoding: "transfer-encoding"
    case .connection: "connection"
    case .contentType: "content-type"
    case .expect: "expect"
    case .xRequestID: "x-request-id"
    case .requestID: "request-id"
    case .traceparent: "traceparent"
    case .tracestate: "tracestate"
    case .baggage: "baggage"
    case .authorization: "authorization"
    case .accept: "accept"
    case .acceptEncoding: "accept-encoding"
    case .contentEncoding: "content-encoding"
    case .te: "te"
    case .trailer: "trailer"
    case .upgrade: "upgrade"
    case .keepAlive: "keep-alive"
    case .proxyConnection: "proxy-connection"
    case .proxyAuthenticate: "proxy-authenticate"
    case .proxyAuthorization: "proxy-authorization"
    case .date: "date"
    case .server: "server"
    case .userAgent: "user-agent"
    case .retryAfter: "retry-after"
    case .cacheControl: "cache-control"
    case .traceresponse: "traceresponse"
    case .serverTiming: "server-timing"
    case .xAccelBuffering: "x-accel-buffering"
    case .forwarded: "forwarded"
    case .xForwardedFor: "x-forwarded-for"
    case .xForwardedProto: "x-forwarded-proto"
    case .xForwardedHost: "x-forwarded-host"
    case .xDynamoWorkerID: "x-dynamo-worker-id"
    case .via: "via"
    case .origin: "origin"
    case .cookie: "cookie"
    case .setCookie: "set-cookie"
    case .xAPIKey: "x-api-key"
    case .location: "location"
    case .allow: "allow"
    case .vary: "vary"
    case .range: "range"
    case .contentRange: "content-range"
    case .maxForwards: "max-forwards"
    case .pragma: "pragma"
    case .wwwAuthenticate: "www-authenticate"
    case .http2Settings: "http2-settings"
    case .xDynamoSessionID: "x-dynamo-session-id"
    case .xDynamoRequestPriority: "x-dynamo-request-priority"
    case .xDynamoWorkerInstanceID: "x-dynamo-worker-instance-id"
    case .b3: "b3"
    case .xB3TraceID: "x-b3-traceid"
    case .xB3SpanID: "x-b3-spanid"
    case .xB3ParentSpanID: "x-b3-parentspanid"
    case .xB3Sampled: "x-b3-sampled"
    case .xB3Flags: "x-b3-flags"
    case .xTenantID: "x-tenant-id"
    }
  }

  /// This name's bit in a ``KnownHeaderSet``.
  @inlinable package var bit: UInt64 { 1 &<< UInt64(rawValue) }
}

extension KnownHeader {
  private static func short(_ name: UnsafeRawBufferPointer) -> KnownHeader {
    switch name.count {
    case 2:
      if name.spellsToken("te") { return .te }
      if name.spellsToken("b3") { return .b3 }
    case 3:
      if name.spellsToken("via") { return .via }
    case 4:
      if name.spellsToken("host") { return .host }
      if name.spellsToken("date") { return .date }
      if name.spellsToken("vary") { return .vary }
    case 5:
      if name.spellsToken("allow") { return .allow }
      if name.spellsToken("range") { return .range }
    case 6:
      if name.spellsToken("expect") { return .expect }
      if name.spellsToken("accept") { return .accept }
      if name.spellsToken("server") { return .server }
      if name.spellsToken("origin") { return .origin }
      if name.spellsToken("cookie") { return .cookie }
      if name.spellsToken("pragma") { return .pragma }
    case 7:
      if name.spellsToken("baggage") { return .baggage }
      if name.spellsToken("trailer") { return .trailer }
      if name.spellsToken("upgrade") { return .upgrade }
    case 8:
      if name.spellsToken("location") { return .location }
    case 9:
      if name.spellsToken("forwarded") { return .forwarded }
      if name.spellsToken("x-api-key") { return .xAPIKey }
    default: break
    }
    return .other
  }

  private static func middle(_ name: UnsafeRawBufferPointer) -> KnownHeader {
    switch name.count {
    case 10:
      if name.spellsToken("connection") { return .connection }
      if name.spellsToken("request-id") { return .requestID }
      if name.spellsToken("tracestate") { return .tracestate }
      if name.spellsToken("keep-alive") { return .keepAlive }
      if name.spellsToken("user-agent") { return .userAgent }
      if name.spellsToken("set-cookie") { return .setCookie }
      if name.spellsToken("x-b3-flags") { return .xB3Flags }
    case 11:
      if name.spellsToken("traceparent") { return .traceparent }
      if name.spellsToken("retry-after") { return .retryAfter }
      if name.spellsToken("x-b3-spanid") { return .xB3SpanID }
      if name.spellsToken("x-tenant-id") { return .xTenantID }
    case 12:
      if name.spellsToken("content-type") { return .contentType }
      if name.spellsToken("x-request-id") { return .xRequestID }
      if name.spellsToken("max-forwards") { return .maxForwards }
      if name.spellsToken("x-b3-traceid") { return .xB3TraceID }
      if name.spellsToken("x-b3-sampled") { return .xB3Sampled }
    default: break
    }
    return .other
  }

  private static func long(_ name: UnsafeRawBufferPointer) -> KnownHeader {
    switch name.count {
    case 13:
      if name.spellsToken("authorization") { return .authorization }
      if name.spellsToken("cache-control") { return .cacheControl }
      if name.spellsToken("traceresponse") { return .traceresponse }
      if name.spellsToken("server-timing") { return .serverTiming }
      if name.spellsToken("content-range") { return .contentRange }
    case 14:
      if name.spellsToken("content-length") { return .contentLength }
      if name.spellsToken("http2-settings") { return .http2Settings }
    case 15:
      if name.spellsToken("accept-encoding") { return .acceptEncoding }
      if name.spellsToken("x-forwarded-for") { return .xForwardedFor }
    case 16:
      if name.spellsToken("content-encoding") { return .contentEncoding }
      if name.spellsToken("proxy-connection") { return .proxyConnection }
      if name.spellsToken("x-forwarded-host") { return .xForwardedHost }
      if name.spellsToken("www-authenticate") { return .wwwAuthenticate }
    case 17:
      if name.spellsToken("transfer-encoding") { return .transferEncoding }
      if name.spellsToken("x-accel-buffering") { return .xAccelBuffering }
      if name.spellsToken("x-forwarded-proto") { return .xForwardedProto }
      if name.spellsToken("x-b3-parentspanid") { return .xB3ParentSpanID }
    case 18:
      if name.spellsToken("proxy-authenticate") { return .proxyAuthenticate }
      if name.spellsToken("x-dynamo-worker-id") { return .xDynamoWorkerID }
    case 19:
      if name.spellsToken("proxy-authorization") { return .proxyAuthorization }
      if name.spellsToken("x-dynamo-session-id") { return .xDynamoSessionID }
    case 25:
      if name.spellsToken("x-dynamo-request-priority") { return .xDynamoRequestPriority }
    case 27:
      if name.spellsToken("x-dynamo-worker-instance-id") { return .xDynamoWorkerInstanceID }
    default: break
    }
    return .other
  }
}

/// A set of known field names, as one word.
@usableFromInline
package struct KnownHeaderSet: Sendable {
  @usableFromInline package var bits: UInt64

  /// Creates the empty set.
  @inlinable package init() { bits = 0 }

  /// Creates a set of `members`.
  package init(_ members: KnownHeader...) {
    bits = 0
    for member in members { insert(member) }
  }

  /// True when `header` is a member.
  @inlinable
  package func contains(_ header: KnownHeader) -> Bool { bits & header.bit != 0 }

  /// Adds `header`.
  @inlinable
  package mutating func insert(_ header: KnownHeader) { bits |= header.bit }
}
