// What settings are read from: the process's environment and small files, without Foundation.

internal import Base
@preconcurrency import Glibc

/// Every variable of this process. Call it at start, before another thread could change the environment.
package func processEnvironment() -> [String: String] {
  var result: [String: String] = [:]
  var cursor = environ
  while let entry = cursor.pointee {
    cursor += 1
    let text = String(cString: entry)
    guard let equals = text.firstIndex(of: "=") else { continue }
    result[String(text[..<equals])] = String(text[text.index(after: equals)...])
  }
  return result
}

/// The text of the file at `path`, which may hold 1 MiB at most.
package func readSmallFile(_ path: String) -> ConfigurationText {
  let descriptor = open(path, O_RDONLY | O_CLOEXEC)
  guard descriptor >= 0 else { return .failed(String(cString: strerror(errno))) }
  defer { close(descriptor) }
  var text = ByteBuffer()
  while text.count < 1 << 20 {
    let count = read(descriptor, text.reserve(65_536), 65_536)
    if count < 0 { return .failed(String(cString: strerror(errno))) }
    if count == 0 { return .text(text.text) }
    text.commit(count)
  }
  return .failed("larger than 1 MiB")
}
