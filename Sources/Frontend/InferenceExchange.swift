// One inference request from its head to its end. The steps live in files of their own, in this order:
// Admit, Decode, Preprocessor (PreprocessPool), SelectWorker (QueueWait, Prefill), Dispatch, Relay (AnswerExtension),
// Finish.

internal import Base
internal import EventLoop
internal import HTTP
internal import OpenAI
internal import Routing
internal import Telemetry
internal import Transport
internal import Workers

/// The state of one inference request on its loop.
///
/// ```
/// reading ──body read──▶ dispatched ──head of a 200──▶ relaying ──last byte──▶ answered ──kernel took it──▶ ended
///  │ ▲ long: preprocessing  │  ▲ retried                  │ broke: error event
///  └─┴──refused─────────────┴─────────────────────────────┴──▶ answered
/// ```
/// Between reading and dispatched a request may be prefilling, while a worker reads its prompt for another one, and
/// queued, while every worker is full.
final class InferenceExchange: ServerExchangeHandler, TimerHandler {
  enum Phase {
    /// Reads the body. Next: preprocessing, queued, dispatched, answered, ended.
    case reading
    /// The body is with the pool. Next: reading (in which it is whole), answered, ended.
    case preprocessing
    /// A worker reads the prompt for another one. Next: dispatched, queued, answered, ended.
    case prefilling
    /// Waits until a worker has room. Next: dispatched, answered, ended.
    case queued
    /// An attempt is under way; nothing was sent to the caller. Next: relaying, answered, ended.
    case dispatched
    /// The response head is with the caller. Next: answered, ended.
    case relaying
    /// The response is complete on our side. Next: ended.
    case answered
    case ended

    /// True until the answer begins.
    var awaitsAnswer: Bool {
      switch self {
      case .reading, .preprocessing, .prefilling, .queued, .dispatched: true
      case .relaying, .answered, .ended: false
      }
    }
  }

  let service: FrontendLoop
  let exchange: any ServerExchange
  let endpoint: Endpoint
  let protocolVersion: ProtocolVersion
  let identity: RequestIdentity
  let trace: RequestTrace?
  /// Whether the worker gets the body as it came; decided once, because the stream's end depends on it too.
  let passBodyVerbatim: Bool
  /// Whom it comes from, where proxies are configured.
  let clientAddress: String?
  /// The caller reads trailers (RFC 9110 section 10.1.4), so that a stream's times can follow it.
  let readsTrailers: Bool
  /// The `tracestate` that is recorded and passed on, the caller's for the most part; often empty.
  let traceState: [UInt8]
  var times: RequestTimes
  var phase = Phase.reading {
    didSet { phaseChanged(from: oldValue) }
  }

  /// End-to-end fields of the caller, as lines for the worker.
  var forwardedFields = ByteBuffer()
  /// The request body as the caller sent it; kept until no retry is possible.
  var body = ByteBuffer()
  /// The body as the caller sent it where ``body`` is its translation, and a worker may take it as it is.
  var original = ByteBuffer()
  /// What this request holds of the memory that all bodies share.
  var bodyMemory = 0
  /// It has the loan of body memory.
  var hasBodyLoan = false
  /// There was no memory for bytes that came: reading is paused.
  var isWaitingForMemory = false
  /// When it gives up waiting.
  var memoryDeadline: Nanoseconds = 0
  /// The caller has sent all of it.
  var isBodyWhole = false
  var request: DecodedRequest?
  var model: ServedModel?
  /// How the model's prompts become blocks; nil before the model is known.
  var promptRules: PromptRules?
  var metrics: ModelMetrics
  var prompt = PromptEstimate()
  /// Its hashes for the request's record, where one is asked for.
  var hashedPrompt: RequestTraceRecord.Prompt?
  /// The body's way through the pool, while it is away.
  var job: PreprocessJob?
  /// What the pool made of a long prompt; nil when the loop does it.
  var preprocessor: Preprocessor?
  /// Whose it is; nil where there are no tenants.
  var tenancy: Tenancy?
  /// What it asks of routing by headers and by `nvext`; nil for almost every request.
  var hints: RoutingHints?
  /// Its place in the router's queue, and its name among those of this loop that wait.
  var ticket: QueueTicket?
  var queueKey: UInt64 = 0
  /// The answer is held back until it is whole, to be extended.
  var extendsAnswer = false
  /// Spans of this request that have ended; they leave together at its end.
  var spans: SpanWriter

  /// How its prompt is read by another worker, or why it is not; nil where the model has no workers for that.
  var prefill: PrefillPhase?
  /// The attempt under way or the last one.
  var attempt: Attempt?
  /// Those before it; empty for almost every request.
  var earlierAttempts: [Attempt] = []
  /// When it first went to another worker; 0 for almost every request.
  var movedAt: Nanoseconds = 0
  var relay = StreamRelay()
  /// There where this stream may move to another worker.
  var migration: Migration?
  /// The response's end-to-end fields until the head is sent.
  var responseFields = ByteBuffer()
  var isEventStream = false
  /// content-length of the worker's answer.
  var lengthOfAnswer: Int?
  var lastEvent: Nanoseconds = 0
  /// Longest time between two tokens.
  var longestGap: Nanoseconds = 0
  /// Bytes of a unary answer, kept for its usage when they come in pieces.
  var answer = ByteBuffer()
  /// It was too long to be kept.
  var answerIsCut = false
  var usage: Usage?
  var finishReason = CompletionFinish.none

