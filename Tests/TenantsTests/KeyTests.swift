// Keys: their hashes, the file, and who a caller is.

import Base
import Testing

@testable import Tenants

func bytes<Result>(_ text: String, _ body: (UnsafeRawBufferPointer) -> Result) -> Result {
  Array(text.utf8).withUnsafeBytes(body)
}

func digest(_ text: String) -> KeyDigest { bytes(text) { KeyDigest(of: $0) } }

struct KeyDigestTests {
  /// FIPS 180-4's examples (NIST "SHA256.pdf"), and lengths around a block's end by `sha256sum`.
  @Test(arguments: [
    ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
    ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    (
      "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
      "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
    ),
    (String(repeating: "a", count: 55), "9f4390f8d30c2dd92ec9f095b65e2b9ae9b0a925a5258e241c9f1e910f734318"),
    (String(repeating: "a", count: 56), "b35439a4ac6f0948b6d6f9e3c6af0f5f590ce20f1bde7090ef7970686ec6738a"),
    (String(repeating: "a", count: 63), "7d3e74a05d7db15bce4ad9ec0658ea98e3f06eeecf16b4c6fff2da457ddc2f34"),
    (String(repeating: "a", count: 64), "ffe054fe7ae0cb6dc65c3af9b61d5209f439851db43d0ba5997337df154668eb"),
    (String(repeating: "a", count: 65), "635361c48bb9eab14198e76ea8ab7f1a41685d6ad62aa9146d301d4f17eb0ae0"),
    (
      String(repeating: "a", count: 1_000),
      "41edece42d63e8d9bf515a9ba6932e1c20cbc9f5a5d134645adb5db1b9737ea3"
    ),
  ])
  func hashesAsTheStandardSays(_ text: String, _ expected: String) {
    #expect(digest(text).hex == expected)
  }

  @Test func aPieceAtATimeIsTheSame() {
    let text = Array(String(repeating: "0123456789", count: 20).utf8)
    var whole = SHA256()
    text.withUnsafeBytes { whole.update($0) }
    let expected = whole.finish()
    for cut in 0...text.count {
      var hash = SHA256()
      text[..<cut].withUnsafeBytes { hash.update($0) }
      text[cut...].withUnsafeBytes { hash.update($0) }
      #expect(hash.finish() == expected)
    }
  }

  @Test func readsWhatItWrites() throws {
    let one = digest("one")
    #expect(try #require(KeyDigest(hex: Substring(one.hex))).matches(one))
    #expect(try #require(KeyDigest(hex: Substring(one.hex.uppercased()))).matches(one))
    #expect(!one.matches(digest("two")))
    for text in ["", "12", String(one.hex.dropLast()), one.hex + "0", "g" + one.hex.dropFirst()] {
      #expect(KeyDigest(hex: Substring(text)) == nil)
    }
  }

  /// Each single bit counts.
  @Test func aDigestThatDiffersInOneDigitIsAnother() throws {
    let hex = Array(digest("key").hex)
    for place in hex.indices {
      var other = hex
      other[place] = hex[place] == "0" ? "1" : "0"
      #expect(try !#require(KeyDigest(hex: Substring(String(other)))).matches(digest("key")))
    }
  }
}

struct KeyFileTests {
  static let a = digest("key-a").hex
  static let b = digest("key-b").hex

  @Test func readsEverythingALineMaySay() throws {
    let entries = try KeyFile.parse(
      """
      # comment

      alice\tsha256:\(Self.a) tenant=acme requests-per-minute=600 tokens-per-minute=200000 \
      concurrent-requests=8 models=m/1,m/2 may-name-tenant\r
        bob SHA256:\(Self.b.uppercased())
      """)
    #expect(entries.map(\.name) == ["alice", "bob"])
    let alice = entries[0]
    #expect(alice.tenant == "acme" && alice.mayNameTenant && alice.models == ["m/1", "m/2"])
    #expect(alice.requests == RateLimit(perMinute: 600) && alice.tokens == RateLimit(perMinute: 200_000))
    #expect(alice.concurrentMax == 8)
    let bob = entries[1]
    #expect(bob.tenant == "bob" && !bob.mayNameTenant && bob.models == nil)
    #expect(bob.requests == nil && bob.tokens == nil && bob.concurrentMax == nil)
  }

