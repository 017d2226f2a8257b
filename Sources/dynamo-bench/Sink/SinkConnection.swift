// One HTTP/2 connection of the sink.

import Base
import CSystem
import EventLoop
import GRPC
import HTTP

/// Moves bytes between a socket and an HTTP/2 session and answers its calls.
final class SinkConnection: EventHandler, TimerHandler {
  private let descriptor: Int32
  private let sink: Sink
  private let loop: EventLoop
  private let session: HTTP2ServerSession
  private let timer = Timer()
  private var registration: Registration?
  private var outbound = ByteBuffer()
  private var delayed: [(due: Nanoseconds, call: GRPCServerCall, status: GRPCStatus)] = []
  private var isClosed = false

  /// Takes the socket over; nil when the session or the registration fails, and the socket stays the caller's.
  init?(_ descriptor: Int32, _ sink: Sink) {
    var limits = HTTP2Limits()
    limits.streamWindowBytes = 8 << 20
    limits.connectionWindowBytes = 16 << 20
    guard let session = try? HTTP2ServerSession(limits: limits) else { return nil }
    self.descriptor = descriptor
    self.sink = sink
    self.session = session
    loop = sink.loop
    guard let registration = try? loop.register(descriptor, self) else { return nil }
    self.registration = registration
  }

  func ready(_ readiness: Readiness) {
    var alive = true
    if readiness.isReadable || readiness.hasEnded { alive = readSocket() }
    guard !isClosed else { return }
    if alive { flush() } else { close() }
  }

  func timerFired(_ timer: Timer) {
    while let first = delayed.first, first.due <= loop.now {
      delayed.removeFirst()
      answer(first.call, first.status)
    }
    if let next = delayed.first { loop.arm(timer, at: next.due, self) }
    flush()
  }

  func close() {
    guard !isClosed else { return }
    isClosed = true
    loop.cancel(timer)
    if let registration { loop.deregister(registration) }
    loop.system.close(descriptor)
    sink.closed(self)
  }

  private func readSocket() -> Bool {
    guard let scratch = loop.scratch.baseAddress else { return false }
    while !isClosed {
      let count = loop.system.receive(descriptor, scratch, loop.scratch.count)
      if count == -Int(EAGAIN) { return true }
      guard count > 0 else { return false }
      do {
        try session.receive(UnsafeRawBufferPointer(start: scratch, count: count))
      } catch {
        return false
      }
      for exchange in session.takeRequests() where exchange.end == nil { take(GRPCServerCall(exchange)) }
    }
    return true
  }

  private func take(_ call: GRPCServerCall) {
    guard let status = sink.take(call), !isClosed else { return }
    guard sink.faults.delay > 0 else {
      answer(call, status)
      return
    }
    delayed.append((loop.now + sink.faults.delay, call, status))
    if !timer.isArmed { loop.arm(timer, at: loop.now + sink.faults.delay, self) }
  }

  private func answer(_ call: GRPCServerCall, _ status: GRPCStatus) {
    do {
      if case .ok = status.code {
        // An empty ExportTraceServiceResponse: all was taken.
        try call.succeed(on: session, message: UnsafeRawBufferPointer(start: nil, count: 0))
      } else {
        try call.fail(on: session, status)
      }
    } catch {
      close()
    }
  }

  private func flush() {
    guard !isClosed else { return }
    do {
      if outbound.isEmpty { try session.output(into: &outbound) }
    } catch {
      close()
      return
    }
    while let start = outbound.readable.baseAddress, !outbound.isEmpty {
      let sent = loop.system.send(descriptor, start, outbound.count)
      if sent == -Int(EAGAIN) { return }
      guard sent >= 0 else {
        close()
        return
      }
      outbound.consume(sent)
    }
    if session.isFinished { close() }
  }
}
