// Threads and process-wide signals.

package import Base
internal import CSystem
internal import Glibc

/// A POSIX thread that runs one closure. One that nobody joins runs on by itself, and leaves nothing behind.
package final class Thread: @unchecked Sendable {
  // Unchecked: `handle` is written before the object is shared; `mustDetach` by init and by the one join, and both are
  // read by deinit, which follows the last use.
  private var handle = pthread_t()
  private var mustDetach = false

  private final class Start {
    let name: String
    let body: @Sendable () -> Void
    init(_ name: String, _ body: @escaping @Sendable () -> Void) {
      self.name = name
      self.body = body
    }
  }

  /// Starts a thread named `name` (15 bytes are kept). Throws when the system has no more threads to give.
  package init(name: String, _ body: @escaping @Sendable () -> Void) throws(SystemError) {
    let start = Unmanaged.passRetained(Start(name, body))
    let code = pthread_create(
      &handle, nil,
      { argument in
        guard let argument else { return nil }
        let start = Unmanaged<Start>.fromOpaque(argument).takeRetainedValue()
        csystem_set_thread_name(start.name)
        start.body()
        return nil
      }, start.toOpaque())
    guard code == 0 else {
      start.release()
      throw SystemError("pthread_create", code)
    }
    mustDetach = true
  }

  deinit {
    // The stack of a thread that is neither joined nor detached is never given back.
    if mustDetach { pthread_detach(handle) }
  }

  /// Waits until the thread's closure returned. To be called once.
  package func join() {
    mustDetach = false
    pthread_join(handle, nil)
  }
}

/// Delivers signals as events of one loop (signalfd(2)).
package final class SignalSource: EventHandler {
  private let descriptor: Int32
  private let handler: (Int32) -> Void
  private let loop: EventLoop
  private var registration: Registration?
  /// When a signal to stop counts as another wish again.
  private var nextStop: Nanoseconds = 0

  /// Ctrl-C reaches every process of a terminal's group, and a launcher passes it on to its own (so does `timeout`):
  /// within this time that is one wish to stop, not two.
  private static let echoTime = second

  /// Blocks `signals` in the calling thread and in all threads that it starts later; call before any is started.
  package static func block(_ signals: [Int32]) {
    var set = mask(signals)
    pthread_sigmask(SIG_BLOCK, &set, nil)
    // A peer that vanishes must be an error of one write, not the end of the process.
    signal(SIGPIPE, SIG_IGN)
  }

  /// Calls `handler` with the number of each of `signals` that arrives, on `loop`. SIGTERM and SIGINT that follow one of
  /// them within a second are passed over.
  package init(_ signals: [Int32], on loop: EventLoop, _ handler: @escaping (Int32) -> Void)
    throws(SystemError)
  {
    var set = Self.mask(signals)
    descriptor = signalfd(-1, &set, Int32(SFD_CLOEXEC | SFD_NONBLOCK))
    self.handler = handler
    self.loop = loop
    guard descriptor >= 0 else { throw SystemError("signalfd", csystem_errno()) }
    registration = try loop.register(descriptor, self)
  }

  package func ready(_ readiness: Readiness) {
    var information = signalfd_siginfo()
    while read(descriptor, &information, MemoryLayout<signalfd_siginfo>.size) > 0 {
      let number = Int32(bitPattern: information.ssi_signo)
      if number == SIGTERM || number == SIGINT {
        let now = loop.system.monotonicNanoseconds()
        guard now >= nextStop else { continue }
        nextStop = now + Self.echoTime
      }
      handler(number)
    }
  }

  private static func mask(_ signals: [Int32]) -> sigset_t {
    var set = sigset_t()
    sigemptyset(&set)
    for number in signals { sigaddset(&set, number) }
    return set
  }
}

