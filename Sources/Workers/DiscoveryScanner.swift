// Reads the discovery folder: every instance record with its model card.

internal import Base
internal import Glibc

/// A registered instance as found in the folder.
struct DiscoveryFinding: Sendable, Equatable {
  let record: DiscoveryRecord
  let card: ModelCard
  /// When the owner touched it last, in nanoseconds since the Unix epoch.
  var touched: UInt64
}

/// What a look into the folder found.
struct DiscoveryScan: Sendable, Equatable {
  var findings: [DiscoveryFinding] = []
  /// Records that cannot be used, by key, with the reason; the same at each scan while they stay.
  var unusable: [String: String] = [:]
}

/// Scans the tree `v1/instances/{namespace}/{component}/{endpoint}/{id}`; a file is read again when it changed.
final class DiscoveryScanner {
  /// Records looked at in one scan; more are left out.
  private static let recordsMax = 4_096
  private static let recordBytesMax = 64 * 1024

  private struct Stamp: Equatable {
    let inode: UInt64
    let changed: UInt64
    let bytes: Int
  }

  private struct Known {
    let record: Stamp
    let card: Stamp
    let content: Result<DiscoveryFinding, DiscoveryFolderError>
  }

  private let folder: DiscoveryFolder
  private var known: [String: Known] = [:]

  init(_ folder: DiscoveryFolder) { self.folder = folder }

  /// Reads all records. Throws when the folder cannot be trusted or read: nothing is then known of what it holds.
  func scan() throws(DiscoveryFolderError) -> DiscoveryScan {
    try folder.prepare()
    var result = DiscoveryScan()
    var seen: [String: Known] = [:]
    let root = "v1/instances"
    for namespace in try names(in: root) {
      for component in try names(in: "\(root)/\(namespace)") {
        for endpoint in try names(in: "\(root)/\(namespace)/\(component)") {
          let path = "\(namespace)/\(component)/\(endpoint)"
          for id in try names(in: "\(root)/\(path)") where seen.count < Self.recordsMax {
            guard let entry = look(at: "\(path)/\(id)") else { continue }
            seen["\(path)/\(id)"] = entry.known
            switch entry.known.content {
            case .success(var finding):
              finding.touched = entry.touched
              result.findings.append(finding)
            case .failure(let error): result.unusable["\(root)/\(path)/\(id)"] = error.reason
            }
          }
        }
      }
    }
    known = seen
    return result
  }

  /// The entries of a folder that may be parts of a key, sorted. A missing folder is an empty one.
  private func names(in path: String) throws(DiscoveryFolderError) -> [String] {
    guard let directory = opendir("\(folder.path)/\(path)") else {
      switch errno {
      case ENOENT, ENOTDIR, EACCES: return []
      default: throw failure(path, "opendir")
      }
    }
    defer { closedir(directory) }
    var result: [String] = []
    while let entry = readdir(directory), result.count < Self.recordsMax {
      let name = withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
        String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
      }
      if DiscoveryIdentity.isName(name) { result.append(name) }
    }
    return result.sorted()
  }

  /// Reads a record and its card unless both are as they were. Nil when the record or its card is not there: the
  /// owner is about to write or to remove them.
  private func look(at key: String) -> (known: Known, touched: UInt64)? {
    let recordPath = "\(folder.path)/v1/instances/\(key)"
    let cardPath = "\(folder.path)/v1/mdc/\(key)"
    guard let record = stamp(recordPath), let card = stamp(cardPath) else { return nil }
    if let known = known[key], known.record == record, known.card == card { return (known, record.changed) }
    do throws(DiscoveryFolderError) {
      let finding = try read(key, recordPath: recordPath, cardPath: cardPath)
      return (Known(record: record, card: card, content: .success(finding)), record.changed)
    } catch {
      return (Known(record: record, card: card, content: .failure(error)), record.changed)
    }
  }

  private func stamp(_ path: String) -> Stamp? {
    var status = stat()
    guard lstat(path, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { return nil }
    let changed = UInt64(max(0, status.st_mtim.tv_sec)) * second + UInt64(max(0, status.st_mtim.tv_nsec))
    return Stamp(inode: UInt64(status.st_ino), changed: changed, bytes: Int(status.st_size))
  }

  private func read(
    _ key: String, recordPath: String, cardPath: String
  ) throws(DiscoveryFolderError) -> DiscoveryFinding {
    var bytes = try contents(recordPath)
    let record: DiscoveryRecord
    let card: ModelCard
    do {
      record = try bytes.withUnsafeBytes { try DiscoveryRecord.parse($0) }
    } catch {
      throw DiscoveryFolderError(path: recordPath, reason: "is no record: \(error)")
    }
    guard record.identity.instanceKey == "v1/instances/\(key)" else {
      throw DiscoveryFolderError(path: recordPath, reason: "names another instance than its path")
    }
    bytes = try contents(cardPath)
    do {
      card = try bytes.withUnsafeBytes { try ModelCard.parse($0) }
    } catch {
      throw DiscoveryFolderError(path: cardPath, reason: "is no model card: \(error)")
    }
    return DiscoveryFinding(record: record, card: card, touched: 0)
  }

  private func contents(_ path: String) throws(DiscoveryFolderError) -> [UInt8] {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
    guard descriptor >= 0 else { throw failure(path, "open") }
    defer { _ = close(descriptor) }
    var bytes = [UInt8](repeating: 0, count: Self.recordBytesMax + 1)
    var count = 0
    while count < bytes.count {
      let taken = bytes.withUnsafeMutableBytes { raw in
        Glibc.read(descriptor, raw.baseAddress?.advanced(by: count), raw.count - count)
      }
      guard taken >= 0 else { throw failure(path, "read") }
      if taken == 0 { return Array(bytes[..<count]) }
      count += taken
    }
    throw DiscoveryFolderError(path: path, reason: "is larger than \(Self.recordBytesMax) bytes")
  }

  private func failure(_ path: String, _ call: String) -> DiscoveryFolderError {
    DiscoveryFolderError(path: path, reason: "\(call): \(String(cString: strerror(errno)))")
  }
}
