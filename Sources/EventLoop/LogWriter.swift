// The thread that writes log lines, so that no loop ever waits for a terminal, a pipe or a disk.

package import Base
internal import CSystem
internal import Glibc
internal import Synchronization

/// Where a ``LogWriter`` puts lines, on its thread.
package protocol LineOutput: AnyObject, Sendable {
  /// Writes whole lines and waits until they are written; the number of those that could not be.
  func write(_ lines: inout ByteBuffer) -> Int
}

/// Takes lines from any thread into a bounded buffer and writes them from a thread of its own.
///
/// Producers copy under a short lock and never block. A line that finds no room, or that cannot be written,
/// is dropped and counted; the next write that succeeds begins with a line that says how many. The writer is
/// woken only when it sleeps; then it waits a moment for more lines and makes one write(2) of them all.
package final class LogWriter: LogSink {
  /// Bounds of the writer.
  package struct Limits: Sendable {
    /// Bytes that may wait; what comes on top is dropped.
    package var bufferBytesMax = 1_048_576
    /// How long the writer gathers lines after the first one.
    package var gatherMilliseconds: Int32 = 20

    package init() {}
  }

  // Unchecked: the buffer has one owner and no thread of its own; the lock is what it is reached through.
  private struct State: ~Copyable, @unchecked Sendable {
    var pending = ByteBuffer()
    /// The writer waits without a deadline and must be woken.
    var isSleeping = false
    /// The writer was told to stop gathering.
    var isHurried = false
    var isFlushing = false
    var isStopping = false
    var thread: Thread?
  }

  private let state = Mutex(State())
  private let dropped = Atomic<Int>(0)
  private let output: any LineOutput
  private let limits: Limits
  private let report: @Sendable (Int) -> [UInt8]
  /// An eventfd that wakes the writer.
  private let wake: Int32
  /// An eventfd that tells ``flush(within:)`` that all is written.
  private let done: Int32

  /// Starts a writer to a descriptor.
  ///
  /// - Parameter descriptor: where lines go; stderr unless told otherwise. It is not closed.
  /// - Parameter report: makes the line, with its newline, that says how many lines were lost.
  package convenience init(
    descriptor: Int32 = 2, limits: Limits = Limits(), report: @escaping @Sendable (Int) -> [UInt8]
  ) throws(SystemError) {
    try self.init(output: DescriptorOutput(descriptor), limits: limits, report: report)
  }

  /// Starts a writer on a thread of that name.
  ///
  /// - Parameter report: as above; it may make nothing.
  package init(
    output: any LineOutput, limits: Limits = Limits(), thread name: String = "log-writer",
    report: @escaping @Sendable (Int) -> [UInt8]
  ) throws(SystemError) {
    self.output = output
    self.limits = limits
    self.report = report
    wake = eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK))
    done = eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK))
    guard wake >= 0, done >= 0 else { throw SystemError("eventfd", csystem_errno()) }
    // The thread keeps the writer alive until stop(within:) ends it.
    let thread = try Thread(name: name) { self.run() }
    state.withLock { $0.thread = thread }
  }

  deinit {
    if wake >= 0 { close(wake) }
    if done >= 0 { close(done) }
  }

  /// Lines that were lost so far, for `/metrics`.
  package var droppedLines: Int { dropped.load(ordering: .relaxed) }

  package func write(_ lines: UnsafeRawBufferPointer) {
    guard !lines.isEmpty else { return }
    var isDropped = false
    let mustWake = state.withLock { state in
      if state.pending.count + lines.count > limits.bufferBytesMax {
        isDropped = true
        return false
      }
      state.pending.append(lines)
      if state.isSleeping {
        state.isSleeping = false
        return true
      }
      if !state.isHurried, state.pending.count > limits.bufferBytesMax / 2 {
        state.isHurried = true
        return true
      }
      return false
    }
    if isDropped { dropped.wrappingAdd(LogWriter.lineCount(lines), ordering: .relaxed) }
    if mustWake { signal(wake) }
  }

  /// Waits until all lines given so far are written; false when `timeout` nanoseconds were not enough.
  /// One caller at a time.
  @discardableResult
  package func flush(within timeout: Nanoseconds) -> Bool { flush(within: timeout, thenStop: false) }

  /// Writes what waits, for at most `timeout` nanoseconds, and ends the thread. Later lines are lost.
  @discardableResult
  package func stop(within timeout: Nanoseconds) -> Bool {
    guard flush(within: timeout, thenStop: true) else { return false }
    // It has nothing left to do but to return, so this does not wait.
    let thread = state.withLock { $0.thread.take() }
    thread?.join()
    return true
  }

  private func flush(within timeout: Nanoseconds, thenStop: Bool) -> Bool {
    drain(done)
    // Both wishes under one lock: between two the thread could end without an answer.
    state.withLock { state in
      state.isFlushing = true
      state.isStopping = state.isStopping || thenStop
      state.isHurried = true
      state.isSleeping = false
    }
    signal(wake)
    return wait(for: done, milliseconds: Int32(clamping: timeout / millisecond))
  }

  // MARK: The writer's thread

  private enum Step {
    case sleep
    case gather
    case write
    case exit
  }

  private func run() {
    blockBrokenPipeSignal()
    var batch = ByteBuffer()
    var reported = 0
    while true {
      switch nextStep() {
      case .exit: return
      case .sleep:
        wait(for: wake, milliseconds: -1)
        drain(wake)
        continue
      case .gather:
        wait(for: wake, milliseconds: limits.gatherMilliseconds)
        drain(wake)
      case .write: break
      }
      let lost = dropped.load(ordering: .relaxed)
      if lost > reported { batch.append(report(lost - reported)) }
      let reportBytes = batch.count
      state.withLock { state in
        state.isHurried = false
        if reportBytes == 0 {
          swap(&state.pending, &batch)
        } else {
          batch.append(state.pending.readable)
          state.pending.removeAll()
        }
      }
      let failed = output.write(&batch)
      dropped.wrappingAdd(failed, ordering: .relaxed)
      // A report that was lost itself is made again.
      if failed == 0 { reported = lost }
      // A burst's memory is given back; a steady flow keeps a small buffer on either side.
      if batch.capacity > 65_536 { batch.release() } else { batch.removeAll() }
    }
  }

  private func nextStep() -> Step {
    state.withLock { state in
      if !state.pending.isEmpty { return state.isHurried ? .write : .gather }
      if state.isFlushing {
        state.isFlushing = false
        signal(done)
      }
      if state.isStopping { return .exit }
      state.isHurried = false
      state.isSleeping = true
      return .sleep
    }
  }

  // MARK: Private helpers

  /// Newlines in `lines`.
  package static func lineCount(_ lines: UnsafeRawBufferPointer) -> Int {
    lines.reduce(0) { $1 == UInt8(ascii: "\n") ? $0 + 1 : $0 }
  }

  /// Lets a reader that went away show as EPIPE of one write.
  private func blockBrokenPipeSignal() {
    var set = sigset_t()
    sigemptyset(&set)
    sigaddset(&set, SIGPIPE)
    pthread_sigmask(SIG_BLOCK, &set, nil)
  }

  private func signal(_ descriptor: Int32) {
    var one: UInt64 = 1
    _ = Glibc.write(descriptor, &one, 8)
  }

  private func drain(_ descriptor: Int32) {
    var count: UInt64 = 0
    _ = read(descriptor, &count, 8)
  }

  @discardableResult
  private func wait(for descriptor: Int32, milliseconds: Int32) -> Bool {
    var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
    return poll(&entry, 1, milliseconds) > 0
  }
}

/// Writes to a descriptor that it does not own.
package final class DescriptorOutput: LineOutput {
  private let descriptor: Int32

  package init(_ descriptor: Int32) { self.descriptor = descriptor }

  /// With a broken descriptor all lines that are left are lost.
  package func write(_ lines: inout ByteBuffer) -> Int {
    while !lines.isEmpty {
      let bytes = lines.readable
      let written = Glibc.write(descriptor, bytes.baseAddress, bytes.count)
      if written > 0 {
        lines.consume(written)
        continue
      }
      switch csystem_errno() {
      case EINTR: continue
      case EAGAIN:
        // Somebody shares the terminal or pipe and made it non-blocking.
        var entry = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
        _ = poll(&entry, 1, 1_000)
      default:
        return LogWriter.lineCount(bytes)
      }
    }
    return 0
  }
}
