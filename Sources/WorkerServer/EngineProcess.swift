// The engine's own process, when the worker starts it: watched, started again when it dies, ended with the worker.

internal import Base
internal import EventLoop
@preconcurrency internal import Glibc
internal import Logging
internal import Synchronization

/// Supervises one command. Its output becomes lines of the worker's log, at the level that they name.
///
/// A worker that is killed outright leaves its engine behind, as any parent does.
final class EngineProcess: Sendable {
  /// How long to wait before a new start, and how long an engine may take to end.
  struct Limits: Sendable {
    var backoffFirst: Nanoseconds = second
    var backoffMax: Nanoseconds = 30 * second
    /// An engine that lived this long is started again as if it had never died.
    var steadyAfter: Nanoseconds = 60 * second
    /// From SIGTERM to SIGKILL.
    var endTimeout: Nanoseconds = 10 * second
    /// Between two looks whether what an engine left behind has ended.
    var lookInterval: Nanoseconds = 20 * millisecond
  }

  private struct State {
    var pid: pid_t = 0
    var isStopping = false
    var thread: Thread?
    var reader: Thread?
  }

  private let command: String
  private let arguments: [String]
  private let logger: Logger
  private let limits: Limits
  private let state = Mutex(State())
  /// Wakes the supervisor from its wait for a new start.
  private let wake: (read: Int32, write: Int32)
  /// Hangs up when the supervisor has ended.
  private let done: (read: Int32, write: Int32)
  /// What the command and its children write on both of their outputs.
  private let output: (read: Int32, write: Int32)

  /// `command` is read by the shell; `arguments` are appended as they are.
  init(
    command: String, arguments: [String], logger: Logger, limits: Limits = Limits()
  ) throws(SystemError) {
    self.command = command
    self.arguments = arguments
    self.logger = logger
    self.limits = limits
    wake = try Self.pipe()
    done = try Self.pipe()
    output = try Self.pipe()
    _ = fcntl(output.read, F_SETFL, O_NONBLOCK)
  }

  private static func pipe() throws(SystemError) -> (read: Int32, write: Int32) {
    var ends: [Int32] = [0, 0]
    guard Glibc.pipe(&ends) == 0 else { throw SystemError("pipe", errno) }
    // The engine must not hold them open.
    for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
    return (ends[0], ends[1])
  }

  deinit {
    for end in [wake.read, wake.write, done.read, output.read, output.write] { _ = close(end) }
  }

  /// Starts the command and the thread that watches it.
  func start() throws(SystemError) {
    let reader = try Thread(name: "engine-log") { self.fold() }
    let thread = try Thread(name: "engine-watch") { self.supervise() }
    state.withLock {
      $0.thread = thread
      $0.reader = reader
    }
  }

  /// Ends the engine, SIGTERM first and SIGKILL when it takes too long. Blocks the calling thread.
  func stop() {
    let (pid, thread, reader) = state.withLock { state in
      state.isStopping = true
      defer {
        state.thread = nil
        state.reader = nil
      }
      return (state.pid, state.thread, state.reader)
    }
    guard let thread else { return }
    var byte: UInt8 = 1
    _ = write(wake.write, &byte, 1)
    // The group: a shell or a launcher may have children of its own.
    if pid > 0 { kill(-pid, SIGTERM) }
    var entry = pollfd(fd: done.read, events: Int16(POLLIN), revents: 0)
    if poll(&entry, 1, Int32(clamping: limits.endTimeout / millisecond)) == 0 {
      logger.warning("engine did not end in time and is killed")
      let pid = state.withLock { $0.pid }
      if pid > 0 { kill(-pid, SIGKILL) }
    }
    thread.join()
    reader?.join()
  }

  // MARK: The output's thread

  /// Reads what the engine writes until the supervisor has ended. An engine never waits for its log: what the worker's
  /// own log has no room for is dropped there, and counted.
  private func fold() {
    var lines = EngineLines()
    var isEnding = false
    let log: (String) -> Void = { self.logger.log(level: EngineLines.level(of: $0), "\($0)") }
    withUnsafeTemporaryAllocation(byteCount: 16 * 1024, alignment: 1) { room in
      while true {
        let count = read(output.read, room.baseAddress, room.count)
        if count > 0 {
          lines.receive(UnsafeRawBufferPointer(room).slice(0..<count), log)
          continue
        }
        // A child that left the group may hold the pipe open for ever, so its end is not waited for.
        if isEnding || count == 0 || (errno != EAGAIN && errno != EINTR) { break }
        var entries = [
          pollfd(fd: output.read, events: Int16(POLLIN), revents: 0),
          pollfd(fd: done.read, events: Int16(POLLIN), revents: 0),
        ]
        _ = poll(&entries, 2, -1)
        isEnding = entries[1].revents != 0
      }
    }
    lines.end(log)
  }

