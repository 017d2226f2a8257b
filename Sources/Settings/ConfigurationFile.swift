// The configuration file: KEY=VALUE lines under the names of the environment.

/// One assignment of a configuration file.
struct ConfigurationLine: Equatable {
  let key: String
  let value: String
  /// Counted from 1.
  let line: Int
}

/// A configuration file taken apart. Lines that are no assignment are faults, each with its line number.
struct ConfigurationFile {
  private(set) var lines: [ConfigurationLine] = []
  private(set) var faults: [(line: Int, message: String)] = []

  /// Reads `text`: blank lines and lines that begin with `#` are skipped, `export ` before a key is allowed, a value
  /// may stand in single quotes (taken as it is) or double quotes (`\"`, `\\`, `\n`, `\t`, `\$`), and a `#` after a
  /// blank ends a value without quotes.
  init(_ text: String) {
    var number = 0
    for raw in text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline) {
      number += 1
      let line = String(raw).trimmed
      if line.isEmpty || line.hasPrefix("#") { continue }
      guard let equals = line.firstIndex(of: "=") else {
        faults.append((number, "not KEY=VALUE"))
        continue
      }
      var key = String(line[..<equals]).trimmed
      if key.hasPrefix("export ") { key = String(key.dropFirst(7)).trimmed }
      guard Self.isKey(key) else {
        faults.append((number, "'\(key)' is not a name"))
        continue
      }
      switch Self.value(String(line[line.index(after: equals)...]).trimmed) {
      case .success(let value): lines.append(ConfigurationLine(key: key, value: value, line: number))
      case .failure(let fault): faults.append((number, "\(key): \(fault.message)"))
      }
    }
  }

  private static func isKey(_ key: String) -> Bool {
    guard let first = key.first, !first.isNumber else { return false }
    return key.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "_") }
  }

  private static func value(_ text: String) -> Result<String, ValueFault> {
    guard let quote = text.first, quote == "\"" || quote == "'" else { return .success(withoutComment(text)) }
    var result = ""
    var index = text.index(after: text.startIndex)
    while index < text.endIndex {
      let character = text[index]
      index = text.index(after: index)
      if character == quote {
        let rest = String(text[index...]).trimmed
        guard rest.isEmpty || rest.hasPrefix("#") else {
          return .failure(ValueFault(message: "text after the closing quote"))
        }
        return .success(result)
      }
      guard character == "\\", quote == "\"", index < text.endIndex else {
        result.append(character)
        continue
      }
      switch text[index] {
      case "n": result.append("\n")
      case "t": result.append("\t")
      case "\"", "\\", "$": result.append(text[index])
      default: result.append("\\\(text[index])")
      }
      index = text.index(after: index)
    }
    return .failure(ValueFault(message: "the quote is not closed"))
  }

  private static func withoutComment(_ text: String) -> String {
    var previous: Character = " "
    for index in text.indices {
      if text[index] == "#", previous == " " || previous == "\t" { return String(text[..<index]).trimmed }
      previous = text[index]
    }
    return text
  }
}
