// Which names the query port answers to, so that no page of a stranger's reads traces through its visitor's browser.

internal import Base

/// The check of `host` against DNS rebinding: a stranger's domain that is made to point at this machine still says its
/// own name. Addresses and names that nobody outside can own pass; what else is to pass is listed.
struct AllowedHosts: Sendable {
  private let names: Set<String>
  private let allowsAll: Bool

  /// `names` without ports, in either case; `*` lets everything pass.
  init(_ names: [String]) {
    self.names = Set(names.map { $0.lowercased() })
    allowsAll = names.contains("*")
  }

  /// Whether a request with this `host` is answered. Browsers always send one.
  func admit(_ host: UnsafeRawBufferPointer?) -> Bool {
    guard !allowsAll, let host else { return true }
    var name = host.text.lowercased()[...]
    if name.hasPrefix("[") { return name.contains("]") }
    if let colon = name.lastIndex(of: ":") { name = name[..<colon] }
    if name.hasSuffix(".") { name.removeLast() }
    let labels = name.split(separator: ".", omittingEmptySubsequences: false)
    guard let last = labels.last, !last.isEmpty else { return false }
    // A name without a dot is one of the machine's or of its own network (a container, a service).
    if labels.count == 1 { return true }
    if labels.count == 4, labels.allSatisfy({ UInt8($0) != nil }) { return true }
    return Self.privateEnds.contains(String(last)) || name.hasSuffix(".cluster.local")
      || names.contains(String(name))
  }

  /// Top-level names that cannot be bought (RFC 6761; ICANN's resolution on .internal), and those of Kubernetes services.
  private static let privateEnds: Set<String> = ["localhost", "internal", "svc"]
}
