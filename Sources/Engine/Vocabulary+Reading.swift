// The engine's own text read back: which tokens said it, so that an answer begun elsewhere can be continued.

internal import Base

/// Reads text of the simulated engine.
package enum SimulatedText {
  /// The tokens that say `text`; nil when the engine would not have said just that.
  package static func tokens(of text: UnsafeRawBufferPointer) -> [UInt32]? {
    var tokens: [UInt32] = []
    var position = 0
    while position < text.count {
      guard let (token, end) = next(in: text, from: position, after: tokens.last) else { return nil }
      tokens.append(token)
      position = end
    }
    // What is said again must be the same, spaces and capitals too.
    var said = ByteBuffer(capacity: text.count)
    for (index, token) in tokens.enumerated() {
      Vocabulary.append(token, after: index > 0 ? tokens[index - 1] : nil, to: &said)
    }
    return said.readable.equals(text) ? tokens : nil
  }

  private static func next(
    in text: UnsafeRawBufferPointer, from start: Int, after previous: UInt32?
  ) -> (token: UInt32, end: Int)? {
    if text[start] == UInt8(ascii: ".") { return (Vocabulary.token(.period, choice: 0), start + 1) }
    var position = start
    if text[position] == UInt8(ascii: " ") { position += 1 }
    let first = position
    while position < text.count, text[position] != UInt8(ascii: " "), text[position] != UInt8(ascii: ".") {
      position += 1
    }
    guard position > first else { return nil }
    var word = text.slice(first..<position).map { $0 }
    word[0] |= 0x20
    guard let token = token(of: String(decoding: word, as: UTF8.self), after: previous) else { return nil }
    return (token, position)
  }

  /// A word of two classes is an adjective behind an article, an adverb elsewhere, as the grammar has it.
  private static func token(of word: String, after previous: UInt32?) -> UInt32? {
    guard let found = words[word] else { return nil }
    guard found.count > 1 else { return found[0] }
    let isBehindArticle = previous.flatMap(Vocabulary.wordClass(of:)) == .article
    return found.first { (Vocabulary.wordClass(of: $0) == .adjective) == isBehindArticle }
  }

  private static let words: [String: [UInt32]] = {
    var words: [String: [UInt32]] = [:]
    for wordClass in Vocabulary.WordClass.allCases {
      for (index, word) in Vocabulary.words(of: wordClass).enumerated() {
        words["\(word)", default: []].append(Vocabulary.token(wordClass, choice: UInt64(index)))
      }
    }
    return words
  }()
}
