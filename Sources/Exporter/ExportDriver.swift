// The exporter on its loop: when a message is due, which lane sends it, what its end does to the books, the last flush.

import Base
import EventLoop
import GRPC
import Logging
import Telemetry

/// Takes messages out of the queue and the spool, and hands them to its lanes. Loop-confined.
///
///     queue ──due──▶ message ──▶ lane ──final answer──▶ sent or dropped
///       │ half full, or an outage      │ tries used up
///       └────────────▶ spool ◀─────────┘ (dropped where there is none)
final class ExportDriver {
  let loop: EventLoop
  private let queue: ExportQueue
  private let ledger: SpanLedger
  private let configuration: ExporterConfiguration
  private let resource: TelemetryResource
  private let status: ExporterStatus
  private let onFinish: () -> Void
  private var log: ExporterLog

  private var lanes: [ExportLane] = []
  private var spool: ExportSpool?
  /// Nothing is moved from the queue to the disk before this: the disk refused.
  private var spillAt: Nanoseconds = 0
  /// What the disk refused; the next to be sent.
  private var held: ExportMessage?
  /// Slices taken from the queue that no message holds yet.
  private var parts: ArraySlice<SpanSlice> = []
  /// Until when a queue that is not due by size may wait.
  private var delayAt: Nanoseconds?
  /// Whether the spool's turn is next: it and the queue take turns where both have something.
  private var isSpoolsTurn = true
  private var isInOutage = false
  private var flushDeadline: Nanoseconds?
  private var isFinished = false
  private var isPumping = false
  private var pumpsAgain = false

