// The servers that can be compared and how each is started.

import Base

/// How this frontend runs in a comparison.
struct FrontendPeer: Equatable {
  /// `--router-mode`.
  let mode: String
  /// Its spans go to a sink.
  let traced: Bool
  /// Prompts are routed by the tokens of ``PeerSetting/modelPath``, else by their bytes.
  var tokens = false
  /// The workers are spoken to in HTTP/2.
  var multiplexed = false
}

/// A server to compare, as named on the command line.
struct Peer: Equatable {
  enum Kind: Equatable {
    /// The workers themselves, without anything in front.
    case direct
    case frontend(FrontendPeer)
    case nginx
    case haproxy
    /// A router from PyPI: `sglang` or `vllm`.
    case router(package: String, policy: String, traced: Bool)
  }

  let name: String
  let kind: Kind

  /// True when its spans go to a sink.
  var isTraced: Bool {
    switch kind {
    case .frontend(let options): options.traced
    case .router(_, _, let traced): traced
    case .direct, .nginx, .haproxy: false
    }
  }

  /// True when it needs a tokenizer.
  var isTokenizing: Bool {
    if case .frontend(let options) = kind { return options.tokens }
    return false
  }

  /// Reads peers' names. Those that route by tokens need a tokenizer's folder.
  static func parse(_ names: [String], modelPath: String?) throws(CompareError) -> [Peer] {
    var peers: [Peer] = []
    for name in names { peers.append(try parse(name)) }
    if modelPath == nil, let peer = peers.first(where: \.isTokenizing) { throw .noTokenizer(peer.name) }
    return peers
  }

  /// Reads a peer's name: `direct`, `nginx`, `haproxy`, `frontend[:MODE][:tokens][:h2c][:untraced]`,
  /// `sglang[:POLICY][:traced]`, `vllm[:POLICY]`.
  static func parse(_ text: String) throws(CompareError) -> Peer {
    var parts = text.split(separator: ":").map(String.init)
    guard let head = parts.first else { throw .badPeer(text) }
    parts.removeFirst()
    let untraced = parts.last == "untraced"
    let traced = parts.last == "traced"
    if untraced || traced { parts.removeLast() }
    let multiplexed = head == "frontend" && parts.last == "h2c"
    if multiplexed { parts.removeLast() }
    let tokens = head == "frontend" && parts.last == "tokens"
    if tokens { parts.removeLast() }
    guard parts.count <= 1 else { throw .badPeer(text) }
    let kind: Kind
    switch head {
    case "direct" where parts.isEmpty && !traced && !untraced: kind = .direct
    case "nginx" where parts.isEmpty && !traced && !untraced: kind = .nginx
    case "haproxy" where parts.isEmpty && !traced && !untraced: kind = .haproxy
    case "frontend":
      kind = .frontend(
        FrontendPeer(
          mode: parts.first ?? "kv", traced: !untraced, tokens: tokens, multiplexed: multiplexed))
    case "sglang": kind = .router(package: "sglang", policy: parts.first ?? "cache_aware", traced: traced)
    case "vllm" where !traced:
      kind = .router(package: "vllm", policy: parts.first ?? "cache_aware", traced: false)
    default: throw .badPeer(text)
    }
    return Peer(name: text, kind: kind)
  }
}

/// What the peers are started with.
struct PeerSetting {
  var directory: String
  var frontend: String
  /// Folder of a Python environment with the routers from PyPI.
  var pythonEnvironment: String
  var workers: [UInt16]
  var workerProcess: Int32
  var model: String
  /// Folder of the tokenizer for peers that route by tokens.
  var modelPath: String?

  /// Starts one process of `count` fake workers, and notes where they listen. The caller stops it.
  mutating func startWorkers(_ count: Int) throws(CompareError) -> ChildProcess {
    let command = [ownPath, "worker", "--count", String(count), "--model", model]
    let worker = try ChildProcess("worker", command, logPath: "\(directory)/worker.log")
    let lines = try worker.firstLines(count)
    workers = lines.compactMap { $0.split(separator: ":").last.flatMap { UInt16($0) } }
    workerProcess = worker.process
    return worker
  }
}

/// A started peer.
final class RunningPeer {
  let peer: Peer
  let sink: RunningSink?
  /// Root of the process tree to measure.
  let process: Int32
  /// Milliseconds from its start to its first good answer; nil for `direct`.
  let readyMilliseconds: Double?
  private let child: ChildProcess?
  private let ports: [UInt16]
  /// Where small chunks are passed on at once, when that is another port.
  private let promptPort: UInt16?

  /// Starts `peer` and waits for its first good answer.
  init(_ peer: Peer, _ setting: PeerSetting) throws(CompareError) {
    self.peer = peer
    sink = peer.isTraced ? try RunningSink(setting.directory, for: peer) : nil
    if case .direct = peer.kind {
      child = nil
      process = setting.workerProcess
      ports = setting.workers
      promptPort = nil
      readyMilliseconds = nil
      return
    }
    let port = try freePort()
    let other = try freePort()
    let command = try PeerCommand(peer, setting, port: port, otherPort: other, sinkPort: sink?.port)
    let log = "\(setting.directory)/\(peer.name.replacing(":", with: "-")).log"
    let child = try ChildProcess(
      peer.name, command.arguments, environment: command.environment, logPath: log)
    self.child = child
    process = child.process
    ports = [port]
    if case .haproxy = peer.kind { promptPort = other } else { promptPort = nil }
    let limit = child.startedAt + 60 * second
    while !ControlClient.canComplete(port: port, model: setting.model) {
      guard child.isRunning, Clock.now < limit else {
        let log = child.logTail
        child.stop()
        throw .notReady(peer.name, log)
      }
      Clock.sleep(milliseconds: 2)
    }
    readyMilliseconds = Double(Clock.now - child.startedAt) / 1e6
  }

  /// Where to send the load of `preset`.
  func targets(for preset: Preset?) -> [Target] {
    let chosen: [UInt16]
    if case .c = preset, let promptPort { chosen = [promptPort] } else { chosen = ports }
    return chosen.map { Target(host: "127.0.0.1", port: $0) }
  }

  /// Prompts that were to be routed by tokens and were not; nil when its metrics cannot be read.
  var untokenizedPrompts: Int? {
    guard let port = ports.first, let text = ControlClient.get(port: port, "/metrics") else { return nil }
    return text.split(separator: "\n").filter { $0.hasPrefix("dynamo_frontend_untokenized_prompts_total") }
      .reduce(0) { $0 + (Int($1.split(separator: " ").last ?? "") ?? 0) }
  }

  func stop() {
    child?.stop()
    sink?.stop()
  }
}

/// A sink of its own for each traced peer.
final class RunningSink {
  let port: UInt16
  private let statsPort: UInt16
  private let child: ChildProcess

  init(_ directory: String, for peer: Peer) throws(CompareError) {
    port = try freePort()
    statsPort = try freePort()
    child = try ChildProcess(
      "sink", [ownPath, "sink", "--port", String(port), "--stats-port", String(statsPort)],
      logPath: "\(directory)/sink-\(port).log")
    _ = try child.firstLines(2)
  }

  /// Spans received so far.
  var spans: Int {
    let key = "\"spans\":"
    guard let text = ControlClient.get(port: statsPort, "/stats"), let range = text.firstRange(of: key) else {
      return 0
    }
    return Int(text[range.upperBound...].prefix { $0.isNumber }) ?? 0
  }

  func stop() { child.stop() }
}
