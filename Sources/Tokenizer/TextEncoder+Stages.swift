// Pre-tokenizers without a scanner of their own: one splitting step after the other, on lists of ranges.

extension TextEncoder {
  /// Splits `text` by each stage in turn and encodes what is left. For models that are not known by name.
  func encodeStages(_ stages: [SplitStage], _ text: UnsafeRawBufferPointer, into ids: inout TokenIDs) {
    guard let base = text.bindMemory(to: UInt8.self).baseAddress else { return }
    var ranges = [0..<text.count]
    for stage in stages {
      var next: [Range<Int>] = []
      for range in ranges {
        do throws(TokenizerError) {
          try split(text, range, by: stage, into: &next)
        } catch {
          failure = error
          return
        }
      }
      ranges = next
    }
    for range in ranges {
      encodePiece(base, range.lowerBound, range.upperBound, range.upperBound, into: &ids)
    }
  }

  private func split(
    _ text: UnsafeRawBufferPointer, _ range: Range<Int>, by stage: SplitStage, into result: inout [Range<Int>]
  ) throws(TokenizerError) {
    guard let base = text.bindMemory(to: UInt8.self).baseAddress else { return }
    let part = ScanText(base: base + range.lowerBound, end: range.count)
    let offset = range.lowerBound
    switch stage {
    case .known(.gpt2): split(part, GPT2Rules.self, offset, into: &result)
    case .known(.qwen2): split(part, Qwen2Rules.self, offset, into: &result)
    case .known(.qwen35): split(part, Qwen35Rules.self, offset, into: &result)
    case .known(.llama3): split(part, Llama3Rules.self, offset, into: &result)
    case .known(.o200k): split(part, O200KRules.self, offset, into: &result)
    case .known(.tekken): split(part, TekkenRules.self, offset, into: &result)
    case .digits(let individual): splitDigits(part, individual, offset, into: &result)
    case .compiled(let pattern, let keepsGaps):
      let bytes = UnsafeRawBufferPointer(start: part.base, count: part.end)
      var written = 0
      while let match = try pattern.firstMatch(in: bytes, from: written) {
        if keepsGaps, match.lowerBound > written {
          result.append((offset + written)..<(offset + match.lowerBound))
        }
        result.append((offset + match.lowerBound)..<(offset + match.upperBound))
        written = match.upperBound
      }
      if keepsGaps, written < part.end { result.append((offset + written)..<range.upperBound) }
    }
  }

  private func split<R: SplitRules>(
    _ text: ScanText, _ rules: R.Type, _ offset: Int, into result: inout [Range<Int>]
  ) {
    var start = 0
    while start < text.end {
      let end = text.pieceEnd(start, rules)
      result.append((offset + start)..<(offset + end))
      start = end
    }
  }

  private func splitDigits(
    _ text: ScanText, _ individual: Bool, _ offset: Int, into result: inout [Range<Int>]
  ) {
    var start = 0
    var wasDigit = false
    var index = 0
    while index < text.end {
      let (flags, length) = text.character(index)
      let isDigit = flags.contains(.digit)
      if index > start, isDigit != wasDigit || (isDigit && individual) {
        result.append((offset + start)..<(offset + index))
        start = index
      }
      wasDigit = isDigit
      index += length
    }
    if start < text.end { result.append((offset + start)..<(offset + text.end)) }
  }
}
