// The texts of all tokens, found by id and by text.

internal import Base
internal import Glibc

/// In which spelling the file writes the text of tokens.
enum TokenSpelling: Sendable, Equatable {
  /// As text.
  case plain
  /// Each byte is a printable character (GPT-2's alphabet).
  case byteLevel
  /// A space is U+2581, as SentencePiece writes it.
  case lowerBar
}

/// Token texts in one block of memory with a hash index from text to id. Never changes after loading.
///
/// Texts are kept as the bytes that the encoder works on: byte-level letters are turned into their bytes, U+2581 into a
/// space. A text that has no such form (`opaque`) is kept as it is written, and no piece of text ever matches it.
///
/// `@unchecked`: raw memory that only `init` and the loader write, before the vocabulary is shared.
final class Vocabulary: @unchecked Sendable {
  /// Keys in the file, as a new id is counted from.
  private(set) var count = 0
  /// True when two texts claim one id.
  private(set) var hasSharedIDs = false
  /// One more than the greatest id.
  let idsEnd: Int
  let spelling: TokenSpelling

  private let offsets: UnsafeMutablePointer<UInt32>
  private let opaque: UnsafeMutablePointer<Bool>
  private let texts: UnsafeMutablePointer<UInt8>
  /// Upper half of the hash, then id + 1, in open addressing; 0 is empty.
  private let slots: UnsafeMutablePointer<UInt64>
  private let slotMask: Int

  /// Takes over the entries that a loader gathered.
  init(_ entries: borrowing VocabularyEntries, spelling: TokenSpelling) {
    self.spelling = spelling
    idsEnd = entries.idsEnd
    count = 0
    texts = .allocate(capacity: max(entries.texts.count, 1))
    if let source = entries.texts.readable.baseAddress { memcpy(texts, source, entries.texts.count) }
    offsets = .allocate(capacity: idsEnd * 2)
    opaque = .allocate(capacity: max(idsEnd, 1))
    offsets.initialize(repeating: 0, count: idsEnd * 2)
    opaque.initialize(repeating: false, count: idsEnd)
    var slotCount = 16
    while slotCount < entries.records.count * 2 { slotCount *= 2 }
    slots = .allocate(capacity: slotCount)
    slots.initialize(repeating: 0, count: slotCount)
    slotMask = slotCount - 1
    for record in entries.records { insert(record) }
  }

  deinit {
    texts.deallocate()
    offsets.deallocate()
    opaque.deallocate()
    slots.deallocate()
  }

  /// A key that comes again takes the later id, as a map does; an id that two keys claim keeps the later text.
  private func insert(_ record: VocabularyEntries.Record) {
    let id = Int(record.id)
    let bytes = UnsafeRawBufferPointer(start: texts + Int(record.start), count: Int(record.count))
    let hash = Vocabulary.hash(bytes, opaque: record.isOpaque)
    let slot = self.slot(of: bytes, hash, opaque: record.isOpaque)
    if slots[slot] == 0 { count += 1 }
    // An empty text is a token as well, but nothing that could be claimed twice unnoticed.
    if offsets[id * 2 + 1] != 0, UInt32(truncatingIfNeeded: slots[slot]) != record.id + 1 {
      hasSharedIDs = true
    }
    offsets[id * 2] = record.start
    offsets[id * 2 + 1] = record.count
    opaque[id] = record.isOpaque
    slots[slot] = hash & ~0xffff_ffff | UInt64(record.id + 1)
  }

  /// The text of token `id`; empty for ids without one.
  func text(_ id: Int) -> UnsafeRawBufferPointer {
    guard id >= 0, id < idsEnd else { return UnsafeRawBufferPointer(start: nil, count: 0) }
    return UnsafeRawBufferPointer(start: texts + Int(offsets[id * 2]), count: Int(offsets[id * 2 + 1]))
  }

  /// True when the token's text is kept as the file writes it because it has no form in bytes.
  func isOpaque(_ id: Int) -> Bool { id >= 0 && id < idsEnd && opaque[id] }

  /// The id of the token with exactly this text; nil when there is none.
  func id(of text: UnsafeRawBufferPointer, opaque: Bool = false) -> UInt32? {
    let found = slots[slot(of: text, Vocabulary.hash(text, opaque: opaque), opaque: opaque)]
    return found == 0 ? nil : UInt32(truncatingIfNeeded: found) - 1
  }

