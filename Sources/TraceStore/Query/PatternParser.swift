// The text of a regular expression: what it says, and what is refused of it.

internal import Base

/// What a pattern says.
indirect enum PatternNode {
  case bytes(ByteSet)
  case sequence([PatternNode])
  case either([PatternNode])
  /// `low` times at least, `high` at most; nil is no end.
  case repetition(PatternNode, low: Int, high: Int?)
}

/// Recursive descent over the text of a pattern.
struct PatternParser {
  private let bytes: [UInt8]
  private var index = 0
  private var ignoresCase = false
  private var depth = 0

  init(_ source: String) { bytes = Array(source.utf8) }

  mutating func parse() throws(PatternError) -> PatternNode {
    if bytes.starts(with: Array("(?i)".utf8)) {
      ignoresCase = true
      index = 4
    }
    if byte == UInt8(ascii: "^") { index += 1 }
    let node = try alternatives()
    guard index == bytes.count else { throw PatternError(message: "unexpected ')'") }
    return node
  }

  private var byte: UInt8? { index < bytes.count ? bytes[index] : nil }

  private mutating func take(_ wanted: Character) -> Bool {
    guard let byte, byte == wanted.asciiValue else { return false }
    index += 1
    return true
  }

  private mutating func alternatives() throws(PatternError) -> PatternNode {
    depth += 1
    defer { depth -= 1 }
    guard depth <= 50 else { throw PatternError(message: "groups are nested too deeply") }
    var parts = [try sequence()]
    while take("|") { parts.append(try sequence()) }
    return parts.count == 1 ? parts[0] : .either(parts)
  }

  private mutating func sequence() throws(PatternError) -> PatternNode {
    var parts: [PatternNode] = []
    while let byte, byte != UInt8(ascii: "|"), byte != UInt8(ascii: ")") {
      if byte == UInt8(ascii: "$") {
        index += 1
        guard index == bytes.count else { throw PatternError(message: "'$' is known at the end only") }
        break
      }
      parts.append(try repeated(try atom()))
    }
    return .sequence(parts)
  }

  private mutating func repeated(_ atom: PatternNode) throws(PatternError) -> PatternNode {
    var node = atom
    var times = 0
    while let byte {
      switch byte {
      case UInt8(ascii: "*"): node = .repetition(node, low: 0, high: nil)
      case UInt8(ascii: "+"): node = .repetition(node, low: 1, high: nil)
      case UInt8(ascii: "?"): node = .repetition(node, low: 0, high: 1)
      case UInt8(ascii: "{"):
        index += 1
        let (low, high) = try counts()
        node = .repetition(node, low: low, high: high)
      default: return node
      }
      times += 1
      guard times <= 4 else { throw PatternError(message: "repetitions of repetitions") }
      index += 1
      // A lazy repetition matches the same texts when both ends are anchored.
      _ = take("?")
    }
    return node
  }

  /// `m}`, `m,}`, `m,n}`, up to the closing brace.
  private mutating func counts() throws(PatternError) -> (low: Int, high: Int?) {
    let low = try number()
    var high: Int? = low
    if take(",") { high = byte == UInt8(ascii: "}") ? nil : try number() }
    guard byte == UInt8(ascii: "}"), low <= 200, high ?? low >= low, high ?? low <= 200 else {
      throw PatternError(message: "a repetition must be {m}, {m,} or {m,n}, at most 200")
    }
    return (low, high)
  }

  private mutating func number() throws(PatternError) -> Int {
    var value: Int?
    while let byte, byte >= UInt8(ascii: "0"), byte <= UInt8(ascii: "9"), value ?? 0 < 10_000 {
      value = (value ?? 0) * 10 + Int(byte - UInt8(ascii: "0"))
      index += 1
    }
    guard let value else { throw PatternError(message: "a number is missing in a repetition") }
    return value
  }

