// One try at having a worker read a prompt for another one: the request goes there with one token to generate, and the
// answer says where the prompt's blocks are.

internal import Base
internal import EventLoop
internal import HTTP
internal import OpenAI
internal import Routing
internal import Telemetry
internal import Transport
internal import Workers

/// A dispatch of a request's prompt to a worker that prefills.
final class PrefillAttempt: Attempt {
  /// Longest answer: it has one token, and names the blocks of the longest prompts.
  static let answerBytesMax = 1 << 20

  /// The workers among which this one was chosen.
  private let pool: ServedModel
  private var answer = ByteBuffer()
  /// What the engine counted.
  private var usage: Usage?

  init(
    number: Int, worker: ReadyWorker, of pool: ServedModel, booking: Booking, span: SpanContext?,
    exchange: InferenceExchange
  ) {
    self.pool = pool
    super.init(number: number, worker: worker, booking: booking, span: span, exchange: exchange)
  }

  override var attributes: EncodedAttributes { worker.partAttributes }

  override var routing: ModelRouting? { pool.routing }

  override func release() {
    if claim != 0 { pool.routing.unclaim(claim) }
    let told = exchange.isPromptKnown ? usage : nil
    pool.routing.free(
      booking, served: status >= 200 && status < 300, now: exchange.loop.now, bytes: exchange.prompt.bytes,
      promptTokens: told?.promptTokens, cachedTokens: told?.cachedTokens)
    answer.release()
  }

  override func responded(_ head: ResponseHead) {
    if isCurrent { status = head.status }
  }

  override func received(body: UnsafeRawBufferPointer) {
    guard isCurrent, (200..<300).contains(status) else { return }
    guard answer.count + body.count <= Self.answerBytesMax else {
      cancel(.error, "invalid_response")
      return exchange.prefillFailed(self)
    }
    answer.append(body)
  }

  override func receivedEnd(trailers: UnsafeRawBufferPointer) {
    guard isCurrent else { return }
    switch status {
    case 200..<300:
      guard let told = PrefillAnswer(answer.readable) else {
        // An engine that keeps no blocks for others does the work each time for nothing.
        broke = true
        end(.error, "invalid_response")
        return exchange.prefillFailed(self)
      }
      usage = told.usage
      exchange.prefill?.succeed(answer.readable.slice(told.transfer), at: exchange.loop.now)
      end(.success)
      exchange.prefillSucceeded(self)
    case 503, 529:
      end(.unavailable, "worker_unavailable")
      exchange.prefillFailed(self)
    case 401, 403:
      end(.error, "worker_auth")
      exchange.prefillFailed(self)
    case 400..<500:
      end(.rejected, "invalid_argument")
      exchange.prefillFailed(self)
    default:
      end(.error, "backend_error")
      exchange.prefillFailed(self)
    }
  }

  override func failed(_ failure: UpstreamFailure) {
    guard isCurrent else { return }
    let verdict = FailureVerdict(failure)
    if case .stale = failure, status == 0 {
      // As in any attempt: that says nothing about the worker.
      let booking = takeBooking()
      end(verdict.outcome, verdict.errorType)
      return exchange.sendPrefill(to: worker, of: pool, booking: booking, fresh: true)
    }
    broke = failure.isWorkersFault
    end(verdict.outcome, verdict.errorType)
    exchange.report(failure, self)
    exchange.prefillFailed(self, wasReached: failure.reachedWorker)
  }

  /// Where another worker may be asked instead.
  func others() -> ServedModel { exchange.model.flatMap { exchange.latest($0).prefill } ?? pool }
}