  private static func hash(_ text: UnsafeRawBufferPointer, opaque: Bool) -> UInt64 {
    XXH3.hash(text, seed: opaque ? 1 : 0)
  }

  /// The slot that holds the text, or the empty one where it belongs.
  private func slot(of text: UnsafeRawBufferPointer, _ hash: UInt64, opaque isOpaque: Bool) -> Int {
    var index = Int(truncatingIfNeeded: hash) & slotMask
    while true {
      let found = slots[index]
      if found == 0 { return index }
      if (found ^ hash) >> 32 == 0 {
        let id = Int(truncatingIfNeeded: found & 0xffff_ffff) - 1
        if opaque[id] == isOpaque, self.text(id).equals(text) { return index }
      }
      index = (index + 1) & slotMask
    }
  }
}

/// What a loader gathers before a ``Vocabulary`` is made of it.
struct VocabularyEntries: ~Copyable {
  struct Record {
    let id: UInt32
    let start: UInt32
    let count: UInt32
    let isOpaque: Bool
  }

  var texts = ByteBuffer()
  private(set) var records: [Record] = []
  private(set) var idsEnd = 0

  /// Adds the token whose text was appended to ``texts`` behind `start`.
  mutating func add(id: UInt32, from start: Int, isOpaque: Bool) {
    let length = UInt32(texts.count - start)
    records.append(Record(id: id, start: UInt32(start), count: length, isOpaque: isOpaque))
    idsEnd = max(idsEnd, Int(id) + 1)
  }
}

extension TokenSpelling {
  /// Appends the bytes that `written` stands for; returns true when it has no such form and was appended as it is.
  func append(_ written: UnsafeRawBufferPointer, to texts: inout ByteBuffer) -> Bool {
    switch self {
    case .plain:
      texts.append(written)
      return false
    case .byteLevel:
      if texts.append(byteLevel: written) { return false }
      texts.append(written)
      return true
    case .lowerBar:
      // A space itself is never met: the text's spaces are all turned into U+2581 first.
      if written.contains(0x20) {
        texts.append(written)
        return true
      }
      texts.append(replacingLowerBars: written)
      return false
    }
  }
}

/// GPT-2's alphabet: the character that stands for each byte.
enum ByteAlphabet {
  /// The byte that the character with number `code` stands for; nil when it stands for none.
  static func byte(_ code: UInt32) -> UInt8? {
    switch code {
    case 0x21...0x7e, 0xa1...0xac, 0xae...0xff: return UInt8(truncatingIfNeeded: code)
    // The other bytes in their order, from U+0100 on: 0x00-0x20, 0x7f-0xa0, 0xad.
    case 0x100...0x120: return UInt8(truncatingIfNeeded: code - 0x100)
    case 0x121...0x142: return UInt8(truncatingIfNeeded: code - 0x121 + 0x7f)
    case 0x143: return 0xad
    default: return nil
    }
  }
}

extension ByteBuffer {
  /// Appends the bytes that byte-level `letters` stand for; appends nothing and returns false when one stands for none.
  mutating func append(byteLevel letters: UnsafeRawBufferPointer) -> Bool {
    guard let base = letters.bindMemory(to: UInt8.self).baseAddress else { return true }
    let before = count
    var index = 0
    while index < letters.count {
      let character = TextCharacter(at: base + index)
      guard let byte = ByteAlphabet.byte(character.code) else {
        truncate(to: before)
        return false
      }
      append(byte)
      index += character.length
    }
    return true
  }

  /// Appends `text` with each U+2581 as a space.
  mutating func append(replacingLowerBars text: UnsafeRawBufferPointer) {
    var start = 0
    while let bar = LowerBar.find(in: text, from: start) {
      append(text.slice(start..<bar))
      append(0x20)
      start = bar + LowerBar.length
    }
    append(text.slice(start..<text.count))
  }
}

/// U+2581, which stands for a space in SentencePiece-style vocabularies.
enum LowerBar {
  static let length = 3

  /// The place of the first one at or behind `start`.
  static func find(in text: UnsafeRawBufferPointer, from start: Int) -> Int? {
    guard let base = text.baseAddress else { return nil }
    var index = start
    while index + length <= text.count, let hit = memchr(base + index, 0xe2, text.count - index) {
      index = base.distance(to: UnsafeRawPointer(hit))
      if index + length <= text.count, text[index + 1] == 0x96, text[index + 2] == 0x81 { return index }
      index += 1
    }
    return nil
  }
}
