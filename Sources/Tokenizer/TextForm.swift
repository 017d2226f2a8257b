// What happens to text before it is split: normalizers, and what pre-tokenizers put before it.

internal import JSON

/// How a stretch of text is changed before it is split into pieces.
struct TextForm: Equatable {
  /// What is put before a stretch of text.
  enum Prefix: Equatable {
    case nothing
    /// A U+2581, whatever the text begins with (normalizer `Prepend`).
    case bar
    /// A U+2581 unless the text begins with a space or one (`Metaspace`, `always`).
    case barUnlessPresent
    /// The same, before the very beginning of the input only (`Metaspace`, `first`).
    case barAtBeginning
    /// A space unless the text begins with one (`ByteLevel`, `add_prefix_space`).
    case spaceUnlessPresent
  }

  /// Unicode normalization form C.
  var normalizes = false
  /// Spaces are written as U+2581 (inside, both are a space).
  var usesBars = false
  /// Whether the bars come from a normalizer, so that added tokens with `normalized` are looked for behind it.
  var barsAreNormalized = false
  var prefix = Prefix.nothing

  /// Reads the `normalizer` part.
  init(normalizer: JSONValue) throws(TokenizerError) {
    for entry in try normalizer.flattened("normalizers", part: "normalizer") {
      switch entry["type"]?.string ?? "" {
      case "NFC" where !usesBars && prefix == .nothing:
        normalizes = true
      case "Prepend" where prefix == .nothing && entry["prepend"]?.string == "\u{2581}":
        prefix = .bar
      case "Replace"
      where entry["pattern"]?["String"]?.string == " " && entry["content"]?.string == "\u{2581}":
        usesBars = true
      case let type:
        throw .unsupported(part: "normalizer", value: type)
      }
    }
    // A bar before text whose spaces stay spaces: nobody's model does this.
    if prefix == .bar, !usesBars { throw .unsupported(part: "normalizer", value: "Prepend without Replace") }
    if normalizes, usesBars { throw .unsupported(part: "normalizer", value: "NFC with Replace") }
    barsAreNormalized = usesBars
  }
}
