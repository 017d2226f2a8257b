// Token counts and the reason an answer ended, as engines report them.

package import Base
internal import JSON

/// The `usage` object of an answer.
package struct Usage: Sendable, Equatable {
  /// Tokens of the prompt.
  package var promptTokens: Int

  /// Tokens of the answer.
  package var completionTokens: Int

  /// `prompt_tokens_details.cached_tokens`: prompt tokens the engine took from its cache; nil when it did not say.
  package var cachedTokens: Int?

  package init(promptTokens: Int, completionTokens: Int, cachedTokens: Int? = nil) {
    self.promptTokens = promptTokens
    self.completionTokens = completionTokens
    self.cachedTokens = cachedTokens
  }

  /// The top-level `usage` of a whole JSON answer; nil when there is none, or the answer is not JSON.
  package static func parseUnary(_ body: UnsafeRawBufferPointer) -> Usage? {
    AnswerSummary.parse(body)?.usage
  }

  /// Reads a `usage` object that stands alone; nil when a count is missing.
  package static func parse(_ value: UnsafeRawBufferPointer) -> Usage? {
    do throws(JSONError) {
      var scanner = JSONScanner(value)
      return try read(&scanner, in: value)
    } catch {
      return nil
    }
  }

  /// Reads the value of `usage`, which is next in `scanner`; nil for null and when a count is missing or no count.
  static func read(
    _ scanner: inout JSONScanner, in bytes: UnsafeRawBufferPointer
  ) throws(JSONError) -> Usage? {
    try UsageCounts.read(&scanner, in: bytes).usage
  }
}

/// The counts that one `usage` object holds, by the names of all three APIs.
struct UsageCounts {
  /// `prompt_tokens`, or `input_tokens`.
  var prompt: Int?
  /// `completion_tokens`, or `output_tokens`.
  var completion: Int?
  /// `cached_tokens` of the details, or `cache_read_input_tokens`.
  var cached: Int?
  /// What Anthropic's API counts beside `input_tokens`: tokens read from the cache, and those written to it.
  private var besideInput = (read: 0, written: 0)
  /// Whether ``prompt`` is `input_tokens`; `prompt_tokens` are all of them, whatever stands beside.
  private var isInput = false

  /// More tokens than this are no count. It keeps sums of counts far from overflow.
  private static let countMax = 1 << 32

  /// Both counts; nil when one is missing.
  var usage: Usage? {
    guard let prompt, let completion else { return nil }
    let beside = isInput ? besideInput.read + besideInput.written : 0
    return Usage(promptTokens: prompt + beside, completionTokens: completion, cachedTokens: cached)
  }

  /// Takes the counts of a later report; what that does not tell stays.
  mutating func update(_ later: UsageCounts) {
    if let told = later.prompt {
      prompt = told
      besideInput = later.besideInput
      isInput = later.isInput
      cached = later.cached ?? cached
    }
    completion = later.completion ?? completion
  }

  /// Reads the value of `usage`, which is next in `scanner`; without counts for anything but an object.
  static func read(
    _ scanner: inout JSONScanner, in bytes: UnsafeRawBufferPointer
  ) throws(JSONError) -> UsageCounts {
    var counts = UsageCounts()
    guard try scanner.objectOrSkip() else { return counts }
    while let key = try scanner.nextKey() {
      switch key.count {
      case 12 where key.equals("input_tokens", in: bytes):
        counts.prompt = try count(&scanner)
        counts.isInput = true
      case 13 where key.equals("prompt_tokens", in: bytes):
        counts.prompt = try count(&scanner)
        counts.isInput = false
      case 13 where key.equals("output_tokens", in: bytes): counts.completion = try count(&scanner)
      case 17 where key.equals("completion_tokens", in: bytes): counts.completion = try count(&scanner)
      case 20 where key.equals("input_tokens_details", in: bytes),
        21 where key.equals("prompt_tokens_details", in: bytes):
        counts.cached = try cachedTokens(&scanner, in: bytes)
      case 23 where key.equals("cache_read_input_tokens", in: bytes):
        counts.cached = try count(&scanner)
        counts.besideInput.read = counts.cached ?? 0
      case 27 where key.equals("cache_creation_input_tokens", in: bytes):
        counts.besideInput.written = try count(&scanner) ?? 0
      default: try scanner.skipValue()
      }
    }
    return counts
  }

