// What can be wrong with a tokenizer's files or with a text to encode.

package import JSON

/// Why a tokenizer cannot be used, or a text cannot be encoded.
///
/// A part of a file that is not understood is named and refused: a router that guesses ids would route by wrong hashes.
package enum TokenizerError: Error, Sendable, Equatable {
  /// The file is no JSON.
  case invalidJSON(JSONError)

  /// A value is missing or of another kind than the format asks for; the name is its path in the file.
  case invalidFile(part: String)

  /// The file asks for something that this implementation does not do.
  case unsupported(part: String, value: String)

  /// A regular expression that has no scanner here, while libpcre2 is absent or refuses it.
  case unsupportedPattern(String, reason: String)

  /// More than a limit allows; see ``TokenizerLimits``.
  case tooLarge(part: String, limit: Int)

  /// The text is no UTF-8; the offset is that of the first byte that is not.
  case invalidUTF8(offset: Int)

  /// A stretch of text without any place to split is longer than ``TokenizerLimits/pieceBytesMax``.
  case pieceTooLong(bytes: Int)

  /// libpcre2 gave up on a text.
  case patternFailed(code: Int)

  /// What happened, in words for a log line.
  package var explanation: String {
    switch self {
    case .invalidJSON(let error): "not valid JSON at byte \(error.offset): \(error.explanation)"
    case .invalidFile(let part): "\(part) is missing or malformed"
    case .unsupported(let part, let value): "\(part) '\(value)' is not supported"
    case .unsupportedPattern(let pattern, let reason):
      "the pre-tokenizer's pattern is not supported (\(reason)): \(pattern)"
    case .tooLarge(let part, let limit): "\(part) is over the limit of \(limit)"
    case .invalidUTF8(let offset): "text is not valid UTF-8 at byte \(offset)"
    case .pieceTooLong(let bytes): "\(bytes) bytes of text without a place to split"
    case .patternFailed(let code): "libpcre2 failed on the text with code \(code)"
    }
  }
}

/// Bounds on what a tokenizer reads and keeps. All of it comes from files, and files can be hostile.
package enum TokenizerLimits {
  /// Bytes of `tokenizer.json`; the largest known ones have 35 MB.
  package static let fileBytesMax = 96 << 20

  /// Bytes of `tokenizer_config.json`; templates and added tokens make some of 400 KB.
  package static let configBytesMax = 4 << 20

  /// Ids lie below this: 21 bits, as the caches pack them. The largest known vocabulary has 262,208.
  package static let vocabularyMax = 1 << 21

  /// Merges are fewer than this: 22 bits. The largest known list has 514,906.
  package static let mergesMax = 1 << 22

  /// Bytes of one token's text.
  package static let tokenBytesMax = 4_096

  /// Added tokens.
  package static let addedTokensMax = 65_536

  /// Entries of a sequence of normalizers, pre-tokenizers, post-processors or decoders.
  package static let sequenceMax = 16

  /// Bytes of a regular expression.
  package static let patternBytesMax = 4_096

  /// Bytes between two places where the text may be split. Merging a longer stretch would take 100 MB and more.
  package static let pieceBytesMax = 4 << 20
}
