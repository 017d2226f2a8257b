// `tokenizer.json` taken apart: where each part lies, and the small parts as values.

internal import Base
internal import JSON

/// The parts of a `tokenizer.json`. The big ones (vocabulary, merges) stay in the file's bytes as ranges.
struct TokenizerFile {
  /// Flags of the model, without vocabulary and merges.
  struct Model {
    var unknownToken: String?
    var fusesUnknown = false
    var byteFallback = false
    var ignoresMerges = false
    var vocabulary = 0..<0
    var merges = 0..<0
  }

  /// An added token as the file gives it; its id is the file's opinion and not yet checked.
  struct AddedEntry {
    var id: Int?
    var content = ""
    var isSingleWord = false
    var stripsLeft = false
    var stripsRight = false
    var isNormalized = true
    var isSpecial = false
  }

  private(set) var normalizer = JSONValue.null
  private(set) var preTokenizer = JSONValue.null
  private(set) var postProcessor = JSONValue.null
  private(set) var decoder = JSONValue.null
  private(set) var added: [AddedEntry] = []
  private(set) var model = Model()

  init(_ bytes: UnsafeRawBufferPointer) throws(TokenizerError) {
    guard bytes.count <= TokenizerLimits.fileBytesMax else {
      throw .tooLarge(part: "tokenizer.json", limit: TokenizerLimits.fileBytesMax)
    }
    var modelRange: Range<Int>?
    do throws(JSONError) {
      var scanner = JSONScanner(bytes)
      try scanner.openObject()
      while let key = try scanner.nextKey() {
        let range = try scanner.skipValue()
        if key.equals("model", in: bytes) {
          modelRange = range
        } else if key.equals("added_tokens", in: bytes) {
          added = try TokenizerFile.addedTokens(bytes.slice(range))
        } else if key.equals("normalizer", in: bytes) {
          normalizer = try JSONValue.parse(bytes.slice(range))
        } else if key.equals("pre_tokenizer", in: bytes) {
          preTokenizer = try JSONValue.parse(bytes.slice(range))
        } else if key.equals("post_processor", in: bytes) {
          postProcessor = try JSONValue.parse(bytes.slice(range))
        } else if key.equals("decoder", in: bytes) {
          decoder = try JSONValue.parse(bytes.slice(range))
        }
      }
      try scanner.finish()
    } catch {
      throw .invalidJSON(error)
    }
    guard added.count <= TokenizerLimits.addedTokensMax else {
      throw .tooLarge(part: "added_tokens", limit: TokenizerLimits.addedTokensMax)
    }
    guard let modelRange else { throw .invalidFile(part: "model") }
    try readModel(bytes, modelRange)
  }

  private static func addedTokens(_ bytes: UnsafeRawBufferPointer) throws(JSONError) -> [AddedEntry] {
    var scanner = JSONScanner(bytes)
    guard try scanner.arrayOrSkip() else { return [] }
    var entries: [AddedEntry] = []
    while try scanner.nextElement() {
      // One more than the limit is enough to know that there are too many.
      guard entries.count <= TokenizerLimits.addedTokensMax, try scanner.kind() == .object else {
        try scanner.skipValue()
        continue
      }
      let value = try JSONValue.parse(bytes.slice(try scanner.skipValue()), valuesMax: 64)
      var entry = AddedEntry()
      entry.id = value["id"]?.integer
      entry.content = value["content"]?.string ?? ""
      entry.isSingleWord = value["single_word"]?.bool ?? false
      entry.stripsLeft = value["lstrip"]?.bool ?? false
      entry.stripsRight = value["rstrip"]?.bool ?? false
      entry.isNormalized = value["normalized"]?.bool ?? true
      entry.isSpecial = value["special"]?.bool ?? false
      entries.append(entry)
    }
    return entries
  }

  private mutating func readModel(_ bytes: UnsafeRawBufferPointer, _ range: Range<Int>) throws(TokenizerError)
  {
    let part = bytes.slice(range)
    var scalars: [String: JSONValue] = [:]
    do throws(JSONError) {
      var scanner = JSONScanner(part)
      guard try scanner.objectOrSkip() else { throw JSONError(.wrongKind, at: range.lowerBound) }
      while let key = try scanner.nextKey() {
        let kind = try scanner.kind()
        let value = try scanner.skipValue()
        let absolute = (range.lowerBound + value.lowerBound)..<(range.lowerBound + value.upperBound)
        if key.equals("vocab", in: part) {
          model.vocabulary = absolute
        } else if key.equals("merges", in: part) {
          model.merges = absolute
        } else if kind != .object, kind != .array, key.count <= 64 {
          scalars[key.decoded(in: part)] = try JSONValue.parse(part.slice(value))
        }
      }
    } catch {
      throw .invalidJSON(error)
    }
    // Old files name no type; what has merges is BPE.
    let type = scalars["type"]?.string ?? (model.merges.isEmpty ? "none" : "BPE")
    guard type == "BPE" else { throw .unsupported(part: "model.type", value: type) }
    guard !model.vocabulary.isEmpty else { throw .invalidFile(part: "model.vocab") }
    guard !model.merges.isEmpty else { throw .invalidFile(part: "model.merges") }
    for name in ["continuing_subword_prefix", "end_of_word_suffix"] {
      if let text = scalars[name]?.string, !text.isEmpty {
        throw .unsupported(part: "model.\(name)", value: text)
      }
    }
    if let dropout = scalars["dropout"]?.double, dropout != 0 {
      throw .unsupported(part: "model.dropout", value: dropout.description)
    }
    model.unknownToken = scalars["unk_token"]?.string
    model.fusesUnknown = scalars["fuse_unk"]?.bool ?? false
    model.byteFallback = scalars["byte_fallback"]?.bool ?? false
    model.ignoresMerges = scalars["ignore_merges"]?.bool ?? false
  }
}

extension JSONValue {
  /// The entries of a part that may be null, one entry, or a (nested) `Sequence` whose entries are under `key`.
  func flattened(_ key: String, part: String) throws(TokenizerError) -> [JSONValue] {
    if case .null = self { return [] }
    guard let type = self["type"]?.string else { throw .invalidFile(part: "\(part).type") }
    guard type == "Sequence" else { return [self] }
    guard let entries = self[key]?.array else { throw .invalidFile(part: "\(part).\(key)") }
    guard entries.count <= TokenizerLimits.sequenceMax else {
      throw .tooLarge(part: "\(part).\(key)", limit: TokenizerLimits.sequenceMax)
    }
    var result: [JSONValue] = []
    for entry in entries { result += try entry.flattened(key, part: part) }
    guard result.count <= TokenizerLimits.sequenceMax else {
      throw .tooLarge(part: "\(part).\(key)", limit: TokenizerLimits.sequenceMax)
    }
    return result
  }
}
