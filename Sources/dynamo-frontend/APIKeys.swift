// API keys: their file, and the command that hashes one.

import Base
import EventLoop
import Frontend
import Glibc
import Settings
import Synchronization
import Tenants

/// Reads the file of keys; each reading goes on with what the keys of the one before have used.
final class APIKeys: Sendable {
  /// The keys in force.
  private let present = Mutex<KeyRing?>(nil)

  /// The keys that the settings ask for; nil for none. They go on with what those in force have used, and are not in force
  /// themselves before they are adopted. Throws when the file cannot be taken as a whole.
  func read(_ settings: SettingsValues) throws(StartError) -> KeyRing? {
    guard let path = settings.optionalString("api-key-file") else { return nil }
    let entries: [APIKeyEntry]
    switch readSmallFile(path) {
    case .failed(let reason): throw StartError("API key file \(path): \(reason)")
    case .text(let text):
      do throws(KeyFileError) {
        entries = try KeyFile.parse(text)
      } catch {
        throw StartError("API key file \(path): \(error)")
      }
    }
    return present.withLock { KeyRing(entries, after: $0) }
  }

  /// These are in force from now on.
  func adopt(_ keys: KeyRing?) { present.withLock { $0 = keys } }

  /// `dynamo-frontend hash-key`: reads a key from standard input, where no list of processes shows it, and prints what the
  /// file has instead of it.
  static func hash() -> Int32 {
    if isatty(0) == 1 { complain("type the key and press Enter; it is read from standard input") }
    guard let line = readLine(strippingNewline: true) else {
      complain("there is no key on standard input")
      return 2
    }
    let key = Array(line.utf8)
    guard (1...KeyRing.keyBytesMax).contains(key.count), key.allSatisfy({ (0x21...0x7e).contains($0) }) else {
      complain("a key is 1 to \(KeyRing.keyBytesMax) visible ASCII characters without spaces")
      return 2
    }
    if key.count < 20 {
      complain("this key is short enough to be guessed from its hash; take 32 random characters or more")
    }
    print("sha256:\(key.withUnsafeBytes { KeyDigest(of: $0) }.hex)")
    return 0
  }

  private static func complain(_ text: String) {
    let line = Array("dynamo-frontend hash-key: \(text)\n".utf8)
    _ = line.withUnsafeBytes { write(2, $0.baseAddress, $0.count) }
  }
}
