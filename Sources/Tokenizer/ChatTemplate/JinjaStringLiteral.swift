// The escapes of string literals in templates, which are Python's.

internal import Base

/// Decodes what stands between the quotes of a string literal.
enum JinjaStringLiteral {
  /// The string that `contents` stands for; `contents` itself when it has no escapes.
  static func decoded(
    _ contents: JinjaText, arena: JinjaArena
  ) throws(ChatTemplateError) -> JinjaText {
    guard contents.find(JinjaText("\\")) != nil else { return contents }
    // No escape is shorter than what it stands for.
    let room = try arena.allocate(contents.count)
    var count = 0
    var index = 0
    while index < contents.count {
      let byte = contents.base[index]
      index += 1
      guard byte == UInt8(ascii: "\\"), index < contents.count else {
        room[count] = byte
        count += 1
        continue
      }
      let letter = contents.base[index]
      index += 1
      if let plain = plainEscape(letter) {
        if plain != 0xff {
          room[count] = plain
          count += 1
        }
        continue
      }
      guard let code = try codePoint(letter, contents, &index) else {
        // Python keeps the backslash of an escape it does not know.
        room[count] = UInt8(ascii: "\\")
        room[count + 1] = letter
        count += 2
        continue
      }
      guard let scalar = Unicode.Scalar(code) else {
        throw ChatTemplateError(.syntax, "a string escape that is no character")
      }
      for unit in UTF8.encode(scalar) ?? UTF8.encodedReplacementCharacter {
        room[count] = unit
        count += 1
      }
    }
    return JinjaText(room, count)
  }

  /// What an escape of one letter stands for: 0xff for nothing (a newline), nil when it is longer or none.
  private static func plainEscape(_ letter: UInt8) -> UInt8? {
    switch letter {
    case UInt8(ascii: "n"): 0x0a
    case UInt8(ascii: "t"): 0x09
    case UInt8(ascii: "r"): 0x0d
    case UInt8(ascii: "a"): 0x07
    case UInt8(ascii: "b"): 0x08
    case UInt8(ascii: "f"): 0x0c
    case UInt8(ascii: "v"): 0x0b
    case UInt8(ascii: "\\"), UInt8(ascii: "'"), UInt8(ascii: "\""): letter
    case 0x0a: 0xff
    default: nil
    }
  }

  /// The number of a hexadecimal or octal escape; nil for any other letter.
  private static func codePoint(
    _ letter: UInt8, _ contents: JinjaText, _ index: inout Int
  ) throws(ChatTemplateError) -> UInt32? {
    let digits: Int
    switch letter {
    case UInt8(ascii: "x"): digits = 2
    case UInt8(ascii: "u"): digits = 4
    case UInt8(ascii: "U"): digits = 8
    case UInt8(ascii: "N"):
      throw ChatTemplateError(.unsupported, "a string escape by a character's name")
    case UInt8(ascii: "0")...UInt8(ascii: "7"):
      var code = UInt32(letter - UInt8(ascii: "0"))
      var left = 2
      while left > 0, index < contents.count,
        (UInt8(ascii: "0")...UInt8(ascii: "7")).contains(contents.base[index])
      {
        code = code * 8 + UInt32(contents.base[index] - UInt8(ascii: "0"))
        index += 1
        left -= 1
      }
      return code
    default: return nil
    }
    guard index + digits <= contents.count else {
      throw ChatTemplateError(.syntax, "a string escape cut short")
    }
    var code: UInt32 = 0
    for _ in 0..<digits {
      guard let value = Hex.value(contents.base[index]), code < 0x1000_0000 else {
        throw ChatTemplateError(.syntax, "a malformed string escape")
      }
      code = code << 4 | UInt32(value)
      index += 1
    }
    return code
  }
}
