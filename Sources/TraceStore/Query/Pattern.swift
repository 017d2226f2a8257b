// Regular expressions for `=~`: the part of RE2's syntax that filters use, matched in linear time over bytes.

internal import Base

/// Why a pattern is refused.
struct PatternError: Error, Equatable {
  let message: String
}

/// A compiled pattern, anchored at both ends as Tempo's are.
///
/// A machine of states that are all followed at once, so that no pattern and no text can make it slow: time is at most
/// states times bytes. Taken: literals, `.`, `*`, `+`, `?`, `{m,n}`, `|`, groups, classes, `\d \w \s`, `(?i)` at the start.
struct Pattern: Sendable {
  /// States of one pattern.
  static let statesMax = 1_000
  /// Parts that are looked at to make them: a group without any state can be repeated, too.
  static let partsMax = 10_000
  /// Bytes of a text that are matched; what is longer is matched as if it ended there.
  static let textMax = 4_096

  fileprivate enum State: Sendable {
    /// Takes a byte of the set, then goes on at the next state.
    case bytes(ByteSet)
    /// Goes on at both.
    case split(Int, Int)
    case jump(Int)
    case match
  }

  private let states: [State]
  let source: String

  init(_ source: String) throws(PatternError) {
    var parser = PatternParser(source)
    var program = PatternProgram()
    try program.emit(try parser.parse())
    try program.append(.match)
    states = program.states
    self.source = source
  }

  /// Steps that matching `text` takes at most.
  func steps(on text: UnsafeRawBufferPointer) -> Int { states.count * min(text.count, Self.textMax) }

  /// True when all of `text` matches, up to ``textMax``.
  func matches(_ text: UnsafeRawBufferPointer) -> Bool {
    let text = text.slice(0..<min(text.count, Self.textMax))
    var current = StateSet(states.count)
    var next = StateSet(states.count)
    add(0, to: &current)
    for byte in text {
      if current.members.isEmpty { return false }
      next.removeAll()
      for index in current.members {
        if case .bytes(let set) = states[index], set.contains(byte) { add(index + 1, to: &next) }
      }
      swap(&current, &next)
    }
    return current.members.contains { if case .match = states[$0] { true } else { false } }
  }

  /// Adds `index` and all states that can be reached from it without a byte.
  private func add(_ index: Int, to set: inout StateSet) {
    var waiting = [index]
    while let index = waiting.popLast() {
      guard set.insert(index) else { continue }
      switch states[index] {
      case .jump(let target): waiting.append(target)
      case .split(let first, let second):
        waiting.append(second)
        waiting.append(first)
      case .bytes, .match: break
      }
    }
  }
}

/// A set of states that lists its members.
private struct StateSet {
  private(set) var members: [Int] = []
  private var isMember: [Bool]

  init(_ count: Int) { isMember = Array(repeating: false, count: count) }

  mutating func insert(_ index: Int) -> Bool {
    if isMember[index] { return false }
    isMember[index] = true
    members.append(index)
    return true
  }

  mutating func removeAll() {
    for index in members { isMember[index] = false }
    members.removeAll(keepingCapacity: true)
  }
}

/// A set of bytes.
struct ByteSet: Sendable, Equatable {
  private var words: (UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0)

  mutating func insert(_ byte: UInt8) {
    let bit = UInt64(1) << UInt64(byte & 63)
    switch byte >> 6 {
    case 0: words.0 |= bit
    case 1: words.1 |= bit
    case 2: words.2 |= bit
    default: words.3 |= bit
    }
  }

  mutating func insert(_ range: ClosedRange<UInt8>) { for byte in range { insert(byte) } }

  mutating func formUnion(_ other: ByteSet) {
    words = (
      words.0 | other.words.0, words.1 | other.words.1, words.2 | other.words.2, words.3 | other.words.3
    )
  }

  var inverted: ByteSet {
    var set = ByteSet()
    set.words = (~words.0, ~words.1, ~words.2, ~words.3)
    return set
  }

  func contains(_ byte: UInt8) -> Bool {
    let word =
      switch byte >> 6 {
      case 0: words.0
      case 1: words.1
      case 2: words.2
      default: words.3
      }
    return word >> UInt64(byte & 63) & 1 == 1
  }

  static func == (left: ByteSet, right: ByteSet) -> Bool { left.words == right.words }
}

/// What a pattern says.
private indirect enum PatternNode {
  case bytes(ByteSet)
  case sequence([PatternNode])
  case either([PatternNode])
  /// `low` times at least, `high` at most; nil is no end.
  case repetition(PatternNode, low: Int, high: Int?)
}

/// Turns a pattern into states.
private struct PatternProgram {
  private(set) var states: [Pattern.State] = []
  private var partCount = 0

  mutating func append(_ state: Pattern.State) throws(PatternError) {
    guard states.count < Pattern.statesMax else { throw Self.tooLarge }
    states.append(state)
  }

  private static var tooLarge: PatternError { PatternError(message: "the expression is too large") }

  mutating func emit(_ node: PatternNode) throws(PatternError) {
    partCount += 1
    guard partCount <= Pattern.partsMax else { throw Self.tooLarge }
    switch node {
    case .bytes(let set): try append(.bytes(set))
    case .sequence(let parts): for part in parts { try emit(part) }
    case .either(let parts): try emit(either: parts)
    case .repetition(let part, let low, let high):
      for _ in 0..<low { try emit(part) }
      if let high { try emit(part, upTo: high - low) } else { try emit(anyNumberOf: part) }
    }
  }

  private mutating func emit(either parts: [PatternNode]) throws(PatternError) {
    var ends: [Int] = []
    for part in parts.dropLast() {
      let fork = states.count
      try append(.match)
      try emit(part)
      ends.append(states.count)
      try append(.match)
      states[fork] = .split(fork + 1, states.count)
    }
    if let last = parts.last { try emit(last) }
    for end in ends { states[end] = .jump(states.count) }
  }

  private mutating func emit(anyNumberOf part: PatternNode) throws(PatternError) {
    let fork = states.count
    try append(.match)
    try emit(part)
    try append(.jump(fork))
    states[fork] = .split(fork + 1, states.count)
  }

  private mutating func emit(_ part: PatternNode, upTo count: Int) throws(PatternError) {
    var forks: [Int] = []
    for _ in 0..<count {
      forks.append(states.count)
      try append(.match)
      try emit(part)
    }
    for fork in forks { states[fork] = .split(fork + 1, states.count) }
  }
}

/// Recursive descent over the text of a pattern.
private struct PatternParser {
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