  private let delayTimer = Timer(tag: 0)
  private let flushTimer = Timer(tag: 1)

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
    self.status = status
    self.onFinish = onFinish
    log = ExporterLog(
      logger: logger, endpoint: configuration.method.authority, noun: configuration.signal.noun)
    let encoder = ExportEncoder(
      configuration.transport, compresses: configuration.compresses, bytesMax: configuration.wireBytesMax)
    lanes = (0..<max(1, configuration.concurrentCalls)).map { _ in
      ExportLane(
        loop: loop, configuration: configuration, dialer: dialer, encoder: encoder, status: status,
        owner: self)
    }
  }

  /// Opens the spool, if there is to be one; blocks on the disk. Call before the first ``pump()``.
  func openSpool() {
    guard let configuration = configuration.spool else { return }
    do throws(SpoolError) {
      let spool = try ExportSpool(configuration, service: resource.serviceName, ledger: ledger)
      self.spool = spool
      log.spoolOpened(spool.path, files: spool.count, spans: ledger.recovered, skipped: spool.skippedFiles)
    } catch {
      log.spoolFailed("\(error)", at: loop.now)
      status.update { $0.spoolErrors += 1 }
    }
    showSpool()
  }

  /// Sends what waits, at most until `within` nanoseconds from now, then finishes.
  func flush(within: Nanoseconds) {
    guard flushDeadline == nil else { return }
    let deadline = loop.now + within
    flushDeadline = deadline
    for lane in lanes { lane.hurry(until: deadline) }
    loop.arm(flushTimer, at: deadline, self)
    pump()
  }

  /// Lets each lane that is free take what is due.
  func pump() {
    // A lane whose try ends at once comes back here from inside its pump.
    pumpsAgain = true
    if isPumping { return }
    isPumping = true
    startDelay()
    while pumpsAgain, !isFinished {
      pumpsAgain = false
      for lane in lanes where !isFinished { lane.pump() }
    }
    isPumping = false
    if isFinished { return }
    spill()
    if flushDeadline != nil, !hasUnsent { finish() }
  }

  private var hasUnsent: Bool {
    held != nil || !parts.isEmpty || queue.level.spans > 0 || !lanes.allSatisfy { $0.isDone }
  }

  // MARK: Messages

  private func messageFromQueue() -> ExportMessage? {
    if parts.isEmpty {
      guard isDue else { return nil }
      delayAt = nil
      fillParts()
      startDelay()
    }
    return messageFromParts()
  }

  private func messageFromParts() -> ExportMessage? {
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

  /// True when the queue is to be emptied now.
  private var isDue: Bool {
    guard queue.level.spans > 0 else { return false }
    if flushDeadline != nil || queue.isDue { return true }
    return delayAt.map { $0 <= loop.now } ?? false
  }

  /// Sees to it that what waits in the queue becomes due, whether a lane is free or not.
  private func startDelay() {
    guard queue.level.spans > 0 else {
      delayAt = nil
      return
    }
    guard delayAt == nil else { return }
    let due = loop.now + configuration.delay
    delayAt = due
    loop.arm(delayTimer, at: due, self)
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

  // MARK: Spool

  /// Moves messages from the queue to the disk while it fills up: in an outage those that are due, else above half.
  private func spill() {
    guard spool != nil, held == nil, flushDeadline == nil, loop.now >= spillAt else { return }
    while isInOutage ? queue.isDue : queue.isHalfFull {
      if parts.isEmpty { fillParts() }
      guard let message = messageFromParts() else { continue }
      if store(message) { continue }
      // It has its chance in memory still.
      held = message
      spillAt = loop.now + 10 * second
      return
    }
  }

  private func messageFromSpool() -> ExportMessage? {
    // A process that ends leaves the spool to the next one.
    guard let spool, flushDeadline == nil else { return nil }
    // Files that are found to be damaged go.
    defer { showSpool() }
    return spool.take()
  }

  /// Writes a message of the queue to the spool; false when there is none, the disk refuses, or the spans were booked
  /// as dropped while it wrote.
  private func store(_ message: ExportMessage) -> Bool {
    guard let spool else { return false }
    defer { showSpool() }
    do throws(SpoolError) {
      return try spool.add(message, wallNanoseconds: loop.system.wallNanoseconds()) {
        queue.settle(spooled: message.spanCount)
      }
    } catch {
      status.update { $0.spoolErrors += 1 }
      log.spoolFailed("\(error)", at: loop.now)
      return false
    }
  }

  private func showSpool() {
    let bytes = spool?.bytes ?? 0
    let skipped = spool?.skippedFiles ?? 0
    let failures = spool?.takeReadFailures() ?? (count: 0, last: "")
    if failures.count > 0 { log.spoolFailed(failures.last, at: loop.now) }
    status.update { state in
      state.spoolBytes = bytes
      state.spoolFilesSkipped = skipped
      state.spoolErrors += failures.count
    }
  }

  // MARK: Ends of a message

  private func book(_ message: ExportMessage, sent: Int, dropped: Int) {
    guard let file = message.file else {
      return queue.settle(sent: sent, dropped: dropped, .rejected)
    }
    spool?.forget(file, sent: sent, dropped: dropped, .rejected)
    showSpool()
  }

  /// The receiver is there and speaks: no outage.
  private func recovered() {
    isInOutage = false
    status.update { $0.isInOutage = false }
    log.outageEnded(dropped: ledger.dropped, at: loop.now)
  }

  /// Drops what is left, or leaves it to the next process on disk, and ends.
  func finish() {
    if isFinished { return }
    isFinished = true
    for timer in [delayTimer, flushTimer] { loop.cancel(timer) }
    let left = lanes.compactMap { $0.close() } + (held.map { [$0] } ?? [])
    let before = ledger.spooled
    if spool != nil, !queue.isAbandoned {
      var stored = left.allSatisfy { $0.file != nil || store($0) }
      while stored, !parts.isEmpty || queue.level.spans > 0 {
        if parts.isEmpty { fillParts() }
        if let message = messageFromParts() { stored = store(message) }
      }
    }
    held = nil
    parts = []
    let dropped = queue.abandon()
    let spooled = ledger.spooled - before
    if dropped + spooled > 0 { log.undeliveredAtEnd(dropped: dropped, spooled: spooled) }
    // Unlocks the folder for the next process.
    spool = nil
    onFinish()
  }
}

extension ExportDriver: ExportLaneOwner {
  var isFlushing: Bool { flushDeadline != nil }

  func nextMessage() -> ExportMessage? {
    if let message = held {
      held = nil
      return message
    }
    if isSpoolsTurn, let message = messageFromSpool() {
      isSpoolsTurn = false
      return message
    }
    isSpoolsTurn = true
    return messageFromQueue() ?? messageFromSpool()
  }

  func deadline(from now: Nanoseconds) -> Nanoseconds {
    let bound = now + configuration.retry.total
    return flushDeadline.map { min($0, bound) } ?? bound
  }

  func settled(_ message: ExportMessage, _ answer: ExportAnswer) {
    // First, so that the line about the outage does not count what this answer drops.
    recovered()
    if case .accepted(let rejected, let remark) = answer.verdict {
      let lost = min(rejected, message.spanCount)
      spool?.receiverAccepted()
      book(message, sent: message.spanCount - lost, dropped: lost)
      if lost > 0 || !remark.isEmpty { log.partialSuccess(rejected: lost, remark, at: loop.now) }
      log.queueFull(total: ledger.dropped(.queueFull), at: loop.now)
    } else {
      book(message, sent: 0, dropped: message.spanCount)
      status.update { $0.lastError = answer.description }
      log.refused(answer.description, spans: message.spanCount, at: loop.now)
    }
  }

  func gaveUp(_ message: ExportMessage, wasAnswered: Bool) {
    if let file = message.file {
      spool?.putBack(file, wasAnswered: wasAnswered)
      showSpool()
    } else if !store(message) {
      queue.settle(sent: 0, dropped: message.spanCount, flushDeadline == nil ? .deadline : .shutdown)
    }
  }

  func connected() { log.connected() }

  func failed(_ cause: String) {
    isInOutage = true
    status.update { state in
      state.isInOutage = true
      state.lastError = cause
    }
    log.outageBegan(cause, dropped: ledger.dropped, at: loop.now)
    log.queueFull(total: ledger.dropped(.queueFull), at: loop.now)
  }

  func foundNobodyAtEnd() -> Bool {
    // Another lane's receiver may answer yet; the deadline ends it if not.
    if lanes.contains(where: { $0.isCalling }) { return false }
    finish()
    return true
  }
}

extension ExportDriver: TimerHandler {
  func timerFired(_ timer: Timer) {
    if timer.tag == 0 { pump() } else { finish() }
  }
}
