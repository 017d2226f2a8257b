// Lines in a row of files, each bounded, the oldest removed: where request-trace records go.

import Base
import EventLoop
import Glibc
import HTTP
import Synchronization

/// How a row of files is named and bounded.
package struct RollingFileConfiguration: Sendable, Equatable {
  /// What names begin with, with its folder; a number and a suffix follow.
  package var prefix: String
  /// Each file is gzip: one member for each write, so that it can be read while it grows.
  package var compresses = true
  /// Bytes of lines, before compression, with which a file is full.
  package var bytesMax = 256 << 20
  /// Lines with which it is full; nil for any number.
  package var linesMax: Int?
  /// Files of this prefix; the oldest are removed past it.
  package var filesMax = 16

  package init(prefix: String) { self.prefix = prefix }

  var suffix: String { compresses ? ".jsonl.gz" : ".jsonl" }

  /// Name of file number `index`: six digits or more.
  func path(_ index: Int) -> String {
    let digits = String(index)
    return prefix + "." + String(repeating: "0", count: max(0, 6 - digits.count)) + digits + suffix
  }
}

/// Writes lines to `PREFIX.000000.jsonl.gz`, `PREFIX.000001.jsonl.gz`, … . Used by one writer's thread.
///
/// Unchecked: but for the number of removed files it belongs to that thread.
final class RollingFile: LineOutput, @unchecked Sendable {
  private let configuration: RollingFileConfiguration
  /// write(2), or what a test puts in its place.
  typealias Write = @Sendable (Int32, UnsafeRawPointer?, Int) -> Int

  private let onFailure: @Sendable (String) -> Void
  private let writeBytes: Write
  private let deflater: GzipDeflater?
  private var encoded = ByteBuffer()
  private var descriptor: Int32 = -1
  /// Number of the next file; nil before the folder was looked at.
  private var next: Int?
  /// Numbers of the files that are there, ascending.
  private var present: [Int] = []
  private var fileBytes = 0
  private var fileLines = 0
  /// Length of the file up to its last whole write.
  private var goodLength = 0
  private let removed = Atomic<Int>(0)

  /// - Parameter onFailure: is told, on the writer's thread, why lines are lost.
  init(
    _ configuration: RollingFileConfiguration,
    write: @escaping Write = { Glibc.write($0, $1, $2) }, onFailure: @escaping @Sendable (String) -> Void
  ) {
    self.configuration = configuration
    writeBytes = write
    self.onFailure = onFailure
    deflater = configuration.compresses ? try? GzipDeflater() : nil
  }

  deinit { if descriptor >= 0 { close(descriptor) } }

  /// Files that were removed to make room.
  var removedFiles: Int { removed.load(ordering: .relaxed) }

  func write(_ lines: inout ByteBuffer) -> Int {
    let count = LogWriter.lineCount(lines.readable)
    defer { lines.removeAll() }
    if isFull { end() }
    guard descriptor >= 0 || begin() else { return count }
    encoded.removeAll()
    guard encode(lines.readable) else {
      onFailure("gzip")
      return count
    }
    guard writeEncoded() else {
      // What was written of it would make the rest unreadable.
      _ = ftruncate(descriptor, goodLength)
      return count
    }
    goodLength += encoded.count
    fileBytes += lines.count
    fileLines += count
    if encoded.capacity > 1 << 20 { encoded.release() }
    return 0
  }

  private var isFull: Bool {
    fileBytes >= configuration.bytesMax || configuration.linesMax.map { fileLines >= $0 } ?? false
  }

  private func encode(_ bytes: UnsafeRawBufferPointer) -> Bool {
    guard configuration.compresses else {
      encoded.append(bytes)
      return true
    }
    guard let deflater else { return false }
    do throws(GzipError) {
      try deflater.append(bytes, to: &encoded)
      try deflater.finish(into: &encoded)
      return true
    } catch {
      return false
    }
  }

  private func writeEncoded() -> Bool {
    let bytes = encoded.readable
    var offset = 0
    while offset < bytes.count {
      let written = writeBytes(descriptor, bytes.baseAddress.map { $0 + offset }, bytes.count - offset)
      if written > 0 {
        offset += written
      } else if errno != EINTR {
        onFailure("write: \(String(cString: strerror(errno)))")
        return false
      }
    }
    return true
  }

  // MARK: Files

  private func end() {
    if descriptor >= 0 { close(descriptor) }
    descriptor = -1
  }

  /// Opens a file that was not there before, and removes the oldest.
  private func begin() -> Bool {
    var index = next ?? lookForFiles()
    for _ in 0..<1_000 {
      let path = configuration.path(index)
      // Of its own making: in a folder that others write to, a name may be a trap.
      let flags = O_WRONLY | O_APPEND | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW
      descriptor = open(path, flags, 0o600)
      if descriptor >= 0 { break }
      guard errno == EEXIST else {
        onFailure("open \(path): \(String(cString: strerror(errno)))")
        return false
      }
      index += 1
    }
    guard descriptor >= 0 else {
      onFailure("open \(configuration.path(index)): all names are taken")
      return false
    }
    present.append(index)
    next = index + 1
    fileBytes = 0
    fileLines = 0
    goodLength = 0
    while present.count > max(1, configuration.filesMax) {
      if unlink(configuration.path(present.removeFirst())) == 0 { removed.add(1, ordering: .relaxed) }
    }
    return true
  }

  /// Finds the files of earlier processes; the number behind the last of them.
  private func lookForFiles() -> Int {
    let slash = configuration.prefix.lastIndex(of: "/")
    let folder = slash.map { String(configuration.prefix[..<$0]) } ?? "."
    let begin = slash.map { configuration.prefix.index(after: $0) } ?? configuration.prefix.startIndex
    let name = configuration.prefix[begin...] + "."
    guard let listing = opendir(folder.isEmpty ? "/" : folder) else { return 0 }
    defer { closedir(listing) }
    while let entry = readdir(listing) {
      let found = withUnsafeBytes(of: entry.pointee.d_name) { bytes in
        String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
      }
      guard found.hasPrefix(name), found.hasSuffix(configuration.suffix) else { continue }
      let digits = found.dropFirst(name.count).dropLast(configuration.suffix.count)
      if digits.utf8.count >= 6, digits.utf8.allSatisfy({ (48...57).contains($0) }), let index = Int(digits) {
        present.append(index)
      }
    }
    present.sort()
    return (present.last ?? -1) + 1
  }
}
