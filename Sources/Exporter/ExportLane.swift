// One call after the other: dial when there is no connection, call, repeat, give up. The driver has one lane or more.

import Base
import EventLoop
import GRPC

/// Gives lanes their messages and keeps the books of how they ended.
protocol ExportLaneOwner: AnyObject {
  /// The next message that is due; nil when there is none.
  func nextMessage() -> ExportMessage?
  /// A message got its final answer: it was accepted or refused.
  func settled(_ message: ExportMessage, _ answer: ExportAnswer)
  /// A message's time is over without a final answer. `wasAnswered` is true when the receiver itself put it off.
  func gaveUp(_ message: ExportMessage, wasAnswered: Bool)
  /// There is a connection to the receiver.
  func connected()
  /// A try failed.
  func failed(_ cause: String)
  /// Nobody listens at the endpoint and the process waits for its end. True when the owner ends for it.
  func foundNobodyAtEnd() -> Bool
  /// A lane may have become free.
  func pump()
  /// Until when a message that is tried first at `now` may be tried.
  func deadline(from now: Nanoseconds) -> Nanoseconds
  /// True once the exporter sends its last.
  var isFlushing: Bool { get }
}

/// Gets one message at a time to the receiver, over a connection of its own. Loop-confined.
///
///     idle ──message──▶ dialing ──connected──▶ calling ──answer──▶ idle
///      ▲                  │ failed                │ failed, timed out
///      └───after a wait───┴───────────────────────┘
///     any ──close()──▶ closed
final class ExportLane {
  private enum Phase {
    case idle
    case dialing
    case calling
    case closed
  }

  private let loop: EventLoop
  private let configuration: ExporterConfiguration
  private let dialer: any ExporterDialer
  private let encoder: ExportEncoder
  private let status: ExporterStatus
  // Unowned: the driver owns its lanes and closes them before it goes.
  private unowned let owner: any ExportLaneOwner

  private var phase = Phase.idle
  private var channel: (any ExportChannel)?
  private var isConnected = false
  private var addresses: ArraySlice<SocketAddress> = []
  /// The message being sent, or kept for another try.
  private(set) var message: ExportMessage?
  /// No try before this.
  private var retryAt: Nanoseconds = 0
  private var failures = 0
  /// True after a try that was repeated without a wait because a reused connection had died.
  private var retriedAtOnce = false

  /// The wait before a retry is over.
  private let wakeTimer = Timer(tag: 0)
  /// Bounds a connect or a call.
  private let limitTimer = Timer(tag: 1)

  init(
    loop: EventLoop, configuration: ExporterConfiguration, dialer: any ExporterDialer, encoder: ExportEncoder,
    status: ExporterStatus, owner: any ExportLaneOwner
  ) {
    self.loop = loop
    self.configuration = configuration
    self.dialer = dialer
    self.encoder = encoder
    self.status = status
    self.owner = owner
  }

  /// True when nothing is being sent, waited for or kept.
  var isDone: Bool {
    if case .idle = phase { return message == nil }
    return false
  }

  /// True while a call waits for its answer.
  var isCalling: Bool {
    if case .calling = phase { return true }
    return false
  }

  /// Starts the next try when there is something to send and its time has come.
  func pump() {
    guard case .idle = phase else { return }
    if retryAt > loop.now {
      loop.arm(wakeTimer, at: retryAt, self)
      return
    }
    guard let next = message ?? owner.nextMessage() else { return }
    message = next
    if next.deadline == nil { next.deadline = owner.deadline(from: loop.now) }
    if let channel, channel.mayCall { return call(on: channel) }
    dropConnection()
    dial()
  }

  /// Shortens the time of what is in hand to `deadline`. A receiver that was away gets one more chance at once.
  func hurry(until deadline: Nanoseconds) {
    if let message, let bound = message.deadline { message.deadline = min(bound, deadline) }
    retryAt = 0
  }

  /// Ends the lane and gives out what it still holds.
  func close() -> ExportMessage? {
    phase = .closed
    for timer in [wakeTimer, limitTimer] { loop.cancel(timer) }
    dropConnection()
    defer { message = nil }
    return message
  }

  private func dropConnection() {
    channel?.close()
    forgetConnection()
  }

  private func forgetConnection() {
    channel = nil
    if isConnected { status.update { $0.connections -= 1 } }
    isConnected = false
  }

  // MARK: One try

  /// Resolves the endpoint and tries its addresses in turn.
  private func dial() {
    phase = .dialing
    addresses = dialer.resolve(host: configuration.host, port: configuration.port)[...]
    tryNextAddress("cannot resolve \(configuration.host)")
  }

