// What a request asks of routing beyond its prompt, by headers and by `nvext`.

internal import Base
internal import HTTP
internal import OpenAI
internal import Routing
internal import Telemetry
internal import Workers

/// What a session's header means.
package enum SessionMode: String, Sendable {
  /// A session's requests go to its worker, or fail once when that is gone.
  case hard
  /// They go there while it may be chosen.
  case soft
  /// The header means nothing.
  case off
}

/// The wishes of one request. Few requests have any, so that it is made only for these.
final class RoutingHints {
  private(set) var worker: UInt64?
  private(set) var session: RoutingSession?
  private var priority: Int?
  private var strictPriority = 0
  private var expectedTokens = 0
  private(set) var weights: RequestWeights?
  private(set) var fields: RequestHints.Fields = []
  private(set) var annotations: RequestHints.Annotations = []

  /// Share of the prompt's blocks that the worker is predicted to cache, once it is chosen.
  private(set) var hitRate: Double?
  /// Requests that waited when it was chosen; nil where none ever waits.
  private(set) var queueDepth: Int?

  private init() {}

  /// Reads the headers; nil when there are none. Throws a 400 that names the header.
  static func read(_ fields: HeaderFields, sessions: SessionMode) throws(APIError) -> RoutingHints? {
    guard
      fields.contains(.xDynamoSessionID) || fields.contains(.xDynamoRequestPriority)
        || fields.contains(.xDynamoWorkerInstanceID)
    else { return nil }
    let hints = RoutingHints()
    if sessions != .off, let value = try single(.xDynamoSessionID, in: fields) {
      guard XRequestID.isFit(value) else {
        throw invalid(.xDynamoSessionID, "it must be 1 to 128 visible ASCII characters")
      }
      hints.session = RoutingSession(key: XXH3.hash(value, seed: 0), isHard: sessions == .hard)
    }
    if let value = try single(.xDynamoRequestPriority, in: fields) {
      guard let priority = Int32(value.trimmed.text) else {
        throw invalid(.xDynamoRequestPriority, "it must be a 32-bit integer")
      }
      hints.priority = Int(priority)
    }
    if let value = try single(.xDynamoWorkerInstanceID, in: fields) {
      guard let id = UInt64(value.trimmed.text) else {
        throw invalid(.xDynamoWorkerInstanceID, "it must be a worker's id")
      }
      hints.worker = id
    }
    return hints
  }

  /// Asks for the worker that made the response of that key, unless the caller names a session.
  static func following(_ response: UInt64, _ headers: RoutingHints?) -> RoutingHints {
    let hints = headers ?? RoutingHints()
    if hints.session == nil { hints.session = RoutingSession(key: response, isHard: false) }
    return hints
  }

  /// Adds what the body says. Where a header says it too, the header counts (Dynamo).
  static func adding(_ body: RequestHints, to headers: RoutingHints?) -> RoutingHints {
    let hints = headers ?? RoutingHints()
    hints.worker = hints.worker ?? body.worker
    hints.priority = hints.priority ?? body.priority
    hints.strictPriority = body.strictPriority ?? 0
    hints.expectedTokens = body.expectedTokens ?? 0
    var weights = RequestWeights(
      overlapCredit: body.overlapCredit, temperature: body.temperature, assumesReuse: body.assumesReuse)
    weights.prefillScale = body.prefillScale
    if weights != RequestWeights() { hints.weights = weights }
    hints.fields = body.fields
    hints.annotations = body.annotations
    return hints
  }

  /// Keeps the request's session apart from those of the same name that other tenants have.
  func keepSession(of tenant: UInt64) {
    if let session { self.session = RoutingSession(key: session.key ^ tenant, isHard: session.isHard) }
  }

  /// Puts the wishes into a routing request.
  func apply(to request: inout RoutingRequest) {
    request.named = worker
    request.session = session
    request.priorityJump = Double(priority ?? 0)
    request.strictPriority = strictPriority
    request.expectedTokens = expectedTokens
    request.weights = weights
  }

  /// A worker was chosen: keeps what the answer is to tell, and a session's new worker.
  func wasPlaced(_ decision: RoutingDecision, _ model: ServedModel, now: Nanoseconds, isRetry: Bool) {
    if isRetry, let session { model.routing.moveSession(session, to: decision.worker, now: now) }
    guard fields.contains(.timing) else { return }
    if decision.promptBlocks > 0 {
      hitRate = Double(decision.overlapBlocks) / Double(decision.promptBlocks)
    }
    if model.routing.mayQueue { queueDepth = decision.waitingRequests }
  }

  private static func single(
    _ header: KnownHeader, in fields: HeaderFields
  ) throws(APIError) -> UnsafeRawBufferPointer? {
    guard let value = fields.first(header) else { return nil }
    guard fields.count(of: header) == 1 else { throw invalid(header, "it must come once") }
    return value
  }

  private static func invalid(_ header: KnownHeader, _ reason: String) -> APIError {
    .invalidValue("\(header.name)", reason: reason)
  }
}
