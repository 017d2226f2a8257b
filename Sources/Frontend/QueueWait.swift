// Waiting for a worker with room: a request keeps a ticket until its loop hears that there is one, or until it gives up.

internal import Base
internal import EventLoop
internal import OpenAI
internal import Routing
internal import Telemetry
internal import Workers

extension InferenceExchange {
  /// Chooses a worker where a session or the queue may have a say. Nil when that has settled it: the request waits, or
  /// was refused.
  func place(_ request: RoutingRequest, _ model: ServedModel) -> RoutingOutcome? {
    let service = service
    let placement = model.routing.place(
      request, ticket: ticket, bytes: prompt.bytes, now: loop.now, random: &service.loop.random,
      into: service.decision
    ) { service.waiter(for: self) }
    ticket = nil
    switch placement {
    case .decided(let outcome):
      return outcome
    case .queued(let ticket):
      self.ticket = ticket
      waitForRoom()
    case .queueFull:
      refuseForRoom(.queue, "queue_full")
    case .sessionLost:
      refuse(.sessionLost)
    }
    return nil
  }

  private func waitForRoom() {
    // A request whose room was given away meanwhile waits on, and not longer for it.
    if case .queued = phase { return }
    times.queued = loop.system.monotonicNanoseconds()
    phase = .queued
    tellRouting("request queued: no worker has room") { $0.field(LogKey.blocks, prompt.blockCount) }
    if let wait = service.configuration.queueWait { expectSilence(until: loop.now + wait) }
  }

  /// A worker has room, and keeps it for a moment.
  func roomWasFound() {
    guard case .queued = phase else { return }
    times.released = loop.system.monotonicNanoseconds()
    selectWorker(excluding: [])
  }

  /// It waited for as long as it may.
  func roomWasNotFound() { refuseForRoom(.queueTime, "timeout") }

  private func refuseForRoom(_ cause: APIError.Overload, _ reason: String) {
    metrics.rejected(endpoint)
    metrics.pushedBack(reason)
    refuse(.overloaded(status: service.configuration.overloadStatus, cause))
  }

  /// The request waits no more, whatever it does instead.
  func leaveQueue() {
    cancelSilence()
    service.forgetWaiter(queueKey)
    guard let ticket, let model else { return }
    self.ticket = nil
    model.routing.cancel(ticket, now: loop.now)
    if times.released == 0 { times.released = max(times.queued, loop.now) }
    recordWait(model)
  }
}

extension FrontendLoop {
  /// How `exchange` is told that there is room. It must come back, or be forgotten.
  func waiter(for exchange: InferenceExchange) -> QueueWaiter {
    let key = expect(exchange)
    let home = LoopBound(self, of: loop)
    return QueueWaiter(loop.mailbox) { home.open(on: $0).roomWasFound(key) }
  }
}
