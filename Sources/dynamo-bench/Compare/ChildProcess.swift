// Processes that a comparison starts and is sure to end.

import Base
import CSystem
import EventLoop
import Glibc
import Synchronization

/// Processes and files that must not outlive this process.
enum ChildRegistry {
  private static let folder = Mutex<String?>(nil)
  private static let running = Mutex<Set<Int32>>([])

  static func add(_ process: Int32) { running.withLock { _ = $0.insert(process) } }

  static func remove(_ process: Int32) { running.withLock { _ = $0.remove(process) } }

  /// Has the folder at `path` removed when a signal ends this process.
  static func remove(folder path: String) { folder.withLock { $0 = path } }

  /// Starts a thread that ends all children and this process on SIGINT or SIGTERM. Call before other threads start.
  static func endOnSignals() throws(SystemError) -> Thread {
    SignalSource.block([SIGINT, SIGTERM])
    return try Thread(name: "signals") {
      var set = sigset_t()
      sigemptyset(&set)
      sigaddset(&set, SIGINT)
      sigaddset(&set, SIGTERM)
      var number: Int32 = 0
      sigwait(&set, &number)
      for process in running.withLock({ $0 }) { kill(process, SIGTERM) }
      if let path = folder.withLock({ $0 }) { removeTree(path) }
      _exit(128 + number)
    }
  }
}

/// A started program whose output goes to a file.
final class ChildProcess {
  let name: String
  let process: Int32
  let logPath: String
  /// When it was started, on the monotonic clock.
  let startedAt: Nanoseconds
  private var ended = false

  /// Starts `arguments[0]`, found by PATH, with `environment` added to ours; output goes to `logPath`.
  init(
    _ name: String, _ arguments: [String], environment: [String: String] = [:], logPath: String
  ) throws(CompareError) {
    self.name = name
    self.logPath = logPath
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
    posix_spawn_file_actions_addopen(&actions, 1, logPath, O_WRONLY | O_CREAT | O_APPEND, 0o644)
    posix_spawn_file_actions_adddup2(&actions, 1, 2)
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    // Our own mask blocks signals and would be inherited.
    var none = sigset_t()
    sigemptyset(&none)
    posix_spawnattr_setsigmask(&attributes, &none)
    var pipe = sigset_t()
    sigemptyset(&pipe)
    sigaddset(&pipe, SIGPIPE)
    posix_spawnattr_setsigdefault(&attributes, &pipe)
    posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF))

    var child: pid_t = 0
    startedAt = Machine.monotonicNanoseconds
    let code = Self.withCStrings(arguments) { argv in
      Self.withCStrings(Self.merged(environment)) { envp in
        posix_spawnp(&child, arguments[0], &actions, &attributes, argv, envp)
      }
    }
    guard code == 0 else { throw .cannotStart(arguments[0], String(cString: strerror(code))) }
    process = child
    ChildRegistry.add(child)
  }

  deinit { stop() }

  /// True until the process ended; reaps it when it has.
  var isRunning: Bool {
    if ended { return false }
    var status: Int32 = 0
    guard waitpid(process, &status, WNOHANG) == process else { return true }
    ended = true
    ChildRegistry.remove(process)
    return false
  }

  /// Ends the process: SIGTERM, five seconds later SIGKILL.
  func stop() {
    guard isRunning else { return }
    kill(process, SIGTERM)
    for _ in 0..<500 where isRunning { usleep(10_000) }
    guard isRunning else { return }
    kill(process, SIGKILL)
    while isRunning { usleep(1_000) }
  }

  /// The end of the log, for an error message.
  var logTail: String {
    guard let log = readFile(logPath, limit: 16 << 20) else { return "" }
    return String(decoding: log.suffix(1_500), as: UTF8.self)
  }

  /// Waits until the log has `count` lines and returns them; fails when the process ends before.
  func firstLines(_ count: Int) throws(CompareError) -> [String] {
    for _ in 0..<1_000 {
      let text = readFile(logPath).map { String(decoding: $0, as: UTF8.self) } ?? ""
      let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
      if lines.count > count { return lines.prefix(count).map(String.init) }
      if !isRunning { break }
      usleep(5_000)
    }
    throw .notReady(name, logTail)
  }

  /// Our environment without what would configure a server behind the command line's back.
  private static func merged(_ changes: [String: String]) -> [String] {
    var result: [String] = []
    var entry = environ
    while let text = entry.pointee {
      let pair = String(cString: text)
      let name = String(pair.prefix { $0 != "=" })
      let configures = name.hasPrefix("DYN_") || name.hasPrefix("OTEL_")
      if changes[name] == nil, !configures { result.append(pair) }
      entry += 1
    }
    return result + changes.map { "\($0.key)=\($0.value)" }
  }

  private static func withCStrings<Result>(
    _ strings: [String], _ body: ([UnsafeMutablePointer<CChar>?]) -> Result
  ) -> Result {
    let copies = strings.map { strdup($0) } + [nil]
    defer { for copy in copies { free(copy) } }
    return body(copies)
  }
}

/// Why a comparison stops.
enum CompareError: Error, CustomStringConvertible {
  case cannotStart(String, String)
  case notReady(String, String)
  case control(String)
  case badPeer(String)
  case noTokenizer(String)
  case files(String)
  case system(SystemError)
  case load(LoadError)

  var description: String {
    switch self {
    case .cannotStart(let program, let reason): "cannot start \(program): \(reason)"
    case .notReady(let name, let log): "\(name) did not become ready; its log ends:\n\(log)"
    case .control(let what): "no answer from \(what)"
    case .badPeer(let text): "unknown peer \(text); see dynamo-bench compare --help"
    case .noTokenizer(let peer): "\(peer) routes by tokens, which needs --model-path"
    case .files(let path): "cannot write \(path)"
    case .system(let error): error.description
    case .load(let error): error.description
    }
  }
}
