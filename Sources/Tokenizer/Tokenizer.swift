// A model's tokenizer as its `tokenizer.json` describes it: loaded once, shared by all threads.

internal import Base
internal import JSON
internal import Synchronization

/// Everything that turns text into token ids and back, as Hugging Face's `tokenizers` does. Immutable.
///
/// Byte-level BPE (GPT-2, Qwen, Llama 3, DeepSeek, SmolLM2, …) and SentencePiece-style BPE (Gemma, Llama 2, Mistral). The
/// parts of a file are recognised by their exact meaning; what is not supported is refused with its name. `truncation` and
/// `padding` are not applied, as the engines do not. A ``TextEncoder`` per thread does the encoding.
package final class Tokenizer: Sendable {
  private static let loaded = Atomic<UInt64>(0)

  /// Tells tokenizers of one process apart, also those that are gone.
  let serialNumber = Tokenizer.loaded.add(1, ordering: .relaxed).newValue

  let model: BytePairModel
  let form: TextForm
  let plan: SplitPlan
  let cuts: SafeCuts
  let decoder: TokenDecoder
  /// Ids put before and behind a text when special tokens are asked for.
  let prefix: [UInt32]
  let suffix: [UInt32]
  /// Added tokens looked for in the text as it comes.
  let addedTokens: AddedTokenMatcher
  /// Added tokens looked for in the normalized text.
  let normalizedTokens: AddedTokenMatcher

  /// Added tokens by id.
  package let addedTokensByID: [UInt32: AddedToken]

  /// One more than the greatest id.
  package let idsEnd: Int

  /// Reads a `tokenizer.json`. Takes about 10 ns a byte, and memory of about the file's size.
  ///
  /// Throws ``TokenizerError`` for what is malformed, over a limit or not supported.
  package init(json bytes: UnsafeRawBufferPointer) throws(TokenizerError) {
    // Made once a process: the first prompt should not wait for it.
    _ = UnicodeTable.shared
    let file = try TokenizerFile(bytes)
    var form = try TextForm(normalizer: file.normalizer)
    plan = try SplitPlanReader.read(file.preTokenizer, form: &form)
    self.form = form
    let spelling: TokenSpelling = plan.isByteLevel ? .byteLevel : form.usesBars ? .lowerBar : .plain
    let model = try ModelLoader(bytes: bytes, file: file.model, spelling: spelling).load()
    self.model = model
    cuts = SafeCuts(plan: plan, model: model)
    decoder = try TokenDecoder(file.decoder, spelling: spelling)
    (prefix, suffix) = try PostProcessor.read(file.postProcessor)

    let added = try AddedTokenList(file.added, vocabulary: model.vocabulary)
    addedTokensByID = added.byID
    idsEnd = max(model.vocabulary.idsEnd, Int(added.byID.keys.max() ?? 0) + 1)
    let raw = added.ordered.filter { !$0.isNormalized }
    let normalized = added.ordered.filter { $0.isNormalized }
    addedTokens = AddedTokenMatcher(raw, patterns: raw.map { Array($0.content.utf8) })
    if form.usesBars, normalized.contains(where: { $0.stripsLeft || $0.stripsRight || $0.isSingleWord }) {
      // Bars are no white space to the reference implementation, but here they cannot be told from it.
      throw .unsupported(part: "added_tokens", value: "normalized, with lstrip, rstrip or single_word")
    }
    normalizedTokens = AddedTokenMatcher(normalized, patterns: normalized.map { form.normalized($0.content) })
  }

  /// The id of the token with exactly this text as the file writes it, added tokens included; nil when there is none.
  package func id(of token: String) -> UInt32? {
    addedTokensByID.first { $0.value.content == token }?.key ?? model.vocabulary.id(written: token)
  }
}

extension TextForm {
  /// `text` after the normalizers, as added tokens are looked for.
  func normalized(_ text: String) -> [UInt8] {
    var text = text
    return text.withUTF8 { bytes in
      let raw = UnsafeRawBufferPointer(bytes)
      var output = ByteBuffer()
      if normalizes {
        var normalizer = Normalizer()
        normalizer.append(raw, to: &output)
      } else if barsAreNormalized {
        if prefix == .bar, !raw.isEmpty { output.append(0x20) }
        output.append(replacingLowerBars: raw)
      } else {
        output.append(raw)
      }
      return Array(output.readable)
    }
  }
}

