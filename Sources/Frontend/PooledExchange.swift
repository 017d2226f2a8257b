// Requests that are answered by one piece of work of the preprocess pool: `/tokenize`, `/detokenize`, the router's inside.

internal import Base
internal import EventLoop
internal import HTTP
internal import OpenAI
internal import Transport

/// Makes an answer of a body. One thread has it at a time.
class AnswerJob: PooledWork {
  var body = ByteBuffer()
  fileprivate var bodyMemory = 0
  /// The models that the caller may ask; nil for all.
  fileprivate(set) var models: Set<String>?
  /// What the work itself took of the memory of bodies; given back when it is home.
  var workMemory = 0
  var answer = ByteBuffer()
  /// What to answer with instead.
  var failure: APIError?
  fileprivate var home: LoopBound<PooledExchange>?

  /// Does the work, on a thread of the pool.
  func run() {}

  /// Throws the 404 of a model that is not there, for one that the caller's key does not name.
  func check(_ model: String) throws(APIError) {
    if let models, !models.contains(model) { throw .modelNotFound(model) }
  }

  func returned(to loop: EventLoop) { home?.open(on: loop).returned(self) }
}

/// Takes the body of one such request and answers it. It is neither traced nor logged, as the system's routes are not,
/// unless it comes with a trace.
final class PooledExchange: ServerExchangeHandler {
  /// Longest body: an answer to `/tokenize` has up to eight bytes for each of its bytes.
  static let bodyBytesMax = 4 << 20

  private enum Phase { case reading, pooled, answered }

  private let service: FrontendLoop
  private let exchange: any ServerExchange
  /// What is done with the body; until then the request is refused.
  var job: AnswerJob?
  private var phase = Phase.reading
  /// A thread of the pool has the job.
  private var isWorking = false
  private var body = ByteBuffer()
  /// What the body holds of the memory that all bodies share; the job has it while the pool works.
  private var bodyMemory = 0

  private let errorFormat: ErrorFormat
  /// Whose call it is. It has one of its key's places until it has ended and no thread works on it.
  private let tenancy: Tenancy?
  private var hasEnded = false
  /// The trace of an inference route that is answered here.
  private var trace: (PlainTrace, Endpoint)?
  private var status = 0

  /// - Parameters:
  ///   - tenancy: whose call it is, admitted by ``FrontendLoop/enterCall(_:)``.
  ///   - errorFormat: nil for the configured one.
  init(
    service: FrontendLoop, exchange: any ServerExchange, tenancy: Tenancy? = nil,
    errorFormat: ErrorFormat? = nil, trace: (PlainTrace, Endpoint)? = nil
  ) {
    self.service = service
    self.tenancy = tenancy
    self.trace = trace
    self.errorFormat = errorFormat ?? service.configuration.errorFormat
    self.exchange = exchange
    if service.shared.isRefusingWork { refuse(.draining()) }
  }

  func received(body bytes: UnsafeRawBufferPointer) {
    guard case .reading = phase else { return }
    let limit = min(service.configuration.bodyBytesMax, Self.bodyBytesMax)
    guard body.count + bytes.count <= limit else { return refuse(.bodyTooLarge(limitBytes: limit)) }
    guard service.shared.reserveBodyMemory(bytes.count) else {
      return refuse(.overloaded(status: service.configuration.overloadStatus, .bodyMemory))
    }
    bodyMemory += bytes.count
    body.append(bytes)
  }

  func receivedEnd() {
    guard case .reading = phase, let job else { return }
    self.job = nil
    job.models = tenancy?.models
    job.home = LoopBound(self, of: service.loop)
    swap(&job.body, &body)
    guard service.shared.pool.submit(job, from: service.loop.mailbox) else {
      return refuse(.overloaded(status: service.configuration.overloadStatus, .preprocessing))
    }
    phase = .pooled
    isWorking = true
    job.bodyMemory = bodyMemory
    bodyMemory = 0
  }

  /// The job is home; the caller may be gone.
  fileprivate func returned(_ job: AnswerJob) {
    defer { service.releaseBodyMemory(job.bodyMemory + job.workMemory) }
    isWorking = false
    leaveIfOver()
    guard case .pooled = phase else { return }
    if let error = job.failure { refuse(error) } else { answer(200, job.answer.readable) }
  }

  func drained() {}

  func stopping() { if phase != .answered { refuse(.draining()) } }

  func ended(_ end: EndOfStream) {
    phase = .answered
    hasEnded = true
    releaseMemory()
    leaveIfOver()
    guard let (trace, endpoint) = trace else { return }
    self.trace = nil
    trace.recordSpans(
      status: status, route: endpoint.path, operation: endpoint.operation, on: service)
    trace.recordLine(status: status, on: service)
  }

  private func leaveIfOver() { if hasEnded, !isWorking { tenancy?.leaveCall() } }

  /// Answers with an error, if nothing was answered yet.
  func refuse(_ error: APIError) {
    guard phase != .answered else { return }
    var text = ByteBuffer(capacity: 256)
    error.write(into: &text, format: errorFormat)
    answer(error.status, text.readable, error)
  }

  private func answer(_ status: Int, _ text: UnsafeRawBufferPointer, _ error: APIError? = nil) {
    phase = .answered
    releaseMemory()
    var fields = ByteBuffer(capacity: 128)
    if let error {
      error.appendFields(to: &fields)
    } else {
      fields.append("content-type: application/json\r\n" as StaticString)
    }
    fields.append("cache-control: no-store\r\n" as StaticString)
    trace?.0.appendFields(to: &fields)
    self.status = status
    exchange.respond(status: status, fields: fields.readable, body: .length(text.count))
    exchange.send(text)
    exchange.finish(trailers: UnsafeRawBufferPointer(start: nil, count: 0))
  }

  private func releaseMemory() {
    service.releaseBodyMemory(bodyMemory)
    bodyMemory = 0
    body.release()
    job = nil
  }
}
