// The inference routes, and what tells one from another.

internal import Base

/// An inference route: of OpenAI's API, of the family that grew around it, or of Anthropic's.
package enum Endpoint: UInt8, Sendable, CaseIterable {
  /// `POST /v1/chat/completions`
  case chatCompletions

  /// `POST /v1/completions`
  case completions

  /// `POST /v1/embeddings`
  case embeddings

  /// `POST /v1/responses`
  case responses

  /// `POST /v1/messages` (Anthropic)
  case messages

  /// `POST /v1/messages/count_tokens` (Anthropic)
  case countTokens

  /// `POST /v1/rerank`
  case rerank

  /// `POST /v1/score`
  case score

  /// The route's path.
  package var path: StaticString {
    switch self {
    case .chatCompletions: "/v1/chat/completions"
    case .completions: "/v1/completions"
    case .embeddings: "/v1/embeddings"
    case .responses: "/v1/responses"
    case .messages: "/v1/messages"
    case .countTokens: "/v1/messages/count_tokens"
    case .rerank: "/v1/rerank"
    case .score: "/v1/score"
    }
  }

  /// The label that metrics use for the route, and the word by which a worker says that it serves it.
  package var label: StaticString {
    switch self {
    case .chatCompletions: "chat_completions"
    case .completions: "completions"
    case .embeddings: "embeddings"
    case .responses: "responses"
    case .messages: "anthropic_messages"
    case .countTokens: "anthropic_count_tokens"
    case .rerank: "rerank"
    case .score: "score"
    }
  }

  /// The route at `path`; some have other names too, by which vLLM serves them.
  package init?(path: UnsafeRawBufferPointer) {
    switch path.count {
    case 6 where path.equals("/score"), 9 where path.equals("/v1/score"): self = .score
    case 7 where path.equals("/rerank"), 10 where path.equals("/v1/rerank") || path.equals("/v2/rerank"):
      self = .rerank
    case 12 where path.equals("/v1/messages"): self = .messages
    case 13 where path.equals("/v1/responses"): self = .responses
    case 14 where path.equals("/v1/embeddings"): self = .embeddings
    case 15 where path.equals("/v1/completions"): self = .completions
    case 20 where path.equals("/v1/chat/completions"): self = .chatCompletions
    case 25 where path.equals("/v1/messages/count_tokens"): self = .countTokens
    default: return nil
    }
  }

  /// OpenTelemetry's word for what is asked, where it has one.
  package var operation: StaticString {
    switch self {
    case .chatCompletions, .responses, .messages: "chat"
    case .completions: "text_completion"
    case .embeddings: "embeddings"
    case .countTokens: "count_tokens"
    case .rerank: "rerank"
    case .score: "score"
    }
  }

  /// How its answers tell of themselves.
  package var form: AnswerForm {
    switch self {
    case .chatCompletions, .completions: .chat
    case .responses: .responses
    case .messages: .messages
    case .embeddings, .countTokens, .rerank, .score: .plain
    }
  }

  /// True when its answers are made token by token, so that there is a first one, and prompts whose beginning an engine
  /// may have cached.
  package var generates: Bool {
    if case .plain = form { return false }
    return true
  }

  /// True for the routes of Anthropic's API, whose errors look different.
  package var isAnthropic: Bool {
    switch self {
    case .messages, .countTokens: true
    default: false
    }
  }
}

/// How an answer tells its usage, why it ended, and on a stream its tokens and its end.
package enum AnswerForm: UInt8, Sendable {
  /// Chunks with choices, and `[DONE]`.
  case chat
  /// Typed events of OpenAI's Responses API, which end with `response.completed` or its kin.
  case responses
  /// Typed events of Anthropic's Messages API, which end with `message_stop`.
  case messages
  /// Never a stream; usage without output.
  case plain
}
