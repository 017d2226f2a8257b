// The memory of request bodies: taken as bytes come; where there is none left, reading pauses and requests wait in order.
// Its last part is lent to one half-read body at a time.

internal import Base
internal import EventLoop
internal import OpenAI
internal import Telemetry
internal import Transport

extension InferenceExchange {
  /// Makes the bytes that just came count, or waits until they can.
  func countBody() {
    if body.count <= bodyMemory || isWaitingForMemory { return }
    // Who comes while others wait gets in line: else a stream of small bodies would keep a large one out for ever. Who
    // has the loan does not: the others wait for its end.
    if hasBodyLoan || service.bodyWaiters.isEmpty, takeMemory() { return }
    waitForMemory()
  }

  /// Takes as much as the body needs beyond what it has; false when there is not so much left.
  private func takeMemory() -> Bool {
    // No step leads past the largest body: where one may take all memory, its last bytes would wait in vain.
    let step = min(
      service.configuration.bodyMemoryStep, service.configuration.bodyBytesMax - bodyMemory)
    let count = max(body.count - bodyMemory, step)
    guard reserve(count) else { return false }
    bodyMemory += count
    return true
  }

  private func reserve(_ count: Int) -> Bool {
    let shared = service.shared
    if shared.reserveBodyMemory(count) { return true }
    // All may be held by bodies of which each waits for its rest: one of them must be able to go on.
    if !hasBodyLoan { hasBodyLoan = shared.borrowBodyMemory() }
    return hasBodyLoan && shared.reserveBodyMemory(count, borrows: true)
  }

  /// The body needs no more memory: the next may have the loan.
  func endBodyLoan() {
    guard hasBodyLoan else { return }
    hasBodyLoan = false
    service.shared.endBodyLoan()
  }

  private func waitForMemory() {
    guard service.bodyWaiters.join(self) else {
      refuseForMemory()
      return
    }
    isWaitingForMemory = true
    let configuration = service.configuration
    memoryDeadline = loop.now + min(configuration.bodyWait, configuration.server.bodyGapTimeout)
    service.shared.metrics.bodyMemoryWaits.add()
    exchange.pauseBody()
  }

  /// Tries again for a request that waits; true when it no longer does.
  func memoryMayBeFree() -> Bool {
    if takeMemory() {
      isWaitingForMemory = false
      if isBodyWhole { receivedWholeBody() } else { exchange.resumeBody() }
      return true
    }
    guard loop.now >= memoryDeadline else { return false }
    isWaitingForMemory = false
    refuseForMemory()
    return true
  }

  private func refuseForMemory() {
    service.shared.metrics.bodyMemoryRefusals.add()
    refuse(.overloaded(status: service.configuration.overloadStatus, .bodyMemory))
  }

  /// Gives the body's memory back, and the place in the line of those that wait for some.
  func releaseBody() {
    if isWaitingForMemory {
      isWaitingForMemory = false
      service.bodyWaiters.leave(self)
    }
    body.release()
    original.release()
    endBodyLoan()
    // Whoever needs no body any more chooses no worker any more: a stream must not keep a long prompt's blocks.
    preprocessor = nil
    service.releaseBodyMemory(bodyMemory)
    bodyMemory = 0
  }
}

/// The requests of one loop that wait for body memory, the first come in front. Loop-confined.
///
/// Memory that this loop gives back wakes them at the end of the wake-up. What other loops give back is found by looking
/// again after a short time, so that no loop needs to know who waits elsewhere. All wait equally long, so whoever is in
/// front gives up first; what it held may be enough for the next.
final class BodyWaiters: TimerHandler, TickHandler {
  /// Between two looks at what other loops gave back.
  static let interval = 10 * millisecond

  private let loop: EventLoop
  private let countMax: Int
  private var waiting: [InferenceExchange] = []
  private let timer = Timer()
  private var isQueued = false

  /// - Parameter countMax: requests that may wait; past it they are refused at once. What each has read beyond its
  ///   share, one read at most, is not counted.
  init(loop: EventLoop, countMax: Int) {
    self.loop = loop
    self.countMax = countMax
  }

  var isEmpty: Bool { waiting.isEmpty }

  /// False when there is no room.
  func join(_ exchange: InferenceExchange) -> Bool {
    guard waiting.count < countMax else { return false }
    // Those who wait for the loan wait for its holder.
    if exchange.hasBodyLoan { waiting.insert(exchange, at: 0) } else { waiting.append(exchange) }
    if !timer.isArmed { loop.arm(timer, at: loop.now + Self.interval, self) }
    return true
  }

  func leave(_ exchange: InferenceExchange) {
    waiting.removeAll { $0 === exchange }
  }

  /// Memory was given back on this loop.
  func memoryWasFreed() {
    guard !waiting.isEmpty, !isQueued else { return }
    isQueued = true
    loop.atEndOfTick(self)
  }

  func endOfTick() {
    isQueued = false
    serve()
  }

  func timerFired(_ timer: Timer) {
    serve()
    if !waiting.isEmpty { loop.arm(timer, at: loop.now + Self.interval, self) }
  }

  private func serve() {
    while let first = waiting.first {
      // A request that goes on may end at once, and then leaves the line by itself.
      waiting.removeFirst()
      guard first.memoryMayBeFree() else {
        waiting.insert(first, at: 0)
        return
      }
    }
  }
}
