// The discovery folder as a source: looked into when the kernel tells of a change, and each second anyway.

internal import Base
internal import EventLoop

/// Scans the folder. The kernel's word makes a new worker known within milliseconds; the look each second finds records
/// that nobody touches any more, and serves where inotify has no room or does not see changes (network file systems).
final class FolderSource: DiscoverySource, TimerHandler {
  /// A record comes in several steps (folders, card, instance) and workers come in groups: one scan serves them all.
  private static let gatherTime = 20 * millisecond

  let kind = WorkerSource.file
  private let loop: EventLoop
  private let interval: Nanoseconds
  private let scanner: DiscoveryScanner
  private weak var sink: (any DiscoverySink)?
  private let timer = Timer()
  private var nextScan: Nanoseconds = 0
  private var isClosed = false
  /// Nil where the kernel gave none.
  private(set) var watch: FolderWatch?

  init(_ folder: DiscoveryFolder, interval: Nanoseconds, on loop: EventLoop) {
    scanner = DiscoveryScanner(folder)
    self.interval = interval
    self.loop = loop
  }

  func start(_ sink: any DiscoverySink) {
    self.sink = sink
    watch = try? FolderWatch(on: loop) { [weak self] in self?.scanSoon() }
    scan()
  }

  func close() {
    isClosed = true
    loop.cancel(timer)
    watch?.close()
  }

  func timerFired(_ timer: Timer) { scan() }

  private func scanSoon() {
    guard !isClosed, nextScan > loop.now + Self.gatherTime else { return }
    plan(in: Self.gatherTime)
  }

  private func plan(in time: Nanoseconds) {
    nextScan = loop.now + time
    loop.arm(timer, at: nextScan, self)
  }

  private func scan() {
    plan(in: interval)
    do throws(DiscoveryFolderError) {
      let scan = try scanner.scan()
      // What came into a new folder before it was watched was not heard of.
      if watch?.follow(scanner.folders) == true { scanSoon() }
      sink?.found(scan)
    } catch {
      sink?.sourceFailed("\(error)")
    }
  }
}
