// The API keys in force: who a caller is, by what it presents.

internal import Base

/// All keys of one reading of the file. Immutable: another reading makes another ring.
package final class KeyRing: Sendable {
  /// The longest key that is hashed at all, in bytes.
  package static let keyBytesMax = 1_024

  /// The keys in the file's order.
  package let keys: [APIKey]
  /// The names of all tenants, each once.
  package let tenants: [String]
  /// Keys by the first bits of their digests. The dictionary's own hash is seeded anew in each process, so that how long
  /// a look takes tells nothing of digests that are near; the whole digest is then compared in constant time.
  private let places: [UInt64: [Int]]

  /// - Parameter before: the ring that this one follows; a key of the same name goes on with what it has used.
  package init(_ entries: [APIKeyEntry], after before: KeyRing? = nil) {
    let known = Dictionary(
      before?.keys.map { ($0.entry.name, $0.usage) } ?? [], uniquingKeysWith: { first, _ in first })
    var tenants: [String] = []
    var indexes: [String: Int] = [:]
    var keys: [APIKey] = []
    var places: [UInt64: [Int]] = [:]
    for entry in entries {
      let index = indexes[entry.tenant] ?? tenants.count
      if index == tenants.count {
        indexes[entry.tenant] = index
        tenants.append(entry.tenant)
      }
      places[entry.digest.prefix, default: []].append(keys.count)
      keys.append(APIKey(entry, tenantIndex: index, usage: known[entry.name] ?? KeyUsage()))
    }
    self.keys = keys
    self.tenants = tenants
    self.places = places
  }

  /// The key that `secret` is; nil when it is none.
  package func find(_ secret: UnsafeRawBufferPointer) -> APIKey? {
    guard !secret.isEmpty, secret.count <= Self.keyBytesMax else { return nil }
    let digest = KeyDigest(of: secret)
    var found: APIKey?
    for place in places[digest.prefix] ?? [] where keys[place].entry.digest.matches(digest) {
      found = keys[place]
    }
    return found
  }

  /// The secret in an `authorization` field's value, if its scheme is Bearer (RFC 6750 section 2.1).
  package static func bearer(_ value: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer? {
    let scheme = "bearer".utf8.count
    guard value.count > scheme, value[scheme] == UInt8(ascii: " "),
      value.slice(0..<scheme).equalsIgnoringCase("bearer")
    else { return nil }
    return value.slice(scheme..<value.count).trimmed
  }
}
