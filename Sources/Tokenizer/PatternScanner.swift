// Finds where pieces end, by hand-made rules in place of the regular expressions of the known model families.

internal import CBytes

/// A stretch of valid UTF-8 that a pattern is applied to. Ends of the stretch are what `$` and lookaheads see.
struct ScanText {
  let base: UnsafePointer<UInt8>
  let end: Int
  let table: UnicodeTable
  /// The flags of ASCII characters.
  let ascii: UnsafePointer<UInt16>

  init(base: UnsafePointer<UInt8>, end: Int) {
    self.base = base
    self.end = end
    table = UnicodeTable.shared
    ascii = table.firstBlock
  }

  /// The flags and the length of the character at `index`, which is before ``end``.
  @inline(__always)
  func character(_ index: Int) -> (flags: CharacterFlags, length: Int) {
    let byte = base[index]
    if byte < 0x80 { return (CharacterFlags(rawValue: ascii[Int(byte)]), 1) }
    let character = TextCharacter(at: base + index)
    return (table.flags(character.code), character.length)
  }

  @inline(__always)
  func isASCIILetter(_ index: Int) -> Bool { (base[index] | 0x20) &- UInt8(ascii: "a") < 26 }

  /// The end of the run of letters (and marks, if asked for) from `start` on.
  @inline(__always)
  func wordEnd(_ start: Int, marks: Bool) -> Int {
    let index = start &+ Int(cbytes_letter_run(base + start, end &- start))
    guard index < end, base[index] >= 0x80 else { return index }
    return wordEndBeyondASCII(index, marks: marks)
  }

  @inline(never)
  private func wordEndBeyondASCII(_ start: Int, marks: Bool) -> Int {
    let wanted: CharacterFlags = marks ? [.letter, .mark] : .letter
    var index = start
    while index < end {
      let (flags, length) = character(index)
      if flags.isDisjoint(with: wanted) { return index }
      index &+= length
    }
    return index
  }

  /// True when the character at `index` is a letter (or a mark, if asked for); false at the end.
  @inline(__always)
  func isWord(_ index: Int, marks: Bool) -> Bool {
    guard index < end else { return false }
    if base[index] < 0x80 { return isASCIILetter(index) }
    return !character(index).flags.isDisjoint(with: marks ? [.letter, .mark] : .letter)
  }

  /// Where the run of white space at `start` ends, and where its last line break ends (0 without one).
  func spaceEnd(_ start: Int) -> (end: Int, breakEnd: Int, last: Int) {
    var index = start
    var breakEnd = 0
    var last = start
    while index < end {
      let byte = base[index]
      if byte == 0x20 || (byte >= 0x09 && byte <= 0x0d) {
        last = index
        index &+= 1
        if byte == 0x0a || byte == 0x0d { breakEnd = index }
      } else if byte < 0x80 {
        break
      } else {
        let (flags, length) = character(index)
        guard flags.contains(.space) else { break }
        last = index
        index &+= length
      }
    }
    return (index, breakEnd, last)
  }

  /// The length of the contraction at the apostrophe at `index`; 0 when there is none. With `folds`, U+017F counts as s.
  @inline(__always)
  func contraction(_ index: Int, folds: Bool) -> Int {
    guard index &+ 1 < end else { return 0 }
    let fold: UInt8 = folds ? 0x20 : 0
    switch base[index &+ 1] | fold {
    case UInt8(ascii: "s"), UInt8(ascii: "t"), UInt8(ascii: "m"), UInt8(ascii: "d"):
      return 2
    case UInt8(ascii: "r"), UInt8(ascii: "v"):
      return index &+ 2 < end && base[index &+ 2] | fold == UInt8(ascii: "e") ? 3 : 0
    case UInt8(ascii: "l"):
      return index &+ 2 < end && base[index &+ 2] | fold == UInt8(ascii: "l") ? 3 : 0
    case 0xe5:
      // The fold bit turned 0xc5 into this: U+017F is C5 BF.
      return folds && base[index &+ 1] == 0xc5 && base[index &+ 2] == 0xbf ? 3 : 0
    default:
      return 0
    }
  }
}

extension ScanText {
  /// The end of the piece that starts at `start`, by the rules `R`. Every character belongs to a piece.
  @inline(__always)
  func pieceEnd<R: SplitRules>(_ start: Int, _: R.Type) -> Int {
    let byte = base[start]
    if !R.splitsCase {
      // Nearly all pieces of prose and code: a word, or a space and a word.
      if isASCIILetter(start) { return wordEnd(start &+ 1, marks: R.wordHasMarks) }
      if byte == 0x20, start &+ 1 < end, isASCIILetter(start &+ 1) {
        return wordEnd(start &+ 2, marks: R.wordHasMarks)
      }
    }
    return otherPieceEnd(start, R.self)
  }

