// Cuts a template into tokens as jinja2's lexer does with trim_blocks and lstrip_blocks, as chat templates are read.

internal import Base

/// Reads a template from front to back. Newlines are "\n" by now and one at the very end is gone.
struct JinjaLexer {
  private let source: JinjaText
  private let arena: JinjaArena
  private var offset = 0
  private var line = 1
  private var tokens: [JinjaToken] = []
  /// True when what was read last ended a line: `lstrip_blocks` needs to know.
  private var isLineStart = true

  private init(_ source: JinjaText, _ arena: JinjaArena) {
    self.source = source
    self.arena = arena
  }

  /// All tokens of `source`, which must lie in memory that stays.
  static func tokens(of source: JinjaText, arena: JinjaArena) throws(ChatTemplateError) -> [JinjaToken] {
    var lexer = JinjaLexer(source, arena)
    try lexer.readRoot()
    lexer.tokens.append(JinjaToken(kind: .endOfSource, line: lexer.line))
    return lexer.tokens
  }

  /// `source` with its newlines as "\n", without one at its end: what jinja2 reads.
  static func normalized(
    _ source: UnsafeRawBufferPointer, arena: JinjaArena
  ) throws(ChatTemplateError) -> JinjaText {
    let room = try arena.allocate(max(source.count, 1))
    var count = 0
    var index = 0
    while index < source.count {
      var byte = source[index]
      index += 1
      if byte == 0x0d {
        byte = 0x0a
        if index < source.count, source[index] == 0x0a { index += 1 }
      }
      room[count] = byte
      count += 1
    }
    if count > 0, room[count - 1] == 0x0a { count -= 1 }
    return JinjaText(room, count)
  }

  // MARK: Text between tags

  private mutating func readRoot() throws(ChatTemplateError) {
    while offset < source.count {
      guard let tag = nextTag() else {
        append(data: offset, source.count)
        offset = source.count
        return
      }
      let letter = byte(tag + 1)
      var after = tag + 2
      let sign = byte(after)
      if sign == UInt8(ascii: "-") || sign == UInt8(ascii: "+") { after += 1 }
      let rawEnd = letter == UInt8(ascii: "%") ? rawBegin(after) : nil
      appendStripped(from: offset, to: tag, sign: sign, isVariable: letter == UInt8(ascii: "{"))
      skip(to: after)
      isLineStart = false
      if let rawEnd {
        skip(to: rawEnd)
        isLineStart = byte(offset - 1) == 0x0a
        try readRaw()
      } else if letter == UInt8(ascii: "#") {
        try readComment()
      } else {
        try readTag(isBlock: letter == UInt8(ascii: "%"))
      }
    }
  }

  /// Where the next `{%`, `{{` or `{#` stands.
  private func nextTag() -> Int? {
    var at = offset
    while let brace = source.find(JinjaText("{"), from: at) {
      switch byte(brace + 1) {
      case UInt8(ascii: "%"), UInt8(ascii: "{"), UInt8(ascii: "#"): return brace
      default: at = brace + 1
      }
    }
    return nil
  }

  /// Adds the text before a tag, without the white space that the tag's sign or `lstrip_blocks` takes away.
  private mutating func appendStripped(from start: Int, to end: Int, sign: UInt8, isVariable: Bool) {
    let text = source.slice(start, end)
    if sign == UInt8(ascii: "-") {
      append(data: start, start + text.strippedOfWhitespace(leading: false).count)
      return
    }
    guard sign != UInt8(ascii: "+"), !isVariable else {
      append(data: start, end)
      return
    }
    let lineStart = (text.findLast(JinjaText("\n"), before: text.count) ?? -1) + 1
    let tail = text.slice(lineStart, text.count)
    if lineStart > 0 || isLineStart, tail.strippedOfWhitespace().isEmpty {
      append(data: start, start + lineStart)
    } else {
      append(data: start, end)
    }
  }

