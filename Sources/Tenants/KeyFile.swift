// The file of API keys: one key a line, hashed.

internal import Base

/// Why a file of keys is not taken: every fault, each with its line. Keys are never repeated in it.
package struct KeyFileError: Error, Sendable, CustomStringConvertible {
  package let faults: [String]
  package var description: String { faults.joined(separator: "; ") }
}

/// Reads the file.
///
/// ```
/// # name   hash of the key          what it may do
/// alice    sha256:9f86d081884c7d…   tenant=acme requests-per-minute=600 tokens-per-minute=200000
/// batch    sha256:60303ae22b998f…   concurrent-requests=8 models=llama-3,qwen
/// gateway  sha256:fd61a03af4f77d…   may-name-tenant
/// ```
package enum KeyFile {
  /// Keys in one file.
  package static let keysMax = 8_192
  /// Faults that are told of.
  private static let faultsMax = 20

  /// The keys of `text`; throws when any line has a fault, so that a file is taken whole or not at all.
  package static func parse(_ text: String) throws(KeyFileError) -> [APIKeyEntry] {
    var entries: [APIKeyEntry] = []
    var faults: [String] = []
    var names: Set<String> = []
    var digests: Set<String> = []
    // Carriage return and line feed together are one character.
    let lines = text.split(omittingEmptySubsequences: false, whereSeparator: { $0 == "\n" || $0 == "\r\n" })
    for (index, line) in lines.enumerated() {
      let words = line.split(whereSeparator: { $0 == " " || $0 == "\t" })
      guard let first = words.first, !first.hasPrefix("#") else { continue }
      do throws(Fault) {
        let entry = try read(words)
        guard names.insert(entry.name).inserted else { throw Fault("the name \(entry.name) occurs twice") }
        guard digests.insert(entry.digest.hex).inserted else {
          throw Fault("the key of \(entry.name) stands in an earlier line too")
        }
        entries.append(entry)
      } catch {
        faults.append("line \(index + 1): \(error.reason)")
      }
      if entries.count > keysMax { faults.append("there are more than \(keysMax) keys") }
      if faults.count >= faultsMax || entries.count > keysMax { break }
    }
    if faults.isEmpty, entries.isEmpty { faults.append("there is no key: nobody could call") }
    guard faults.isEmpty else { throw KeyFileError(faults: faults) }
    return entries
  }

  private struct Fault: Error {
    let reason: String
    init(_ reason: String) { self.reason = reason }
  }

  private static func read(_ words: [Substring]) throws(Fault) -> APIKeyEntry {
    let name = String(words[0])
    // A file of bare keys, or key before name, must not have its keys in a log.
    guard isFit(name) else {
      throw Fault("a line begins with a name of up to 64 letters, digits, '.', '_' and '-'")
    }
    guard words.count > 1, words[1].lowercased().hasPrefix("sha256:"),
      let digest = KeyDigest(hex: words[1].dropFirst("sha256:".count))
    else {
      throw Fault(
        "behind the name comes sha256: and the 64 digits of the key's hash, never the key itself"
          + " ('dynamo-frontend hash-key' makes it)")
    }
    var entry = APIKeyEntry(name: name, digest: digest)
    var seen: Set<Substring> = []
    for word in words.dropFirst(2) {
      let parts = word.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      guard seen.insert(parts[0]).inserted else { throw Fault("\(parts[0]) is given twice") }
      try apply(parts[0], parts.count > 1 ? parts[1] : nil, to: &entry)
    }
    return entry
  }

  private static func apply(
    _ word: Substring, _ value: Substring?, to entry: inout APIKeyEntry
  ) throws(Fault) {
    switch word {
    case "tenant":
      guard let value, isFit(String(value)) else {
        throw Fault("tenant= takes up to 64 letters, digits, '.', '_' and '-'")
      }
      entry.tenant = String(value)
    case "requests-per-minute": entry.requests = RateLimit(perMinute: try number(word, value))
    case "tokens-per-minute": entry.tokens = RateLimit(perMinute: try number(word, value))
    case "concurrent-requests": entry.concurrentMax = try number(word, value)
    case "models":
      let models = (value ?? "").split(separator: ",").map(String.init)
      guard !models.isEmpty else { throw Fault("models= names at least one model") }
      entry.models = Set(models)
    case "may-name-tenant":
      guard value == nil else { throw Fault("may-name-tenant takes no value") }
      entry.mayNameTenant = true
    default:
      throw Fault(
        "it says something else than tenant, requests-per-minute, tokens-per-minute, concurrent-requests,"
          + " models and may-name-tenant")
    }
  }

  private static func number(_ word: Substring, _ value: Substring?) throws(Fault) -> Int {
    guard let value, let number = Int(value), (1...1_000_000_000_000).contains(number) else {
      throw Fault("\(word)= takes a whole number from 1")
    }
    return number
  }

  private static func isFit(_ name: String) -> Bool {
    var name = name
    return name.withUTF8 { TenantName.isFit(UnsafeRawBufferPointer($0)) }
  }
}
