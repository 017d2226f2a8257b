// Long prompts: their bodies leave the loop, are preprocessed on a thread of the pool, and come back.

package import Base
internal import EventLoop
internal import OpenAI
internal import Prompts
internal import Synchronization
internal import Workers

/// Where preprocessing happens, and how much of it may wait.
package struct PreprocessLimits: Sendable {
  /// A longer body goes to the pool unread: to decode it alone would hold the loop.
  package var inlineBytesMax = 256 * 1024
  /// A prompt that is estimated to take longer goes to the pool after it was decoded, in nanoseconds.
  package var loopHoldMax: Nanoseconds = 200_000
  /// Requests that may wait for a thread of the pool; past it 529.
  package var waitingMax = 256

  package init() {}

  /// Threads of the pool beside `loops` loops.
  static func threads(besideLoops loops: Int) -> Int { loops <= 4 ? 1 : loops / 4 }
}

/// A body on its way through the pool. It has the buffer for itself: the request has none meanwhile.
final class PreprocessJob: PooledWork {
  /// Names the request on its loop, which may have forgotten it when the job returns.
  let ticket: UInt64
  var body = ByteBuffer()
  /// The body as it came, where the other is its translation.
  var original = ByteBuffer()
  /// What the body holds of the memory that all bodies share; it travels with the bytes.
  var bodyMemory = 0
  /// The decoded request, or why it is refused; nil before it is decoded.
  private(set) var outcome: Result<DecodedRequest, APIError>?
  /// What could be read of a body that is refused.
  private(set) var refused: InferenceRequest?
  let preprocessor: Preprocessor
  /// When it was decoded; 0 when that was before.
  private(set) var decodedAt: Nanoseconds = 0

  /// Written by the loop, read by the pool.
  private let isAbandoned = Atomic<Bool>(false)

  private let endpoint: Endpoint
  private let workers: WorkerSet
  private let system: any SystemCalls
  private let tokenizer: ModelTokenizer?
  private let tenant: [UInt8]
  private let configuration: FrontendConfiguration
  private let shared: FrontendShared
  private let home: LoopBound<FrontendLoop>

  /// - Parameter request: what the loop has decoded already, if anything.
  init(
    ticket: UInt64, request: DecodedRequest?, endpoint: Endpoint, tenant: [UInt8] = [],
    service: FrontendLoop
  ) {
    self.tenant = tenant
    self.ticket = ticket
    self.endpoint = endpoint
    outcome = request.map { .success($0) }
    workers = service.workers
    system = service.loop.system
    configuration = service.configuration
    shared = service.shared
    tokenizer = service.configuration.tokenizer
    preprocessor = Preprocessor(hashesTail: service.recordsTraces)
    home = LoopBound(service, of: service.loop)
  }

  /// The request has ended: what is not begun yet is not done, and the job just comes home.
  func abandon() { isAbandoned.store(true, ordering: .relaxed) }

  func run() {
    if isAbandoned.load(ordering: .relaxed) { return }
    if outcome == nil {
      outcome = Result { () throws(APIError) in
        if endpoint.isAnthropic {
          bodyMemory += try shared.translate(&body, original: &original, endpoint, configuration)
        }
        return DecodedRequest(try Preprocessor.decode(body.readable, endpoint))
      }
      decodedAt = system.monotonicNanoseconds()
    }
    let bytes = body.readable
    if case .failure = outcome { refused = InferenceRequest.refused(bytes, endpoint: endpoint) }
    // A model that is not known yet may be when the job is home again; then there are rules to prepare it by.
    guard case .success(let request) = outcome,
      let index = workers.modelIndex(of: request.fields, in: bytes)
    else { return }
    let rules = workers.models[index].promptRules(tokenizer)
    let began = system.monotonicNanoseconds()
    preprocessor.prepare(request.fields, in: bytes, by: rules, tenant: tenant, clock: system)
    preprocessor.wasPrepared(from: began, to: system.monotonicNanoseconds())
  }

  func returned(to loop: EventLoop) { home.open(on: loop).returned(self) }
}

extension InferenceExchange {
  /// True when preparing the prompt here would hold the loop for too long.
  func isLong(_ request: InferenceRequest, _ rules: PromptRules) -> Bool {
    let limits = service.configuration.preprocess
    // A template may put anything of the body into the prompt.
    let count = rules.tokenizer == nil ? request.promptBytes : body.count
    return body.count > limits.inlineBytesMax || rules.cost(ofBytes: count) > limits.loopHoldMax
  }

  /// Hands the body to the pool; refuses the request when too many wait there.
  func preprocessInPool(_ request: DecodedRequest?) {
    let job = service.makeJob(self, request)
    swap(&job.body, &body)
    swap(&job.original, &original)
    swap(&job.bodyMemory, &bodyMemory)
    if service.shared.pool.submit(job, from: loop.mailbox) {
      times.preparing = loop.now
      phase = .preprocessing
      self.job = job
      return
    }
    service.forget(job)
    swap(&job.bodyMemory, &bodyMemory)
    refuse(.overloaded(status: service.configuration.overloadStatus, .preprocessing))
  }

  /// The body is back. False when the request has ended meanwhile, and nothing of the job is wanted.
  func preprocessed(_ job: PreprocessJob) -> Bool {
    guard case .preprocessing = phase else { return false }
    swap(&job.body, &body)
    swap(&job.original, &original)
    swap(&job.bodyMemory, &bodyMemory)
    phase = .reading
    if job.decodedAt > 0 { times.decoded = job.decodedAt }
    switch job.outcome {
    case .success(let request):
      preprocessor = job.preprocessor
      prompt = job.preprocessor.estimate
      accept(request)
    case .failure(let error): refuse(error, job.refused)
    case nil: refuse(.internalError)
    }
    return true
  }
}
