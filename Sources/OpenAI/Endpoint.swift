// The two inference routes.

/// An inference route of the OpenAI API.
package enum Endpoint: UInt8, Sendable {
  /// `POST /v1/chat/completions`
  case chatCompletions

  /// `POST /v1/completions`
  case completions

  /// The route's path.
  package var path: StaticString {
    switch self {
    case .chatCompletions: "/v1/chat/completions"
    case .completions: "/v1/completions"
    }
  }

  /// The label that metrics use for the route.
  package var label: StaticString {
    switch self {
    case .chatCompletions: "chat_completions"
    case .completions: "completions"
    }
  }
}
