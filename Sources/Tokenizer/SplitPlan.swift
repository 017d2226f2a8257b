// How text is split into pieces: the `pre_tokenizer` part, recognised by its exact patterns.

internal import JSON

/// A pattern that has a scanner here. Each covers all text: no character lies outside its matches.
enum KnownPattern: Sendable {
  case gpt2, qwen2, qwen35, llama3, o200k, tekken

  private static let contractions = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
  private static let spaces = #"|\s*[\r\n]+|\s+(?!\S)|\s+"#
  private static let punctuation = #"| ?[^\s\p{L}\p{N}]+[\r\n]*"#
  private static let upper = #"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"#
  private static let lower = #"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"#
  private static let before = #"[^\r\n\p{L}\p{N}]?"#
  private static let slashed = #"| ?[^\s\p{L}\p{N}]+[\r\n/]*"#

  static let gpt2Text =
    #"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"#

  /// The patterns of `tokenizer.json` files by their exact text.
  private static let byText: [String: KnownPattern] = [
    gpt2Text: .gpt2,
    contractions + "|" + before + #"\p{L}+|\p{N}"# + punctuation + spaces: .qwen2,
    contractions + "|" + before + #"[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"# + spaces: .qwen35,
    contractions + "|" + before + #"\p{L}+|\p{N}{1,3}"# + punctuation + spaces: .llama3,
    // The same in tiktoken's spelling: nothing in it could give back what the possessive quantifiers hold.
    #"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"#:
      .llama3,
    before + upper + "*" + lower + "+" + contractions + "?|" + before + upper + "+" + lower + "*"
      + contractions
      + #"?|\p{N}{1,3}"# + slashed + spaces: .o200k,
    before + upper + "*" + lower + "+|" + before + upper + "+" + lower + #"*|\p{N}"# + slashed + spaces:
      .tekken,
  ]

  init?(text: String) {
    guard let known = KnownPattern.byText[text] else { return nil }
    self = known
  }

  /// The three patterns of DeepSeek V3 and later, in their order.
  static let deepSeekTexts = [
    #"\p{N}{1,3}"#,
    "[\u{4e00}-\u{9fa5}\u{3040}-\u{309f}\u{30a0}-\u{30ff}]+",
    ##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^"## + "\r\n"
      + #"\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+["# + "\r\n" + #"]*|\s*["# + "\r\n"
      + #"]+|\s+(?!\S)|\s+"#,
  ]
}

/// One step of a pre-tokenizer that has no scanner as a whole.
enum SplitStage: Sendable {
  case known(KnownPattern)
  /// Digits stand apart, each alone or a run at a time.
  case digits(individual: Bool)
  /// Any other pattern; `keepsGaps`: what lies between matches is a piece as well.
  case compiled(CompiledPattern, keepsGaps: Bool)
}

/// How text is split into pieces before merging.
enum SplitPlan: Sendable {
  case known(KnownPattern)
  /// GPT-2's pattern behind single digits.
  case gpt2Digits
  case deepSeek
  /// SentencePiece style: the text is one piece, cut where no merge can cross.
  case words
  /// SentencePiece style: each space starts a piece (`Metaspace` with `split`).
  case bars
  /// Byte level without a pattern: the text is one piece.
  case whole
  /// One step after the other.
  case stages([SplitStage])

  /// True when pieces are bytes in GPT-2's alphabet.
  var isByteLevel: Bool {
    switch self {
    case .words, .bars: false
    default: true
    }
  }
}

/// Reads the `pre_tokenizer` part step by step.
struct SplitPlanReader {
  private var stages: [SplitStage] = []
  private var regexes: [String] = []
  private var byteLevel: JSONValue?
  private var metaspace: JSONValue?

  /// The plan, with what the part changes about the text itself noted in `form`.
  static func read(_ part: JSONValue, form: inout TextForm) throws(TokenizerError) -> SplitPlan {
    var reader = SplitPlanReader()
    let entries = try part.flattened("pretokenizers", part: "pre_tokenizer")
    for (index, entry) in entries.enumerated() {
      try reader.add(entry, isLast: index == entries.count - 1, form)
    }
    return try reader.plan(form: &form)
  }

