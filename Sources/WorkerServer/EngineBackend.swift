// What a worker needs of an engine, whichever it is, and what is known of one generation at its end.

internal import Base
internal import OpenAI

/// An engine as one loop sees it. Loop-confined.
protocol EngineBackend: AnyObject {
  /// The routes that it answers; an attached engine judges by itself.
  var endpoints: EndpointSet { get }
  /// Starts to generate for `exchange`, whose body was parsed as `request`. The exchange hears of everything from now
  /// on; an error means that nothing was started.
  func generate(
    for exchange: InferenceExchange, _ request: InferenceRequest
  ) throws(APIError) -> any Generation
  /// The worker ends: connections that nobody uses are closed.
  func close()
}

/// One generation under way.
protocol Generation: AnyObject {
  /// The caller left: stop, and note in the report what had been done.
  func cancel()
  /// The number of the next event, where the stream's events are numbered (Responses API).
  var nextEvent: Int { get }
  /// The caller took output that it had left lying.
  func outputDrained()
}

extension Generation {
  var nextEvent: Int { 0 }
}

/// What a generation was, for spans, metrics and the log. What is nil is not known.
struct GenerationReport {
  /// When the engine was asked, monotonic.
  var began: Nanoseconds = 0
  var ended: Nanoseconds?
  var firstToken: Nanoseconds?
  var lastToken: Nanoseconds?
  var inputTokens: Int?
  var cachedTokens: Int?
  var outputTokens: Int?
  var queueTime: Nanoseconds?
  var prefillTime: Nanoseconds?
  var decodeTime: Nanoseconds?
  var finishReason = ""
  var isCancelled = false
  /// Why it failed, as `error_kind`; empty when it did not.
  var errorKind: StaticString = ""

  var timeToFirstToken: Nanoseconds? { firstToken.map { $0 - began } }

  /// Time between two tokens of the stream; nil with fewer than two.
  var averageInterTokenLatency: Nanoseconds? {
    guard let firstToken, let lastToken, let outputTokens, outputTokens > 1 else { return nil }
    return (lastToken - firstToken) / Nanoseconds(outputTokens - 1)
  }

  mutating func sawToken(at now: Nanoseconds) {
    if firstToken == nil { firstToken = now }
    lastToken = now
  }
}
