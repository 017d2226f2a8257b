// The exporter's state machine on its loop: when a message is due, one call at a time, retries, the last flush.

import Base
package import EventLoop
import GRPC
import HTTP
import Logging
import Telemetry

/// How the exporter reaches the network; a test brings its own.
package protocol ExporterDialer: Sendable {
  /// All addresses of a host; may block. Empty when there is none.
  func resolve(host: String, port: UInt16) -> [SocketAddress]
  /// Starts a non-blocking connect.
  func connect(_ address: SocketAddress) throws(SystemError) -> Int32
}

/// The real network.
package struct LiveExporterDialer: ExporterDialer {
  package init() {}

  package func resolve(host: String, port: UInt16) -> [SocketAddress] {
    SocketAddress.resolve(host: host, port: port)
  }

  package func connect(_ address: SocketAddress) throws(SystemError) -> Int32 {
    try Sockets.connect(address)
  }
}

/// Takes messages out of the queue and gets them to the receiver. Loop-confined.
///
///     idle ──message due──▶ dialing ──connected──▶ calling ──answer──▶ idle
///      ▲                      │ failed                │ failed, timed out
///      └────after a wait──────┴───────────────────────┘
///     any ──flushed, or its time is over──▶ finished
final class ExportDriver {
  enum Phase {
    case idle
    case dialing
    case calling
    case finished
  }

  let loop: EventLoop
  let queue: ExportQueue
  let ledger: SpanLedger
  let configuration: ExporterConfiguration
  let resource: TelemetryResource
  let dialer: any ExporterDialer
  let status: ExporterStatus
  let onFinish: () -> Void
  var log: ExporterLog

  var phase = Phase.idle
  var connection: ExporterConnection?
  var addresses: ArraySlice<SocketAddress> = []
  /// Slices taken from the queue that no message holds yet.
  private var parts: ArraySlice<SpanSlice> = []
  /// The message being sent, or kept for another try.
  var message: ExportMessage?
  /// Until when a queue that is not due by size may wait.
  private var delayAt: Nanoseconds?
  /// No try before this.
  private var retryAt: Nanoseconds = 0
  private var failures = 0
  /// True after a try that was repeated without a wait because a reused connection had died.
  private var retriedAtOnce = false
  private var flushDeadline: Nanoseconds?

  /// Looks again: the delay or the wait before a retry is over.
  private let wakeTimer = Timer(tag: 0)
  /// Bounds a connect or a call.
  let limitTimer = Timer(tag: 1)
  private let flushTimer = Timer(tag: 2)

  /// Creates an idle driver; `onFinish` is called once, after the flush.
  init(
    loop: EventLoop, queue: ExportQueue, ledger: SpanLedger, configuration: ExporterConfiguration,
    resource: TelemetryResource, dialer: any ExporterDialer, status: ExporterStatus, logger: Logger,
    onFinish: @escaping () -> Void
  ) {
    self.loop = loop
    self.queue = queue
    self.ledger = ledger
    self.configuration = configuration
    self.resource = resource
    self.dialer = dialer
    self.status = status
    self.onFinish = onFinish
    log = ExporterLog(logger: logger, endpoint: configuration.method.authority)
  }

  /// Sends what waits, at most until `within` nanoseconds from now, then finishes.
  func flush(within: Nanoseconds) {
    guard flushDeadline == nil else { return }
    let deadline = loop.now + within
    flushDeadline = deadline
    if let message, let bound = message.deadline { message.deadline = min(bound, deadline) }
    // A receiver that was away gets one more chance at once.
    retryAt = 0
    loop.arm(flushTimer, at: deadline, self)
    pump()
  }

  /// Starts the next try when there is something to send and its time has come.
  func pump() {
    guard case .idle = phase else { return }
    if retryAt > loop.now {
      loop.arm(wakeTimer, at: retryAt, self)
      return
    }
    guard let next = message ?? nextMessage() else {
      if flushDeadline != nil { finish() }
      return
    }
    message = next
    if next.deadline == nil {
      let bound = loop.now + configuration.retry.total
      next.deadline = flushDeadline.map { min($0, bound) } ?? bound
    }
    if let connection, connection.mayCall { return call(on: connection) }
    dropConnection()
    dial()
  }

  private func nextMessage() -> ExportMessage? {
    if parts.isEmpty {
      guard isDue() else { return nil }
      delayAt = nil
      fillParts()
    }
    let limits = configuration.message
    let bytesMax = min(limits.bytesAimed, limits.bytesMax)
    var slices: [SpanSlice] = []
    var spans = 0
    var bytes = 0
    while let next = parts.first {
      let fits = spans + next.spanCount <= limits.spansMax && bytes + next.bytes.count <= bytesMax
      guard slices.isEmpty || fits else { break }
      slices.append(next)
      spans += next.spanCount
      bytes += next.bytes.count
      parts.removeFirst()
    }
    return slices.isEmpty ? nil : ExportMessage(slices, resource: resource)
  }

