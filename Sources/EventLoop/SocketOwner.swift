// Who listens on a TCP port of this machine, as far as /proc tells (proc(5)); for `doctor`.

internal import Base
internal import CSystem
internal import Glibc

/// Looks a listening socket's process up.
package enum SocketOwner {
  /// A sentence about the process that listens on `port`, such as `nginx (process 42)`; nil when none does, or when that
  /// cannot be seen. Blocks.
  package static func describe(port: UInt16) -> String? {
    let inodes = ["/proc/net/tcp", "/proc/net/tcp6"].flatMap { listeners(on: port, $0) }
    guard !inodes.isEmpty else { return nil }
    let targets = Set(inodes.map { "socket:[\($0)]" })
    for process in entries("/proc") where process.allSatisfy(\.isNumber) {
      for file in entries("/proc/\(process)/fd") where targets.contains(link("/proc/\(process)/fd/\(file)")) {
        let name = text("/proc/\(process)/comm").split(separator: "\n").first.map(String.init) ?? "?"
        return "\(name) (process \(process))"
      }
    }
    return "a process of another user"
  }

  /// The inodes of sockets in state LISTEN on that port.
  private static func listeners(on port: UInt16, _ table: String) -> [String] {
    text(table).split(separator: "\n").dropFirst().compactMap { line in
      let fields = line.split(separator: " ")
      guard fields.count > 9, fields[3] == "0A", let colon = fields[1].lastIndex(of: ":"),
        UInt16(fields[1][fields[1].index(after: colon)...], radix: 16) == port
      else { return nil }
      return String(fields[9])
    }
  }

  private static func entries(_ folder: String) -> [String] {
    guard let directory = opendir(folder) else { return [] }
    defer { closedir(directory) }
    var names: [String] = []
    while let entry = readdir(directory) {
      let name = withUnsafeBytes(of: &entry.pointee.d_name) { $0.slice(0..<($0.firstIndex(of: 0) ?? 0)).text }
      if !name.hasPrefix(".") { names.append(name) }
    }
    return names
  }

  private static func link(_ path: String) -> String {
    withUnsafeTemporaryAllocation(of: CChar.self, capacity: 64) { room in
      guard let base = room.baseAddress else { return "" }
      let count = readlink(path, base, room.count)
      return count > 0 ? UnsafeRawBufferPointer(start: base, count: count).text : ""
    }
  }

  /// The file's text, up to 16 MiB: the table of a machine with a hundred thousand connections.
  private static func text(_ path: String) -> String {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return "" }
    defer { _ = close(descriptor) }
    var text = ByteBuffer()
    while text.count < 16 << 20 {
      let count = read(descriptor, text.reserve(65_536), 65_536)
      if count <= 0 { break }
      text.commit(count)
    }
    return text.readable.text
  }
}
