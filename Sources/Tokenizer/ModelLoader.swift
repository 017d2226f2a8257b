// Builds vocabulary and merges from the file's bytes, entry by entry, without a tree in between.

internal import Base
internal import JSON

/// Reads the big parts of the model.
struct ModelLoader {
  let bytes: UnsafeRawBufferPointer
  let file: TokenizerFile.Model
  let spelling: TokenSpelling

  func load() throws(TokenizerError) -> BytePairModel {
    let vocabulary = try loadVocabulary()
    let merges = try loadMerges(vocabulary)
    let fallback = try fallback(vocabulary)
    return BytePairModel(
      vocabulary: vocabulary, merges: merges, fallback: fallback, ignoresMerges: file.ignoresMerges)
  }

  // MARK: Vocabulary

  private func loadVocabulary() throws(TokenizerError) -> Vocabulary {
    let part = bytes.slice(file.vocabulary)
    var entries = VocabularyEntries()
    try reading(file.vocabulary) { (scanner) throws(JSONError) in
      try scanner.openObject()
      var decoded = ByteBuffer()
      while let key = try scanner.nextKey() {
        let number = try scanner.number()
        guard let id = number.integer, id >= 0, id < TokenizerLimits.vocabularyMax,
          key.count <= TokenizerLimits.tokenBytesMax
        else { throw JSONError(.invalidNumber, at: number.range.lowerBound) }
        let start = entries.texts.count
        let isOpaque: Bool
        if key.hasEscapes {
          decoded.removeAll()
          decoded.append(decoding: part.slice(key.range))
          isOpaque = spelling.append(decoded.readable, to: &entries.texts)
        } else {
          isOpaque = spelling.append(part.slice(key.range), to: &entries.texts)
        }
        entries.add(id: UInt32(id), from: start, isOpaque: isOpaque)
      }
    }
    let vocabulary = Vocabulary(entries, spelling: spelling)
    if vocabulary.hasSharedIDs { throw .invalidFile(part: "model.vocab (an id that two tokens have)") }
    return vocabulary
  }

  // MARK: Merges

  private func loadMerges(_ vocabulary: Vocabulary) throws(TokenizerError) -> MergeTable {
    let count = try reading(file.merges) { (scanner) throws(JSONError) in
      var count = 0
      try scanner.openArray()
      while try scanner.nextElement() {
        try scanner.skipValue()
        count += 1
      }
      return count
    }
    guard count < TokenizerLimits.mergesMax else {
      throw .tooLarge(part: "model.merges", limit: TokenizerLimits.mergesMax)
    }
    let table = MergeTable(capacity: count)
    let isComplete = try reading(file.merges) { (scanner) throws(JSONError) in
      var reader = MergeReader(part: bytes.slice(file.merges), vocabulary: vocabulary)
      try scanner.openArray()
      while try scanner.nextElement() {
        guard try reader.readPair(&scanner), let merge = reader.ids() else { return false }
        table.append(left: merge.left, right: merge.right, result: merge.result)
      }
      return true
    }
    guard isComplete else {
      throw .invalidFile(part: "model.merges (entry \(table.count) is no pair of tokens that make a token)")
    }
    return table
  }

  /// Runs `body` on a scanner of one part; errors tell the position in the whole file.
  private func reading<Result>(
    _ range: Range<Int>, _ body: (inout JSONScanner) throws(JSONError) -> Result
  ) throws(TokenizerError) -> Result {
    var scanner = JSONScanner(bytes.slice(range))
    do throws(JSONError) {
      return try body(&scanner)
    } catch {
      throw .invalidJSON(JSONError(error.reason, at: error.offset + range.lowerBound))
    }
  }

  // MARK: Fallback

  private func fallback(_ vocabulary: Vocabulary) throws(TokenizerError) -> BytePairModel.Fallback {
    var fallback = BytePairModel.Fallback()
    fallback.fusesUnknown = file.fusesUnknown
    if let unknown = file.unknownToken {
      guard let id = vocabulary.id(written: unknown) else {
        throw .invalidFile(part: "model.unk_token (not in the vocabulary)")
      }
      fallback.unknown = id
    }
    guard file.byteFallback else { return fallback }
    guard spelling != .byteLevel else {
      throw .unsupported(part: "model.byte_fallback", value: "with ByteLevel")
    }
    var tokens: [UInt32] = []
    for byte in 0..<256 {
      let digits = String(byte, radix: 16, uppercase: true)
      let name = "<0x\(digits.utf8.count == 1 ? "0" : "")\(digits)>"
      guard let id = vocabulary.id(written: name) else {
        throw .unsupported(part: "model.byte_fallback", value: "without \(name)")
      }
      tokens.append(id)
    }
    fallback.byteTokens = tokens
    return fallback
  }
}

/// Reads merges, which are `"left right"` in old files and `["left", "right"]` in new ones.
private struct MergeReader: ~Copyable {
  let part: UnsafeRawBufferPointer
  let vocabulary: Vocabulary
  private var decoded = ByteBuffer()
  private var left = ByteBuffer()
  private var right = ByteBuffer()
  private var isOpaque = false

  init(part: UnsafeRawBufferPointer, vocabulary: Vocabulary) {
    self.part = part
    self.vocabulary = vocabulary
  }

  /// Reads the next merge; false when it is no pair.
  mutating func readPair(_ scanner: inout JSONScanner) throws(JSONError) -> Bool {
    left.removeAll()
    right.removeAll()
    guard try scanner.kind() == .array else {
      decode(try scanner.string())
      let text = decoded.readable
      guard let space = text.firstIndex(of: 0x20), space > 0, space + 1 < text.count,
        !text.slice((space + 1)..<text.count).contains(0x20)
      else { return false }
      isOpaque = vocabulary.spelling.append(text.slice(0..<space), to: &left)
      if vocabulary.spelling.append(text.slice((space + 1)..<text.count), to: &right) { isOpaque = true }
      return true
    }
    try scanner.openArray()
    isOpaque = false
    var count = 0
    while try scanner.nextElement() {
      decode(try scanner.string())
      count += 1
      if count == 1, vocabulary.spelling.append(decoded.readable, to: &left) { isOpaque = true }
      if count == 2, vocabulary.spelling.append(decoded.readable, to: &right) { isOpaque = true }
    }
    return count == 2
  }

  private mutating func decode(_ string: JSONString) {
    decoded.removeAll()
    if string.hasEscapes {
      decoded.append(decoding: part.slice(string.range))
    } else {
      decoded.append(part.slice(string.range))
    }
  }

  /// The ids of both tokens and of what they make; nil when one is not in the vocabulary.
  mutating func ids() -> (left: UInt32, right: UInt32, result: UInt32)? {
    guard !isOpaque, let first = vocabulary.id(of: left.readable),
      let second = vocabulary.id(of: right.readable)
    else { return nil }
    left.append(right.readable)
    guard let result = vocabulary.id(of: left.readable) else { return nil }
    return (first, second, result)
  }
}

extension Vocabulary {
  /// The id of the token that the file writes as `written`; nil when there is none.
  func id(written: String) -> UInt32? {
    var written = written
    return written.withUTF8 { text in
      var bytes = ByteBuffer()
      let isOpaque = spelling.append(UnsafeRawBufferPointer(text), to: &bytes)
      return id(of: bytes.readable, opaque: isOpaque)
    }
  }
}
