// The address of an attached engine.

internal import Base

/// An `http://host[:port][/path]` URL in its parts.
struct EngineURL: Sendable, Equatable {
  let host: String
  let port: UInt16
  /// The Host field.
  let authority: String
  /// What stands before `/v1/...`; empty, or starting with a slash and not ending in one.
  let pathPrefix: String

  /// Reads a URL; a path that ends in `/v1` means the same as one without. Throws what is wrong with it.
  init(_ text: String) throws(WorkerStartError) {
    let scheme = "http://"
    guard text.lowercased().hasPrefix(scheme) else {
      throw WorkerStartError("--engine-url must start with http://, not '\(text)'")
    }
    let rest = text.dropFirst(scheme.count)
    let slash = rest.firstIndex(of: "/") ?? rest.endIndex
    let authority = rest[..<slash]
    guard !authority.isEmpty, !authority.contains("@"), rest.utf8.allSatisfy({ (0x21...0x7e).contains($0) }),
      !rest.contains("?"), !rest.contains("#")
    else { throw WorkerStartError("--engine-url '\(text)' is not http://host:port") }
    var path = rest[slash...]
    while path.hasSuffix("/") { path = path.dropLast() }
    if path.hasSuffix("/v1") { path = path.dropLast(3) }
    self.authority = String(authority)
    pathPrefix = String(path)
    // An IPv6 address stands in brackets, so that its colons are not taken for the port's.
    let hostEnd: Substring.Index
    if authority.hasPrefix("["), let bracket = authority.lastIndex(of: "]") {
      host = String(authority[authority.index(after: authority.startIndex)..<bracket])
      hostEnd = authority.index(after: bracket)
    } else {
      hostEnd = authority.lastIndex(of: ":") ?? authority.endIndex
      host = String(authority[..<hostEnd])
    }
    let tail = authority[hostEnd...]
    guard !host.isEmpty, tail.isEmpty || tail.hasPrefix(":"),
      let port = tail.isEmpty ? 80 : UInt16(tail.dropFirst()),
      port > 0
    else { throw WorkerStartError("--engine-url '\(text)' has no usable host and port") }
    self.port = port
  }
}

extension WorkerConfiguration {
  /// Host and port of an engine's URL; nil when it is none that could be used.
  package static func engineAddress(_ url: String) -> (host: String, port: UInt16)? {
    guard let url = try? EngineURL(url) else { return nil }
    return (url.host, url.port)
  }
}
