// The steps that all requests of one wake-up take together.

internal import EventLoop

/// Requests that wait until the others of this wake-up are as far as they are.
///
/// A wake-up of a busy loop brings many requests, and one request runs through more code than an instruction cache
/// holds. Taking one step with all of them before the next saves a third of the misses (docs/decisions.md). A list is
/// as long at most as requests are open on the loop.
final class RequestSteps: TickHandler {
  private let loop: EventLoop
  /// Their body is whole.
  private var decoding: [InferenceExchange] = []
  /// They ask a known model.
  private var routing: [InferenceExchange] = []
  /// They ended.
  private var ended: [InferenceExchange] = []
  private var spare: [InferenceExchange] = []
  private var isQueued = false

  init(loop: EventLoop) { self.loop = loop }

  /// Decodes `request` at the end of this wake-up.
  func decode(_ request: InferenceExchange) {
    decoding.append(request)
    queue()
  }

  /// Chooses a worker for `request` at the end of this wake-up.
  func route(_ request: InferenceExchange) {
    routing.append(request)
    queue()
  }

  /// Tells of `request`, which ended, at the end of this wake-up.
  func record(_ request: InferenceExchange) {
    ended.append(request)
    queue()
  }

  private func queue() {
    guard !isQueued else { return }
    isQueued = true
    loop.atEndOfTick(self)
  }

  func endOfTick() {
    swap(&decoding, &spare)
    for request in spare { request.decode() }
    spare.removeAll(keepingCapacity: true)
    swap(&routing, &spare)
    for request in spare { request.route() }
    spare.removeAll(keepingCapacity: true)
    swap(&ended, &spare)
    for request in spare { request.record() }
    spare.removeAll(keepingCapacity: true)
    isQueued = false
    if !(decoding.isEmpty && routing.isEmpty && ended.isEmpty) { queue() }
  }
}