  private mutating func add(
    _ entry: JSONValue, isLast: Bool, _ form: TextForm
  ) throws(TokenizerError) {
    let type = entry["type"]?.string ?? ""
    switch type {
    case "ByteLevel" where isLast:
      byteLevel = entry
    case "Metaspace" where isLast && stages.isEmpty:
      metaspace = entry
    case "Digits":
      stages.append(.digits(individual: entry["individual_digits"]?.bool ?? false))
    case "Split":
      try add(split: entry, form)
    default:
      throw .unsupported(part: "pre_tokenizer", value: type)
    }
  }

  private mutating func add(split entry: JSONValue, _ form: TextForm) throws(TokenizerError) {
    let behavior = entry["behavior"]?.string ?? ""
    if entry["pattern"]?["String"]?.string == " ", form.barsAreNormalized {
      // Gemma splits at spaces after the last of them was replaced: nothing happens.
      return
    }
    guard let regex = entry["pattern"]?["Regex"]?.string else {
      throw .unsupported(part: "pre_tokenizer.pattern", value: "String")
    }
    guard regex.utf8.count <= TokenizerLimits.patternBytesMax else {
      throw .tooLarge(part: "pre_tokenizer.pattern", limit: TokenizerLimits.patternBytesMax)
    }
    let inverts = entry["invert"]?.bool ?? false
    // "Remove what does not match" keeps the matches; where the pattern covers all text that is the same as isolating.
    let keepsMatches = behavior == "Removed" && inverts
    guard keepsMatches || (behavior == "Isolated") else {
      throw .unsupported(part: "pre_tokenizer.behavior", value: behavior)
    }
    regexes.append(regex)
    if let known = KnownPattern(text: regex) {
      stages.append(.known(known))
    } else if KnownPattern.deepSeekTexts.contains(regex), behavior == "Isolated" {
      // Compiled only if the three turn out not to stand together.
      stages.append(.known(.gpt2))
    } else {
      stages.append(.compiled(try CompiledPattern(regex), keepsGaps: !keepsMatches))
    }
  }

  private mutating func plan(form: inout TextForm) throws(TokenizerError) -> SplitPlan {
    if let metaspace { return try metaspacePlan(metaspace, &form) }
    guard let byteLevel else {
      guard stages.isEmpty else {
        throw .unsupported(part: "pre_tokenizer", value: "Split without ByteLevel")
      }
      guard form.usesBars else { throw .unsupported(part: "pre_tokenizer", value: "none") }
      return .words
    }
    if form.usesBars { throw .unsupported(part: "pre_tokenizer", value: "ByteLevel behind Replace") }
    if byteLevel["add_prefix_space"]?.bool ?? true {
      // It applies to each piece of the steps before; only with none it means the text.
      guard stages.isEmpty else { throw .unsupported(part: "pre_tokenizer.add_prefix_space", value: "true") }
      form.prefix = .spaceUnlessPresent
    }
    if byteLevel["use_regex"]?.bool ?? true { stages.append(.known(.gpt2)) }
    if regexes == KnownPattern.deepSeekTexts, stages.count == 3 { return .deepSeek }
    if regexes.contains(where: { KnownPattern.deepSeekTexts.contains($0) }) {
      throw .unsupported(part: "pre_tokenizer", value: "a part of DeepSeek's patterns")
    }
    if stages.isEmpty { return .whole }
    if stages.count == 1, case .known(let pattern) = stages[0] { return .known(pattern) }
    if stages.count == 2, case .digits(individual: true) = stages[0], case .known(.gpt2) = stages[1] {
      return .gpt2Digits
    }
    return .stages(stages)
  }

  private func metaspacePlan(_ entry: JSONValue, _ form: inout TextForm) throws(TokenizerError) -> SplitPlan {
    guard entry["replacement"]?.string == "\u{2581}" else {
      throw .unsupported(part: "pre_tokenizer.replacement", value: entry["replacement"]?.string ?? "")
    }
    guard !form.normalizes, form.prefix == .nothing else {
      throw .unsupported(part: "pre_tokenizer", value: "Metaspace behind a normalizer")
    }
    form.usesBars = true
    // Old files say add_prefix_space, new ones prepend_scheme.
    let old = entry["add_prefix_space"]?.bool ?? true
    switch entry["prepend_scheme"]?.string ?? (old ? "always" : "never") {
    case "always": form.prefix = .barUnlessPresent
    case "first": form.prefix = .barAtBeginning
    case "never": form.prefix = .nothing
    case let scheme: throw .unsupported(part: "pre_tokenizer.prepend_scheme", value: scheme)
    }
    return entry["split"]?.bool ?? true ? .bars : .words
  }
}
