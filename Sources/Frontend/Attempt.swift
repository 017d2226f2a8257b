// One try at having a worker answer: what it was, how it went. Kept until the request ends, for its span.

internal import Base
internal import EventLoop
internal import HTTP
internal import OpenAI
internal import Routing
internal import Telemetry
internal import Transport
internal import Workers

/// A dispatch of a request to one worker: of all of it, or of its decode. ``PrefillAttempt`` is the other part.
class Attempt: ClientExchangeHandler, TimerHandler {
  /// Counts from 1.
  let number: Int
  let worker: ReadyWorker
  /// The route that the worker is asked by; another than the caller's where the request is translated.
  let endpoint: Endpoint
  /// Its place in the router's books.
  private(set) var booking: Booking
  let span: SpanContext?
  let began: Nanoseconds
  private(set) var ended: Nanoseconds = 0
  private(set) var outcome: RequestOutcome?
  /// Short constant class of the failure, for `error.type`.
  private(set) var errorType: StaticString?
  /// Names the caller's id at this worker while it is in flight there; 0 for none.
  var claim: UInt64 = 0
  /// Status of the worker's final head; 0 before it came.
  var status = 0
  /// The worker broke off, instead of answering or of letting us end it.
  var broke = false
  /// Its prompt was read elsewhere: the worker gets the blocks from there.
  var isDecode = false
  /// It is one of the repeated requests that are bounded.
  var isBudgeted = false
  /// What it took over, where it goes on with a stream.
  var migration: MigrationNote?
  var connection: UpstreamExchange?
  /// Bytes of a non-2xx answer while it is still undecided what becomes of it.
  var heldBody = ByteBuffer()
  let exchange: InferenceExchange
  /// Armed where another worker is to be asked when this one is slow.
  private var patience: Timer?

  init(number: Int, worker: ReadyWorker, booking: Booking, span: SpanContext?, exchange: InferenceExchange) {
    self.number = number
    self.worker = worker
    // A tenant's salt goes into chat completions alone. A worker may have come to speak messages after the body as it
    // came was let go.
    if case .messages = exchange.endpoint,
      exchange.tenancy != nil || exchange.original.isEmpty || !worker.facts.endpoints.contains(.messages)
    {
      endpoint = .chatCompletions
    } else {
      endpoint = exchange.endpoint
    }
    self.booking = booking
    self.span = span
    self.exchange = exchange
    // The loop's clock stands still within a wake-up: an attempt never begins before the choice that led to it.
    began = max(exchange.loop.now, exchange.times.selected)
  }

  /// True while its events still concern the request.
  var isCurrent: Bool { outcome == nil }

  /// True when the worker's answer is put into the form of another API.
  var isTranslated: Bool { endpoint != exchange.endpoint }

  /// What its span says of the worker and of the part that it does.
  var attributes: EncodedAttributes { isDecode ? worker.partAttributes : worker.attemptAttributes }

  /// Hands the place in the router's books to the attempt that follows on the same worker.
  func takeBooking() -> Booking {
    defer { booking = .none }
    return booking
  }

  /// Hands over its place in the retry budget, or gives it up: true where it had one.
  func takeBudget() -> Bool {
    defer { isBudgeted = false }
    return isBudgeted
  }

  /// Records the one end of this attempt.
  func end(_ outcome: RequestOutcome, _ errorType: StaticString? = nil) {
    guard self.outcome == nil else { return }
    self.outcome = outcome
    self.errorType = errorType
    ended = max(began, exchange.loop.now)
    exchange.tell("worker done") {
      $0.field(LogKey.attempts, number)
      if let errorType { $0.field(LogKey.errorType, errorType) }
      $0.field(LogKey.outcome, outcome.text)
      $0.field(LogKey.workerID, id: worker.id)
    }
    connection = nil
    loseNoMorePatience()
    countOutcome()
    if isBudgeted { exchange.service.shared.endRetry() }
    release()
  }

  /// The books that it is in.
  var routing: ModelRouting? { exchange.model?.routing }

  /// Gives its place in the router's books back.
  func release() { exchange.release(self) }

  /// Tells the worker's tally how it went, by what is the worker's doing alone: neither callers' errors (4xx) and leavings nor
  /// overload (529) say anything of its health, nor a route or feature that it lacks (501).
  private func countOutcome() {
    let tally = worker.facts.tally
    if broke || (status >= 500 && status != 501 && status != 529) {
      if tally.failed() { exchange.service.reports.requestsFailed(worker.id) }
    } else if case .success = outcome {
      tally.succeeded()
    }
  }

  /// Gives the attempt up: the worker sees its connection close, and stops generating.
  func cancel(_ outcome: RequestOutcome, _ errorType: StaticString? = nil) {
    guard isCurrent else { return }
    connection?.cancel()
    end(outcome, errorType)
  }

  /// Has another worker be asked as well when there is no answer after `time`.
  func wait(for time: Nanoseconds) {
    guard isCurrent, status == 0 else { return }
    let timer = Timer()
    patience = timer
    exchange.loop.arm(timer, at: exchange.loop.now + time, self)
  }

  private func loseNoMorePatience() {
    guard let patience else { return }
    exchange.loop.cancel(patience)
    self.patience = nil
  }

  func timerFired(_ timer: Timer) {
    patience = nil
    exchange.hedge(self)
  }

  func responded(_ head: ResponseHead) {
    loseNoMorePatience()
    if isCurrent { exchange.workerResponded(self, head) }
  }

  func received(body: UnsafeRawBufferPointer) {
    if isCurrent { exchange.workerSent(self, body) }
  }

  func receivedEnd(trailers: UnsafeRawBufferPointer) {
    if isCurrent { exchange.workerFinished(self, trailers: trailers) }
  }

  func failed(_ failure: UpstreamFailure) {
    if isCurrent { exchange.workerFailed(self, failure) }
  }
}
