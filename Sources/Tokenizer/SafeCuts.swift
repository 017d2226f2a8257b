// Where text may be cut so that both halves encode as they do together.

/// Finds places that every encoding splits at, from what stands right before and behind them.
///
/// For the GPT family: a letter or number, then a space, a line break, or punctuation that is no apostrophe. No pattern
/// has a piece across that, none looks back, and what ends there does not look ahead. Normalization joins nothing across
/// it. SentencePiece style: a space behind a character that no token has before a space.
struct SafeCuts: Sendable {
  enum Kind: Sendable {
    case none
    case patterns
    case bars
  }

  let kind: Kind
  /// Whether some token has these two bytes in a row, where the second begins a character: `first << 8 | second`. Between
  /// two that none has, no merge can cross. SentencePiece style only.
  let joins: [Bool]

  init(plan: SplitPlan, model: BytePairModel) {
    switch plan {
    case .known, .gpt2Digits, .deepSeek:
      kind = .patterns
      joins = []
    case .words, .bars:
      let isEach = if case .bars = plan { true } else { false }
      joins = SafeCuts.pairs(model, cutsAtEachSpace: isEach)
      kind = .bars
    case .whole, .stages:
      kind = .none
      joins = []
    }
  }

  private static func pairs(_ model: BytePairModel, cutsAtEachSpace: Bool) -> [Bool] {
    let vocabulary = model.vocabulary
    let hasBytes = !model.fallback.byteTokens.isEmpty
    // Without tokens for bytes, characters in a row may melt into one unknown token.
    var joins = [Bool](repeating: !hasBytes, count: 65_536)
    let hasSpace = withUnsafeBytes(of: UInt8(0x20)) { vocabulary.id(of: $0) } != nil
    for first in 0..<256 {
      joins[first << 8 | 0x20] = !hasSpace && !hasBytes
      // Inside a character.
      for second in 0x80..<0xc0 { joins[first << 8 | second] = true }
    }
    let bytes = Set(model.fallback.byteTokens)
    for rank in 0..<model.merges.count {
      let result = model.merges.result(UInt32(rank))
      let text = vocabulary.text(Int(result))
      for index in 1..<max(text.count, 1) { joins[Int(text[index - 1]) << 8 | Int(text[index])] = true }
      // A merge of bytes' tokens: their texts do not tell what they stand for.
      if bytes.contains(result) || text.starts(with: "<0x".utf8) {
        joins = [Bool](repeating: true, count: 65_536)
        break
      }
    }
    if cutsAtEachSpace { for first in 0..<256 { joins[first << 8 | 0x20] = false } }
    return joins
  }

  /// The first place behind `start` where `text` may be cut; its end when there is none.
  func next(in text: UnsafeRawBufferPointer, behind start: Int) -> Int {
    guard kind != .none, let base = text.bindMemory(to: UInt8.self).baseAddress else { return text.count }
    var index = max(start, 1)
    while index < text.count {
      let byte = base[index]
      if byte & 0xc0 != 0x80, isCut(base, index, byte) { return index }
      index += 1
    }
    return text.count
  }

  private func isCut(_ base: UnsafePointer<UInt8>, _ index: Int, _ byte: UInt8) -> Bool {
    if kind == .bars {
      guard byte == 0x20 else { return false }
      let before = TextCharacter(before: base + index).code
      return before != 0x20 && before != 0x2581 && !joins[Int(base[index - 1]) << 8 | 0x20]
    }
    let table = UnicodeTable.shared
    if byte != 0x20, byte != 0x0a {
      let flags = table.flags(TextCharacter(at: base + index).code)
      guard flags.contains(.symbol), !flags.contains(.unstable), byte != UInt8(ascii: "'") else {
        return false
      }
    }
    return !table.flags(TextCharacter(before: base + index).code).isDisjoint(with: [.letter, .number])
  }
}