  private mutating func append(data start: Int, _ end: Int) {
    guard end > start else { return }
    tokens.append(JinjaToken(kind: .data, line: line, text: source.slice(start, end)))
  }

  private mutating func readComment() throws(ChatTemplateError) {
    guard let end = source.find(JinjaText("#}"), from: offset) else {
      throw fail("missing end of comment tag")
    }
    let sign = end > offset ? byte(end - 1) : 0
    skip(to: end + 2)
    endTag(sign: sign)
  }

  /// Passes what follows the end of a block or comment: all white space after a minus, one newline (`trim_blocks`)
  /// unless a plus forbids it.
  private mutating func endTag(sign: UInt8) {
    isLineStart = false
    if sign == UInt8(ascii: "-") {
      skipWhitespace()
      isLineStart = byte(offset - 1) == 0x0a
    } else if sign != UInt8(ascii: "+"), byte(offset) == 0x0a {
      skip(to: offset + 1)
      isLineStart = true
    }
  }

  // MARK: raw

  /// Where the text of a raw block starts, if `{%` is followed by `raw` and the tag's end.
  private func rawBegin(_ start: Int) -> Int? {
    guard let at = passed(word: "raw", from: start) else { return nil }
    if byte(at) == UInt8(ascii: "-"), byte(at + 1) == UInt8(ascii: "%"), byte(at + 2) == UInt8(ascii: "}") {
      return whitespaceEnd(at + 3)
    }
    return byte(at) == UInt8(ascii: "%") && byte(at + 1) == UInt8(ascii: "}") ? at + 2 : nil
  }

  private mutating func readRaw() throws(ChatTemplateError) {
    var at = offset
    while let tag = source.find(JinjaText("{%"), from: at) {
      var after = tag + 2
      let sign = byte(after)
      if sign == UInt8(ascii: "-") || sign == UInt8(ascii: "+") { after += 1 }
      if let end = passed(word: "endraw", from: after) {
        let endSign = byte(end)
        let percent = endSign == UInt8(ascii: "-") || endSign == UInt8(ascii: "+") ? end + 1 : end
        if byte(percent) == UInt8(ascii: "%"), byte(percent + 1) == UInt8(ascii: "}") {
          appendStripped(from: offset, to: tag, sign: sign, isVariable: false)
          skip(to: percent + 2)
          endTag(sign: endSign)
          return
        }
      }
      at = tag + 2
    }
    throw fail("missing end of raw directive")
  }

  /// Where `word`, with white space on both sides, ends.
  private func passed(word: StaticString, from start: Int) -> Int? {
    let at = whitespaceEnd(start)
    let end = at + word.utf8CodeUnitCount
    guard end <= source.count, source.slice(at, end).equals(word) else { return nil }
    return whitespaceEnd(end)
  }

  // MARK: Inside tags

  private mutating func readTag(isBlock: Bool) throws(ChatTemplateError) {
    tokens.append(JinjaToken(kind: isBlock ? .blockBegin : .variableBegin, line: line))
    let mark = isBlock ? UInt8(ascii: "%") : UInt8(ascii: "}")
    var open: [UInt8] = []
    while true {
      skipWhitespace()
      guard offset < source.count else { throw fail("unexpected end of template") }
      let first = byte(offset)
      if open.isEmpty {
        let isSigned = first == UInt8(ascii: "-") || isBlock && first == UInt8(ascii: "+")
        let at = isSigned ? offset + 1 : offset
        if byte(at) == mark, byte(at + 1) == UInt8(ascii: "}") {
          tokens.append(JinjaToken(kind: isBlock ? .blockEnd : .variableEnd, line: line))
          skip(to: at + 2)
          if isBlock || isSigned {
            endTag(sign: isSigned ? first : 0)
          } else {
            isLineStart = false
          }
          return
        }
      }
      try readToken(first, &open)
    }
  }

