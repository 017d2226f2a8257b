// One caller of the load generator: sends a request, reads its answer, tells the runner.

import Base
import CSystem
import EventLoop

/// A connection to the server, opened again when it was closed; the runner owns it.
final class LoadConnection: EventHandler, TimerHandler {
  private let runner: LoadRunner
  private let loop: EventLoop
  private let address: SocketAddress
  private let authority: String
  private let check: AnswerCheck
  private let starter = Timer()
  private var descriptor: Int32 = -1
  private var registration: Registration?
  private var reader = MessageReader(isRequest: false)
  private var inbound = ByteBuffer()
  private var outbound = ByteBuffer()
  private(set) var isBusy = false
  private var startedAt: Nanoseconds = 0
  private var sawFirstToken = false
  /// True from the first sign that the connect succeeded.
  private var isConnected = false
  /// The answer was read to its end, or to where it broke.
  private var isComplete = false

  init(_ runner: LoadRunner, address: SocketAddress, authority: String) {
    self.runner = runner
    loop = runner.loop
    self.address = address
    self.authority = authority
    check = AnswerCheck(runner.options)
  }

  /// Asks the runner for work at `deadline`.
  func startLater(at deadline: Nanoseconds) { loop.arm(starter, at: deadline, self) }

  func timerFired(_ timer: Timer) { runner.isFree(self) }

  /// Sends a request. One that had to wait for this connection is timed from when it was `due`, others from now.
  func start(due: Nanoseconds?) {
    isBusy = true
    sawFirstToken = false
    outbound.removeAll()
    runner.writer.append(to: &outbound, authority: authority)
    startedAt = due ?? loop.system.monotonicNanoseconds()
    check.begin(at: startedAt)
    guard descriptor < 0 else {
      flush()
      return
    }
    do {
      descriptor = try Sockets.connect(address)
      registration = try loop.register(descriptor, self)
    } catch {
      end(Failure(kind: .connect, detail: error.description))
    }
  }

  /// Gives up an answer that takes longer than `timeout`.
  func sweep(_ now: Nanoseconds, _ timeout: Nanoseconds) {
    guard isBusy, now > startedAt, now - startedAt > timeout else { return }
    end(Failure(kind: .timeout, detail: "after \(check.tokens) tokens"))
  }

  func ready(_ readiness: Readiness) {
    if readiness.isError {
      let code = loop.system.pendingError(descriptor)
      lost(SystemError("connection", code).description)
      return
    }
    if readiness.isWritable {
      isConnected = true
      if !outbound.isEmpty { flush() }
    }
    guard descriptor >= 0 else { return }
    if readiness.isReadable || readiness.hasEnded {
      readSocket(toEnd: readiness.hasEnded)
    }
  }

  private func flush() {
    guard let start = outbound.readable.baseAddress else { return }
    let sent = loop.system.send(descriptor, start, outbound.count)
    if sent >= 0 {
      outbound.consume(sent)
    } else if sent != -Int(EAGAIN), sent != -Int(ENOTCONN) {
      lost(SystemError("send", Int32(-sent)).description)
    }
  }

  private func readSocket(toEnd: Bool) {
    guard let scratch = loop.scratch.baseAddress else { return }
    while descriptor >= 0 {
      let count = loop.system.receive(descriptor, scratch, loop.scratch.count)
      if count == -Int(EAGAIN) { return }
      guard count > 0 else {
        lost(count == 0 ? "closed by the server" : SystemError("recv", Int32(-count)).description)
        return
      }
      let measurements = runner.measurements
      measurements.bytesReceived += count
      let received = UnsafeRawBufferPointer(start: scratch, count: count)
      if inbound.isEmpty {
        let used = take(received, measurements)
        if descriptor >= 0 { inbound.append(received.slice(used..<count)) }
      } else {
        inbound.append(received)
        let used = take(inbound.readable, measurements)
        inbound.consume(min(used, inbound.count))
      }
      if !sawFirstToken, check.tokens > 0 {
        sawFirstToken = true
        runner.firstTokenCame()
      }
      finishIfComplete()
      if count < loop.scratch.count, !toEnd { return }
    }
  }

  private func take(_ input: UnsafeRawBufferPointer, _ measurements: Measurements) -> Int {
    let now = loop.system.monotonicNanoseconds()
    var offset = 0
    while true {
      switch reader.next(input, &offset) {
      case .needMore: return offset
      case .head(let lines):
        guard isBusy, !isComplete else {
          check.fail(.framing, "an answer that nobody asked for")
          isComplete = true
          return offset
        }
        // An informational head is followed by the real one.
        if (100..<200).contains(MessageReader.status(lines) ?? 0) { continue }
        check.head(lines)
      case .body(let bytes): check.body(bytes, at: now, measurements)
      case .end:
        check.end()
        isComplete = true
        if offset < input.count { check.fail(.framing, "bytes behind the answer") }
        return offset
      case .broken(let reason):
        check.fail(.framing, "\(reason)")
        isComplete = true
        return offset
      }
    }
  }

  private func finishIfComplete() {
    guard isComplete else { return }
    isComplete = false
    end(check.failure)
  }

  private func lost(_ reason: String) {
    if isBusy, reader.endsAtClose {
      check.end()
      end(check.failure)
    } else if isBusy {
      let detail = "\(reason) at status \(check.status) after \(check.tokens) tokens"
      end(isConnected ? Failure(kind: .closed, detail: detail) : Failure(kind: .connect, detail: reason))
    } else {
      disconnect()
    }
  }

  /// The answer is over; the connection survives only a good one.
  private func end(_ failure: Failure?) {
    guard isBusy else {
      disconnect()
      return
    }
    isBusy = false
    if failure != nil || reader.closes { disconnect() }
    let now = loop.system.monotonicNanoseconds()
    if let failure {
      runner.measurements.fail(failure)
    } else {
      if !runner.options.workload.stream { runner.measurements.tokens += check.tokens }
      runner.measurements.succeed(after: now > startedAt ? now - startedAt : 0)
    }
    runner.finished(self, failed: failure != nil)
  }

  /// Closes the socket; the next request opens another.
  func disconnect() {
    if let registration { loop.deregister(registration) }
    registration = nil
    if descriptor >= 0 { loop.system.close(descriptor) }
    descriptor = -1
    isConnected = false
    inbound.removeAll()
    outbound.removeAll()
    reader = MessageReader(isRequest: false)
  }
}