  private func tryNextAddress(_ previousFailure: String) {
    var cause = previousFailure
    while let address = addresses.popFirst() {
      do {
        let descriptor = try dialer.connect(address)
        channel = try configuration.channel(descriptor, on: loop, delegate: self)
        loop.arm(limitTimer, at: loop.now + configuration.connectTimeout, self)
        return
      } catch {
        cause = "\(address): \(error)"
      }
    }
    failed(cause, whileDialing: true)
  }

  /// Starts the call of the message.
  private func call(on channel: any ExportChannel) {
    guard let message else { return }
    phase = .calling
    message.calls += 1
    if message.calls > 1 { status.update { $0.spansResent += message.spanCount } }
    let left = max((message.deadline ?? 0).subtractingReportingOverflow(loop.now).partialValue, millisecond)
    let timeout = configuration.callTimeout.map { min($0, left) } ?? left
    loop.arm(limitTimer, at: loop.now + timeout, self)
    let encoded = encoder.encode(message)
    channel.call(ExportCall(body: encoded.body, isCompressed: encoded.isCompressed, timeout: timeout))
  }

  /// A connect or a call took too long.
  private func limitPassed() {
    switch phase {
    case .dialing:
      dropConnection()
      tryNextAddress("connect: timed out")
    case .calling:
      // The connection may be dead too, and no other call is on it.
      dropConnection()
      answered(ExportAnswer(.deadlineExceeded, "no answer in time"))
    case .idle, .closed:
      break
    }
  }

  // MARK: Ends of a try

  private func answered(_ answer: ExportAnswer) {
    loop.cancel(limitTimer)
    phase = .idle
    guard let message else { return owner.pump() }
    status.update { $0.callsByStatus[answer.status, default: 0] += 1 }
    if case .retry(let hint) = answer.verdict {
      if answer.wasNotBegun, repeatAtOnce() { return }
      return failed(answer.description, hint: hint, wasAnswered: answer.isFromReceiver)
    }
    failures = 0
    retryAt = 0
    retriedAtOnce = false
    // The receiver may have said that it closes.
    if let channel, !channel.mayCall { dropConnection() }
    self.message = nil
    owner.settled(message, answer)
    owner.pump()
  }

  /// Repeats a call that a reused connection took with it; false when that was tried before.
  private func repeatAtOnce() -> Bool {
    guard !retriedAtOnce, message != nil else { return false }
    retriedAtOnce = true
    dropConnection()
    phase = .idle
    pump()
    return true
  }

  /// Plans another try of the message, or gives it up when its time would be over by then.
  private func failed(
    _ cause: String, hint: Nanoseconds? = nil, wasAnswered: Bool = false, whileDialing: Bool = false
  ) {
    loop.cancel(limitTimer)
    phase = .idle
    failures += 1
    owner.failed(cause)
    // Nobody listens: a process that ends does not wait for it.
    if owner.isFlushing, whileDialing, owner.foundNobodyAtEnd() { return }
    let wait = configuration.retry.delay(failures: failures, hint: hint, random: &loop.random)
    retryAt = loop.now + max(wait, millisecond)
    if let message, let deadline = message.deadline, retryAt >= deadline {
      self.message = nil
      // The receiver's hint was for this message.
      if hint != nil { retryAt = min(retryAt, deadline) }
      owner.gaveUp(message, wasAnswered: wasAnswered)
    }
    owner.pump()
  }
}

extension ExportLane: ExportChannelDelegate {
  func channelOpened() {
    guard case .dialing = phase, let channel else { return }
    loop.cancel(limitTimer)
    isConnected = true
    status.update { $0.connections += 1 }
    owner.connected()
    call(on: channel)
  }

  func channelAnswered(_ answer: ExportAnswer) {
    guard case .calling = phase else { return }
    answered(answer)
  }

  func channelClosed(_ cause: String) {
    let wasReused = (channel?.answeredCalls ?? 0) > 0
    forgetConnection()
    switch phase {
    case .dialing:
      tryNextAddress(cause)
    case .calling:
      loop.cancel(limitTimer)
      if wasReused, repeatAtOnce() { return }
      answered(ExportAnswer(.unavailable, cause))
    case .idle, .closed:
      break
    }
  }
}

extension ExportLane: TimerHandler {
  func timerFired(_ timer: Timer) {
    if timer.tag == 0 { owner.pump() } else { limitPassed() }
  }
}