  private static func cachedTokens(
    _ scanner: inout JSONScanner, in bytes: UnsafeRawBufferPointer
  ) throws(JSONError) -> Int? {
    guard try scanner.objectOrSkip() else { return nil }
    var cached: Int?
    while let key = try scanner.nextKey() {
      if key.equals("cached_tokens", in: bytes) {
        cached = try count(&scanner)
      } else {
        try scanner.skipValue()
      }
    }
    return cached
  }

  private static func count(_ scanner: inout JSONScanner) throws(JSONError) -> Int? {
    guard case .number = try scanner.kind() else {
      try scanner.skipValue()
      return nil
    }
    return try scanner.number().integer.flatMap { $0 >= 0 && $0 <= countMax ? $0 : nil }
  }
}

extension ByteBuffer {
  /// Appends `usage` as a JSON object in OpenAI's form.
  package mutating func append(_ usage: Usage) {
    append("{\"prompt_tokens\":" as StaticString)
    append(decimal: usage.promptTokens)
    append(",\"completion_tokens\":" as StaticString)
    append(decimal: usage.completionTokens)
    append(",\"total_tokens\":" as StaticString)
    append(decimal: usage.promptTokens + usage.completionTokens)
    if let cached = usage.cachedTokens {
      append(",\"prompt_tokens_details\":{\"cached_tokens\":" as StaticString)
      append(decimal: cached)
      append(UInt8(ascii: "}"))
    }
    append(UInt8(ascii: "}"))
  }
}

/// `finish_reason` of a choice.
package enum CompletionFinish: UInt8, Sendable {
  /// Not ended, or not said.
  case none
  case stop, length, toolCalls, contentFilter, functionCall
  /// The engine gave up: `abort` (vLLM, SGLang) or `error`.
  case abort, error
  /// A word this server does not know.
  case other

  /// The word on the wire; nil when there is none.
  package var name: StaticString? {
    switch self {
    case .none, .other: nil
    case .stop: "stop"
    case .length: "length"
    case .toolCalls: "tool_calls"
    case .contentFilter: "content_filter"
    case .functionCall: "function_call"
    case .abort: "abort"
    case .error: "error"
    }
  }

  /// The reason that `stop_reason` of Anthropic's API names.
  init(anthropic word: UnsafeRawBufferPointer) {
    switch word.count {
    case 7 where word.equals("refusal"): self = .contentFilter
    case 8 where word.equals("end_turn"), 13 where word.equals("stop_sequence"): self = .stop
    case 8 where word.equals("tool_use"): self = .toolCalls
    case 10 where word.equals("max_tokens"): self = .length
    default: self = .other
    }
  }

  /// The reason that the `status` of a response names; an incomplete one says more elsewhere.
  init(responseStatus word: UnsafeRawBufferPointer) {
    switch word.count {
    case 6 where word.equals("failed"): self = .error
    case 9 where word.equals("completed"): self = .stop
    case 9 where word.equals("cancelled"): self = .abort
    case 10 where word.equals("incomplete"): self = .length
    default: self = .none
    }
  }

  /// The reason that `word` names.
  package init(_ word: UnsafeRawBufferPointer) {
    switch word.count {
    case 4 where word.equals("stop"): self = .stop
    case 5 where word.equals("abort"): self = .abort
    case 5 where word.equals("error"): self = .error
    case 6 where word.equals("length"): self = .length
    case 10 where word.equals("tool_calls"): self = .toolCalls
    case 13 where word.equals("function_call"): self = .functionCall
    case 14 where word.equals("content_filter"): self = .contentFilter
    default: self = .other
    }
  }

  /// Reads the value of `finish_reason`, which is next in `scanner`.
  static func read(
    _ scanner: inout JSONScanner, in bytes: UnsafeRawBufferPointer
  ) throws(JSONError) -> CompletionFinish {
    guard let word = try scanner.stringOrSkip() else { return .none }
    return CompletionFinish(bytes.slice(word.range))
  }
}
