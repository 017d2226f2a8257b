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
  /// For each last byte of a character: whether some merge makes a token with a space behind it.
  let joinsSpace: [Bool]

  init(plan: SplitPlan, model: BytePairModel) {
    switch plan {
    case .known, .gpt2Digits, .deepSeek:
      kind = .patterns
      joinsSpace = []
    case .bars:
      kind = .bars
      joinsSpace = [Bool](repeating: false, count: 256)
    case .words:
      guard let joins = SafeCuts.joiningBytes(model) else {
        kind = .none
        joinsSpace = [Bool](repeating: true, count: 256)
        return
      }
      kind = .bars
      joinsSpace = joins
    case .whole, .stages:
      kind = .none
      joinsSpace = []
    }
  }

  /// Nil when a space is no token, so that it may melt into an unknown one, or when bytes' tokens take part in merges.
  private static func joiningBytes(_ model: BytePairModel) -> [Bool]? {
    let vocabulary = model.vocabulary
    guard withUnsafeBytes(of: UInt8(0x20), { vocabulary.id(of: $0) }) != nil else { return nil }
    var joins = [Bool](repeating: false, count: 256)
    for rank in 0..<model.merges.count {
      let text = vocabulary.text(Int(model.merges.result(UInt32(rank))))
      if text.count >= 6, text[0] == UInt8(ascii: "<"), text[1] == UInt8(ascii: "0") { return nil }
      for index in 1..<max(text.count, 1) where text[index] == 0x20 && text[index - 1] != 0x20 {
        joins[Int(text[index - 1])] = true
      }
    }
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
      return before != 0x20 && before != 0x2581 && !joinsSpace[Int(base[index - 1])]
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
