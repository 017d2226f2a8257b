// The words that the simulated engine speaks, and the token ids that stand for them.

internal import Base

/// A small vocabulary with just enough grammar to make sentences.
///
/// A token id is 0xff, word class, word index: a byte of 0xff never occurs in UTF-8, so an output token cannot be
/// mistaken for a prompt token, which is four bytes of text.
enum Vocabulary {
  enum WordClass: UInt32, CaseIterable {
    case article, adjective, noun, verb, adverb, preposition, conjunction, period
  }

  static func words(of wordClass: WordClass) -> [StaticString] {
    switch wordClass {
    case .article: articles
    case .adjective: adjectives
    case .noun: nouns
    case .verb: verbs
    case .adverb: adverbs
    case .preposition: prepositions
    case .conjunction: conjunctions
    case .period: periods
    }
  }

  /// The token of the word that `choice` picks from `wordClass`.
  static func token(_ wordClass: WordClass, choice: UInt64) -> UInt32 {
    let count = UInt64(words(of: wordClass).count)
    return 0xff00_0000 | wordClass.rawValue << 16 | UInt32(choice % count)
  }

  /// The class of a token of this vocabulary; nil for a prompt token.
  static func wordClass(of token: UInt32) -> WordClass? {
    guard token >> 24 == 0xff else { return nil }
    return WordClass(rawValue: token >> 16 & 0xff)
  }

  /// Appends the text of `token`, which follows `previous`: a space before a word that is not the first, a capital at
  /// the start of a sentence.
  static func append(_ token: UInt32, after previous: UInt32?, to text: inout ByteBuffer) {
    guard let wordClass = wordClass(of: token) else { return }
    let list = words(of: wordClass)
    let index = Int(token & 0xffff)
    guard index < list.count else { return }
    let startsSentence: Bool
    switch (wordClass, previous.flatMap(Self.wordClass(of:))) {
    case (.period, _): startsSentence = false
    case (_, .period?):
      text.append(UInt8(ascii: " "))
      startsSentence = true
    case (_, nil): startsSentence = true
    default:
      text.append(UInt8(ascii: " "))
      startsSentence = false
    }
    let start = text.count
    text.append(list[index])
    if startsSentence { capitalise(&text, at: start) }
  }

  private static func capitalise(_ text: inout ByteBuffer, at offset: Int) {
    guard let base = text.base else { return }
    let byte = base + text.head + offset
    let letter = byte.load(as: UInt8.self)
    if letter >= UInt8(ascii: "a"), letter <= UInt8(ascii: "z") {
      byte.storeBytes(of: letter & 0xdf, as: UInt8.self)
    }
  }

  private static let articles: [StaticString] = [
    "the", "a", "every", "each", "one", "this", "that", "another",
  ]
  private static let adjectives: [StaticString] = [
    "quiet", "small", "bright", "careful", "patient", "gentle", "distant", "early", "simple", "steady",
    "curious",
    "narrow", "golden", "silver", "hidden", "warm", "cool", "clever", "honest", "slow", "swift", "tall",
    "green",
    "calm", "busy", "plain", "round", "sharp", "soft", "wide", "young", "old",
  ]
  private static let nouns: [StaticString] = [
    "river", "garden", "teacher", "window", "mountain", "letter", "harbor", "engine", "signal", "market",
    "forest",
    "sailor", "bridge", "lantern", "library", "painter", "valley", "station", "baker", "compass", "meadow",
    "clock",
    "traveler", "island", "village", "machine", "story", "road", "farmer", "lake", "tower", "song", "doctor",
    "field",
    "kitchen", "neighbor", "poet", "ship", "stone", "tree", "morning", "winter", "question", "answer",
    "picture",
    "student", "table", "train",
  ]
  private static let verbs: [StaticString] = [
    "follows", "finds", "carries", "remembers", "watches", "opens", "builds", "crosses", "describes",
    "explains",
    "gathers", "guides", "holds", "keeps", "leaves", "measures", "meets", "needs", "paints", "reaches",
    "reads",
    "repairs", "returns", "sees", "shares", "studies", "supports", "teaches", "visits", "welcomes", "writes",
    "joins",
  ]
  private static let adverbs: [StaticString] = [
    "slowly", "quietly", "often", "always", "carefully", "gladly", "again", "today", "together", "softly",
    "early",
    "nearby", "twice", "soon", "well", "freely",
  ]
  private static let prepositions: [StaticString] = [
    "near", "under", "beside", "across", "behind", "above", "beyond", "inside", "with", "without", "before",
    "after",
    "around", "through", "against", "toward",
  ]
  private static let conjunctions: [StaticString] = ["and", "while", "because", "but"]
  private static let periods: [StaticString] = ["."]
}
