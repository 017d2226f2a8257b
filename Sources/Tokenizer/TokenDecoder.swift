// Token ids back to text.

internal import Base
internal import JSON

/// The `decoder` part: how texts of tokens are joined.
struct TokenDecoder: Sendable {
  /// One step; each works on a list of texts.
  enum Step: Sendable, Equatable {
    case replace([UInt8], with: [UInt8])
    case byteFallback
    case fuse
    case strip(UInt8, start: Int, stop: Int)
    /// U+2581 to a space; the one at the very beginning is left out when `dropsFirst`.
    case metaspace(dropsFirst: Bool)
    case byteLevel
  }

  let steps: [Step]
  /// Without a decoder texts are joined by spaces.
  let joinsWithSpaces: Bool

  init(_ part: JSONValue, spelling: TokenSpelling) throws(TokenizerError) {
    var steps: [Step] = []
    for entry in try part.flattened("decoders", part: "decoder") {
      switch entry["type"]?.string ?? "" {
      case "ByteLevel":
        steps.append(.byteLevel)
      case "ByteFallback":
        steps.append(.byteFallback)
      case "Fuse":
        steps.append(.fuse)
      case "Replace":
        guard let pattern = entry["pattern"]?["String"]?.string, !pattern.isEmpty,
          let content = entry["content"]?.string
        else { throw .unsupported(part: "decoder", value: "Replace with a pattern") }
        steps.append(.replace(Array(pattern.utf8), with: Array(content.utf8)))
      case "Strip":
        let content = Array((entry["content"]?.string ?? "").utf8)
        guard content.count == 1, content[0] < 0x80, let start = entry["start"]?.integer,
          let stop = entry["stop"]?.integer, start >= 0, stop >= 0
        else { throw .unsupported(part: "decoder", value: "Strip") }
        steps.append(.strip(content[0], start: start, stop: stop))
      case "Metaspace":
        let scheme = entry["prepend_scheme"]?.string
        let old = entry["add_prefix_space"]?.bool ?? true
        steps.append(.metaspace(dropsFirst: scheme.map { $0 != "never" } ?? old))
      case let type:
        throw .unsupported(part: "decoder", value: type)
      }
    }
    // Byte-level texts are kept as bytes, so its decoder has to be the one that reads them.
    guard (spelling == .byteLevel) == (steps == [.byteLevel]) || steps.isEmpty else {
      throw .unsupported(part: "decoder", value: "not the pre-tokenizer's")
    }
    self.steps = steps
    joinsWithSpaces = steps.isEmpty
  }

  /// The text of `parts`; bytes that are no UTF-8 become U+FFFD.
  func decode(_ parts: [[UInt8]]) -> String {
    if joinsWithSpaces {
      return parts.map { String(decoding: $0, as: UTF8.self) }.joined(separator: " ")
    }
    var parts = parts
    for step in steps { TokenDecoder.apply(step, to: &parts) }
    return String(decoding: parts.joined(), as: UTF8.self)
  }

  private static func apply(_ step: Step, to parts: inout [[UInt8]]) {
    switch step {
    case .byteLevel:
      break
    case .fuse:
      parts = [Array(parts.joined())]
    case .replace(let pattern, let content):
      for index in parts.indices { parts[index] = replacing(pattern, with: content, in: parts[index]) }
    case .strip(let byte, let start, let stop):
      for index in parts.indices {
        let leading = parts[index].prefix(start).prefix { $0 == byte }.count
        parts[index].removeFirst(leading)
        let trailing = parts[index].suffix(stop).reversed().prefix { $0 == byte }.count
        parts[index].removeLast(trailing)
      }
    case .metaspace(let dropsFirst):
      let bar: [UInt8] = [0xe2, 0x96, 0x81]
      for index in parts.indices {
        if index == 0, dropsFirst, parts[index].starts(with: bar) { parts[index].removeFirst(bar.count) }
        parts[index] = replacing(bar, with: [0x20], in: parts[index])
      }
    case .byteFallback:
      parts = joiningBytes(parts)
    }
  }

  private static func replacing(_ pattern: [UInt8], with content: [UInt8], in text: [UInt8]) -> [UInt8] {
    guard text.contains(pattern[0]) else { return text }
    var result: [UInt8] = []
    var index = 0
    while index < text.count {
      if text[index...].starts(with: pattern) {
        result += content
        index += pattern.count
      } else {
        result.append(text[index])
        index += 1
      }
    }
    return result
  }

  /// Runs of `<0xNN>` become the text of their bytes, or one U+FFFD a byte when they are no UTF-8.
  private static func joiningBytes(_ parts: [[UInt8]]) -> [[UInt8]] {
    var result: [[UInt8]] = []
    var run: [UInt8] = []
    func finish(_ run: inout [UInt8], _ result: inout [[UInt8]]) {
      guard !run.isEmpty else { return }
      if String(validating: run, as: UTF8.self) != nil {
        result.append(run)
      } else {
        for _ in run { result.append([0xef, 0xbf, 0xbd]) }
      }
      run.removeAll()
    }
    for part in parts {
      if let byte = byteToken(part) {
        run.append(byte)
      } else {
        finish(&run, &result)
        result.append(part)
      }
    }
    finish(&run, &result)
    return result
  }

  private static func byteToken(_ text: [UInt8]) -> UInt8? {
    guard text.count == 6, text.starts(with: [0x3c, 0x30, 0x78]), text[5] == 0x3e else { return nil }
    guard let high = Hex.value(text[3]), let low = Hex.value(text[4]) else { return nil }
    return high << 4 | low
  }
}

extension Tokenizer {
  /// The text of `ids`. Ids without a token are left out, and special tokens when asked.
  package func decode(_ ids: [UInt32], skipSpecialTokens: Bool = false) -> String {
    var parts: [[UInt8]] = []
    for id in ids {
      if let token = addedTokensByID[id] {
        if skipSpecialTokens, token.isSpecial { continue }
        parts.append(Array(token.content.utf8))
        continue
      }
      let text = model.vocabulary.text(Int(id))
      guard !text.isEmpty else { continue }
      if model.vocabulary.spelling == .lowerBar, !model.vocabulary.isOpaque(Int(id)) {
        // The steps expect the file's spelling.
        parts.append(text.flatMap { $0 == 0x20 ? [0xe2, 0x96, 0x81] : [$0] })
      } else {
        parts.append(Array(text))
      }
    }
    return decoder.decode(parts)
  }
}