  /// What metrics and logs say of it: 499 where the caller left.
  var status = 0
  /// What the caller was told, set at the end; 0 for nothing.
  var sentStatus = 0
  var outcome: RequestOutcome?
  var errorCode: String?
  var responseBytes = 0
  /// Armed on streams only.
  var silence: Timer?

  init(
    service: FrontendLoop, exchange: any ServerExchange, endpoint: Endpoint, head: RequestHead,
    began: Nanoseconds
  ) {
    self.service = service
    self.exchange = exchange
    self.endpoint = endpoint
    protocolVersion = ProtocolVersion(head)
    spans = SpanWriter(limits: service.spanLimits)
    readsTrailers = head.fields.first(.te).map(Self.namesTrailers) ?? false
    clientAddress =
      service.configuration.tellsClients
      ? service.configuration.trustedProxies.client(head.fields, peer: exchange.peerAddress) : nil
    passBodyVerbatim = service.configuration.passBodyVerbatim
    identity = RequestIdentity(head.fields, random: &service.loop.random)
    let tracing = service.configuration.tracing
    var state: [UInt8] = []
    trace =
      tracing.hasContext
      ? RequestTrace(
        head.fields, from: exchange, configuration: tracing, random: &service.loop.random, state: &state)
      : nil
    traceState = state
    times = RequestTimes(began: began, parsed: service.loop.now, wall: service.loop.system.wallNanoseconds())
    metrics = service.unknownModelMetrics
    service.openRequests += 1
  }

  /// Keeps the gauges of stages, and of requests that wait for an answer.
  private func phaseChanged(from old: Phase) {
    switch old {
    case .preprocessing:
      service.stages.preprocessing.add(-1)
      // If it is not home yet, nobody waits for it any more.
      job?.abandon()
      job = nil
    case .prefilling:
      service.stages.dispatched.add(-1)
      leavePrefill()
    case .queued:
      service.stages.queued.add(-1)
      leaveQueue()
    case .dispatched: service.stages.dispatched.add(-1)
    case .relaying: if isEventStream { loop.openStreams -= 1 }
    case .reading, .answered, .ended: break
    }
    switch phase {
    case .preprocessing: service.stages.preprocessing.add(1)
    case .queued: service.stages.queued.add(1)
    case .prefilling, .dispatched: service.stages.dispatched.add(1)
    case .reading, .answered, .ended: break
    case .relaying: if isEventStream { loop.openStreams += 1 }
    }
    if old.awaitsAnswer, !phase.awaitsAnswer, model != nil { metrics.answered() }
  }

  /// What the router keeps of this request for the worker's metrics.
  var servedRequest: ServedRequest {
    ServedRequest(
      promptTokens: usage?.promptTokens ?? 0,
      timeToFirstToken: times.firstToken > 0 ? times.firstToken - times.began : 0,
      interTokenLatency: averageInterTokenLatency ?? 0)
  }

  /// All attempts in order; for the few requests that had several.
  var allAttempts: [Attempt] { earlierAttempts + (attempt.map { [$0] } ?? []) }

  var attemptCount: Int { earlierAttempts.count + (attempt == nil ? 0 : 1) }

  var loop: EventLoop { service.loop }

  var isStreaming: Bool { request?.fields.stream ?? false }

  /// True when this request's spans are written: it is sampled, or its end may show that it is worth keeping.
  var isRecorded: Bool {
    guard let trace, service.configuration.tracing.recordsSpans else { return false }
    return trace.root.isSampled || service.configuration.tracing.keep.isActive
  }

  // MARK: ServerExchangeHandler

  func drained() {
    attempt?.connection?.resume()
  }

  func ended(_ end: EndOfStream) {
    guard !isEnded else { return }
    finish(end)
  }

  var isEnded: Bool {
    if case .ended = phase { return true }
    return false
  }

  var isAnswered: Bool {
    switch phase {
    case .answered, .ended: true
    case .reading, .preprocessing, .prefilling, .queued, .dispatched, .relaying: false
    }
  }
}

/// When what happened to a request, on the monotonic clock; one reading of the wall clock places it in the world.
struct RequestTimes {
  /// First byte of the head.
  let began: Nanoseconds
  /// Head parsed.
  let parsed: Nanoseconds
  /// Wall clock at `parsed`, in nanoseconds since the Unix epoch.
  let wall: UInt64
  var bodyRead: Nanoseconds = 0
  var decoded: Nanoseconds = 0
  /// Its turn came, among the requests of its wake-up, to have its prompt prepared; or it went to the pool.
  var preparing: Nanoseconds = 0
  /// The prompt is cut into blocks.
  var preprocessed: Nanoseconds = 0
  var selected: Nanoseconds = 0
  /// It began to wait for a worker with room, and a worker had room or the request gave up.
  var queued: Nanoseconds = 0
  var released: Nanoseconds = 0
  /// First token or, for a unary answer, its first body byte.
  var firstToken: Nanoseconds = 0
  var lastToken: Nanoseconds = 0
  /// Its end, which may be later in a wake-up than the reading that the wake-up began with.
  var ended: Nanoseconds = 0

  init(began: Nanoseconds, parsed: Nanoseconds, wall: UInt64) {
    self.began = began
    self.parsed = parsed
    self.wall = wall
  }

  /// A monotonic instant as wall time.
  func wallTime(_ instant: Nanoseconds) -> UInt64 { wall &+ instant &- parsed }
}