  private mutating func atom() throws(PatternError) -> PatternNode {
    guard let byte else { return .sequence([]) }
    index += 1
    switch byte {
    case UInt8(ascii: "("):
      if take("?") {
        guard take(":") else { throw PatternError(message: "only (?: and a leading (?i) are known") }
      }
      let group = try alternatives()
      guard take(")") else { throw PatternError(message: "a group is not closed") }
      return group
    case UInt8(ascii: "["): return .bytes(try characterClass())
    case UInt8(ascii: "."): return Self.anyCharacter
    case UInt8(ascii: "^"): throw PatternError(message: "'^' is known at the start only")
    case UInt8(ascii: "*"), UInt8(ascii: "+"), UInt8(ascii: "?"):
      throw PatternError(message: "nothing to repeat")
    case UInt8(ascii: "\\"): return .bytes(cased(try escape()))
    default:
      var set = ByteSet()
      set.insert(byte)
      guard byte >= 0xc0 else { return .bytes(cased(set)) }
      // A repetition behind it repeats the whole character.
      var character: [PatternNode] = [.bytes(set)]
      while let next = self.byte, (0x80...0xbf).contains(next) {
        var set = ByteSet()
        set.insert(next)
        character.append(.bytes(set))
        index += 1
      }
      return .sequence(character)
    }
  }

  /// One character of UTF-8, or one byte that is none. Classes count bytes.
  private static var anyCharacter: PatternNode {
    var single = ByteSet()
    single.insert(0...0xbf)
    var lead = ByteSet()
    lead.insert(0xc0...0xff)
    var rest = ByteSet()
    rest.insert(0x80...0xbf)
    return .either([
      .bytes(single), .sequence([.bytes(lead), .repetition(.bytes(rest), low: 0, high: 3)]),
    ])
  }

  private mutating func escape() throws(PatternError) -> ByteSet {
    guard let byte else { throw PatternError(message: "the expression ends in a backslash") }
    index += 1
    var set = ByteSet()
    switch byte {
    case UInt8(ascii: "d"), UInt8(ascii: "D"): set.insert(UInt8(ascii: "0")...UInt8(ascii: "9"))
    case UInt8(ascii: "w"), UInt8(ascii: "W"):
      set.insert(UInt8(ascii: "0")...UInt8(ascii: "9"))
      set.insert(UInt8(ascii: "a")...UInt8(ascii: "z"))
      set.insert(UInt8(ascii: "A")...UInt8(ascii: "Z"))
      set.insert(UInt8(ascii: "_"))
    case UInt8(ascii: "s"), UInt8(ascii: "S"):
      for space in [0x09, 0x0a, 0x0c, 0x0d, 0x20] as [UInt8] { set.insert(space) }
    case UInt8(ascii: "n"): set.insert(0x0a)
    case UInt8(ascii: "r"): set.insert(0x0d)
    case UInt8(ascii: "t"): set.insert(0x09)
    default:
      guard !(UInt8(ascii: "0")...UInt8(ascii: "9") ~= byte),
        !(UInt8(ascii: "a")...UInt8(ascii: "z") ~= byte),
        !(UInt8(ascii: "A")...UInt8(ascii: "Z") ~= byte)
      else { throw PatternError(message: "an unknown escape") }
      set.insert(byte)
    }
    return byte >= UInt8(ascii: "A") && byte <= UInt8(ascii: "Z") ? set.inverted : set
  }

  private mutating func characterClass() throws(PatternError) -> ByteSet {
    let isInverted = take("^")
    var set = ByteSet()
    var isFirst = true
    while let byte, isFirst || byte != UInt8(ascii: "]") {
      isFirst = false
      index += 1
      guard byte != UInt8(ascii: "[") || self.byte != UInt8(ascii: ":") else {
        throw PatternError(message: "named classes are not known")
      }
      guard byte != UInt8(ascii: "\\") else {
        set.formUnion(try escape())
        continue
      }
      if self.byte == UInt8(ascii: "-"), index + 1 < bytes.count, bytes[index + 1] != UInt8(ascii: "]") {
        let last = bytes[index + 1]
        guard byte <= last, last != UInt8(ascii: "\\") else {
          throw PatternError(message: "a range of a class is reversed, or ends in an escape")
        }
        set.insert(byte...last)
        index += 2
      } else {
        set.insert(byte)
      }
    }
    guard take("]") else { throw PatternError(message: "a class is not closed") }
    set = cased(set)
    return isInverted ? set.inverted : set
  }

  private func cased(_ set: ByteSet) -> ByteSet {
    guard ignoresCase else { return set }
    var both = set
    for letter in UInt8(ascii: "a")...UInt8(ascii: "z") {
      if set.contains(letter) { both.insert(letter - 32) }
      if set.contains(letter - 32) { both.insert(letter) }
    }
    return both
  }
}