  // MARK: The supervisor's thread

  private func supervise() {
    var backoff = limits.backoffFirst
    while !state.withLock({ $0.isStopping }) {
      let started = Machine.monotonicNanoseconds
      guard let pid = spawn() else { break }
      logger.info("engine started", metadata: ["pid": .stringConvertible(Int(pid))])
      let status = waitForEnd(of: pid)
      if state.withLock({ $0.isStopping }) { break }
      if Machine.monotonicNanoseconds - started >= limits.steadyAfter { backoff = limits.backoffFirst }
      logger.error(
        "engine ended and is started again",
        metadata: ["status": "\(status)", "after_ms": .stringConvertible(Int(backoff / millisecond))])
      var entry = pollfd(fd: wake.read, events: Int16(POLLIN), revents: 0)
      _ = poll(&entry, 1, Int32(clamping: backoff / millisecond))
      backoff = min(backoff * 2, limits.backoffMax)
    }
    _ = close(done.write)
  }

  /// Waits for the process; how it ended, in words.
  private func waitForEnd(of pid: pid_t) -> String {
    var status: Int32 = 0
    while waitpid(pid, &status, 0) < 0 && errno == EINTR {}
    endGroup(of: pid)
    state.withLock { $0.pid = 0 }
    let signal = status & 0x7f
    return signal == 0 ? "exit \(status >> 8 & 0xff)" : "signal \(signal)"
  }

  /// Ends what the process started and left behind, which would hold its port and its memory: SIGTERM, so that it may put
  /// things in order, and SIGKILL when that takes too long. The group keeps its number while one of it lives.
  private func endGroup(of pid: pid_t) {
    // A stop has asked the whole group already; a second signal makes some end at once.
    if !state.withLock({ $0.isStopping }) { kill(-pid, SIGTERM) }
    let deadline = Machine.monotonicNanoseconds + limits.endTimeout
    while kill(-pid, 0) == 0 {
      // Orphans become this process's children where it is the first of its container.
      while waitpid(-pid, nil, WNOHANG) > 0 {}
      guard Machine.monotonicNanoseconds < deadline else {
        logger.warning("what the engine left behind did not end in time and is killed")
        kill(-pid, SIGKILL)
        return
      }
      _ = poll(nil, 0, Int32(clamping: limits.lookInterval / millisecond))
    }
  }

  /// Starts the command in a process group of its own, with no signal blocked; nil when it cannot or may not start.
  private func spawn() -> pid_t? {
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    var none = sigset_t()
    sigemptyset(&none)
    var defaults = sigset_t()
    sigfillset(&defaults)
    posix_spawnattr_setsigmask(&attributes, &none)
    posix_spawnattr_setsigdefault(&attributes, &defaults)
    posix_spawnattr_setpgroup(&attributes, 0)
    let flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP
    posix_spawnattr_setflags(&attributes, Int16(flags))
    var files = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&files)
    defer { posix_spawn_file_actions_destroy(&files) }
    posix_spawn_file_actions_adddup2(&files, output.write, 1)
    posix_spawn_file_actions_adddup2(&files, output.write, 2)
    // The arguments reach the command as "$@": the shell reads the command, and nothing of them.
    var words = ["sh", "-c", "exec \(command) \"$@\"", "sh"] + arguments
    var list: [UnsafeMutablePointer<CChar>?] = words.indices.map { strdup(words[$0]) } + [nil]
    words = []
    defer { for word in list { free(word) } }
    return state.withLock { state in
      // Under the lock, so that a stop either sees the process or prevents it.
      if state.isStopping { return nil }
      var pid: pid_t = 0
      let code = posix_spawn(&pid, "/bin/sh", &files, &attributes, &list, environ)
      guard code == 0 else {
        logger.error("engine could not be started", metadata: ["error": "\(String(cString: strerror(code)))"])
        return nil
      }
      state.pid = pid
      return pid
    }
  }
}
