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
