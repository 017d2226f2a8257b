// Whom a request comes from, when proxies stand between: `forwarded` (RFC 7239) and `x-forwarded-for`.

internal import Base
package import EventLoop
internal import HTTP
internal import Transport

/// The header in which trusted proxies tell of their client.
package enum ForwardedHeader: String, Sendable {
  case xForwardedFor = "x-forwarded-for"
  case forwarded
}

/// Which peers are believed when they say whom they speak for, and by which header.
///
/// A proxy appends to one of the two headers, and most pass the other one on as it came: whatever stands there was written
/// by the caller. Which one that is cannot be told from a request, so it is never guessed: only the configured header counts.
package struct TrustedProxies: Sendable {
  package var ranges: AddressRanges?
  package var header: ForwardedHeader

  package init(_ ranges: AddressRanges? = nil, header: ForwardedHeader = .xForwardedFor) {
    self.ranges = ranges
    self.header = header
  }

  /// True for the header that proxies do not write: it is the caller's, and goes to no worker.
  func isStrange(_ known: KnownHeader) -> Bool {
    switch known {
    case .forwarded: header != .forwarded
    case .xForwardedFor, .xForwardedProto, .xForwardedHost: header != .xForwardedFor
    default: false
    }
  }

  /// True when this peer may say so.
  func trusts(_ peer: SocketAddress?) -> Bool {
    guard let ranges, let peer else { return false }
    return ranges.contains(peer)
  }

  /// The address of the client: the peer's own, unless that is a trusted proxy; then the last one in the list that is none.
  /// An element that is no address ends the search: nobody vouches for what stands before it.
  func client(_ fields: HeaderFields, peer: SocketAddress?) -> String? {
    guard var client = peer else { return nil }
    guard trusts(peer) else { return client.host }
    var elements: [String] = []
    for index in 0..<fields.count {
      let field = fields[index]
      switch field.known {
      case .forwarded where header == .forwarded: elements += Self.forwardedFor(field.value.text)
      case .xForwardedFor where header == .xForwardedFor:
        elements += field.value.text.split(separator: ",").map(String.init)
      default: break
      }
    }
    for element in elements.reversed() {
      guard let address = Self.address(element) else { break }
      client = address
      if !trusts(address) { break }
    }
    return client.host
  }

  /// The `for` parameters in order; an element without one is an empty text.
  private static func forwardedFor(_ value: String) -> [String] {
    value.split(separator: ",", omittingEmptySubsequences: false).map { element in
      for part in element.split(separator: ";") {
        let pair = part.split(separator: "=", maxSplits: 1)
        guard pair.count == 2, pair[0].trimmedOfBlanks.lowercased() == "for" else { continue }
        let name = pair[1].trimmedOfBlanks
        return name.hasPrefix("\"") && name.hasSuffix("\"") && name.count >= 2
          ? String(name.dropFirst().dropLast()) : String(name)
      }
      return ""
    }
  }

  /// Reads `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]:80`; nil for `unknown`, hidden names and the like.
  private static func address(_ text: String) -> SocketAddress? {
    var host = Substring(text).trimmedOfBlanks
    if host.hasPrefix("[") {
      host = host.dropFirst().prefix { $0 != "]" }
    } else if host.count(where: { $0 == ":" }) == 1 {
      host = host.prefix { $0 != ":" }
    }
    return SocketAddress(ip: String(host))
  }
}

extension Substring {
  fileprivate var trimmedOfBlanks: Substring {
    var rest = drop { $0 == " " || $0 == "\t" }
    while rest.last == " " || rest.last == "\t" { rest.removeLast() }
    return rest
  }
}
