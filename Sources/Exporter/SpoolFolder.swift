// The folder of one exporter's spool: its lock, its files' names, and what others left behind.

import Base
import Glibc

/// A folder that is locked against other processes while this lives.
final class SpoolFolder {
  /// Services of one name that may run beside each other.
  static let slotsMax = 64
  private static let suffix = ".spans"
  private static let draft = ".draft"

  let path: String
  private let descriptor: Int32
  /// The last name that was given, as a number.
  private var lastStamp: UInt64 = 0

  private init(path: String, descriptor: Int32) {
    self.path = path
    self.descriptor = descriptor
  }

  deinit { close(descriptor) }

  /// Makes and locks the first free folder of `service` in `parent`: `service`, `service.1`, … . What it finds in the
  /// others of that name whose owners are gone is moved into it.
  static func open(_ service: String, in parent: String) throws(SpoolError) -> SpoolFolder {
    try make(parent)
    let name = fileName(service)
    for slot in 0..<slotsMax {
      let path = slot == 0 ? "\(parent)/\(name)" : "\(parent)/\(name).\(slot)"
      try make(path)
      guard let folder = try lock(path) else { continue }
      for other in 0..<slotsMax where other != slot {
        folder.adopt(other == 0 ? "\(parent)/\(name)" : "\(parent)/\(name).\(other)")
      }
      return folder
    }
    throw .system(call: "flock", code: EWOULDBLOCK)
  }

  /// The service's name as a file's: other characters than letters, digits, `-`, `_` and `.` become `_`.
  static func fileName(_ service: String) -> String {
    let name = service.utf8.prefix(100).map { byte in
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"), UInt8(ascii: "."):
        byte
      default: UInt8(ascii: "_")
      }
    }
    let text = String(decoding: name, as: UTF8.self)
    return text.isEmpty || text.hasPrefix(".") ? "_\(text)" : text
  }

  private static func make(_ path: String) throws(SpoolError) {
    guard mkdir(path, 0o700) == 0 || errno == EEXIST else { throw .last("mkdir") }
  }

  /// Nil when another process, or another service of this one, has it.
  private static func lock(_ path: String) throws(SpoolError) -> SpoolFolder? {
    let descriptor = Glibc.open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW)
    guard descriptor >= 0 else { throw .last("open") }
    guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
      let code = errno
      close(descriptor)
      if code == EWOULDBLOCK { return nil }
      throw .system(call: "flock", code: code)
    }
    return SpoolFolder(path: path, descriptor: descriptor)
  }

  /// Moves the files of an abandoned folder here. Does nothing when it has an owner or is not there. The folder stays: a
  /// process that is about to lock it must not find itself in a removed one.
  private func adopt(_ other: String) {
    guard access(other, F_OK) == 0, let found = try? SpoolFolder.lock(other) else { return }
    for name in found.names() {
      var stamp = UInt64(name.dropLast(SpoolFolder.suffix.count)) ?? 0
      while access("\(path)/\(SpoolFolder.name(stamp))", F_OK) == 0 { stamp += 1 }
      rename("\(other)/\(name)", "\(path)/\(SpoolFolder.name(stamp))")
    }
  }

  /// The names of whole files, oldest first. Drafts that a process left behind are removed.
  func names() -> [String] {
    guard let directory = opendir(path) else { return [] }
    defer { closedir(directory) }
    var names: [String] = []
    while let entry = readdir(directory) {
      let name = withUnsafeBytes(of: entry.pointee.d_name) { bytes in
        String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
      }
      if name.hasSuffix(SpoolFolder.draft) { unlink("\(path)/\(name)") }
      // A stamp beyond a signed number is no time of ours, and leaves no room for later ones.
      guard name.hasSuffix(SpoolFolder.suffix), let stamp = UInt64(name.dropLast(SpoolFolder.suffix.count)),
        stamp <= UInt64(Int64.max), name == SpoolFolder.name(stamp)
      else { continue }
      lastStamp = max(lastStamp, stamp)
      names.append(name)
    }
    return names.sorted()
  }

  /// The whole files in a folder that may be another process's, with their length and the time in their name; nothing is
  /// locked or changed.
  static func files(in folder: String) -> [(bytes: Int, stamp: UInt64)] {
    guard let directory = opendir(folder) else { return [] }
    defer { closedir(directory) }
    var files: [(bytes: Int, stamp: UInt64)] = []
    while let entry = readdir(directory) {
      let name = withUnsafeBytes(of: entry.pointee.d_name) { bytes in
        String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
      }
      var status = stat()
      guard name.hasSuffix(suffix), let stamp = UInt64(name.dropLast(suffix.count)),
        stat("\(folder)/\(name)", &status) == 0
      else { continue }
      files.append((Int(status.st_size), stamp))
    }
    return files
  }

  /// Writes a file that appears whole or not at all; `now` is nanoseconds since the Unix epoch. Returns its name.
  func add(_ message: ExportMessage, at now: UInt64) throws(SpoolError) -> String {
    lastStamp = max(now, lastStamp + 1)
    let name = SpoolFolder.name(lastStamp)
    let draft = "\(path)/\(lastStamp)\(SpoolFolder.draft)"
    do throws(SpoolError) {
      try SpoolFormat.write(message, to: draft)
      guard rename(draft, "\(path)/\(name)") == 0 else { throw SpoolError.last("rename") }
    } catch {
      unlink(draft)
      throw error
    }
    return name
  }

  /// As many digits for every number, so that names sort by age.
  private static func name(_ stamp: UInt64) -> String {
    let digits = String(stamp)
    return String(repeating: "0", count: max(0, 20 - digits.utf8.count)) + digits + suffix
  }

  /// Removes a file; one that is not there is as good.
  func remove(_ name: String) { unlink("\(path)/\(name)") }
}
