// Properties of characters in two table steps, unpacked once a process from the generated data.

/// What a character is. The bits are those of ``UnicodeData/combinations``.
struct CharacterFlags: OptionSet, Sendable {
  let rawValue: UInt16

  init(rawValue: UInt16) { self.rawValue = rawValue }

  /// General category L.
  static let letter = CharacterFlags(rawValue: 1)
  /// General category M.
  static let mark = CharacterFlags(rawValue: 1 << 1)
  /// General category N.
  static let number = CharacterFlags(rawValue: 1 << 2)
  /// General categories P and S.
  static let symbol = CharacterFlags(rawValue: 1 << 3)
  /// White_Space.
  static let space = CharacterFlags(rawValue: 1 << 4)
  /// General categories Lu and Lt.
  static let upper = CharacterFlags(rawValue: 1 << 5)
  /// General category Ll.
  static let lower = CharacterFlags(rawValue: 1 << 6)
  /// Part of a word, as `\w` of added tokens with `single_word` sees it.
  static let word = CharacterFlags(rawValue: 1 << 7)
  /// What the digit splitter takes for a digit: N, in a newer version of Unicode.
  static let digit = CharacterFlags(rawValue: 1 << 8)
  /// May change under NFC, or change what stands before it.
  static let unstable = CharacterFlags(rawValue: 1 << 9)
}

/// Flags of all characters: 256 to a block, equal blocks kept once (about 110 KB).
///
/// `@unchecked`: written in `init` only, and never freed, since the one instance lives as long as the process.
final class UnicodeTable: @unchecked Sendable {
  static let shared = UnicodeTable()

  private let blockOfPage: UnsafeMutablePointer<UInt8>
  private let blocks: UnsafeMutablePointer<UInt16>
  /// The flags of the first 256 characters.
  let firstBlock: UnsafePointer<UInt16>

  private init() {
    var builder = UnicodePages()
    UnicodeData.runs.withUTF8Buffer { text in
      var index = 0
      while index < text.count {
        let letter = text[index]
        let place = letter >= UInt8(ascii: "a") ? letter - UInt8(ascii: "a") + 26 : letter - UInt8(ascii: "A")
        index += 1
        var length = 0
        while index < text.count, case UInt8(ascii: "0")...UInt8(ascii: "9") = text[index] {
          length = length * 10 + Int(text[index] - UInt8(ascii: "0"))
          index += 1
        }
        builder.append(UnicodeData.combinations[Int(place)], max(length, 1))
      }
    }
    precondition(builder.pages.count == 0x110000 / 256, "the generated runs cover all characters")
    blockOfPage = .allocate(capacity: builder.pages.count)
    blockOfPage.initialize(from: builder.pages, count: builder.pages.count)
    blocks = .allocate(capacity: builder.blocks.count)
    blocks.initialize(from: builder.blocks, count: builder.blocks.count)
    firstBlock = UnsafePointer(blocks)
  }

  /// The flags of the character with number `code`, which is below 0x110000.
  @inline(__always)
  func flags(_ code: UInt32) -> CharacterFlags {
    let block = Int(blockOfPage[Int(code >> 8)])
    return CharacterFlags(rawValue: blocks[block &<< 8 | Int(code & 0xff)])
  }
}

/// Gathers runs of flags into pages of 256 characters, and keeps equal pages once. Most pages are a part of one run, so
/// that few have to be compared: the table is made in less than a millisecond.
private struct UnicodePages {
  /// The block of each whole page.
  private(set) var pages: [UInt8] = []
  private(set) var blocks: [UInt16] = []
  /// The page under way.
  private var page: [UInt16] = []
  /// Blocks of pages whose characters are all the same, by their flags.
  private var uniform: [UInt16: UInt8] = [:]

  mutating func append(_ flags: UInt16, _ count: Int) {
    var left = count
    while left > 0 {
      if page.isEmpty, left >= 256 {
        let block = uniform[flags] ?? keep([UInt16](repeating: flags, count: 256))
        uniform[flags] = block
        pages.append(block)
        left -= 256
        continue
      }
      let taken = min(left, 256 - page.count)
      page.append(contentsOf: repeatElement(flags, count: taken))
      left -= taken
      guard page.count == 256 else { continue }
      pages.append(find(page) ?? keep(page))
      page.removeAll(keepingCapacity: true)
    }
  }

  private func find(_ page: [UInt16]) -> UInt8? {
    for start in stride(from: 0, to: blocks.count, by: 256)
    where blocks[start..<start + 256].elementsEqual(page) {
      return UInt8(start / 256)
    }
    return nil
  }

  private mutating func keep(_ page: [UInt16]) -> UInt8 {
    blocks += page
    return UInt8(blocks.count / 256 - 1)
  }
}

/// A character of valid UTF-8: its number and how many bytes it takes.
struct TextCharacter {
  let code: UInt32
  let length: Int

  /// Reads the character at `pointer`, where one starts.
  @inline(__always)
  init(at pointer: UnsafePointer<UInt8>) {
    let lead = UInt32(pointer[0])
    if lead < 0x80 {
      (code, length) = (lead, 1)
    } else if lead < 0xe0 {
      (code, length) = ((lead & 0x1f) &<< 6 | UInt32(pointer[1] & 0x3f), 2)
    } else if lead < 0xf0 {
      let middle = UInt32(pointer[1] & 0x3f) &<< 6
      (code, length) = ((lead & 0x0f) &<< 12 | middle | UInt32(pointer[2] & 0x3f), 3)
    } else {
      let high = (lead & 0x07) &<< 18 | UInt32(pointer[1] & 0x3f) &<< 12
      (code, length) = (high | UInt32(pointer[2] & 0x3f) &<< 6 | UInt32(pointer[3] & 0x3f), 4)
    }
  }

  /// Reads the character that ends right before `pointer`.
  @inline(__always)
  init(before pointer: UnsafePointer<UInt8>) {
    var start = pointer - 1
    while start.pointee & 0xc0 == 0x80 { start -= 1 }
    self.init(at: start)
  }
}
