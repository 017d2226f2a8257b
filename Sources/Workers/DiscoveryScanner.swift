// Reads the discovery folder: every instance record with its model card.

internal import Base
internal import Glibc

/// Scans the tree `v1/instances/{namespace}/{component}/{endpoint}/{id}`; a file is read again when it changed. Dynamo itself
/// keeps one file an instance in `v1/instances`, whose name is the rest of the key with each slash as `%2F`; those are told
/// of as foreign.
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
  private var knownForeign: [String: (stamp: Stamp, transport: String?)] = [:]
  /// The folders that the last scan looked into.
  private(set) var folders: [String] = []

  init(_ folder: DiscoveryFolder) { self.folder = folder }

  /// Reads all records. Throws when the folder cannot be trusted or read: nothing is then known of what it holds.
  func scan() throws(DiscoveryFolderError) -> DiscoveryScan {
    try folder.prepare()
    var result = DiscoveryScan()
    var seen: [String: Known] = [:]
    let root = "v1/instances"
    result.foreign = foreign(try names(in: root, accept: Self.isForeignName), in: root)
    folders = [folder.path, "\(folder.path)/v1"]
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
  private func names(
    in path: String, accept: (String) -> Bool = DiscoveryIdentity.isName
  ) throws(DiscoveryFolderError) -> [String] {
    guard let directory = opendir("\(folder.path)/\(path)") else {
      switch errno {
      case ENOENT, ENOTDIR, EACCES: return []
      default: throw failure(path, "opendir")
      }
    }
    defer { closedir(directory) }
    folders.append("\(folder.path)/\(path)")
    var result: [String] = []
    while let entry = readdir(directory), result.count < Self.recordsMax {
      let name = withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
        String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
      }
      if accept(name) { result.append(name) }
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

  /// The records that Dynamo itself wrote.
  private func foreign(_ names: [String], in root: String) -> [ForeignRecord] {
    var seen: [String: (stamp: Stamp, transport: String?)] = [:]
    var records: [ForeignRecord] = []
    for name in names {
      let path = "\(folder.path)/\(root)/\(name)"
      guard let key = Self.decoded(name), let stamp = stamp(path) else { continue }
      var entry = (stamp: stamp, transport: knownForeign[name]?.transport)
      if knownForeign[name]?.stamp != stamp { entry.transport = transport(path) }
      seen[name] = entry
      records.append(
        ForeignRecord(key: "\(root)/\(key)", transport: entry.transport, touched: stamp.changed))
    }
    knownForeign = seen
    return records
  }

  private func transport(_ path: String) -> String? {
    guard let bytes = try? contents(path) else { return nil }
    return bytes.withUnsafeBytes { DiscoveryRecord.transportName($0) }
  }

  /// A file name with at least one escaped byte.
  private static func isForeignName(_ name: String) -> Bool { name.contains("%") && !name.hasPrefix(".") }

  /// The name without its escapes, when it is `namespace/component/endpoint/id` then.
  private static func decoded(_ name: String) -> String? {
    var bytes: [UInt8] = []
    var rest = Array(name.utf8)[...]
    while let byte = rest.popFirst() {
      guard byte == UInt8(ascii: "%") else {
        bytes.append(byte)
        continue
      }
      guard rest.count >= 2,
        let value = UInt8(String(decoding: rest.prefix(2), as: UTF8.self), radix: 16)
      else { return nil }
      bytes.append(value)
      rest = rest.dropFirst(2)
    }
    let key = String(decoding: bytes, as: UTF8.self)
    let parts = key.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
    return parts.count == 4 && parts.allSatisfy(DiscoveryIdentity.isName) ? key : nil
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