  /// True when the queue is to be emptied now; otherwise sees to it that it will be.
  private func isDue() -> Bool {
    guard queue.level.spans > 0 else {
      delayAt = nil
      return false
    }
    if flushDeadline != nil || queue.isDue { return true }
    let due = delayAt ?? loop.now + configuration.delay
    if due <= loop.now { return true }
    delayAt = due
    loop.arm(wakeTimer, at: due, self)
    return false
  }

  private func fillParts() {
    let limits = configuration.message
    var lost = 0
    var slices: [SpanSlice] = []
    for batch in queue.take(spansMax: limits.spansMax, bytesMax: limits.bytesAimed) {
      slices += SpanSlice.cut(batch, spansMax: limits.spansMax, bytesMax: limits.bytesMax, lost: &lost)
    }
    parts = slices[...]
    if lost > 0 { queue.settle(sent: 0, dropped: lost, .tooLarge) }
  }

  // MARK: Ends of a try

  /// Books an answer and goes on.
  func answered(_ answer: GRPCAnswer, wasRefused: Bool) {
    loop.cancel(limitTimer)
    phase = .idle
    guard let message else { return pump() }
    status.update { $0.callsByStatus[answer.status.code.rawValue] += 1 }
    switch ExportVerdict(answer) {
    case .accepted(let rejected, let remark):
      // First, so that the line about the outage does not count what this answer drops.
      recovered()
      let lost = min(rejected, message.spanCount)
      queue.settle(sent: message.spanCount - lost, dropped: lost, .rejected)
      self.message = nil
      if lost > 0 || !remark.isEmpty { log.partialSuccess(rejected: lost, remark, at: loop.now) }
      log.queueFull(total: ledger.dropped(.queueFull), at: loop.now)
      pump()
    case .retry(let hint):
      if wasRefused, repeatAtOnce() { return }
      failed(answer.status.description, hint: hint)
    case .refused:
      // The receiver is there and speaks: no outage.
      recovered()
      queue.settle(sent: 0, dropped: message.spanCount, .rejected)
      self.message = nil
      status.update { $0.lastError = answer.status.description }
      log.refused(answer.status, spans: message.spanCount, at: loop.now)
      pump()
    }
  }

  /// Repeats a call that a reused connection took with it; false when that was tried before.
  func repeatAtOnce() -> Bool {
    guard !retriedAtOnce, message != nil else { return false }
    retriedAtOnce = true
    dropConnection()
    phase = .idle
    pump()
    return true
  }

  /// Plans another try of the message, or drops it when its time would be over by then.
  func failed(_ cause: String, hint: Nanoseconds? = nil, whileDialing: Bool = false) {
    loop.cancel(limitTimer)
    phase = .idle
    failures += 1
    status.update { state in
      state.isInOutage = true
      state.lastError = cause
    }
    log.outageBegan(cause, dropped: ledger.dropped, at: loop.now)
    // Nobody listens: a process that ends does not wait for it.
    if flushDeadline != nil, whileDialing { return finish() }
    let wait = configuration.retry.delay(failures: failures, hint: hint, random: &loop.random)
    retryAt = loop.now + max(wait, millisecond)
    if let message, let deadline = message.deadline {
      if retryAt >= deadline {
        queue.settle(sent: 0, dropped: message.spanCount, flushDeadline == nil ? .deadline : .shutdown)
        self.message = nil
        // The receiver's hint was for this message.
        if hint != nil { retryAt = min(retryAt, deadline) }
      }
    }
    log.queueFull(total: ledger.dropped(.queueFull), at: loop.now)
    pump()
  }

  private func recovered() {
    failures = 0
    retryAt = 0
    retriedAtOnce = false
    status.update { $0.isInOutage = false }
    log.outageEnded(dropped: ledger.dropped, at: loop.now)
  }

  /// Drops what is left and ends.
  private func finish() {
    if case .finished = phase { return }
    phase = .finished
    for timer in [wakeTimer, limitTimer, flushTimer] { loop.cancel(timer) }
    dropConnection()
    message = nil
    parts = []
    let dropped = queue.abandon()
    if dropped > 0 { log.droppedAtEnd(dropped) }
    onFinish()
  }

  func dropConnection() {
    connection?.close()
    connection = nil
    status.update { $0.isConnected = false }
  }
}

extension ExportDriver: TimerHandler {
  func timerFired(_ timer: Timer) {
    switch timer.tag {
    case 0: pump()
    case 1: limitPassed()
    default: finish()
    }
  }
}
