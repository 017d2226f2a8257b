// Whole small files in and out without Foundation; for /proc and generated configurations.

import Base
import CSystem
import Glibc

/// The contents of the file at `path`, at most `limit` bytes; nil when it cannot be read.
func readFile(_ path: String, limit: Int = 1 << 20) -> [UInt8]? {
  let descriptor = open(path, O_RDONLY | O_CLOEXEC)
  guard descriptor >= 0 else { return nil }
  defer { close(descriptor) }
  var contents: [UInt8] = []
  var chunk = [UInt8](repeating: 0, count: 16 * 1024)
  while contents.count < limit {
    let got = read(descriptor, &chunk, chunk.count)
    if got < 0, csystem_errno() == EINTR { continue }
    guard got > 0 else { return got == 0 ? contents : nil }
    contents.append(contentsOf: chunk[0..<got])
  }
  return contents
}

/// Writes `text` to the file at `path`, replacing it; false when that fails.
func writeFile(_ path: String, _ text: String) -> Bool {
  let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
  guard descriptor >= 0 else { return false }
  defer { close(descriptor) }
  return writeAll(descriptor, text)
}

/// Writes all of `text` to a blocking descriptor; false when that fails.
@discardableResult
func writeAll(_ descriptor: Int32, _ text: String) -> Bool {
  var text = text
  return text.withUTF8 { bytes in
    var done = 0
    while done < bytes.count {
      let wrote = write(descriptor, bytes.baseAddress.map { $0 + done }, bytes.count - done)
      if wrote < 0, csystem_errno() == EINTR { continue }
      guard wrote > 0 else { return false }
      done += wrote
    }
    return true
  }
}

/// Prints a line on standard error.
func complain(_ message: String) {
  writeAll(2, "dynamo-bench: \(message)\n")
}

/// Prints `text` on standard output as it stands.
func say(_ text: String) {
  writeAll(1, text)
}

/// The names in the folder at `path`, without `.` and `..`; empty when it cannot be read.
func directoryEntries(_ path: String) -> [String] {
  guard let directory = opendir(path) else { return [] }
  defer { closedir(directory) }
  var names: [String] = []
  while let entry = readdir(directory) {
    let name = withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
      String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
    }
    if name != ".", name != ".." { names.append(name) }
  }
  return names
}

/// Appends `text` to the file at `path`; false when that fails.
func appendFile(_ path: String, _ text: String) -> Bool {
  let descriptor = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o644)
  guard descriptor >= 0 else { return false }
  defer { close(descriptor) }
  return writeAll(descriptor, text)
}

/// Removes the folder at `path` with everything in it.
func removeTree(_ path: String) {
  for name in directoryEntries(path) {
    let child = "\(path)/\(name)"
    if unlink(child) != 0 { removeTree(child) }
  }
  rmdir(path)
}
