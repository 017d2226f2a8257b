// What the frontend reads from an inference request: positions in the body, which itself is passed on as it came.

package import Base
internal import JSON

/// A validated body of an inference route. Ranges are positions in the parsed bytes.
package struct InferenceRequest: Sendable {
  /// The shape of a completions prompt.
  package enum PromptKind: UInt8, Sendable {
    case none, text, texts, tokens, tokenLists
  }

  package internal(set) var endpoint: Endpoint

  /// The model's name between its quotes, still escaped.
  package internal(set) var model: Range<Int>

  /// True when the name holds escapes, so that ``modelName(in:)`` must be used.
  package internal(set) var modelHasEscapes: Bool

  /// True when the answer is to be streamed.
  package internal(set) var stream = false

  /// True when the caller itself asked for the usage chunk at the stream's end.
  package internal(set) var includeUsage = false

  /// How to make the worker report usage on a stream whose caller did not ask; nil when nothing need change.
  /// When it is applied, the usage-only chunk must be withheld from the caller.
  package internal(set) var usageEdit: BodyEdit?

  /// `n`: how many answers are wanted.
  package internal(set) var choices = 1

  /// `max_completion_tokens`, else `max_tokens`; nil when neither is given.
  package internal(set) var maxTokens: Int?

  /// The array of messages with its brackets (chat only).
  package internal(set) var messages: Range<Int>?

  /// Number of messages.
  package internal(set) var messageCount = 0

  /// The value of `tools`, when it is given and not null (chat only).
  package internal(set) var tools: Range<Int>?

  /// The value of `prompt` or `input`, a string with its quotes or an array with its brackets; of a rerank, `documents`.
  package internal(set) var prompt: Range<Int>?

  package internal(set) var promptKind = PromptKind.none

  /// The contents of `instructions` between its quotes (responses only).
  package internal(set) var instructions: Range<Int>?

  /// The contents of `previous_response_id` between its quotes (responses only).
  package internal(set) var previousResponse: Range<Int>?

  /// Longest `cache_salt`, in bytes as it is written in the body.
  static let saltBytesMax = 1_024

  /// The contents of `cache_salt` between its quotes, when it is a string.
  package internal(set) var cacheSalt: Range<Int>?

  /// The whole value of `cache_salt`, of whatever kind it is; nil when the key is absent.
  package internal(set) var cacheSaltValue: Range<Int>?

  /// The body's closing brace.
  package internal(set) var closingBrace = 0

  /// What `nvext` asks of routing and of the answer; nil without it.
  package internal(set) var extensions: RequestExtensions?

  /// True when white space stands outside strings in what ``canonical(of:into:)`` takes.
  package internal(set) var hasOuterWhitespace = false

  /// The model's name, decoded.
  package func modelName(in body: UnsafeRawBufferPointer) -> String {
    JSONString(range: model, hasEscapes: modelHasEscapes).decoded(in: body)
  }
}

// MARK: Canonical bytes

extension InferenceRequest {
  /// The bytes that routing hashes when they lie in the body as they are: no `tools`, no
  /// `instructions`, no white space outside strings.
  /// Nil otherwise; then use ``canonical(of:into:)``, which gives equal bytes for equal requests.
  package func canonicalSlice(of body: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer? {
    guard !hasOuterWhitespace, tools == nil, instructions == nil, let inner = promptContents else {
      return nil
    }
    return body.slice(inner)
  }

  /// Appends the bytes that routing hashes: raw `tools`, `instructions`, then the messages with commas between them, or the prompt;
  /// white space outside strings removed. A conversation that goes on keeps what it had as prefix.
  package func canonical(of body: UnsafeRawBufferPointer, into buffer: inout ByteBuffer) {
    if let tools { buffer.append(minified: body.slice(tools)) }
    if let instructions { buffer.append(body.slice(instructions)) }
    guard let inner = promptContents else { return }
    if hasOuterWhitespace, !isPlainText {
      buffer.append(minified: body.slice(inner))
    } else {
      buffer.append(body.slice(inner))
    }
  }

  private var isPlainText: Bool {
    if case .text = promptKind { return true }
    return false
  }

  /// Messages or prompt without their outermost brackets or quotes.
  private var promptContents: Range<Int>? {
    guard let range = messages ?? prompt else { return nil }
    return (range.lowerBound + 1)..<(range.upperBound - 1)
  }
}
