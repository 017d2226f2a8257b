// The exporter as the process sees it: a sink for batches, a thread of its own, and a bounded end.

package import Base
package import EventLoop
import Glibc
package import Logging
import Synchronization
package import Telemetry

/// Sends finished spans to an OTLP receiver from a thread of its own.
///
/// ``publish(_:)`` may be called from any thread and never blocks on the network. Each span that was published
/// ends up in the ledger as sent or as dropped with a reason, at the latest when ``shutdown(within:)`` returns.
package final class SpanExporter: SpanSink {
  private struct Running {
    let mailbox: Mailbox
    let driver: LoopBound<ExportDriver>
    let thread: Thread
    /// Reports the end of the thread's work by its hang-up.
    let done: Int32
    /// When the thread is to be done; nil while no end was asked for.
    var deadline: Nanoseconds?
  }

  private let configuration: ExporterConfiguration
  private let resource: TelemetryResource
  private let ledger: SpanLedger
  private let logger: Logger
  private let queue: ExportQueue
  private let status = ExporterStatus()
  private let running = Mutex<Running?>(nil)

  /// Creates an exporter that takes batches at once and sends them once ``start()`` was called.
  package init(
    configuration: ExporterConfiguration, resource: TelemetryResource, ledger: SpanLedger, logger: Logger
  ) {
    self.configuration = configuration
    self.resource = resource
    self.ledger = ledger
    self.logger = logger
    queue = ExportQueue(limits: configuration.queue, ledger: ledger)
  }

  /// Starts the thread. Throws when the system refuses its descriptors or the thread.
  package func start(dialer: any ExporterDialer = LiveExporterDialer()) throws(SystemError) {
    let loop = try EventLoop(index: 0, seed: Machine.randomSeed())
    let (done, signal) = try Sockets.pair()
    let driver = ExportDriver(
      loop: loop, queue: queue, ledger: ledger, configuration: configuration, resource: resource,
      dialer: dialer, status: status, logger: logger
    ) {
      loop.system.close(signal)
      loop.stop()
    }
    let bound = LoopBound(driver, of: loop)
    let handed = Handed(loop: loop, driver: driver)
    let mailbox = loop.mailbox
    let thread: Thread
    do {
      thread = try Thread(name: configuration.signal.threadName) {
        handed.driver.openSpool()
        handed.driver.pump()
        handed.loop.run()
      }
    } catch {
      close(done)
      close(signal)
      throw error
    }
    running.withLock {
      $0 = Running(mailbox: mailbox, driver: bound, thread: thread, done: done, deadline: nil)
    }
    // A batch that came before the mailbox was known woke nobody.
    mailbox.submit { bound.open(on: $0).pump() }
  }

  /// Takes a batch, or drops it when the queue is full.
  package func publish(_ batch: SpanBatch) {
    guard batch.spanCount > 0, case .wake = queue.put(batch) else { return }
    running.withLock { running in
      guard let running else { return }
      let driver = running.driver
      running.mailbox.submit { driver.open(on: $0).pump() }
    }
  }

  /// Sends what waits for at most `within` nanoseconds, drops the rest as `shutdown` and ends the thread.
  /// Blocks the calling thread; batches that are published later are dropped.
  package func shutdown(within: Nanoseconds) {
    beginShutdown(within: within)
    endShutdown()
  }

  /// Takes nothing in any more, and begins to send what waits, for at most `within` nanoseconds. Several exporters that
  /// are to end together are all begun before the first is waited for.
  func beginShutdown(within: Nanoseconds) {
    queue.close()
    running.withLock { running in
      guard let driver = running?.driver, running?.deadline == nil else { return }
      running?.deadline = Machine.monotonicNanoseconds + within
      running?.mailbox.submit { driver.open(on: $0).flush(within: within) }
    }
  }

  /// Waits for the end that was begun, and drops what is left as `shutdown`.
  func endShutdown() {
    guard let running = running.withLock({ $0.take() }) else {
      queue.abandon()
      return
    }
    // The thread keeps its own deadline; the grace is for a name resolution that it may be stuck in, and for what it
    // writes to the spool at the end.
    let grace: Nanoseconds = hasSpool ? 2 * second : 250 * millisecond
    let now = Machine.monotonicNanoseconds
    let end = (running.deadline ?? now) + grace
    var entry = pollfd(fd: running.done, events: Int16(POLLIN), revents: 0)
    let ended = poll(&entry, 1, Int32(clamping: end > now ? (end - now) / millisecond : 0)) > 0
    close(running.done)
    if ended { running.thread.join() } else { queue.abandon() }
  }

  /// The exporter's condition.
  package var state: ExporterState { status.snapshot }

  /// True where undelivered spans are kept on disk.
  package var hasSpool: Bool { configuration.spool != nil }

  /// Spans and bytes that wait.
  package var level: ExportQueue.Level { queue.level }

  /// Shows calls, resends and the spool on `/metrics`; the ledger's books are registered apart.
  package func register(on registry: MetricRegistry) {
    let status = status
    registry.collect(.exportRequests, .counter) { samples in
      for (name, calls) in status.snapshot.callsByStatus.sorted(by: { $0.key < $1.key }) {
        samples.add(Double(calls), labels: [("status", name)])
      }
    }
    registry.observe(.exportResends, .counter) { Double(status.snapshot.spansResent) }
    registry.observe(.exportConnected, .gauge) { status.snapshot.isConnected ? 1 : 0 }
    let queue = queue
    registry.observe(.exportQueueSpans, .gauge) { Double(queue.level.spans) }
    registry.observe(.exportQueueBytes, .gauge) { Double(queue.level.bytes) }
    guard configuration.spool != nil else { return }
    registry.observe(.spoolBytes, .gauge) { Double(status.snapshot.spoolBytes) }
    registry.observe(.spoolFilesSkipped, .counter) { Double(status.snapshot.spoolFilesSkipped) }
    registry.observe(.spoolErrors, .counter) { Double(status.snapshot.spoolErrors) }
  }
}

/// Hands the loop and its driver to their thread.
///
/// Unchecked because neither is Sendable: both are made on the starting thread, given away once before the new
/// thread runs, and used by that thread alone from then on.
private struct Handed: @unchecked Sendable {
  let loop: EventLoop
  let driver: ExportDriver
}
