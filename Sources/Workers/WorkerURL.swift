// The address of a worker as its user writes it, and the id that follows from it.

internal import Base
internal import EventLoop
internal import Glibc

/// A worker URL that cannot be used, and why.
package struct WorkerURLFault: Sendable, Equatable, CustomStringConvertible {
  package let url: String
  package let reason: String

  package var description: String { "'\(url)': \(reason)" }
}

/// A worker's URL in its parts: `http://host[:port][/prefix]`, or `dns+http://…` for one worker per address; `https` and
/// `h2c` likewise.
package struct WorkerURL: Sendable, Hashable {
  /// Name or numeric address, in lower case and without brackets.
  package let host: String
  package let port: UInt16
  /// What stands before `/v1/…`: empty, or starting with a slash and not ending in one.
  package let pathPrefix: String
  /// Each address of the name is a worker of its own.
  package let isPerAddress: Bool
  /// Spoken to over TLS.
  package let isSecure: Bool
  /// Speaks HTTP/2 by prior knowledge, over plain text.
  package let isMultiplexed: Bool
  /// What its worker does of a request, as the setting that names it says.
  var role = WorkerRole.aggregated

  private init(
    host: String, port: UInt16, pathPrefix: String, isPerAddress: Bool, isSecure: Bool, isMultiplexed: Bool
  ) {
    self.isSecure = isSecure
    self.isMultiplexed = isMultiplexed
    self.host = host
    self.port = port
    self.pathPrefix = pathPrefix
    self.isPerAddress = isPerAddress
  }

  /// Reads a URL. A path that ends in `/v1` means the same as one without: SDKs are given their base URL that way.
  package static func parse(_ text: String) -> Result<WorkerURL, WorkerURLRefusal> {
    guard let separator = text.firstRange(ofSeparator: "://") else {
      return .failure(
        WorkerURLRefusal(
          reason: "must be http://host:port, or with https://, h2c:// or dns+ before one of them"))
    }
    let scheme = text[..<separator.lowerBound].lowercased()
    switch scheme {
    case "http", "dns+http", "https", "dns+https", "h2c", "dns+h2c": break
    default:
      return .failure(
        WorkerURLRefusal(reason: "unknown scheme; use http://, https://, h2c:// or dns+http://"))
    }
    let isSecure = scheme.hasSuffix("https")
    let rest = text[separator.upperBound...]
    guard rest.utf8.allSatisfy({ (0x21...0x7e).contains($0) }) else {
      return .failure(WorkerURLRefusal(reason: "holds white space or bytes that are not ASCII"))
    }
    guard !rest.contains("?"), !rest.contains("#") else {
      return .failure(WorkerURLRefusal(reason: "a query or fragment has no meaning here"))
    }
    let slash = rest.firstIndex(of: "/") ?? rest.endIndex
    guard !rest[..<slash].contains("@") else {
      return .failure(WorkerURLRefusal(reason: "holds credentials; use --worker-api-key-file"))
    }
    guard let (host, port) = split(authority: rest[..<slash], defaultPort: isSecure ? 443 : 80)
    else {
      return .failure(WorkerURLRefusal(reason: "has no usable host and port"))
    }
    var path = rest[slash...]
    while path.hasSuffix("/") { path = path.dropLast() }
    if path.hasSuffix("/v1") { path = path.dropLast(3) }
    while path.hasSuffix("/") { path = path.dropLast() }
    return .success(
      WorkerURL(
        host: host.lowercased(), port: port, pathPrefix: String(path), isPerAddress: scheme.hasPrefix("dns+"),
        isSecure: isSecure, isMultiplexed: scheme.hasSuffix("h2c")))
  }

  /// Host and port of an authority. An IPv6 address stands in brackets.
  private static func split(authority: Substring, defaultPort: UInt16) -> (String, UInt16)? {
    var hostEnd = authority.lastIndex(of: ":") ?? authority.endIndex
    var host = authority[..<hostEnd]
    if authority.hasPrefix("[") {
      guard let bracket = authority.lastIndex(of: "]") else { return nil }
      hostEnd = authority.index(after: bracket)
      host = authority[authority.index(after: authority.startIndex)..<bracket]
      guard isNumeric(String(host)) else { return nil }
    } else if host.contains(":") || host.contains("[") || host.contains("]") {
      return nil
    }
    let tail = authority[hostEnd...]
    guard !host.isEmpty, host.utf8.count <= 253 else { return nil }
    if tail.isEmpty { return (String(host), defaultPort) }
    guard tail.hasPrefix(":"), tail.dropFirst().utf8.allSatisfy({ (0x30...0x39).contains($0) }),
      let port = UInt16(tail.dropFirst()), port > 0
    else { return nil }
    return (String(host), port)
  }

  /// The URL in one spelling, so that two spellings of a worker have one id.
  package var text: String {
    let scheme = isMultiplexed ? "h2c" : isSecure ? "https" : "http"
    return "\(isPerAddress ? "dns+" : "")\(scheme)://\(authority)\(pathPrefix)"
  }

  /// The Host field.
  package var authority: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }

  /// The worker's id: 1 to 2^53 - 1, the same in every run.
  package var id: UInt64 {
    var text = text
    let hash = text.withUTF8 { XXH3.hash(UnsafeRawBufferPointer($0)) } & (1 << 53 - 1)
    return hash == 0 ? 1 : hash
  }

  /// True when the host is an address and no name has to be resolved.
  package var isNumeric: Bool { Self.isNumeric(host) }

  private static func isNumeric(_ host: String) -> Bool {
    var address = in6_addr()
    return inet_pton(AF_INET, host, &address) == 1 || inet_pton(AF_INET6, host, &address) == 1
  }

  /// One worker of a `dns+http`, `dns+https` or `dns+h2c` URL.
  func worker(at address: SocketAddress) -> WorkerURL {
    var url = WorkerURL(
      host: address.host, port: port, pathPrefix: pathPrefix, isPerAddress: false, isSecure: isSecure,
      isMultiplexed: isMultiplexed)
    url.role = role
    return url
  }
}

/// Why a text is no worker URL.
package struct WorkerURLRefusal: Error, Sendable, Equatable {
  package let reason: String
}

extension String {
  /// The first place of an ASCII separator.
  fileprivate func firstRange(ofSeparator separator: String) -> Range<String.Index>? {
    var start = startIndex
    while start < endIndex {
      if self[start...].hasPrefix(separator) {
        return start..<index(start, offsetBy: separator.count)
      }
      start = index(after: start)
    }
    return nil
  }
}