/// Facts of the machine and process that configuration needs.
package enum Machine {
  /// Processors this process may use: the least of CPU affinity and the cgroup quota, rounded up; at least 1.
  package static var processorCount: Int {
    let affinity = Int(csystem_affinity_count())
    var count = affinity > 0 ? affinity : 1
    if let quota = cgroupQuota() { count = min(count, max(1, quota)) }
    return count
  }

  /// The least `memory.max` in bytes of this process's cgroup and those above it, of version 2; nil where there is no
  /// limit. In a container the root is the container's own; on a host systemd's `MemoryMax=` is further down.
  package static var memoryLimit: Int? {
    memoryLimit(root: "/sys/fs/cgroup", cgroup: cgroupPath)
  }

  /// - Parameter cgroup: the path below `root` as `/proc/self/cgroup` gives it: `/system.slice/x.service`.
  static func memoryLimit(root: String, cgroup: String) -> Int? {
    var folder = root
    var least: Int?
    for part in [""] + cgroup.split(separator: "/").map({ "/" + $0 }) {
      folder += part
      guard let text = firstLine(of: folder + "/memory.max"), let limit = Int(text), limit > 0 else {
        continue
      }
      least = min(least ?? limit, limit)
    }
    return least
  }

  /// This process's cgroup where there is version 2 alone (one line, `0::/path`); `/` elsewhere.
  private static var cgroupPath: String {
    guard let line = firstLine(of: "/proc/self/cgroup"), line.hasPrefix("0::") else { return "/" }
    return String(line.dropFirst(3))
  }

  /// 64 random bits from the kernel.
  package static func randomSeed() -> UInt64 {
    var seed: UInt64 = 0
    guard getrandom(&seed, 8, 0) == 8 else { return csystem_wall_nanoseconds() ^ UInt64(getpid()) << 32 }
    return seed
  }

  /// Seconds east of UTC of the local zone (`TZ`, else the system's) at a time in seconds since the Unix epoch.
  package static func utcOffset(at seconds: UInt64) -> Int {
    var time = time_t(clamping: seconds)
    var parts = tm()
    guard localtime_r(&time, &parts) != nil else { return 0 }
    return parts.tm_gmtoff
  }

  /// Lets go of the code that only the start needed: it counts as this process's memory and is used no more. What is
  /// used again comes back from the page cache, a page at a time.
  package static func releaseStartPages() { csystem_release_code_pages() }

  /// Raises the soft limit of descriptors to the hard one, where that is allowed, and returns the one in force.
  @discardableResult
  package static func raiseDescriptorLimit() -> Int {
    var limit = rlimit()
    guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return 1024 }
    var raised = limit
    raised.rlim_cur = limit.rlim_max
    let isRaised = setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &raised) == 0
    return Int(clamping: isRaised ? raised.rlim_cur : limit.rlim_cur)
  }

  /// Has the allocator give free pages back to the system; takes milliseconds.
  package static func returnFreeMemory() { _ = malloc_trim(0) }

  /// CLOCK_REALTIME in nanoseconds since the Unix epoch; for what runs outside a loop.
  package static var wallNanoseconds: UInt64 { csystem_wall_nanoseconds() }

  /// CLOCK_MONOTONIC in nanoseconds; for what runs outside a loop.
  package static var monotonicNanoseconds: Nanoseconds { csystem_monotonic_nanoseconds() }

  /// cgroup v2's `cpu.max`: quota and period in microseconds, or `max`.
  private static func cgroupQuota() -> Int? {
    guard let text = firstLine(of: "/sys/fs/cgroup/cpu.max") else { return nil }
    let fields = text.split(separator: " ").compactMap { Int($0) }
    guard fields.count == 2, fields[0] > 0, fields[1] > 0 else { return nil }
    return (fields[0] + fields[1] - 1) / fields[1]
  }

  /// The first line of a file of the kernel's; nil when there is none.
  private static func firstLine(of path: String) -> String? {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return nil }
    defer { _ = close(descriptor) }
    return withUnsafeTemporaryAllocation(byteCount: 4_096, alignment: 1) { bytes in
      let count = read(descriptor, bytes.baseAddress, 4_096)
      guard count > 0 else { return nil }
      let text = UnsafeRawBufferPointer(bytes).slice(0..<count).text
      return text.split(separator: "\n").first.map(String.init)
    }
  }
}
