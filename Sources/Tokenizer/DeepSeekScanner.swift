// The pre-tokenizer of DeepSeek V3, R1 and V4: numbers by three, then CJK runs, then words and punctuation.

internal import CBytes

extension ScanText {
  /// The end of the piece that starts at `start`. The three patterns split one after another, so each sees the cuts of
  /// those before it as the ends of its text.
  @inline(__always)
  func deepSeekPieceEnd(_ start: Int) -> Int {
    let byte = base[start]
    let first = byte == 0x20 ? start &+ 1 : start
    if first < end, isASCIILetter(first) {
      let index = first &+ Int(cbytes_letter_run(base + first, end &- first))
      if index == end || base[index] < 0x80 { return index }
    }
    return deepSeekOtherEnd(start)
  }

  @inline(never)
  private func deepSeekOtherEnd(_ start: Int) -> Int {
    let (code, flags, length) = coded(start)
    if flags.contains(.number) { return numbersEnd(start) }
    let isCJK = ScanText.isCJK(code)
    let second = start &+ length
    if isASCIISymbol(start), second < end, isASCIILetter(second) {
      return second &+ Int(cbytes_letter_run(base + second, end &- second))
    }
    if isWordPart(flags) { return deepSeekWordEnd(second, cjk: isCJK) }
    let byte = base[start]
    if byte != 0x0a, byte != 0x0d, !flags.contains(.symbol), second < end {
      let next = coded(second)
      if isWordPart(next.flags), ScanText.isCJK(next.code) == isCJK {
        return deepSeekWordEnd(second &+ next.length, cjk: isCJK)
      }
    }
    let symbolStart = byte == 0x20 ? second : start
    let symbolsEnd = deepSeekSymbolsEnd(symbolStart, cjk: isCJK)
    if symbolsEnd > symbolStart { return symbolsEnd }
    if flags.contains(.space) { return deepSeekSpaceEnd(start) }
    return deepSeekGapEnd(second, cjk: isCJK)
  }

  /// The characters of the second pattern.
  private static func isCJK(_ code: UInt32) -> Bool {
    (code >= 0x4e00 && code <= 0x9fa5) || (code >= 0x3040 && code <= 0x30ff)
  }

  @inline(__always)
  private func coded(_ index: Int) -> (code: UInt32, flags: CharacterFlags, length: Int) {
    let byte = base[index]
    if byte < 0x80 { return (UInt32(byte), CharacterFlags(rawValue: ascii[Int(byte)]), 1) }
    return codedBeyondASCII(index)
  }

  @inline(never)
  private func codedBeyondASCII(_ index: Int) -> (code: UInt32, flags: CharacterFlags, length: Int) {
    let character = TextCharacter(at: base + index)
    return (character.code, table.flags(character.code), character.length)
  }

  private func isWordPart(_ flags: CharacterFlags) -> Bool { !flags.isDisjoint(with: [.letter, .mark]) }

  /// One of ``!"#$%&'()*+,-./:;<=>?@[\]^_`{|}~``.
  private func isASCIISymbol(_ index: Int) -> Bool {
    switch base[index] {
    case 0x21...0x2f, 0x3a...0x40, 0x5b...0x60, 0x7b...0x7e: true
    default: false
    }
  }

  /// True where an earlier pattern cut: at the end, at a number, and where CJK begins or ends.
  private func isCut(_ index: Int, cjk: Bool) -> Bool {
    guard index < end else { return true }
    let (code, flags, _) = coded(index)
    return flags.contains(.number) || ScanText.isCJK(code) != cjk
  }

  private func numbersEnd(_ start: Int) -> Int {
    var index = start
    var count = 0
    while index < end, count < 3 {
      let (flags, length) = character(index)
      guard flags.contains(.number) else { break }
      index &+= length
      count &+= 1
    }
    return index
  }

  private func deepSeekWordEnd(_ start: Int, cjk: Bool) -> Int {
    var index = start
    while index < end {
      let (code, flags, length) = coded(index)
      guard isWordPart(flags), ScanText.isCJK(code) == cjk else { break }
      index &+= length
    }
    return index
  }

  private func deepSeekSymbolsEnd(_ start: Int, cjk: Bool) -> Int {
    var index = start
    while index < end {
      let (code, flags, length) = coded(index)
      guard flags.contains(.symbol), ScanText.isCJK(code) == cjk else { break }
      index &+= length
    }
    guard index > start, !cjk else { return index }
    while index < end, base[index] == 0x0a || base[index] == 0x0d { index &+= 1 }
    return index
  }

  private func deepSeekSpaceEnd(_ start: Int) -> Int {
    let (spaceEnd, breakEnd, last) = spaceEnd(start)
    if breakEnd > 0 { return breakEnd }
    return isCut(spaceEnd, cjk: false) || last == start ? spaceEnd : last
  }

  /// The end of a run that the third pattern never matches: control, format and unassigned characters, as far as none of
  /// them is followed by a letter or a mark, which would take it along.
  private func deepSeekGapEnd(_ start: Int, cjk: Bool) -> Int {
    var index = start
    while !isCut(index, cjk: cjk) {
      let (_, flags, length) = coded(index)
      guard flags.isDisjoint(with: [.letter, .mark, .symbol, .space]) else { return index }
      if !isCut(index &+ length, cjk: cjk), isWordPart(character(index &+ length).flags) { return index }
      index &+= length
    }
    return index
  }
}
