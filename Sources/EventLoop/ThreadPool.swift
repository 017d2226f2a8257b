// A few threads for work that would hold a loop too long; it comes back through the loop's mailbox.

internal import CSystem
internal import Glibc
internal import Synchronization

/// Work that leaves its loop, runs on a thread of a pool, and comes back.
///
/// Whoever gives it away keeps away from what it holds until it is back: one thread has it at a time, and that is why
/// it needs no lock.
package protocol PooledWork: AnyObject {
  /// Does the work, on a thread of the pool.
  func run()
  /// The work is done and home again, on the loop it came from.
  func returned(to loop: EventLoop)
}

/// Threads of lower priority (nice 10) behind one bounded queue.
package final class ThreadPool: Sendable {
  // Unchecked: the queue hands each piece of work to one thread, which hands it to one loop.
  private struct Entry: @unchecked Sendable {
    let work: any PooledWork
    let home: Mailbox
  }

  private struct State {
    /// Oldest first.
    var waiting: [Entry] = []
    var threads: [Thread] = []
    var isStopped = false
  }

  private let state = Mutex(State())
  private let waitingMax: Int
  private let refused = Atomic<Int>(0)
  /// An eventfd that counts what waits, so that each thread wakes for one piece of work.
  private let semaphore: Int32

  /// - Parameter waitingMax: work that may wait; what comes on top is refused.
  package init(waitingMax: Int) throws(SystemError) {
    self.waitingMax = waitingMax
    semaphore = eventfd(0, Int32(EFD_CLOEXEC | EFD_SEMAPHORE))
    guard semaphore >= 0 else { throw SystemError("eventfd", csystem_errno()) }
  }

  deinit { if semaphore >= 0 { close(semaphore) } }

  /// Starts `count` threads; work may be given before. Follow with ``stop()``.
  package func start(threads count: Int, name: String) throws(SystemError) {
    for index in 0..<count {
      let thread = try Thread(name: "\(name)-\(index)") { self.serve() }
      state.withLock { $0.threads.append(thread) }
    }
  }

  /// Gives `work` away; it comes back to the loop behind `home`. False when the queue is full or the pool stopped: then
  /// the caller still has it.
  package func submit(_ work: any PooledWork, from home: Mailbox) -> Bool {
    let entry = Entry(work: work, home: home)
    let isTaken = state.withLock { state in
      guard !state.isStopped, state.waiting.count < waitingMax else { return false }
      state.waiting.append(entry)
      return true
    }
    if isTaken { signal(1) } else { refused.add(1, ordering: .relaxed) }
    return isTaken
  }

  /// Ends the threads after what they are doing, and waits for them. Work that still waits is dropped.
  package func stop() {
    let threads = state.withLock { state in
      let threads = state.threads
      state.threads = []
      state.waiting = []
      state.isStopped = true
      return threads
    }
    signal(UInt64(max(threads.count, 1)))
    for thread in threads { thread.join() }
  }

  /// Work that waits for a thread.
  package var waitingCount: Int { state.withLock { $0.waiting.count } }

  /// Pieces of work that were refused so far.
  package var refusedCount: Int { refused.load(ordering: .relaxed) }

  /// Does the oldest work that waits on the calling thread; false when there is none. What a pool without threads is
  /// driven by in tests.
  @discardableResult
  package func runNext() -> Bool {
    let entry = state.withLock { $0.waiting.isEmpty ? nil : $0.waiting.removeFirst() }
    guard let entry else { return false }
    entry.work.run()
    entry.home.submit { entry.work.returned(to: $0) }
    return true
  }

  private func serve() {
    // On Linux this is the priority of the calling thread alone (setpriority(2), "C library/kernel differences").
    _ = setpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0, 10)
    while !state.withLock({ $0.isStopped }) {
      var count: UInt64 = 0
      _ = read(semaphore, &count, 8)
      runNext()
    }
  }

  private func signal(_ count: UInt64) {
    var count = count
    _ = write(semaphore, &count, 8)
  }
}