  private mutating func readToken(_ first: UInt8, _ open: inout [UInt8]) throws(ChatTemplateError) {
    switch first {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): try readNumber()
    case UInt8(ascii: "'"), UInt8(ascii: "\""): try readString(quote: first)
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "_"),
      0x80...0xff:
      readName()
    default:
      guard let (kind, length) = JinjaLexer.operation(first, byte(offset + 1)) else {
        throw fail("unexpected character")
      }
      switch kind {
      case .leftBrace: open.append(UInt8(ascii: "}"))
      case .leftBracket: open.append(UInt8(ascii: "]"))
      case .leftParenthesis: open.append(UInt8(ascii: ")"))
      case .rightBrace, .rightBracket, .rightParenthesis:
        guard open.popLast() == first else { throw fail("unexpected '\(Character(Unicode.Scalar(first)))'") }
      default: break
      }
      tokens.append(JinjaToken(kind: kind, line: line, text: source.slice(offset, offset + length)))
      skip(to: offset + length)
    }
  }

  private static func operation(_ first: UInt8, _ second: UInt8) -> (JinjaToken.Kind, Int)? {
    switch (first, second) {
    case (UInt8(ascii: "/"), UInt8(ascii: "/")): (.floorDivide, 2)
    case (UInt8(ascii: "*"), UInt8(ascii: "*")): (.power, 2)
    case (UInt8(ascii: "="), UInt8(ascii: "=")): (.equal, 2)
    case (UInt8(ascii: "!"), UInt8(ascii: "=")): (.notEqual, 2)
    case (UInt8(ascii: ">"), UInt8(ascii: "=")): (.greaterOrEqual, 2)
    case (UInt8(ascii: "<"), UInt8(ascii: "=")): (.lessOrEqual, 2)
    case (UInt8(ascii: "+"), _): (.add, 1)
    case (UInt8(ascii: "-"), _): (.subtract, 1)
    case (UInt8(ascii: "/"), _): (.divide, 1)
    case (UInt8(ascii: "*"), _): (.multiply, 1)
    case (UInt8(ascii: "%"), _): (.modulo, 1)
    case (UInt8(ascii: "~"), _): (.tilde, 1)
    case (UInt8(ascii: "["), _): (.leftBracket, 1)
    case (UInt8(ascii: "]"), _): (.rightBracket, 1)
    case (UInt8(ascii: "("), _): (.leftParenthesis, 1)
    case (UInt8(ascii: ")"), _): (.rightParenthesis, 1)
    case (UInt8(ascii: "{"), _): (.leftBrace, 1)
    case (UInt8(ascii: "}"), _): (.rightBrace, 1)
    case (UInt8(ascii: ">"), _): (.greater, 1)
    case (UInt8(ascii: "<"), _): (.less, 1)
    case (UInt8(ascii: "="), _): (.assign, 1)
    case (UInt8(ascii: "."), _): (.dot, 1)
    case (UInt8(ascii: ":"), _): (.colon, 1)
    case (UInt8(ascii: "|"), _): (.pipe, 1)
    case (UInt8(ascii: ","), _): (.comma, 1)
    case (UInt8(ascii: ";"), _): (.semicolon, 1)
    default: nil
    }
  }

  private mutating func readName() {
    var end = offset
    while end < source.count {
      switch source.base[end] {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "_"),
        UInt8(ascii: "0")...UInt8(ascii: "9"), 0x80...0xff:
        end += 1
        continue
      default: break
      }
      break
    }
    tokens.append(JinjaToken(kind: .name, line: line, text: source.slice(offset, end)))
    offset = end
  }

  private mutating func readString(quote: UInt8) throws(ChatTemplateError) {
    var end = offset + 1
    while end < source.count, source.base[end] != quote {
      end += source.base[end] == UInt8(ascii: "\\") ? 2 : 1
    }
    guard end < source.count else { throw fail("string without its end") }
    let contents = source.slice(offset + 1, end)
    let text: JinjaText
    do {
      text = try JinjaStringLiteral.decoded(contents, arena: arena)
    } catch {
      throw error.at(line: line)
    }
    tokens.append(JinjaToken(kind: .string, line: line, text: text))
    skip(to: end + 1)
  }

  // MARK: Numbers

  private mutating func readNumber() throws(ChatTemplateError) {
    let start = offset
    let wholeEnd = digitsEnd(start)
    var end = wholeEnd
    let followsDot = start > 0 && source.base[start - 1] == UInt8(ascii: ".")
    if !followsDot {
      if byte(end) == UInt8(ascii: "."), isDigit(byte(end + 1)) { end = digitsEnd(end + 1) }
      if byte(end) | 0x20 == UInt8(ascii: "e") {
        let sign = byte(end + 1) == UInt8(ascii: "+") || byte(end + 1) == UInt8(ascii: "-") ? 1 : 0
        if isDigit(byte(end + 1 + sign)) { end = digitsEnd(end + 1 + sign) }
      }
    }
    var token = JinjaToken(kind: .float, line: line, text: source.slice(start, end))
    if end > wholeEnd {
      guard let number = PythonText.double(token.text) else { throw fail("malformed number") }
      token.double = number
    } else {
      end = integerEnd(start, wholeEnd)
      guard let number = PythonText.integer(source.slice(start, end), radix: 0) else {
        throw ChatTemplateError(.unsupported, "a whole number beyond 64 bits", line: line)
      }
      token = JinjaToken(kind: .integer, line: line, text: source.slice(start, end), integer: number)
    }
    tokens.append(token)
    offset = end
  }

  /// Where a whole number ends: a leading zero is followed by zeros or by the letter of a base.
  private func integerEnd(_ start: Int, _ decimalEnd: Int) -> Int {
    guard source.base[start] == UInt8(ascii: "0") else { return decimalEnd }
    let isMember: (UInt8) -> Bool
    switch byte(start + 1) | 0x20 {
    case UInt8(ascii: "x"): isMember = { Hex.value($0) != nil }
    case UInt8(ascii: "o"): isMember = { $0 >= UInt8(ascii: "0") && $0 <= UInt8(ascii: "7") }
    case UInt8(ascii: "b"): isMember = { $0 == UInt8(ascii: "0") || $0 == UInt8(ascii: "1") }
    default:
      var end = start
      while byte(end) == UInt8(ascii: "0") { end += 1 }
      return end
    }
    var end = start + 2
    while isMember(byte(end)) || byte(end) == UInt8(ascii: "_") && isMember(byte(end + 1)) { end += 1 }
    return end > start + 2 ? end : start + 1
  }

  private func digitsEnd(_ start: Int) -> Int {
    var end = start
    while isDigit(byte(end)) || byte(end) == UInt8(ascii: "_") && end > start && isDigit(byte(end + 1)) {
      end += 1
    }
    return end
  }

  // MARK: Steps

  private func isDigit(_ byte: UInt8) -> Bool { byte >= UInt8(ascii: "0") && byte <= UInt8(ascii: "9") }

  /// The byte at `index`; 0 outside the source.
  private func byte(_ index: Int) -> UInt8 {
    index >= 0 && index < source.count ? source.base[index] : 0
  }

  private func whitespaceEnd(_ start: Int) -> Int {
    var at = start
    while at < source.count {
      let end = source.end(ofCharacterAt: at)
      guard source.isSpace(at, end) else { break }
      at = end
    }
    return at
  }

  private mutating func skipWhitespace() { skip(to: whitespaceEnd(offset)) }

  private mutating func skip(to end: Int) {
    while offset < end {
      if byte(offset) == 0x0a { line += 1 }
      offset += 1
    }
  }

  private func fail(_ message: String) -> ChatTemplateError {
    ChatTemplateError(.syntax, message, line: line)
  }
}
