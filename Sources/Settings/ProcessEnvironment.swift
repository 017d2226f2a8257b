// The process's environment as a dictionary, without Foundation.

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
