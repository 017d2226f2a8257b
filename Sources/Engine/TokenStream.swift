// Which token comes next: a function of the seed and of every token before it, and of nothing else.

internal import Base

/// Generates the tokens of one sequence.
///
/// The state folds the seed, the prompt and each output token, so an engine that is given the prompt and the tokens so
/// far goes on exactly where another one stopped.
struct TokenStream {
  private var state: UInt64
  /// The last output token; nil before the first.
  private(set) var last: UInt32?
  /// Output tokens so far, resumed ones included.
  private(set) var count = 0
  /// Whether the clause that is being said has its verb.
  private var hasVerb = false
  /// Output tokens after which the text ends by itself; nil when only a limit ends it.
  let naturalLength: Int?

  /// Starts behind a prompt whose bytes hash to `promptHash`. `endsByItself` is false when the request sets a limit:
  /// then the limit is reached exactly, as load tests expect.
  init(seed: UInt64, promptHash: UInt64, variation: UInt64, endsByItself: Bool) {
    state = Self.mix(Self.mix(seed ^ promptHash) ^ variation)
    naturalLength = endsByItself ? 16 + Int(Self.mix(state ^ 0x6c65_6e67_7468) % 49) : nil
  }

  /// True when the text has come to its own end.
  var isComplete: Bool { naturalLength.map { count >= $0 } ?? false }

  /// Takes in a token that was generated elsewhere.
  mutating func resume(with token: UInt32) {
    state = Self.mix(state ^ UInt64(token))
    last = token
    count += 1
    switch Vocabulary.wordClass(of: token) {
    case .verb?: hasVerb = true
    case .period?, .conjunction?: hasVerb = false
    default: break
    }
  }

  /// The next token.
  mutating func next() -> UInt32 {
    let draw = Self.mix(state ^ 0x746f_6b65_6e)
    let token = Vocabulary.token(nextClass(draw), choice: draw >> 16)
    resume(with: token)
    return token
  }

  private func nextClass(_ draw: UInt64) -> Vocabulary.WordClass {
    let previous = last.flatMap(Vocabulary.wordClass(of:))
    let remaining = naturalLength.map { $0 - count } ?? Int.max
    if remaining <= 1 { return .period }
    let dice = draw & 0xff
    switch previous {
    case nil, .period?, .preposition?, .conjunction?: return remaining == 2 ? .noun : .article
    case .article?: return dice < 112 && remaining > 2 ? .adjective : .noun
    case .adjective?: return .noun
    case .noun?: return nextClassAfterNoun(dice, remaining)
    case .verb?: return dice < 176 && remaining > 3 ? .article : .adverb
    case .adverb?:
      if remaining == 2 { return .adverb }
      return dice < 144 ? .period : dice < 200 ? .preposition : .conjunction
    }
  }

  /// A clause gets its verb before it ends; with one it may end, go on, or be joined to another.
  private func nextClassAfterNoun(_ dice: UInt64, _ remaining: Int) -> Vocabulary.WordClass {
    if remaining == 2 { return hasVerb ? .adverb : .verb }
    if !hasVerb { return dice < 192 ? .verb : .preposition }
    return dice < 144 ? .period : dice < 208 ? .preposition : .conjunction
  }

  /// A full-avalanche mix of 64 bits (the finisher of splitmix64).
  static func mix(_ value: UInt64) -> UInt64 {
    var z = value &+ 0x9e37_79b9_7f4a_7c15
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }
}
