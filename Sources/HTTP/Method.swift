// Request methods.

/// A request method (RFC 9110 section 9). Names are case-sensitive; any name not listed is `other`.
package enum Method: UInt8, Sendable {
  case get, head, post, put, delete, options, patch, trace, connect, other

  /// Recognises the method whose name is `name`.
  package init(_ name: UnsafeRawBufferPointer) {
    switch name.count {
    case 3:
      self = name.spells("GET") ? .get : name.spells("PUT") ? .put : .other
    case 4:
      self = name.spells("POST") ? .post : name.spells("HEAD") ? .head : .other
    case 5:
      self = name.spells("PATCH") ? .patch : name.spells("TRACE") ? .trace : .other
    case 6:
      self = name.spells("DELETE") ? .delete : .other
    case 7:
      self = name.spells("OPTIONS") ? .options : name.spells("CONNECT") ? .connect : .other
    default:
      self = .other
    }
  }

  /// The method's name; empty for `other`, whose name only the request knows.
  package var name: StaticString {
    switch self {
    case .get: "GET"
    case .head: "HEAD"
    case .post: "POST"
    case .put: "PUT"
    case .delete: "DELETE"
    case .options: "OPTIONS"
    case .patch: "PATCH"
    case .trace: "TRACE"
    case .connect: "CONNECT"
    case .other: ""
    }
  }
}