/// The added tokens with their ids, as the reference implementation gives them when it loads a file.
struct AddedTokenList {
  private(set) var byID: [UInt32: AddedToken] = [:]
  /// Special tokens first: of two equal texts the first is found.
  private(set) var ordered: [AddedToken] = []

  init(_ entries: [TokenizerFile.AddedEntry], vocabulary: Vocabulary) throws(TokenizerError) {
    var ids: [[UInt8]: UInt32] = [:]
    var greatest: UInt32?
    var plain: [AddedToken] = []
    for entry in entries where !entry.content.isEmpty {
      let text = Array(entry.content.utf8)
      guard text.count <= TokenizerLimits.tokenBytesMax else {
        throw .tooLarge(part: "added_tokens", limit: TokenizerLimits.tokenBytesMax)
      }
      // A text that is known keeps its id; else the next one behind all others is taken, whatever the file says.
      let size = UInt32(vocabulary.count)
      let next = greatest.map { $0 >= size || size == 0 ? $0 + 1 : size } ?? size
      let id = ids[text] ?? vocabulary.id(written: entry.content) ?? next
      guard id < TokenizerLimits.vocabularyMax else {
        throw .tooLarge(part: "added_tokens", limit: TokenizerLimits.vocabularyMax)
      }
      let token = AddedToken(
        id: id, content: entry.content, isSingleWord: entry.isSingleWord, stripsLeft: entry.stripsLeft,
        stripsRight: entry.stripsRight, isNormalized: entry.isNormalized, isSpecial: entry.isSpecial)
      if byID[id] == token { continue }
      if ids[text] != nil || byID[id] != nil {
        throw .unsupported(part: "added_tokens", value: "'\(entry.content)' twice with different flags")
      }
      if let claimed = entry.id, claimed != Int(id) {
        // The reference implementation loads such a file with a warning and ids of its own; an engine may not.
        throw .unsupported(
          part: "added_tokens", value: "'\(entry.content)' with id \(claimed) where \(id) is next")
      }
      ids[text] = id
      byID[id] = token
      greatest = max(greatest ?? 0, id)
      if token.isSpecial { ordered.append(token) } else { plain.append(token) }
    }
    ordered += plain
  }
}

/// The `post_processor` part: what special tokens stand before and behind one text.
enum PostProcessor {
  static func read(_ part: JSONValue) throws(TokenizerError) -> (prefix: [UInt32], suffix: [UInt32]) {
    var prefix: [UInt32] = []
    var suffix: [UInt32] = []
    for entry in try part.flattened("processors", part: "post_processor") {
      switch entry["type"]?.string ?? "" {
      case "ByteLevel":
        // It moves offsets only.
        break
      case "TemplateProcessing":
        let (before, behind) = try template(entry)
        prefix = before + prefix
        suffix += behind
      case let type:
        throw .unsupported(part: "post_processor", value: type)
      }
    }
    return (prefix, suffix)
  }

  private static func template(_ entry: JSONValue) throws(TokenizerError) -> ([UInt32], [UInt32]) {
    var prefix: [UInt32] = []
    var suffix: [UInt32] = []
    var isBehind = false
    for piece in entry["single"]?.array ?? [] {
      if piece["Sequence"] != nil {
        guard !isBehind else { throw .unsupported(part: "post_processor.single", value: "two sequences") }
        isBehind = true
      } else if let name = piece["SpecialToken"]?["id"]?.string {
        let ids = entry["special_tokens"]?[name]?["ids"]?.array?.compactMap(\.integer) ?? []
        let known = ids.compactMap { UInt32(exactly: $0) }
        guard !ids.isEmpty, known.count == ids.count else {
          throw .invalidFile(part: "post_processor.special_tokens.\(name)")
        }
        if isBehind { suffix += known } else { prefix += known }
      } else {
        throw .invalidFile(part: "post_processor.single")
      }
    }
    guard isBehind else { throw .invalidFile(part: "post_processor.single (no sequence)") }
    return (prefix, suffix)
  }
}
