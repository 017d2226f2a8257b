// Reads the metrics once in a while and hands them to their exporter.

import Base
import EventLoop
import Glibc
import Synchronization
import Telemetry

/// A thread that wakes up for each reading. The last one is made at the end, so that a short process tells all it did.
final class MetricReader: Sendable {
  private struct State {
    var isStopping = false
    var thread: Thread?
  }

  private let registry: MetricRegistry
  private let exporter: SpanExporter
  private let ledger: SpanLedger
  private let interval: Nanoseconds
  private let started: UInt64
  private let state = Mutex(State())
  /// A byte that is written to one end wakes the thread, which waits for the other.
  private let wake: Int32
  private let signal: Int32

  /// Starts the thread. Throws when it cannot be had.
  init(_ registry: MetricRegistry, _ exporter: SpanExporter, ledger: SpanLedger, interval: Nanoseconds)
    throws(SystemError)
  {
    self.registry = registry
    self.exporter = exporter
    self.ledger = ledger
    self.interval = interval
    started = Machine.wallNanoseconds
    (wake, signal) = try Sockets.pair()
    let thread = try Thread(name: "metric-reader") { self.run() }
    state.withLock { $0.thread = thread }
  }

  deinit {
    close(wake)
    close(signal)
  }

  /// Makes the last reading and ends the thread.
  func stop() {
    let thread = state.withLock { state in
      state.isStopping = true
      return state.thread.take()
    }
    guard let thread else { return }
    var byte: UInt8 = 0
    _ = write(signal, &byte, 1)
    thread.join()
  }

  private func run() {
    var due = Machine.monotonicNanoseconds + interval
    while true {
      let now = Machine.monotonicNanoseconds
      var entry = pollfd(fd: wake, events: Int16(POLLIN), revents: 0)
      if now < due { _ = poll(&entry, 1, Int32(clamping: (due - now) / millisecond + 1)) }
      let isStopping = state.withLock { $0.isStopping }
      if isStopping || Machine.monotonicNanoseconds >= due {
        read()
        due = Machine.monotonicNanoseconds + interval
      }
      if isStopping { return }
    }
  }

  private func read() {
    var out = ByteBuffer()
    let count = registry.writeOTLP(into: &out, started: started, now: Machine.wallNanoseconds)
    ledger.recordMade(count)
    exporter.publish(SpanBatch(bytes: FrozenBytes(out), spanCount: count))
  }
}
