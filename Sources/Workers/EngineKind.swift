// What kind of engine a worker is, as far as it says so.

/// The engine that makes a worker's tokens. Kinds differ in what they make of a chat before its template sees it.
package enum EngineKind: String, Sendable, CaseIterable {
  case vllm
  case sglang
  case llamaCpp = "llamacpp"
  /// `dynamo-worker`'s own.
  case simulated
  case unknown

  /// Whether `cache_salt` keeps prompts apart in its cache. One that does not say what it is gets the salt: most pass over
  /// a field that they do not know.
  package var takesCacheSalt: Bool {
    switch self {
    case .vllm, .sglang, .simulated, .unknown: true
    case .llamaCpp: false
    }
  }

  /// The kind that an entry of `/v1/models` tells: engines write their name in `owned_by`, and `dynamo-worker` the name
  /// of what stands behind it in `engine`.
  init(ownedBy: String?, engine: String?) {
    self =
      engine.flatMap(EngineKind.init(rawValue:)) ?? ownedBy.flatMap(EngineKind.init(rawValue:)) ?? .unknown
  }
}