  @Test(arguments: [
    "alice sk-a-key-in-the-clear", "alice", "sk:odd sha256:\(a)", "alice sha256:\(a.dropLast())",
    "alice sha256:\(a) tenant=a:b", "alice sha256:\(a) tenant", "alice sha256:\(a) requests-per-minute=0",
    "alice sha256:\(a) tokens-per-minute=many", "alice sha256:\(a) concurrent-requests=-1",
    "alice sha256:\(a) models=", "alice sha256:\(a) models=, sk-secret",
    "alice sha256:\(a) may-name-tenant=1",
    "alice sha256:\(a) sk-secret", "alice sha256:\(a) tenant=x tenant=y", "", "# nothing but words",
    "alice sha256:\(a)\nalice sha256:\(b)", "alice sha256:\(a)\nbob sha256:\(a)",
  ])
  func aFileWithAFaultIsNotTaken(_ text: String) {
    #expect(throws: KeyFileError.self) { try KeyFile.parse(text) }
  }

  @Test func faultsNameTheirLinesAndNeverAKey() {
    let text = "alice sk-secret-1\nbob sha256:\(Self.a)\ncarol sha256:\(Self.b) sk-secret-2\n!sk-secret-3"
    do {
      _ = try KeyFile.parse(text)
      Issue.record("it was taken")
    } catch {
      #expect(error.faults.map { $0.prefix(7) } == ["line 1:", "line 3:", "line 4:"])
      #expect(!error.description.contains("secret"))
    }
  }

  @Test func isBounded() {
    let lines = (0...KeyFile.keysMax).map { "key-\($0) sha256:\(digest("\($0)").hex)" }
    #expect(throws: KeyFileError.self) { try KeyFile.parse(lines.joined(separator: "\n")) }
    #expect(throws: Never.self) { try KeyFile.parse(lines.dropLast().joined(separator: "\n")) }
  }
}

struct KeyRingTests {
  private func entry(_ name: String, _ change: (inout APIKeyEntry) -> Void = { _ in }) -> APIKeyEntry {
    var entry = APIKeyEntry(name: name, digest: digest("key-\(name)"))
    change(&entry)
    return entry
  }

  @Test func findsAKeyByWhatIsPresented() {
    let ring = KeyRing(["a", "b", "c"].map { entry($0) })
    #expect(bytes("key-b", ring.find)?.entry.name == "b")
    for secret in ["", "key-", "key-bb", "KEY-B", digest("key-b").hex, String(repeating: "x", count: 2_000)] {
      #expect(bytes(secret, ring.find) == nil)
    }
  }

  @Test(arguments: [
    ("Bearer key", "key"), ("bearer  key ", "key"), ("BEARER key", "key"), ("Basic key", nil),
    ("Bearer", nil),
    ("Bearerkey", nil), ("key", nil), ("", nil),
  ])
  func readsTheBearerScheme(_ value: String, _ expected: String?) {
    #expect(bytes(value) { KeyRing.bearer($0)?.text } == expected)
  }

  @Test func tenantsOfSeveralKeysAreListedOnce() {
    let ring = KeyRing([
      entry("a") { $0.tenant = "acme" }, entry("b"), entry("c") { $0.tenant = "acme" },
    ])
    #expect(ring.tenants == ["acme", "b"] && ring.keys.map(\.tenantIndex) == [0, 1, 0])
  }

  /// Reading the file again must not be a way to be let in anew.
  @Test func usageOutlivesAReadingOfTheFile() throws {
    let limited = entry("a") {
      $0.requests = RateLimit(perMinute: 1)
      $0.concurrentMax = 5
    }
    let first = KeyRing([limited])
    try first.keys[0].enter(now: second)
    let next = KeyRing([entry("b"), limited], after: first)
    #expect(throws: LimitReached.self) { try next.keys[1].enter(now: second) }
    first.keys[0].leave()
    try next.keys[1].enter(now: 61 * second)
  }
}