  @inline(never)
  private func otherPieceEnd<R: SplitRules>(_ start: Int, _: R.Type) -> Int {
    let byte = base[start]
    let (flags, length) = character(start)
    if R.isolatesDigits, flags.contains(.digit) { return start &+ length }
    if R.splitsContractions, !R.splitsCase, byte == UInt8(ascii: "'") {
      let contracted = contraction(start, folds: R.foldsContractions)
      if contracted > 0 { return start &+ contracted }
    }
    if R.splitsCase {
      if let wordEnd = casedWordEnd(start, flags, length, R.self) { return wordEnd }
    } else {
      let wordFlags: CharacterFlags = R.wordHasMarks ? [.letter, .mark] : .letter
      if !flags.isDisjoint(with: wordFlags) { return wordEnd(start &+ length, marks: R.wordHasMarks) }
      let takes = R.wordTakesAny ? byte != 0x0a && byte != 0x0d && !flags.contains(.number) : byte == 0x20
      if takes, isWord(start &+ length, marks: R.wordHasMarks),
        !(R.isolatesDigits && startsDigit(start &+ length))
      {
        return wordEnd(start &+ length, marks: R.wordHasMarks)
      }
    }
    if let numberEnd = numberEnd(start, flags, length, R.self) { return numberEnd }
    let first = byte == 0x20 ? start &+ 1 : start
    let end = punctuationEnd(first, R.self)
    if end > first { return end }
    return spacePieceEnd(start, R.self)
  }

  private func startsDigit(_ index: Int) -> Bool { index < end && character(index).flags.contains(.digit) }

  private func numberEnd<R: SplitRules>(
    _ start: Int, _ flags: CharacterFlags, _ length: Int, _: R.Type
  ) -> Int? {
    var index = start
    if R.numberTakesSpace, base[start] == 0x20 {
      guard start &+ 1 < end, character(start &+ 1).flags.contains(.number) else { return nil }
      index = start &+ 1
    } else {
      guard flags.contains(.number) else { return nil }
      index = start &+ length
      if R.numbersMax == 1 { return index }
    }
    var count = index > start && !(R.numberTakesSpace && base[start] == 0x20) ? 1 : 0
    while index < end, count < R.numbersMax {
      let (flags, length) = character(index)
      guard flags.contains(.number) else { break }
      index &+= length
      count &+= 1
    }
    return index
  }

  /// The end of the run of characters that are neither space, letter nor number; `start` when there is none.
  private func punctuationEnd<R: SplitRules>(_ start: Int, _: R.Type) -> Int {
    var others: CharacterFlags = [.space, .letter, .number]
    if R.wordHasMarks { others.insert(.mark) }
    if R.isolatesDigits { others.insert(.digit) }
    var index = start
    while index < end {
      let (flags, length) = character(index)
      guard flags.isDisjoint(with: others) else { break }
      index &+= length
    }
    guard index > start, R.punctuationTakesBreaks else { return index }
    while index < end {
      let byte = base[index]
      guard byte == 0x0a || byte == 0x0d || (R.punctuationTakesSlashes && byte == UInt8(ascii: "/")) else {
        break
      }
      index &+= 1
    }
    return index
  }

  /// White space: up to its last line break; else all of it but the last character, which belongs to what follows.
  private func spacePieceEnd<R: SplitRules>(_ start: Int, _: R.Type) -> Int {
    let (end, breakEnd, last) = spaceEnd(start)
    if R.endsSpaceAtBreak, breakEnd > 0 { return breakEnd }
    if end == self.end || last == start { return end }
    // A digit was split off before, so the pattern sees the end of its text there.
    if R.isolatesDigits, startsDigit(end) { return end }
    return last
  }
}

extension ScanText {
  /// Words that end where the case changes: capitals then small letters, or capitals alone; marks and letters without
  /// case count as both. Nil when no word starts here.
  private func casedWordEnd<R: SplitRules>(
    _ start: Int, _ flags: CharacterFlags, _ length: Int, _: R.Type
  ) -> Int? {
    let byte = base[start]
    let isWord = !flags.isDisjoint(with: [.letter, .mark])
    let takes = byte != 0x0a && byte != 0x0d && flags.isDisjoint(with: [.letter, .number])
    let second = start &+ length
    var end: Int?
    // The pattern's order: capitals and small letters with and without the character before, then capitals with and
    // without it.
    if takes { end = mixedEnd(second) }
    if end == nil, isWord { end = mixedEnd(start) }
    if end == nil, takes { end = upperEnd(second) }
    if end == nil, isWord { end = upperEnd(start) }
    guard let end else { return nil }
    guard R.splitsContractions, end < self.end, base[end] == UInt8(ascii: "'") else { return end }
    return end &+ contraction(end, folds: true)
  }

  @inline(__always)
  private func isUpper(_ flags: CharacterFlags) -> Bool {
    flags.contains(.mark) || (flags.contains(.letter) && !flags.contains(.lower))
  }

  @inline(__always)
  private func isLower(_ flags: CharacterFlags) -> Bool {
    flags.contains(.mark) || (flags.contains(.letter) && !flags.contains(.upper))
  }

  /// `[upper]*[lower]+`: the first part gives back until the second has a character.
  private func mixedEnd(_ start: Int) -> Int? {
    var index = start
    var lastBoth = -1
    var lastBothEnd = 0
    while index < end {
      let (flags, length) = character(index)
      guard isUpper(flags) else { break }
      if isLower(flags) { (lastBoth, lastBothEnd) = (index, index &+ length) }
      index &+= length
    }
    let lowers = lowerEnd(index)
    if lowers > index { return lowers }
    return lastBoth >= 0 ? lastBothEnd : nil
  }

  private func lowerEnd(_ start: Int) -> Int {
    var index = start
    while index < end {
      let (flags, length) = character(index)
      guard isLower(flags) else { break }
      index &+= length
    }
    return index
  }

  /// `[upper]+[lower]*`, where no small letters follow, since ``mixedEnd(_:)`` came first.
  private func upperEnd(_ start: Int) -> Int? {
    var index = start
    while index < end {
      let (flags, length) = character(index)
      guard isUpper(flags) else { break }
      index &+= length
    }
    return index > start ? lowerEnd(index) : nil
  }
}
