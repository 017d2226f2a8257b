// How the known pre-tokenizer patterns differ, as constants that the compiler folds into one scanner a pattern.

/// What a pattern of the GPT family asks for. All of them try, in this order: contraction, word, number, punctuation,
/// white space that ends in line breaks, white space but for its last character, white space.
protocol SplitRules {
  /// `'s 't 're 've 'm 'll 'd` stand alone.
  static var splitsContractions: Bool { get }
  /// Contractions in any case.
  static var foldsContractions: Bool { get }
  /// A word takes one character before it that is neither letter, number nor line break; else a space only.
  static var wordTakesAny: Bool { get }
  /// Marks are part of words, and no punctuation.
  static var wordHasMarks: Bool { get }
  /// Words end where a small letter is followed by a capital (o200k), and may end in a contraction.
  static var splitsCase: Bool { get }
  /// How many numbers make a piece at most.
  static var numbersMax: Int { get }
  /// Numbers take a space before them.
  static var numberTakesSpace: Bool { get }
  /// Each digit is split off before the pattern is applied.
  static var isolatesDigits: Bool { get }
  /// Line breaks behind punctuation belong to it.
  static var punctuationTakesBreaks: Bool { get }
  /// Slashes behind punctuation belong to it as well.
  static var punctuationTakesSlashes: Bool { get }
  /// White space ends behind its last line break.
  static var endsSpaceAtBreak: Bool { get }
}

extension SplitRules {
  static var splitsContractions: Bool { true }
  static var foldsContractions: Bool { true }
  static var wordTakesAny: Bool { true }
  static var wordHasMarks: Bool { false }
  static var splitsCase: Bool { false }
  static var numbersMax: Int { 1 }
  static var numberTakesSpace: Bool { false }
  static var isolatesDigits: Bool { false }
  static var punctuationTakesBreaks: Bool { true }
  static var punctuationTakesSlashes: Bool { false }
  static var endsSpaceAtBreak: Bool { true }
}

/// `ByteLevel` with `use_regex`: GPT-2.
enum GPT2Rules: SplitRules {
  static var foldsContractions: Bool { false }
  static var wordTakesAny: Bool { false }
  static var numbersMax: Int { .max }
  static var numberTakesSpace: Bool { true }
  static var punctuationTakesBreaks: Bool { false }
  static var endsSpaceAtBreak: Bool { false }
}

/// GPT-2's pattern behind `Digits` with `individual_digits`: SmolLM2, StarCoder 2.
enum GPT2DigitsRules: SplitRules {
  static var foldsContractions: Bool { false }
  static var wordTakesAny: Bool { false }
  static var isolatesDigits: Bool { true }
  static var punctuationTakesBreaks: Bool { false }
  static var endsSpaceAtBreak: Bool { false }
}

/// Qwen 2, 2.5 and 3.
enum Qwen2Rules: SplitRules {}

/// Qwen 3.5.
enum Qwen35Rules: SplitRules {
  static var wordHasMarks: Bool { true }
}

/// cl100k: Llama 3, GLM 4, Phi 4.
enum Llama3Rules: SplitRules {
  static var numbersMax: Int { 3 }
}

/// o200k: gpt-oss, Llama 4.
enum O200KRules: SplitRules {
  static var splitsContractions: Bool { true }
  static var splitsCase: Bool { true }
  static var numbersMax: Int { 3 }
  static var punctuationTakesSlashes: Bool { true }
}

/// Tekken: Mistral Nemo and later.
enum TekkenRules: SplitRules {
  static var splitsContractions: Bool { false }
  static var splitsCase: Bool { true }
  static var punctuationTakesSlashes: Bool { true }
}
