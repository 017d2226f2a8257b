// A worker's own records in the discovery folder: written whole, kept fresh, withdrawn.

internal import Base
internal import Glibc

/// The files of one registered instance. The owner calls ``touch()`` every ``touchInterval``; readers take a record for
/// dead when it was not touched for ``lifetime`` and its owner's port refuses.
package final class FileRegistration {
  /// How often a record is touched.
  package static let touchInterval = 2_500 * millisecond
  /// Age after which an untouched record is doubted.
  package static let lifetime = 10 * second

  private let folder: DiscoveryFolder
  private let record: DiscoveryRecord
  private let card: ModelCard
  private let instancePath: String
  private let cardPath: String
  package private(set) var isRegistered = false

  /// Prepares a registration; nothing is written yet.
  package init(folder: DiscoveryFolder, record: DiscoveryRecord, card: ModelCard) {
    self.folder = folder
    self.record = record
    self.card = card
    instancePath = "\(folder.path)/\(record.identity.instanceKey)"
    cardPath = "\(folder.path)/\(record.identity.cardKey)"
  }

  /// Writes the card, then the instance: whoever sees the instance can read its card.
  package func register() throws(DiscoveryFolderError) {
    try folder.prepare()
    var bytes = ByteBuffer(capacity: 512)
    card.write(to: &bytes)
    try write(bytes.readable, to: cardPath)
    bytes.removeAll()
    record.write(to: &bytes)
    try write(bytes.readable, to: instancePath)
    isRegistered = true
  }

  /// Freshens both files, and writes them again when somebody removed them. Does nothing before ``register()`` and
  /// after ``withdraw()``.
  package func touch() throws(DiscoveryFolderError) {
    guard isRegistered else { return }
    if utimensat(AT_FDCWD, instancePath, nil, 0) != 0 || utimensat(AT_FDCWD, cardPath, nil, 0) != 0 {
      try register()
    }
  }

  /// Removes the instance, then the card.
  package func withdraw() {
    guard isRegistered else { return }
    isRegistered = false
    unlink(instancePath)
    unlink(cardPath)
  }

  /// Writes a file that appears whole or not at all.
  private func write(_ bytes: UnsafeRawBufferPointer, to path: String) throws(DiscoveryFolderError) {
    guard let slash = path.lastIndex(of: "/") else {
      throw DiscoveryFolderError(path: path, reason: "no folder")
    }
    let folder = String(path[..<slash])
    try DiscoveryFolder.makeFolders(folder)
    // A name that starts with a dot is no record, so no reader takes the unfinished file for one.
    let draft = "\(folder)/.\(path[path.index(after: slash)...]).\(getpid())"
    unlink(draft)
    let descriptor = open(draft, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o600)
    guard descriptor >= 0 else { throw failure(draft, "open") }
    var offset = 0
    while offset < bytes.count, let base = bytes.baseAddress {
      let written = Glibc.write(descriptor, base + offset, bytes.count - offset)
      guard written > 0 else {
        let error = failure(draft, "write")
        _ = close(descriptor)
        unlink(draft)
        throw error
      }
      offset += written
    }
    guard close(descriptor) == 0, rename(draft, path) == 0 else {
      let error = failure(path, "rename")
      unlink(draft)
      throw error
    }
  }

  private func failure(_ path: String, _ call: String) -> DiscoveryFolderError {
    DiscoveryFolderError(path: path, reason: "\(call): \(String(cString: strerror(errno)))")
  }
}
